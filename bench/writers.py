"""Writers of a database, in a process of their own: `python -m bench.writers HOST PORT ROWS CONNECTIONS RATE`.

Each connection has a transaction to do at fixed times, RATE a second, whether or not the last one took long: what had to wait counts from
when it was due.  When its input ends it prints one JSON line: [[when a commit ended, seconds that it was late], ...], on the system's
monotonic clock.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import pymysql

from .database import PASSWORD, TABLES, USER


def main(host: str, port: int, rows: int, connections: int, rate: float) -> None:
    stop = threading.Event()
    found: list[list[tuple[float, float]]] = [[] for _ in range(connections)]
    threads = [
        threading.Thread(target=_write, args=(number, host, port, rows, rate, stop, found[number]))
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(sorted(one for some in found for one in some)), flush=True)


def _write(
    number: int,
    host: str,
    port: int,
    rows: int,
    rate: float,
    stop: threading.Event,
    found: list[tuple[float, float]],
) -> None:
    rng = random.Random(number)
    session = pymysql.connect(host=host, port=port, user=USER, password=PASSWORD)
    with session as connection, connection.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout=600, lock_wait_timeout=600")
        due = time.monotonic() + rng.random() / rate
        while not stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            table = f"shop.orders_{rng.randrange(TABLES)}"
            # Rows of its own: nobody waits for another's lock.
            mine = [1 + number + rng.randrange(max(1, rows // 64)) * 64 for _ in range(2)]
            for one in sorted(mine):
                cursor.execute(f"UPDATE {table} SET total=total + 1, status='busy' WHERE id={one}")
            cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE id BETWEEN {mine[0]} AND {mine[0] + 20}")
            connection.commit()
            ended = time.monotonic()
            found.append((ended, ended - due))
            due += 1 / rate


if __name__ == "__main__":
    host, port, rows, connections, rate = sys.argv[1:]
    main(host, int(port), int(rows), int(connections), float(rate))
