"""What a seal promises: nothing altered, moved, swapped or forged opens; a writer's key opens no pack."""

from __future__ import annotations

import hashlib
from array import array

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.engine.base.errors import Damaged, StrandlineError, WrongKey
from strandline.engine.format.aead import TAG, Cipher
from strandline.engine.format.pack import (
    RAW,
    PackKey,
    encode_body,
    encode_pack,
    open_table,
    parse_header,
    table_span,
)
from strandline.engine.format.sealed import ObjectSeal

from .golden import read
from .specimens import (
    BODIES,
    COUNTS,
    ENCRYPTIONS,
    IDS,
    OLD_READER,
    PLACES,
    READER,
    SECRETS,
    SIZES,
    fixed,
    pack_key,
    seal_of,
)

KEY = fixed("a key")
NONCE = bytes(12)


def flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


@pytest.fixture(params=ENCRYPTIONS)
def encryption(request):
    return request.param


# Small objects -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@given(plain=st.binary(max_size=200), place=st.binary(max_size=50), nonce=st.binary(min_size=12, max_size=12))
def test_what_is_sealed_opens(encryption, plain, place, nonce):
    cipher = Cipher(encryption, KEY)

    sealed = cipher.seal(nonce, plain, place)

    assert len(sealed) == len(plain) + TAG
    assert cipher.open(nonce, sealed, place) == cipher.open(nonce, memoryview(sealed), place) == plain


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
def test_every_flipped_bit_of_a_small_object_is_found(place, encryption):
    seal = seal_of(encryption)
    sealed = read(f"sealed-{place.kind}-{encryption}.bin")

    for bit in range(8 * len(sealed)):
        with pytest.raises(Damaged):
            seal.open(place.kind, place.place, flipped(sealed, bit))
    for end in range(len(sealed)):
        with pytest.raises(Damaged):
            seal.open(place.kind, place.place, sealed[:end])
    with pytest.raises(Damaged):
        seal.open(place.kind, place.place, sealed + b"\0")


def test_an_object_opens_as_its_own_kind_under_its_own_name_only(encryption):
    seal = seal_of(encryption)

    for place in PLACES:
        sealed = seal.seal(place.kind, place.place, place.plain)
        for other in PLACES:
            for kind, name in (
                (other.kind, place.place),
                (place.kind, other.place),
                (place.kind, place.place + b"x"),
            ):
                if (kind, name) != (place.kind, place.place):
                    with pytest.raises(Damaged):
                        seal.open(kind, name, sealed)


def test_an_object_of_another_repository_does_not_open(encryption):
    sealed = ObjectSeal(encryption, fixed("another meta_key")).seal("gc", b"gc/x", b"plain")

    with pytest.raises(Damaged):
        seal_of(encryption).open("gc", b"gc/x", sealed)


def test_two_objects_are_never_sealed_under_one_key(encryption):
    """The nonce is constant, so the salt must not be."""
    seal = ObjectSeal(encryption, SECRETS.meta_key)

    salts = {seal.seal("lease", b"leases/x", b"same")[:16] for _ in range(100)}

    assert len(salts) == 100


def test_associated_data_and_text_cannot_be_shifted_into_each_other():
    cipher = Cipher("none", KEY)

    tags = {
        cipher.seal(NONCE, plain, place)[-TAG:]
        for plain, place in ((b"ab", b"c"), (b"b", b"ca"), (b"abc", b""), (b"", b"cab"), (b"ab", b"c\0"))
    }

    assert len(tags) == 5


# Packs -------------------------------------------------------------------------------------------------------------------


def sealed_frames(key: PackKey) -> list[bytes]:
    return [key.seal(ordinal, body) for ordinal, body in enumerate(BODIES)]


def test_every_flipped_bit_of_a_frame_is_found(encryption):
    key = pack_key(encryption)
    sealed = key.seal(1, BODIES[1])

    for bit in range(8 * len(sealed)):
        with pytest.raises(Damaged):
            key.open_frame(1, flipped(sealed, bit))


def test_a_frame_opens_in_its_own_place_only(encryption):
    key = pack_key(encryption)
    frames = sealed_frames(key)

    for place in range(3):
        for ordinal, sealed in enumerate(frames):
            if place == ordinal:
                key.open_frame(place, sealed)
            else:
                with pytest.raises(Damaged):
                    key.open_frame(place, sealed)


def test_a_frame_does_not_open_in_another_pack(encryption):
    recipient = None if encryption == "none" else READER.recipient
    one, other = PackKey.make(seal_of(encryption), recipient), PackKey.make(seal_of(encryption), recipient)

    for ordinal, sealed in enumerate(sealed_frames(one)):
        one.open_frame(ordinal, sealed)
        with pytest.raises(Damaged):
            other.open_frame(ordinal, sealed)


def test_a_pack_under_another_header_does_not_open(encryption):
    """Even with the right key: the header is bound to every frame and to the table."""
    key = pack_key(encryption)
    forged = PackKey(flipped(key.header, 64), key.key, Cipher(encryption, key.key))
    seal = seal_of(encryption)
    _, pack, _ = encode_pack(key, BODIES, COUNTS, IDS, SIZES, seal)
    offset, size = table_span(pack, len(pack))

    open_table(key.header, pack[offset : offset + size], seal)
    with pytest.raises(Damaged):
        forged.open_frame(0, key.seal(0, BODIES[0]))
    with pytest.raises(Damaged):
        open_table(forged.header, pack[offset : offset + size], seal)


@settings(max_examples=60)
@given(
    st.sampled_from(ENCRYPTIONS),
    st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_packs_come_back(encryption, frames):

    key = PackKey.make(seal_of(encryption), None if encryption == "none" else READER.recipient)
    chunks = [chunk for frame in frames for chunk in frame]
    ids = b"".join(blake3(chunk).digest(16) for chunk in chunks)
    sizes = array("I", [len(chunk) for chunk in chunks])
    bodies = []
    for frame in frames:
        data = b"".join(frame)
        bodies.append(encode_body([len(chunk) for chunk in frame], data, codec=RAW, plain=len(data)))

    pack, data, table = encode_pack(
        key, bodies, [len(frame) for frame in frames], ids, sizes, seal_of(encryption)
    )

    assert pack == hashlib.sha256(data).digest()
    offset, size = table_span(data[-12:], len(data))
    assert open_table(parse_header(data), data[offset : offset + size], seal_of(encryption)) == table
    assert table.offsets()[-1] == offset
    opened = PackKey.open(data, seal_of(encryption), [READER])
    masks = opened.masks(0, len(frames))
    for ordinal, at in enumerate(table.offsets()[:-1]):
        length = int.from_bytes(data[at : at + 4], "little") ^ masks[ordinal]
        frame = opened.open_frame(ordinal, data[at + 4 : at + 4 + length])
        assert [bytes(frame.chunks(n, 1)) for n in range(len(frame.ends))] == frames[ordinal]


def test_sizes_of_frames_are_not_seen_in_the_store():
    """The same frame in the same place has another masked size in every pack."""
    keys = [PackKey.make(seal_of("aes-256-gcm"), READER.recipient) for _ in range(8)]

    assert len({bytes(key.masks(0, 16)) for key in keys}) == 8
    assert [keys[0].masks(first, 4) for first in range(0, 16, 4)] == [
        keys[0].masks(0, 16)[first : first + 4] for first in range(0, 16, 4)
    ]


def test_a_pack_opens_for_its_recipient_only():
    header = PackKey.make(seal_of("aes-256-gcm"), READER.recipient).header

    PackKey.open(header, seal_of("aes-256-gcm"), [OLD_READER, READER])
    with pytest.raises(WrongKey):
        PackKey.open(header, seal_of("aes-256-gcm"), [OLD_READER])
    with pytest.raises(Damaged):
        # Passed off as sealed to a reader who then cannot open it.
        PackKey.open(header[:8] + OLD_READER.recipient.id + header[16:], seal_of("aes-256-gcm"), [OLD_READER])


def test_a_frame_of_somebody_who_only_knows_the_recipient_does_not_open():
    """Anybody can seal a pack's key to it; a frame takes the secrets of a writer as well."""
    theirs = PackKey.make(ObjectSeal("aes-256-gcm", fixed("a guess")), READER.recipient)

    ours = PackKey.open(theirs.header, seal_of("aes-256-gcm"), [READER])

    with pytest.raises(Damaged):
        ours.open_frame(0, theirs.seal(0, BODIES[0]))


def test_every_byte_of_a_sealed_key_counts():
    header = read("pack-header.bin")

    for at in [*range(18), *range(18, len(header), 37), len(header) - 1]:
        with pytest.raises(StrandlineError):
            opened = PackKey.open(flipped(header, 8 * at), seal_of("aes-256-gcm"), [READER])
            opened.open_frame(0, pack_key("aes-256-gcm").seal(0, BODIES[0]))


def test_an_unsealed_pack_is_not_accepted_where_packs_are_sealed():
    """Whoever can write to the store could otherwise hand us bytes of their own making."""
    unsealed = PackKey.make(seal_of("none"), None).header

    with pytest.raises(WrongKey):
        PackKey.open(unsealed, seal_of("aes-256-gcm"), [READER])
    with pytest.raises(Damaged):
        PackKey.open(read("pack-header.bin"), seal_of("none"), [])
