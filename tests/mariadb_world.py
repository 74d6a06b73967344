"""A varied database: every column type, character sets, views, triggers, routines, events, users; 150 MB of it and more."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from .mariadb import Server

SCHEMA = (
    "CREATE DATABASE world CHARACTER SET utf8mb4",
    "CREATE DATABASE `odd name-1` CHARACTER SET latin1",
    "CREATE TABLE world.kinds (id INT PRIMARY KEY AUTO_INCREMENT, a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, d INT UNSIGNED,"
    " e BIGINT, f DECIMAL(30,10), g FLOAT, h DOUBLE, i BIT(17), j DATE, k DATETIME(6), l TIMESTAMP(3) NULL, m TIME(2), n YEAR,"
    " o CHAR(20), p VARCHAR(300), q BINARY(16), r VARBINARY(40), s TINYBLOB, t BLOB, u MEDIUMTEXT, v ENUM('x','y','it''s'),"
    " w SET('p','q','r'), x JSON, y GEOMETRY, z BOOLEAN, aa INET6, ab UUID, ac INET4, ad LONGTEXT COMPRESSED,"
    " ae INT AS (a + 1) STORED, af INT AS (a * 2) VIRTUAL, UNIQUE (p, id), KEY (k), FULLTEXT (u))",
    "CREATE TABLE world.empty_one (id INT PRIMARY KEY, v TEXT)",
    "CREATE TABLE world.bulk (id INT PRIMARY KEY, name VARCHAR(80), body MEDIUMBLOB, note MEDIUMTEXT)",
    "CREATE TABLE world.parent (id INT PRIMARY KEY, v VARCHAR(20))",
    "CREATE TABLE world.child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE)",
    "CREATE TABLE world.parts (id INT, at DATE, v INT, PRIMARY KEY (id, at)) PARTITION BY HASH (id) PARTITIONS 4",
    "CREATE TABLE world.zero (id INT PRIMARY KEY AUTO_INCREMENT, v INT)",
    "CREATE TABLE world.versioned (id INT PRIMARY KEY, v INT)",
    "CREATE SEQUENCE world.counter START WITH 100 INCREMENT BY 10",
    "CREATE TABLE `odd name-1`.`t-ä ble` (id INT PRIMARY KEY, v VARCHAR(50))",
    "CREATE TABLE world.japanese (id INT PRIMARY KEY, v VARCHAR(50)) CHARACTER SET sjis",
    "CREATE TABLE world.wide16 (id INT PRIMARY KEY, v VARCHAR(50)) CHARACTER SET utf16",
    "CREATE TABLE world.russian (id INT PRIMARY KEY, v VARCHAR(50)) CHARACTER SET koi8r",
    "CREATE TABLE world.wide (id INT PRIMARY KEY, " + ", ".join(f"c{n} SMALLINT" for n in range(600)) + ")",
    "CREATE TABLE world.accounts (id INT PRIMARY KEY AUTO_INCREMENT, owner VARCHAR(40), balance INT, note TEXT)",
    "CREATE TABLE world.audit (id INT PRIMARY KEY AUTO_INCREMENT, account INT, old INT, new INT)",
    "CREATE VIEW world.rich AS SELECT id, owner FROM world.accounts WHERE balance > 500",
    "CREATE VIEW world.richer AS SELECT id FROM world.rich",
    "CREATE TRIGGER world.watch AFTER UPDATE ON world.accounts FOR EACH ROW"
    " INSERT INTO audit (account, old, new) VALUES (NEW.id, OLD.balance, NEW.balance)",
    "CREATE FUNCTION world.double_it(x INT) RETURNS INT DETERMINISTIC RETURN x * 2",
    "CREATE PROCEDURE world.count_rich(OUT n INT) SELECT COUNT(*) INTO n FROM world.rich",
    "CREATE EVENT world.later ON SCHEDULE AT '2037-01-01 00:00:00' DO DELETE FROM world.audit",
    "CREATE EVENT world.often ON SCHEDULE EVERY 1 SECOND DISABLE DO DELETE FROM world.audit",
    "CREATE ROLE reporting",
    "GRANT SELECT ON world.* TO reporting",
    "CREATE USER 'ana'@'%' IDENTIFIED BY 'se''cret'",
    "GRANT SELECT, UPDATE (balance) ON world.accounts TO 'ana'@'%'",
    "GRANT reporting TO 'ana'@'%'",
    "GRANT EXECUTE ON PROCEDURE world.count_rich TO 'ana'@'%'",
)

STATIC = (
    ("world", "kinds"),
    ("world", "empty_one"),
    ("world", "bulk"),
    ("world", "parent"),
    ("world", "child"),
    ("world", "parts"),
    ("world", "zero"),
    ("odd name-1", "t-ä ble"),
    ("world", "japanese"),
    ("world", "wide16"),
    ("world", "russian"),
    ("world", "wide"),
)
"""Tables that nobody writes to after `fill`."""


async def fill(server: Server, megabytes: int) -> None:
    """Make the schema and its rows; *megabytes* of them in `bulk`, half of it incompressible."""
    rng = random.Random(7)
    await server.execute(*SCHEMA)
    async with server.root_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        await cursor.execute("INSERT INTO world.zero VALUES (0, 1), (5, 2)")
        for number in range(300):
            await cursor.execute(
                "INSERT INTO world.kinds (a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,aa,ab,ac,ad) VALUES"
                " (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,"
                " UNHEX(%s),UNHEX(%s),UNHEX(%s),UNHEX(%s),%s,%s,%s,%s,ST_GeomFromText(%s),%s,%s,%s,%s,%s)",
                _kinds(number, rng),
            )
        await cursor.execute("INSERT INTO world.kinds (a) VALUES (NULL)")
        await cursor.executemany(
            "INSERT INTO world.parent VALUES (%s, %s)", [(n, f"p{n}") for n in range(50)]
        )
        await cursor.executemany("INSERT INTO world.child VALUES (%s, %s)", [(n, n % 50) for n in range(200)])
        await cursor.executemany(
            "INSERT INTO world.parts VALUES (%s, '2026-01-01', %s)", [(n, n * n) for n in range(100)]
        )
        await cursor.execute("INSERT INTO `odd name-1`.`t-ä ble` VALUES (1, 'naïve café'), (2, '')")
        await cursor.execute("INSERT INTO world.japanese VALUES (1, '日本語テスト')")
        await cursor.execute("INSERT INTO world.wide16 VALUES (1, '𝄞 music'), (2, 'ŋ')")
        await cursor.execute("INSERT INTO world.russian VALUES (1, 'Привет')")
        row = ", ".join(["%s"] * 601)
        await cursor.executemany(
            f"INSERT INTO world.wide VALUES ({row})",
            [(n, *(n * c % 30_000 for c in range(600))) for n in range(40)],
        )
        await cursor.execute("SELECT NEXT VALUE FOR world.counter")
        words = [
            "tide",
            "shore",
            "shell",
            "driftwood",
            "heron",
            "gull",
            "kelp",
            "dune",
            "marsh",
            "harbour",
            "lantern",
            "rope",
            "anchor",
        ]
        for number in range(megabytes * 1_000_000 // 330_000):
            note = " ".join(rng.choices(words, k=33_000))[:199_000]
            body = rng.randbytes(131_000)
            values = (number, f"bulk {number}", body.hex(), note)
            await cursor.execute("INSERT INTO world.bulk VALUES (%s, %s, UNHEX(%s), %s)", values)


def _kinds(n: int, rng: random.Random) -> tuple[Any, ...]:
    raw = bytes(range(256))
    return (
        rng.randrange(-100, 100),
        rng.randrange(65536),
        rng.randrange(-8_000_000, 8_000_000),
        rng.randrange(1 << 32),
        rng.randrange(-(1 << 63), 1 << 63),
        f"{rng.randrange(10**15)}.{rng.randrange(10**10):010d}",
        rng.random(),
        rng.random() * 10 ** rng.randrange(-300, 300),
        rng.randrange(1 << 17),
        f"20{n % 100:02d}-0{1 + n % 9}-1{n % 10}",
        f"2026-11-24 10:{n % 60:02d}:00.{rng.randrange(10**6):06d}",
        f"2026-0{1 + n % 9}-01 02:30:00.125",
        f"{rng.randrange(-838, 838)}:{n % 60:02d}:01.25",
        1990 + n % 60,
        f"c{n}",
        "quote ' double \" back \\ new\nline tab\t nul\0 percent % é 漢 🌊"[: n % 60],
        rng.randbytes(16).hex(),
        rng.randbytes(n % 40).hex(),
        raw[: n % 255].hex(),
        (raw * (n % 20)).hex(),
        "text " * (n % 50),
        ["x", "y", "it's"][n % 3],
        ["", "p", "p,q", "r"][n % 4],
        '{"k": [1, 2, {"ü": null}]}',
        f"POINT({n} {n * 2})",
        n % 2,
        "2001:db8::1" if n % 2 else "::ffff:10.0.0.1",
        f"123e4567-e89b-12d3-a456-4266141{n:05d}",
        f"10.0.{n % 256}.1",
        "compress me " * n,
    )


async def digest(server: Server, schema: str, table: str) -> tuple[int, str]:
    """(rows, digest of every row in the order of the first column): equal means the same row by row."""
    rows, found = 0, hashlib.blake2b()
    async with server.root_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SET time_zone = '+00:00'")
        await cursor.execute(f"SELECT * FROM `{schema}`.`{table}` ORDER BY 1")
        for row in await cursor.fetchall():
            rows += 1
            found.update(repr(row).encode())
    return rows, found.hexdigest()


async def definitions(server: Server) -> dict[str, Any]:
    """Everything that is not rows: tables, views, triggers, routines, events, users and their rights."""
    found: dict[str, Any] = {}
    for kind, query in {
        "tables": "SELECT table_schema, table_name, table_type, engine, table_collation FROM information_schema.tables"
        " WHERE table_schema IN ('world', 'odd name-1') ORDER BY 1, 2",
        "columns": "SELECT table_schema, table_name, column_name, column_type, column_default, is_nullable, collation_name,"
        " generation_expression FROM information_schema.columns WHERE table_schema IN ('world', 'odd name-1')"
        " ORDER BY 1, 2, ordinal_position",
        "views": "SELECT table_name, view_definition, definer FROM information_schema.views WHERE table_schema = 'world' ORDER BY 1",
        "triggers": "SELECT trigger_name, action_statement, definer FROM information_schema.triggers"
        " WHERE trigger_schema = 'world' ORDER BY 1",
        "routines": "SELECT routine_name, routine_type, routine_definition, definer FROM information_schema.routines"
        " WHERE routine_schema = 'world' ORDER BY 1",
        "events": "SELECT event_name, event_definition, status, execute_at, interval_value FROM information_schema.events ORDER BY 1",
        "keys": "SELECT table_name, constraint_name, referenced_table_name FROM information_schema.referential_constraints"
        " WHERE constraint_schema = 'world' ORDER BY 1",
        "users": "SELECT Host, User, JSON_REMOVE(Priv, '$.password_last_changed') FROM mysql.global_priv"
        " WHERE User IN ('ana', 'reporting', 'backup') ORDER BY 1, 2",
        "ana": "SHOW GRANTS FOR 'ana'@'%'",
        "sequence": "SELECT next_not_cached_value FROM world.counter",
    }.items():
        found[kind] = await server.execute(query)
    return found
