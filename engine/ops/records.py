"""Agents' values <-> stored records: the same words on both sides of the seam, one a leaf's, one the format's."""

from __future__ import annotations

from ...agents.base import LogExtent, Position, SourceIdentity
from ..format.snapshot import ExtentRecord, PositionRecord, SourceRecord


def position_record(position: Position | None) -> PositionRecord | None:
    if position is None:
        return None
    return PositionRecord(position.timeline, tuple(position.order), position.text, dict(position.facts))


def position_of(record: PositionRecord | None) -> Position | None:
    return None if record is None else Position(record.timeline, record.order, record.text, record.facts)


def extent_record(extent: LogExtent | None) -> ExtentRecord | None:
    if extent is None:
        return None
    first, following = position_record(extent.first), position_record(extent.next)
    assert first is not None
    assert following is not None
    return ExtentRecord(
        extent.file, first, following, extent.first_time, extent.last_time, extent.events, extent.transactions
    )


def extent_of(record: ExtentRecord | None) -> LogExtent | None:
    if record is None:
        return None
    first, following = position_of(record.first), position_of(record.next)
    assert first is not None
    assert following is not None
    return LogExtent(
        record.file, first, following, record.first_time, record.last_time, record.events, record.transactions
    )


def source_record(source: SourceIdentity) -> SourceRecord:
    return SourceRecord(source.kind, source.name, source.version, dict(source.facts))
