"""MySQL's GTIDs: sets are sets, whichever way they are written, and bytes that are none are damage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.agents.errors import LogDamaged, SourceRefused
from strandline.agents.mysql_gtid import LAST, GtidSet, read_tagged

ONE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
TWO = "77d1902c-01da-11f1-9a41-908d6e5f6e8d"
KEYS = [ONE.replace("-", ""), TWO.replace("-", ""), TWO.replace("-", "") + ":nightly"]

TAGGED = bytes.fromhex(
    "027c00000202ee45034102580269 0322c503690282410235 02dcbedc35020404061074657374 5f74616708000a040c"
    "7f003e8900fa5b061045051 2dbd009".replace(" ", "")
)
"""Body of an event of Percona Server 8.4: the first transaction of its source with the tag `test_tag`."""

Model = set[tuple[str, int]]
members = st.sets(st.tuples(st.sampled_from(KEYS), st.integers(1, 12)), max_size=20)


def made(model: Model) -> GtidSet:
    found = GtidSet()
    for source, number in model:
        found.add(f"{source}:{number}")
    return found


def encoded(found: GtidSet, *, tags: bool) -> bytes:
    """As the server writes it into its log."""
    runs = found._runs
    data = (len(runs) << 8 | 1 << 56 | 1 if tags else len(runs)).to_bytes(8, "little")
    for source, some in runs.items():
        uuid, _, tag = source.partition(":")
        data += bytes.fromhex(uuid) + (bytes([2 * len(tag)]) + tag.encode() if tags else b"")
        data += len(some).to_bytes(8, "little")
        data += b"".join(
            first.to_bytes(8, "little") + (last + 1).to_bytes(8, "little") for first, last in some
        )
    return data


@given(members, members)
def test_sets_of_transactions_are_sets(one: Model, other: Model) -> None:
    left, right = made(one), made(other)

    assert left | right == made(one | other)
    assert left - right == made(one - other)
    assert (left >= right) == (one >= other)
    assert (left == right) == (one == other)
    assert (bool(left), len(left)) == (bool(one), len(one))
    assert all((f"{source}:{number}" in left) == ((source, number) in one) for source, number in one | other)
    assert left == made(one)  # none of that changed it


@given(members)
def test_a_set_is_written_and_read_alike(model: Model) -> None:
    found = made(model)

    assert GtidSet.parse(str(found)) == found
    assert GtidSet.decode(encoded(found, tags=True)) == found
    plain = GtidSet.parse(",".join(part for part in str(found).split(",") if "nightly" not in part))
    assert GtidSet.decode(encoded(plain, tags=False)) == plain


def test_sets_are_written_as_the_server_writes_them() -> None:
    text = f"{ONE}:1-5:7,{TWO}:1-3:nightly:1-2:9:weekly:4"

    assert str(GtidSet.parse(text)) == text
    assert str(GtidSet.parse(f"\n{TWO.upper()} : 1 - 3 : 3-5 ,\n{ONE}:2")) == f"{ONE}:2,{TWO}:1-5"
    assert str(GtidSet.parse(f"{ONE}:5-3")) == ""
    assert str(GtidSet.parse(f"{ONE}:{LAST}")) == f"{ONE}:{LAST}"


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        f"{ONE}:",
        f"{ONE}:0",
        f"{ONE}:1:tag",
        f"{ONE}:{LAST + 1}",
        f"{ONE}:1-2-3",
        f"{ONE}:9a:1",
        "0-1-5",
        "x",
    ],
)
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(SourceRefused):
        GtidSet.parse(text)


def test_a_copy_is_its_own() -> None:
    found = made({(KEYS[0], 1)})
    copy = found.copy()
    copy.add(f"{KEYS[0]}:2")

    assert (len(found), len(copy)) == (1, 2)


def test_a_tagged_transaction_of_a_real_server_has_its_name_and_its_time() -> None:
    name, time = read_tagged(TAGGED)

    assert name == f"{TWO.replace('-', '')}:test_tag:1"
    assert time == int.from_bytes(bytes.fromhex("003e8900fa5b06"), "little")


@pytest.mark.parametrize("size", range(len(TAGGED)))
def test_a_tagged_transaction_cut_off_is_damage(size: int) -> None:
    with pytest.raises(LogDamaged):
        read_tagged(TAGGED[:size])


@settings(max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 60), st.integers(0, 255))
def test_bytes_of_any_kind_are_understood_or_damage(data: bytes, at: int, value: int) -> None:
    for read in (GtidSet.decode, read_tagged):
        for garbage in (data, TAGGED[:at] + bytes([value]) + TAGGED[at + 1 :]):
            try:
                assert read(garbage)
            except LogDamaged:
                continue
            except AssertionError:
                assert garbage[:8] in (bytes(8), b"\1" + bytes(6) + b"\1")  # the empty set
