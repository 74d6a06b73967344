"""Accounts of a full: whose lines they are, and what of them is run."""

from __future__ import annotations

import pytest
from strandline.agents.mysql_accounts import _can_be_granted, account_of, accounts_to_run, may_change

from ..mariadb import running_server
from .mysql_kit import Taken, agent, bring_back, take


@pytest.mark.parametrize(
    "line",
    [
        "CREATE USER IF NOT EXISTS `a``b`@`%` IDENTIFIED BY PASSWORD '*1';",
        'ALTER USER "a`b"@"%" IDENTIFIED BY PASSWORD \'*1\';',
        'GRANT SELECT ON "d"."t" TO "a`b"@"%" WITH GRANT OPTION;',
        "SET DEFAULT ROLE `r` FOR `a``b`@`%`;",
    ],
)
def test_an_account_is_known_between_quotes_of_either_kind(line: str) -> None:
    assert account_of(line) == ("a`b", "%")
    assert may_change(line, "a`b", "%")
    assert not may_change(line, "a`b", "localhost")


def test_a_line_that_cannot_be_read_is_not_run_where_it_may_be_about_who_restores() -> None:
    assert may_change("ALTER USER dba@'%' IDENTIFIED BY 'x';", "dba", "%")
    assert may_change("SET PASSWORD = 'x'; -- CURRENT_USER()", "dba", "%")
    for line in (
        "SET NAMES utf8mb4;",
        "SET sql_mode='', sql_notes=0;",
        "ALTER USER other@'%';",
        "GRANT ALL ON `sql`.* TO `dba`;",  # a role
        "CREATE ROLE IF NOT EXISTS `dba`;",
    ):
        assert not may_change(line, "dba", "%")
    assert not may_change("SET sql_mode='', sql_notes=0;", "sql", "%")


def test_double_quotes_are_read_as_the_source_wrote_them() -> None:
    head = "SET sql_mode='', sql_notes=0;\n"
    plain, quoted = "GRANT USAGE ON *.* TO `u`@`%`;\n", 'GRANT SELECT ON "d".* TO "u"@"%";\n'

    assert accounts_to_run([head, plain]) == [head, plain]
    assert accounts_to_run([head, quoted]) == ["SET sql_mode='ANSI_QUOTES', sql_notes=0;\n", quoted]


def test_rights_on_the_servers_own_schemas_can_be_granted() -> None:
    for line in (
        "GRANT SELECT ON `performance_schema`.`threads` TO `u`@`%`",
        "GRANT SELECT ON `sys`.`version` TO `u`@`%`",
        'GRANT SELECT ON "mysql"."user" TO "u"@"%"',
        "GRANT EXECUTE ON PROCEDURE `d`.`P` TO `u`@`%`",
    ):
        assert _can_be_granted(line, {("d", "procedure p")})
    assert not _can_be_granted("GRANT SELECT ON `d`.`t` TO `u`@`%`", {("d", "procedure p")})


@pytest.mark.mariadb
@pytest.mark.filterwarnings("ignore::pymysql.err.Warning")
async def test_who_restores_keeps_their_account_whatever_quotes_the_source_wrote() -> None:
    async with running_server() as source, running_server() as target:
        await source.execute(
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT)",
            "CREATE TABLE d.gone (id INT)",
            "CREATE USER dba@'127.0.0.1' IDENTIFIED BY 'of the source'",
            "CREATE USER reader@'%'",
            "GRANT SELECT ON performance_schema.threads TO reader@'%'",
            "GRANT SELECT ON d.t TO reader@'%'",
            "GRANT SELECT ON d.gone TO reader@'%'",
            "DROP TABLE d.gone",
        )
        full = await take(source)
        _quote_doubly(full)
        await target.execute(
            "SET sql_log_bin=0",
            "CREATE USER dba@'127.0.0.1' IDENTIFIED BY 'of the target'",
            "GRANT ALL ON *.* TO dba@'127.0.0.1' WITH GRANT OPTION",
        )
        warnings: list[str] = []

        await bring_back(agent(target, user="dba", password="of the target"), full, warn=warnings.append)

        assert (await take(agent(target, user="dba", password="of the target"))).streams
        assert any(warning.startswith("1 right was not given") for warning in warnings)
        rights = await target.execute(
            "SELECT table_schema FROM information_schema.table_privileges WHERE grantee LIKE '%reader%' ORDER BY 1"
        )
        assert rights == [("d",), ("performance_schema",)]


def _quote_doubly(full: Taken) -> None:
    for stream in full.streams:
        if stream.name == "accounts.sql":
            stream.data = stream.data.replace(b"`", b'"')
