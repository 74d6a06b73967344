"""What the rows must be: the effect of every commit, applied in the order in which the server's log has them.

The tables of `pitr`, and what of each row is compared.  A row's first column is the number of the transaction that wrote it last.
Tables `extra_N` come and go; all of their columns are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Key: TypeAlias = tuple[Any, ...]
Row: TypeAlias = tuple[Any, ...]

COLUMNS = {
    "ledger": "n, lane, word",
    "notes": "n, id, lane, body, UNIX_TIMESTAMP(at), moment, chance, name",
    "audit": "n, id, note, what",
    "plain": "n, k, v, moment, chance",
    "accounts": "n, id, amount",
    "blobs": "n, id, LENGTH(data), MD5(data)",
}
KEYS = {"ledger": (0,), "notes": (1,), "audit": (1,), "accounts": (1,), "blobs": (1,)}
"""Columns of those above that name a row; tables without a key name theirs by `Effect.put`."""

ACCOUNTS = 10
SCHEMA = (
    "CREATE DATABASE pitr CHARACTER SET utf8mb4",
    "CREATE TABLE pitr.ledger (n BIGINT PRIMARY KEY, lane INT, word VARCHAR(40))",
    "CREATE TABLE pitr.notes (n BIGINT, id INT PRIMARY KEY AUTO_INCREMENT, lane INT, body VARCHAR(200), at TIMESTAMP(6) NULL,"
    " moment DATETIME(6), chance DOUBLE, name VARCHAR(64), KEY (n)) ENGINE=InnoDB",
    "CREATE TABLE pitr.audit (n BIGINT, id INT PRIMARY KEY AUTO_INCREMENT, note INT, what VARCHAR(20), KEY (n)) ENGINE=InnoDB",
    "CREATE TABLE pitr.plain (n BIGINT, k INT, v VARCHAR(80), moment DATETIME(6), chance DOUBLE) ENGINE=InnoDB",
    "CREATE TABLE pitr.accounts (n BIGINT, id INT PRIMARY KEY, amount BIGINT) ENGINE=InnoDB",
    "CREATE TABLE pitr.blobs (n BIGINT, id INT PRIMARY KEY AUTO_INCREMENT, data LONGBLOB, KEY (n)) ENGINE=InnoDB",
    "CREATE TRIGGER pitr.came AFTER INSERT ON pitr.notes FOR EACH ROW"
    " INSERT INTO pitr.audit (n, note, what) VALUES (NEW.n, NEW.id, 'came')",
    "CREATE TRIGGER pitr.changed AFTER UPDATE ON pitr.notes FOR EACH ROW"
    " INSERT INTO pitr.audit (n, note, what) VALUES (NEW.n, NEW.id, CONCAT('after ', OLD.n))",
    "INSERT INTO pitr.accounts VALUES " + ", ".join(f"(0, {number}, 1000)" for number in range(ACCOUNTS)),
)


@dataclass(slots=True)
class Table:
    columns: list[str]
    rows: dict[Key, Row] = field(default_factory=dict)


@dataclass(slots=True)
class Effect:
    """What one transaction does: to tables as wholes (*ddl*), to rows that it knows, and to *accounts*, whose amount hangs on who came
    before."""

    ddl: tuple[str, ...] = ()
    drops: list[tuple[str, Key]] = field(default_factory=list)
    puts: list[tuple[str, Key, Row]] = field(default_factory=list)
    accounts: list[int] = field(default_factory=list)

    def put(self, table: str, row: Row, at: int) -> None:
        """*row* is the *at*th of those that the transaction left in *table*."""
        key = tuple(row[column] for column in KEYS[table]) if table in KEYS else (row[0], at)
        self.puts.append((table, key, row))


class State:
    """All rows of all tables."""

    def __init__(self) -> None:
        self.tables = {name: Table([]) for name in COLUMNS}
        for number in range(ACCOUNTS):
            self.tables["accounts"].rows[(number,)] = (0, number, 1000)

    def apply(self, number: int, effect: Effect) -> None:
        if effect.ddl:
            self._change(*effect.ddl)
        for table, key in effect.drops:
            del self.tables[table].rows[key]
        for table, key, row in effect.puts:
            self.tables[table].rows[key] = row
        for account in effect.accounts:
            _, _, amount = self.tables["accounts"].rows[(account,)]
            self.tables["accounts"].rows[(account,)] = (number, account, bump(amount, number))

    def _change(self, what: str, name: str, *more: str) -> None:
        match what:
            case "create":
                self.tables[name] = Table(list(more))
            case "drop":
                del self.tables[name]
            case "rename":
                self.tables[more[0]] = self.tables.pop(name)
            case "truncate":
                self.tables[name].rows.clear()
            case "add":  # a column, whose value everywhere is the number in its name
                table, (column,) = self.tables[name], more
                table.columns.append(column)
                table.rows = {key: (*row, int(column[1:])) for key, row in table.rows.items()}

    def seen(self) -> dict[str, tuple[tuple[str, ...], list[Row]]]:
        """As `rows_of` reads it from a server."""
        return {
            name: (tuple(table.columns), sorted(table.rows.values(), key=repr))
            for name, table in self.tables.items()
        }


def bump(amount: int, number: int) -> int:
    """What a transaction makes of an account: two in another order leave another amount."""
    return (amount * 31 + number) % 1_000_003


async def rows_of(connection: Any) -> dict[str, tuple[tuple[str, ...], list[Row]]]:
    """What a server has: columns (of tables that come and go) and rows, by table."""
    found: dict[str, tuple[tuple[str, ...], list[Row]]] = {}
    async with connection.cursor() as cursor:
        await cursor.execute("SET time_zone='+00:00'")
        await cursor.execute(
            "SELECT table_name, GROUP_CONCAT(column_name ORDER BY ordinal_position) FROM information_schema.columns"
            " WHERE table_schema='pitr' GROUP BY 1"
        )
        for name, columns in await cursor.fetchall():
            await cursor.execute(f"SELECT {COLUMNS.get(name, '*')} FROM pitr.{name}")
            rows = sorted(await cursor.fetchall(), key=repr)
            found[name] = (() if name in COLUMNS else tuple(columns.split(",")), rows)
    return found
