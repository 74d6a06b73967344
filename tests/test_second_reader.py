"""Two readers that share no code read the same bytes: what is stored can be read from the page alone."""

from __future__ import annotations

import ast
import io
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from strandline.agents.base import StreamKind
from strandline.engine.base.clock import system_now
from strandline.engine.flow import recipes
from strandline.engine.format.aead import Encryption
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.snapshot import Snapshot
from strandline.engine.ops import rolling
from strandline.engine.ops.backup import backup
from strandline.engine.ops.check import check
from strandline.engine.ops.restore import restore
from strandline.engine.repo import session
from strandline.engine.repo.keys import Key, add_slot, write_key_file
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.local import LocalStore

from . import second_reader
from .fakes import FakeAgent
from .golden.repository import ENCRYPTIONS, KEY_FILE, SERIES, Given, captures, key_of, repository_path
from .second_reader import SecondReader, Unreadable

CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
PASSPHRASE = "correct horse, bätterie ステープル"
DRAW = random.Random(1)

NOISE = DRAW.randbytes(3 << 20)
TEXT = b"".join(b"(%d,'row %d','some value'),\n" % (i, i * 7919 % 1000) for i in range(60_000))
ZEROS = bytes(2 << 20)


@pytest.fixture(params=["passphrase", "keyfile", "none"])
def key(request, tmp_path) -> Key:
    match request.param:
        case "passphrase":
            return Key.passphrase(PASSPHRASE)
        case "keyfile":
            return write_key_file(tmp_path / "key")
    return Key.none()


def second(root: Path, key: Key) -> SecondReader:
    """The second reader, given what a user has."""
    return SecondReader(
        root,
        passphrase=key.material.decode() if key.kind == "passphrase" else None,
        key_file=key.material if key.kind == "keyfile" else None,
    )


async def keep(
    root: Path,
    key: Key,
    *captures: dict[str, bytes],
    series: str = "shop",
    kind: StreamKind = "dump",
    grain: int | None = None,
) -> list[Snapshot]:
    """Make a repository in *root*, back up each of *captures* in turn, and return their snapshots."""
    store, found = LocalStore(root), []
    encryption: Encryption = "none" if key.kind == "none" else "aes-256-gcm"
    await create_repository(store, key=key, encryption=encryption, argon2=CHEAP)
    async with opened_repository(store, key=key) as repo:
        for streams in captures:
            done = await backup(repo, Given(kind, streams), series=series, grain=grain)
            found.append(done.snapshot)
    return found


def assert_reads(reader: SecondReader, snapshot: Snapshot, streams: dict[str, bytes]) -> None:
    record = reader.snapshot(snapshot.series, snapshot.id)
    assert [stream["name"] for stream in record["streams"]] == list(streams)
    for name, data in streams.items():
        target = io.BytesIO()
        reader.write_stream(record, name, target)
        assert target.getvalue() == data, name


async def test_streams_of_every_sort_come_back(tmp_path, key):
    streams = {
        "noise": NOISE,
        "text": TEXT,
        "again": TEXT,
        "holes": ZEROS + NOISE[:100_000] + ZEROS + ZEROS + TEXT[:5],
        "hole at the end": NOISE[:70_000] + ZEROS,
        "nothing but a hole": ZEROS,
        "empty": b"",
        "tiny": b"x",
    }

    (snapshot,) = await keep(tmp_path / "store", key, streams)

    assert not snapshot.embedded
    assert_reads(second(tmp_path / "store", key), snapshot, streams)


async def test_a_later_backup_that_shares_chunks_with_earlier_ones_comes_back(tmp_path, key):
    changed = bytearray(NOISE)
    for at in range(5000, len(changed), 200_000):
        changed[at : at + 3] = b"abc"
    captures = [{"a": NOISE, "b": TEXT}, {"a": bytes(changed), "b": TEXT[1000:] + TEXT[:1000]}]

    snapshots = await keep(tmp_path / "store", key, *captures)

    assert snapshots[1].statistics.new < snapshots[1].statistics.read // 2
    reader = second(tmp_path / "store", key)
    for snapshot, streams in zip(snapshots, captures, strict=True):
        assert_reads(reader, snapshot, streams)


async def test_a_pack_that_rides_in_the_snapshot_is_read(tmp_path, key):
    streams = {"a": TEXT[:9000], "b": NOISE[:5000], "c": ZEROS + b"end"}

    (snapshot,) = await keep(tmp_path / "store", key, streams)

    assert snapshot.embedded
    assert not (tmp_path / "store" / "packs").exists()
    assert_reads(second(tmp_path / "store", key), snapshot, streams)


async def test_a_recipe_that_outgrew_its_snapshot_is_read(tmp_path, key):
    pages = [NOISE[at : at + 2048] for at in range(0, len(NOISE), 2048)]
    DRAW.shuffle(pages)
    captures = [{"data": NOISE}, {"data": b"".join(pages)}]

    snapshots = await keep(tmp_path / "store", key, *captures, kind="pages", grain=2048)

    assert [snapshot.streams[0].recipe.depth for snapshot in snapshots] == [0, 1]
    assert_reads(second(tmp_path / "store", key), snapshots[1], captures[1])


async def test_a_recipe_of_a_recipe_is_read(tmp_path, key, monkeypatch):
    pages = [NOISE[at : at + 2048] for at in range(0, len(NOISE), 2048)]
    DRAW.shuffle(pages)
    captures = [{"data": NOISE}, {"data": b"".join(pages)}]
    for _ in range(3):
        # What changes here and there leaves a recipe whose own pieces lie here and there.
        for at in DRAW.sample(range(len(pages)), 30):
            pages[at], pages[at // 2] = bytes(2048), pages[at]
        captures.append({"data": b"".join(pages)})
    monkeypatch.setattr(session, "EMBED", 0)
    monkeypatch.setattr(recipes, "INLINE", 200)
    monkeypatch.setattr(recipes, "PIECE_ODDS", 4)

    snapshots = await keep(tmp_path / "store", key, *captures, kind="pages", grain=2048)

    assert max(snapshot.streams[0].recipe.depth for snapshot in snapshots) >= 3
    reader = second(tmp_path / "store", key)
    for snapshot, streams in zip(snapshots, captures, strict=True):
        assert_reads(reader, snapshot, streams)


async def test_a_snapshot_that_was_rolled_up_is_read(tmp_path, key, monkeypatch):
    monkeypatch.setattr(rolling, "KEEP", 1)
    store, agent = LocalStore(tmp_path / "store"), FakeAgent([("a", "dump", TEXT)], log=[b""])
    encryption: Encryption = "none" if key.kind == "none" else "aes-256-gcm"
    await create_repository(store, key=key, encryption=encryption, argon2=CHEAP)
    made = []
    async with opened_repository(store, key=key) as repo:
        await backup(repo, agent, series="shop/größe")
        for number in range(4):
            agent.log = [*agent.log, TEXT[: 1000 * number + 5] if number != 2 else NOISE[:200_000]]
            made.append((await backup(repo, agent, series="shop/größe", mode="log")).snapshot)
        assert await rolling.roll_up(repo, "shop/größe", now=system_now) == 3

    reader = second(tmp_path / "store", key)

    for number, snapshot in enumerate(made):
        assert_reads(reader, snapshot, {f"log/{number + 1}": agent.log[number + 1]})
    with pytest.raises(Unreadable):
        reader.snapshot("shop/größe", "0" * 16)


@pytest.mark.parametrize("series", ["-dash", ".dot", "a/b", "Größe=1 %", "snow ☃\n", "=2d"])
async def test_a_series_of_any_name_is_found(tmp_path, series):
    key = Key.none()

    (snapshot,) = await keep(tmp_path / "store", key, {"a": b"1"}, series=series)

    assert_reads(second(tmp_path / "store", key), snapshot, {"a": b"1"})


async def test_the_slot_that_fits_is_found_among_others(tmp_path):
    first, other = Key.passphrase(PASSPHRASE), write_key_file(tmp_path / "key")
    (snapshot,) = await keep(tmp_path / "store", first, {"a": TEXT})
    store = LocalStore(tmp_path / "store")
    async with opened_repository(store, key=first) as repo:
        for secret in (other, Key.passphrase("another")):
            await add_slot(store, repo.config, repo.secrets, secret, role="reader", argon2=CHEAP)

    for key in (first, other, Key.passphrase("another")):
        assert_reads(second(tmp_path / "store", key), snapshot, {"a": TEXT})
    for wrong in (Key.passphrase("wrong"), Key("keyfile", bytes(32)), Key.none()):
        with pytest.raises(Unreadable):
            second(tmp_path / "store", wrong)


async def test_a_writers_key_reads_the_snapshot_and_no_stream(tmp_path):
    reader_key, writer_key = Key.passphrase(PASSPHRASE), Key.passphrase("writer")
    (snapshot,) = await keep(tmp_path / "store", reader_key, {"a": TEXT})
    store = LocalStore(tmp_path / "store")
    async with opened_repository(store, key=reader_key) as repo:
        await add_slot(store, repo.config, repo.secrets, writer_key, role="writer", argon2=CHEAP)

    reader = second(tmp_path / "store", writer_key)
    record = reader.snapshot("shop", snapshot.id)

    with pytest.raises(Unreadable):
        reader.write_stream(record, "a", io.BytesIO())


async def test_damage_anywhere_in_what_a_restore_reads_is_found(tmp_path, key):
    (snapshot,) = await keep(tmp_path / "store", key, {"a": TEXT + NOISE[:200_000]})

    assert len(find_damage(tmp_path / "store", key, snapshot)) == 3


def find_damage(store: Path, key: Key, snapshot: Snapshot) -> set[str]:
    """Flip bits in every object that a restore reads, and expect a refusal each time; return the kinds of objects."""
    kinds = set()
    for kind in ("config", "packs", "snapshots"):
        for path in (path for path in (store / kind).rglob("*") if path.is_file()):
            kinds.add(kind)
            whole = path.read_bytes()
            # A pack's table is for the index; a restore does not read it.
            end = len(whole) - (12 + int.from_bytes(whole[-12:-8], "little") if kind == "packs" else 0)
            for at in [0, end - 1, *DRAW.sample(range(end), 6)]:
                path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << DRAW.randrange(8)]) + whole[at + 1 :])
                with pytest.raises((Unreadable, ValueError, KeyError)):
                    reader = second(store, key)
                    reader.write_stream(reader.snapshot("shop", snapshot.id), "a", io.BytesIO())
            path.write_bytes(whole)
    return kinds


def test_it_runs_as_a_program_without_the_product(tmp_path):
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    (snapshot,) = anyio.run(keep, tmp_path / "store", Key.passphrase(PASSPHRASE), {"dir/a": TEXT})

    arguments = [tmp_path / "store", "shop", snapshot.id, "dir/a", tmp_path / "out"]
    command = [sys.executable, "-W", "error", second_reader.__file__, *arguments]
    subprocess.run([*command, "--passphrase-file", tmp_path / "passphrase"], check=True, cwd=tmp_path)

    assert (tmp_path / "out").read_bytes() == TEXT


def test_it_shares_no_code_with_the_first():
    tree = ast.parse(Path(second_reader.__file__).read_text())

    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or "").partition(".")[0])

    assert imported - sys.stdlib_module_names == {"blake3", "cryptography", "zstandard"}


def test_its_msgpack_knows_every_size_of_every_type():
    msgpack = pytest.importorskip("msgspec").msgpack
    values: Sequence[object] = [
        *(
            n + step
            for n in (0, 32, 127, 128, 255, 256, 1 << 16, 1 << 31, 1 << 32, 1 << 62)
            for step in (-1, 0)
        ),
        *(-n for n in (1, 32, 33, 128, 129, 1 << 15, (1 << 15) + 1, 1 << 31, (1 << 31) + 1, 1 << 63)),
        *(None, True, False, 1.5, (1 << 64) - 1),
        *("x" * n for n in (0, 31, 32, 255, 256, 65535, 65536)),
        *(b"x" * n for n in (0, 255, 256, 65535, 65536)),
        *([1] * n for n in (0, 15, 16, 65535, 65536)),
        *({str(i): i for i in range(n)} for n in (0, 15, 16, 65536)),
    ]

    for value in values:
        assert second_reader.Msgpack.decode(msgpack.encode(value)) == value


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
async def test_repositories_that_were_written_once_are_read_by_both(encryption, tmp_path):
    """If this fails, the format changed: new version, never a new golden repository."""
    root, key = repository_path(encryption), key_of(encryption)
    keys = [key] if encryption == "none" else [key, KEY_FILE]
    readers = [second(root, one) for one in keys]

    async with opened_repository(LocalStore(root), key=key) as repo:
        assert (await check(repo)).errors == []
        names = await repo.snapshots()
        assert [name.series for name in names] == [SERIES] * len(captures())
        for name, (_, streams) in zip(names, captures(), strict=True):
            target = tmp_path / name.id
            await restore(repo, series=SERIES, snapshot=name.id, to=target)
            restored = {path.name: path.read_bytes() for path in target.iterdir()}
            assert restored == streams
            for reader in readers:
                assert_reads(reader, await repo.load(name), streams)
