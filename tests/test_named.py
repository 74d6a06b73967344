"""What a named server that is MySQL is told in place of what tests say to MariaDB."""

from __future__ import annotations

from .named import spoken


def test_statements_that_mysql_says_otherwise_are_put_in_its_words() -> None:
    assert spoken("CREATE OR REPLACE USER few@'%' IDENTIFIED BY 'pw'", newer=False) == [
        "DROP USER IF EXISTS few@'%'",
        "CREATE USER few@'%' IDENTIFIED BY 'pw'",
    ]
    assert spoken("GRANT SELECT ON shop.* TO reader@'%' IDENTIFIED BY 'x'", newer=True) == [
        "CREATE USER reader@'%' IDENTIFIED BY 'x'",
        "GRANT SELECT ON shop.* TO reader@'%'",
    ]
    assert spoken("CREATE SEQUENCE shop.counter", newer=True) == []
    assert spoken("INSERT INTO shop.t (v) VALUES ('a')", newer=True) == [
        "INSERT INTO shop.t (v) VALUES ('a')"
    ]


def test_the_words_of_8_2_are_used_where_the_server_knows_them() -> None:
    assert spoken("RESET MASTER", newer=False) == ["RESET MASTER"]
    assert spoken("RESET MASTER", newer=True) == ["RESET BINARY LOGS AND GTIDS"]
    assert spoken("SHOW MASTER STATUS", newer=True) == ["SHOW BINARY LOG STATUS"]
