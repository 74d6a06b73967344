"""Who dumps which tables: about as much each, and nobody is told to leave out what the tools would take for something else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from strandline.agents.mysql_catalog import Catalog, Table, share_out


def table(database: str, name: str, size: int = 0, type: str = "BASE TABLE") -> Table:
    return Table(database, name, type, "InnoDB", size, f"{database}.{name}".upper())


def catalog(*tables: Table, bare: tuple[str, ...] = ()) -> Catalog:
    return Catalog(tuple(sorted({one.database for one in tables} | set(bare))), tables)


def test_the_largest_tables_go_to_different_processes() -> None:
    shares = share_out(
        catalog(*(table("a", f"t{n}", size * 1_000_000) for n, size in enumerate((9, 8, 2, 1, 4)))), 2
    )

    assert [sorted(one.size // 1_000_000 for one in share.tables) for share in shares] == [[1, 2, 9], [4, 8]]


def test_names_that_differ_in_case_alone_go_together() -> None:
    shares = share_out(catalog(table("a", "t", 9), table("a", "T", 9), table("a", "u"), table("a", "v")), 2)

    (with_t,) = [share for share in shares if {"t", "T"} & {one.name for one in share.tables}]
    assert {"t", "T"} <= {one.name for one in with_t.tables}


def test_views_are_nobody_s() -> None:
    """Who dumps a database prints what stands in for them."""
    (share,) = share_out(
        catalog(table("a", "t"), table("a", "v", type="VIEW"), table("a", "T", type="VIEW")), 1
    )

    assert share.others == []
    assert [one.name for one in share.tables] == ["t"]


def test_databases_without_tables_are_somebody_s_too() -> None:
    assert [share.databases for share in share_out(catalog(bare=("a", "b")), 4)] == [["a", "b"]]
    assert share_out(catalog(), 4) == []


names = st.tuples(st.sampled_from("abc"), st.text("tTuv", min_size=1, max_size=3))


@given(st.dictionaries(names, st.integers(0, 1 << 40), max_size=30), st.integers(1, 6))
def test_each_table_is_dumped_by_one_process(sizes: dict[tuple[str, str], int], jobs: int) -> None:
    everything = catalog(*(table(*names, size=size) for names, size in sizes.items()), bare=("z",))

    shares = share_out(everything, jobs)

    assert 1 <= len(shares) <= jobs
    assert sorted((t.database, t.name) for share in shares for t in share.tables) == sorted(sizes)
    for share in shares:
        # As the tools do it: all of these databases, less what is like something that is left out.
        left_out = {one.likeness for one in share.others}
        dumped = [
            t for t in everything.tables if t.database in share.databases and t.likeness not in left_out
        ]
        assert set(dumped) == set(share.tables)
    assert {name for share in shares for name in share.databases} == set(everything.databases)


def test_tables_that_changed_are_named_but_not_new_ones() -> None:
    def table(name: str, created: str, kind: str = "BASE TABLE") -> Table:
        return Table("a", name, kind, "InnoDB", 0, name, created)

    before = Catalog(
        ("a",), (table("same", "1"), table("altered", "1"), table("gone", "1"), table("v", "1", "VIEW"))
    )
    later = Catalog(("a",), (table("same", "1"), table("altered", "2"), table("new", "2")))

    assert before.changes(later) == ["a.altered", "a.gone"]
    assert before.changes(before) == []
