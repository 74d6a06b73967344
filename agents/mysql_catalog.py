"""What there is to dump: databases, tables, views and the rest, as the server lists them, and who dumps which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .mysql_connect import MySQLConnection

THEIRS = "('mysql', 'sys', 'information_schema', 'performance_schema', 'ndbinfo', 'strandline_restore')"
"""The server's own databases: what is worth keeping of them is in `accounts.sql` and `system.sql`; and a restore's journal."""

_TABLES = (
    "SELECT table_schema AS db, table_name AS name, table_type AS type, engine, create_time, COALESCE(data_length, 0) AS size,"
    " HEX(WEIGHT_STRING(CONVERT(CONCAT(table_schema, '.', table_name) USING utf8mb4) COLLATE utf8mb4_general_ci)) AS likeness"
    f" FROM information_schema.tables WHERE table_schema NOT IN {THEIRS}"
    " AND COALESCE(engine, '') <> 'S3'"  # the tools leave them out
)
_DATABASES = f"SELECT schema_name AS db FROM information_schema.schemata WHERE schema_name NOT IN {THEIRS}"
_DEFINITIONS = {
    "views": "SELECT table_schema AS db, table_name AS name, MD5(CONCAT(view_definition, definer, security_type)) AS mark"
    " FROM information_schema.views",
    "routines": "SELECT routine_schema AS db, CONCAT(routine_type, ' ', routine_name) AS name,"
    " CONCAT(last_altered, MD5(COALESCE(routine_definition, ''))) AS mark FROM information_schema.routines",
    "triggers": "SELECT trigger_schema AS db, trigger_name AS name, event_object_table AS of_table,"
    " MD5(CONCAT(action_statement, action_timing, event_manipulation, action_order)) AS mark FROM information_schema.triggers",
    "events": "SELECT event_schema AS db, event_name AS name, CONCAT(last_altered, MD5(event_definition)) AS mark"
    " FROM information_schema.events",
}


@dataclass(frozen=True, slots=True)
class Table:
    """*created*: when it was, or was rebuilt, as the server says.
    *likeness*: the tools take tables of one likeness for the same where they are told to leave one out."""

    database: str
    name: str
    type: str
    engine: str
    size: int
    likeness: str
    created: str = ""

    @property
    def is_view(self) -> bool:
        return self.type in ("VIEW", "SYSTEM VIEW")

    @property
    def is_sequence(self) -> bool:
        return self.type == "SEQUENCE"


@dataclass(frozen=True, slots=True)
class Catalog:
    databases: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def size(self) -> int:
        return sum(table.size for table in self.tables)

    def holds_same(self, other: Catalog) -> bool:
        """Are there the same databases with the same tables?"""
        mine, theirs = (
            (catalog.databases, [(t.database, t.name, t.type) for t in catalog.tables])
            for catalog in (self, other)
        )
        return mine == theirs

    def changes(self, later: Catalog) -> list[str]:
        """Tables that were altered, renamed or dropped until *later*, in words; what was made meanwhile is none."""
        still = {(t.database, t.name): (t.type, t.engine, t.created) for t in later.tables}
        return sorted(
            f"{t.database}.{t.name}"
            for t in self.tables
            if not t.is_view and still.get((t.database, t.name)) != (t.type, t.engine, t.created)
        )


@dataclass(slots=True)
class Share:
    """What one process dumps: *tables*, and *databases* with all that they have but *others*."""

    tables: list[Table] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    others: list[Table] = field(default_factory=list)


async def read_catalog(connection: MySQLConnection) -> Catalog:
    databases = _in_order(await connection.execute(_DATABASES))
    tables = _in_order(await connection.execute(_TABLES))
    return Catalog(
        tuple(str(row["db"]) for row in databases),
        tuple(
            Table(
                str(row["db"]),
                str(row["name"]),
                str(row["type"]),
                str(row["engine"] or ""),
                int(row["size"]),
                str(row["likeness"]),
                str(row["create_time"] or ""),
            )
            for row in tables
        ),
    )


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By their very names: to the server those that differ by case or accents only are alike, and come now so, now so."""
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def share_out(catalog: Catalog, jobs: int) -> list[Share]:
    """The tables in *jobs* shares, or fewer, about the same size each: the largest first, each to whom has least so far.

    The tools compare names that they are to leave out without regard to case and accents: whoever dumps `t` cannot be told to leave
    `T` out.  So tables of one likeness go together.
    """
    groups: dict[str, list[Table]] = {}
    for table in catalog.tables:
        if not table.is_view:
            groups.setdefault(table.likeness, []).append(table)
    used = {table.database for group in groups.values() for table in group}
    bare = [name for name in catalog.databases if name not in used]
    count = max(1 if catalog.databases else 0, min(jobs, len(groups)))
    shares = [Share() for _ in range(count)]
    loads = [0] * count
    # Each table costs something, however small it is.
    for group in sorted(groups.values(), key=lambda group: -sum(table.size for table in group)):
        least = loads.index(min(loads))
        loads[least] += sum(table.size + 4096 for table in group)
        shares[least].tables += group
    for number, share in enumerate(shares):
        wanted = {table.database for table in share.tables} | (set(bare) if number == 0 else set())
        share.databases = [name for name in catalog.databases if name in wanted]
        mine = {table.likeness for table in share.tables}
        share.others = [
            table
            for group in groups.values()
            for table in group
            if table.database in wanted and table.likeness not in mine
        ]
    return shares


@dataclass(frozen=True, slots=True)
class Definition:
    """A view, routine, trigger (*table*: whose) or event.  *mark* changes with it."""

    kind: str
    database: str
    name: str
    table: str
    mark: str


async def read_definitions(connection: MySQLConnection) -> list[Definition]:
    """All of them but the server's own, in order."""
    found = []
    for kind, query in _DEFINITIONS.items():
        column = {"views": "table", "routines": "routine", "triggers": "trigger", "events": "event"}[kind]
        rows = _in_order(await connection.execute(f"{query} WHERE {column}_schema NOT IN {THEIRS}"))
        found += [
            Definition(kind, str(row["db"]), str(row["name"]), str(row.get("of_table", "")), str(row["mark"]))
            for row in rows
        ]
    return found
