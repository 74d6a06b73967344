"""A dump is taken apart into structures and rows, in whatever blocks it comes, and nothing in it can pass for what it is not."""

from __future__ import annotations

import random

import pytest
from strandline.agents.errors import ToolFailed
from strandline.agents.mysql_split import (
    Database,
    DumpSplitter,
    Head,
    Piece,
    Rows,
    RowsBegin,
    RowsEnd,
    Structure,
    statements,
)

HEAD = b"""\
/*M!999999\\- enable the sandbox mode */
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: it's here    Database: shop
-- ------------------------------------------------------

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40103 SET TIME_ZONE='+00:00' */;

--
-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4711;
--

"""
FOOT = b"""\
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;

-- Dump completed
"""


def database(name: bytes) -> bytes:
    return (
        b"\n--\n-- Current Database: `%b`\n--\n\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `%b`;\n\nUSE `%b`;\n"
        % (name.replace(b"\n", b" "), name, name)
    )


def table(name: bytes, columns: bytes = b"  `id` int(11) NOT NULL", more: bytes = b"") -> bytes:
    return (
        b"\n--\n-- Table structure for table `%b`\n--\n\nDROP TABLE IF EXISTS `%b`;\n"
        b"/*!40101 SET @saved_cs_client     = @@character_set_client */;\n"
        b"/*!40101 SET character_set_client = utf8mb4 */;\nCREATE TABLE `%b` (\n%b\n) ENGINE=InnoDB%b;\n"
        b"/*!40101 SET character_set_client = @saved_cs_client */;\n\n--\n-- Dumping data for table `%b`\n--\n\n"
        % (name.replace(b"\n", b" "), name, name, columns, more, name.replace(b"\n", b" "))
    )


def inserts(name: bytes, *rows: bytes, columns: bytes = b"") -> bytes:
    return b"".join(b"INSERT INTO `%b`%b VALUES %b;\n" % (name, columns, row) for row in rows)


def split(
    dump: bytes, size: int = 1 << 20, rng: random.Random | None = None
) -> tuple[list[Piece], DumpSplitter]:
    splitter = DumpSplitter()
    pieces: list[Piece] = []
    at = 0
    while at < len(dump):
        step = rng.randrange(1, size) if rng else size
        pieces += splitter.feed(dump[at : at + step])
        at += step
    return [*pieces, *splitter.finish()], splitter


def tables_of(pieces: list[Piece]) -> dict[str, tuple[bytes, list[bytes]]]:
    """By `database.table`: its structure, its rows."""
    found: dict[str, tuple[bytes, list[bytes]]] = {}
    rows: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, Structure):
            found[f"{piece.database}.{piece.table}"] = piece.text, []
        elif isinstance(piece, RowsBegin):
            rows = found[f"{piece.database}.{piece.table}"][1]
        elif isinstance(piece, Rows):
            rows += piece.lines.split(b"\n")
    return found


ROWS = [b"(%d,'a;b\\n(c),(d)')" % n for n in range(5000)]
DUMP = b"".join(
    (
        HEAD,
        database(b"a"),
        b"DROP SEQUENCE IF EXISTS `s`;\nCREATE SEQUENCE `s` start with 1 ENGINE=InnoDB;\nDO SETVAL(`s`, 5, 0);\n",
        table(b"empty"),
        table(b"t"),
        inserts(b"t", *ROWS),
        table(b"u"),
        inserts(b"u", b"(1)"),
        database(b"b"),
        table(b"u", b"  `a` int(11),\n  `b` int(11) GENERATED ALWAYS AS (`a` + 1) STORED"),
        inserts(b"u", b"(1)", b"(2)", columns=b" (`a`)"),
        FOOT,
    )
)


def test_structures_and_rows_are_told_apart() -> None:
    pieces, splitter = split(DUMP)

    found = tables_of(pieces)
    assert splitter.whole
    assert list(found) == ["a.s", "a.empty", "a.t", "a.u", "b.u"]
    assert found["a.t"][1] == ROWS
    assert found["b.u"][1] == [b"(1)", b"(2)"]
    assert found["a.empty"][1] == []
    assert found["a.s"][0].endswith(b"DO SETVAL(`s`, 5, 0);\n")
    assert found["a.t"][0].startswith(b"DROP TABLE IF EXISTS `t`;\n")
    assert found["a.t"][0].endswith(b"SET character_set_client = @saved_cs_client */;\n")
    assert [piece.database for piece in pieces if isinstance(piece, Database)] == ["a", "b"]
    (head,) = [piece for piece in pieces if isinstance(piece, Head)]
    assert b"MASTER_LOG_POS=4711" in head.text
    assert [piece.head for piece in pieces if isinstance(piece, RowsBegin)][
        -1
    ] == b"INSERT INTO `u` (`a`) VALUES"
    assert sum(isinstance(piece, RowsEnd) for piece in pieces) == 3


def test_it_does_not_matter_in_what_blocks_a_dump_comes() -> None:
    whole = tables_of(split(DUMP)[0])

    for seed in range(60):
        pieces, splitter = split(DUMP, [2, 30, 3000, 100_000][seed % 4], random.Random(seed))
        assert tables_of(pieces) == whole
        assert splitter.whole


EVIL = (
    b"';\nINSERT INTO `t` VALUES (666);\n",
    b"x'';\n\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (a int);\n",
    b"\\';\nUSE `other`;\n--",
    b"*/;\n-- Dump completed\n",
    b'/* " -- ',
    b"-- \n",
    b"`;\nCREATE DATABASE `x`;\n",
)


@pytest.mark.parametrize("evil", EVIL)
def test_no_comment_default_or_name_can_pass_for_a_statement(evil: bytes) -> None:
    """As the tools quote them, and worse: with newlines, which servers write as `\\n`."""
    quoted = evil.replace(b"\\", b"\\\\").replace(b"'", b"''")
    name = evil.replace(b"`", b"``")
    columns = b"  `%b` int(11) DEFAULT '%b' COMMENT '%b',\n  `b` int(11) /* %b */" % (
        name,
        quoted,
        quoted,
        evil.replace(b"*/", b"* /"),
    )
    dump = HEAD + database(name) + table(name, columns, b" COMMENT='%b'" % quoted)
    dump += inserts(name, b"(1,'x')", b"(2,'y')", columns=b" (`%b`, `b`)" % name) + table(b"last") + FOOT
    for size in (1 << 20, 7):
        pieces, splitter = split(dump, size)

        found = tables_of(pieces)
        assert list(found) == [f"{evil.decode()}.{evil.decode()}", f"{evil.decode()}.last"]
        assert found[f"{evil.decode()}.{evil.decode()}"][1] == [b"(1,'x')", b"(2,'y')"]
        assert splitter.whole


def test_old_rows_of_versioned_tables_are_marked() -> None:
    dump = HEAD + database(b"a") + table(b"v")
    dump += (
        b"/*M!101100 SET @old_system_versioning_insert_history=@@session.system_versioning_insert_history,"
    )
    dump += b" @@session.system_versioning_insert_history=1 */;\n"
    dump += inserts(b"v", b"(1,'2026','2038')", columns=b" (`id`, row_start, row_end)")
    dump += b"/*M!101100 SET system_versioning_insert_history=@old_system_versioning_insert_history */;\n"
    dump += table(b"w") + inserts(b"w", b"(1)") + FOOT

    pieces, _ = split(dump)

    assert [piece.history for piece in pieces if isinstance(piece, RowsBegin)] == [True, False]
    assert tables_of(pieces)["a.v"][1] == [b"(1,'2026','2038')"]
    assert b"versioning" not in tables_of(pieces)["a.v"][0]


VIEW = b"""\
DROP TABLE IF EXISTS `v`;
/*!50001 DROP VIEW IF EXISTS `v`*/;
SET @saved_cs_client     = @@character_set_client;
/*!50001 CREATE VIEW `v` AS SELECT
 1 AS `id` */;
SET character_set_client = @saved_cs_client;
"""
FINAL = b"""\
/*!50001 DROP VIEW IF EXISTS `v`*/;
/*!50001 SET @saved_cs_client          = @@character_set_client */;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select 1 */;
/*!50001 SET character_set_client      = @saved_cs_client */;
"""


def test_of_a_view_there_is_what_stands_in_for_it() -> None:
    parts = (database(b"a"), table(b"t"), VIEW, table(b"u"), inserts(b"u", b"(1)"), FINAL)

    pieces, _ = split(b"".join((HEAD, *parts, FOOT)))

    found = tables_of(pieces)
    assert [piece.kind for piece in pieces if isinstance(piece, Structure)] == ["table", "view", "table"]
    assert list(found) == ["a.t", "a.v", "a.u"]
    assert found["a.v"][0] == VIEW
    assert not any(b"ALGORITHM" in text or b"50001 SET" in text for text, _ in found.values())


@pytest.mark.parametrize("cut", [b"-- Dump completed", b"/*!40101 SET SQL_MODE=@OLD"])
def test_a_dump_without_its_end_is_not_whole(cut: bytes) -> None:
    _, splitter = split(DUMP[: DUMP.index(cut, len(DUMP) // 2)])

    assert not splitter.whole


def test_a_trailer_with_something_behind_it_is_none() -> None:
    _, splitter = split(DUMP + table(b"late"))

    assert not splitter.whole


@pytest.mark.parametrize("end", [b"(4998,'a;b", b"INSERT INTO `t` VAL"])
def test_a_dump_that_ends_inside_a_statement_is_refused(end: bytes) -> None:
    with pytest.raises(ToolFailed, match="inside a statement"):
        split(DUMP[: DUMP.rindex(end) + len(end)])


def test_a_row_longer_than_many_blocks_is_put_together_once() -> None:
    row = b"(1,'" + b"x" * (8 << 20) + b"')"
    dump = HEAD + database(b"a") + table(b"t") + inserts(b"t", row, b"(2)") + FOOT

    pieces, _ = split(dump, 64 << 10)

    assert tables_of(pieces)["a.t"][1] == [row, b"(2)"]


def test_statements_of_a_table_stream_can_be_read_one_by_one() -> None:
    text = table(b"t", b"  `a` int COMMENT ';'") + table(b"u")

    found = [statement.split(b" ")[0] for statement in statements(text) if b"SET" not in statement]

    assert len(list(statements(text))) == 10
    assert found[-1] == b"CREATE"
