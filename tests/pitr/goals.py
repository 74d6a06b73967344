"""Goals at random, and what a restore to each of them must bring."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from strandline.engine.base.clock import parse_time

import strandline

from .history import Era, History, Place, Span
from .reading import Unit, prepared_after

OFFSETS = (0, -5 * 60, -4 * 60, 60, 120, 345)
"""Minutes, as people write times."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """*count*: the first so many transactions of *era* must be there.  Of a *moment* that hangs on the full that is begun with."""

    goal: strandline.Goal
    era: Era
    count: int = -1
    moment: int = 0

    def counted(self, base: Place, shown: int) -> int:
        """*base* is where the full stands that was chosen, *shown* the moment that it shows."""
        assert (base, shown) in self.era.fulls
        if self.count >= 0:
            return self.count
        assert shown <= self.moment
        units, (end, _) = self.era.units, self.era.reach(base, shown)
        for number, unit in enumerate(units):
            place = (unit.file, unit.start)
            if place >= end or (place >= base and unit.time > self.moment):
                return number
        return len(units)


def random_goals(history: History, rng: random.Random, count: int) -> list[Wanted]:
    """Of every kind; the last is the latest."""
    kinds = [moment, position, moment, prepared, mark]
    if history.tells_gtids:
        kinds = [moment, position, moment, after, before, moment, prepared, set_of, moment, mark]
    goals = [kinds[number % len(kinds)](history, rng) for number in range(count - 1)]
    last = history.era
    stored = sum((unit.file, unit.end) <= last.spans[-1].end for unit in last.units)
    return [*goals, Wanted(strandline.Goal(), last, stored)]


def _pick(history: History, rng: random.Random) -> tuple[Era, int, Unit]:
    """Any transaction that is stored, and which one of its era it is."""
    every = [
        (era, number, unit)
        for era in history.eras
        for number, unit in enumerate(era.units)
        if era.stored(unit)
    ]
    return rng.choice(every)


def moment(history: History, rng: random.Random) -> Wanted:
    """Any microsecond that backups reach, or just the time of a transaction, or the one before it.

    The server logs whole seconds: of the last one that backups saw, more may come.
    """
    while True:
        era, _, unit = _pick(history, rng)
        span: Span = rng.choice(era.spans)
        latest = span.until // 1_000_000 * 1_000_000 - 1
        if span.since <= latest:
            break
    time = rng.randint(span.since, latest)
    if rng.random() < 0.4 and span.since <= unit.time - 1 < unit.time <= latest:
        time = unit.time - rng.choice([0, 1])
    return Wanted(strandline.Goal(parse_time(written(time, rng))), era, moment=time)


def written(time: int, rng: random.Random) -> str:
    """*time* as somebody far away may write it."""
    zone = timezone(timedelta(minutes=rng.choice(OFFSETS)))
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).astimezone(zone).isoformat()


def position(history: History, rng: random.Random) -> Wanted:
    """A transaction's end, or its beginning, or a file's; one that only one era has."""
    while True:
        era, index, unit = _pick(history, rng)
        offset = unit.end
        match rng.randrange(4):
            case 0:
                offset = unit.start
            case 1:
                index = next(number for number, one in enumerate(era.units) if one.file == unit.file)
                offset = 4
            case _:
                index += 1
        if [one for one in history.eras if history.fits(one, (unit.file, offset))] == [era]:
            return Wanted(strandline.Goal(position=f"{unit.file}:{offset}"), era, index)


def prepared(history: History, rng: random.Random) -> Wanted:
    """A place between an XA PREPARE and what ends it; any, of a source where nothing was prepared."""
    found = []
    for era in history.eras:
        for number, unit in enumerate(era.units):
            if (
                era.stored(unit)
                and prepared_after(era.units[: number + 1])
                and [one for one in history.eras if history.fits(one, (unit.file, unit.end))] == [era]
            ):
                found.append((era, number, unit))
    if not found:
        return position(history, rng)
    era, number, unit = rng.choice(found)
    return Wanted(strandline.Goal(position=f"{unit.file}:{unit.end}"), era, number + 1)


def after(history: History, rng: random.Random) -> Wanted:
    era, index, gtid = _named(history, rng)
    return Wanted(strandline.Goal(transaction=gtid), era, index + 1)


def before(history: History, rng: random.Random) -> Wanted:
    era, index, gtid = _named(history, rng)
    return Wanted(strandline.Goal(transaction=gtid, before=True), era, index)


def _named(history: History, rng: random.Random) -> tuple[Era, int, str]:
    """A transaction whose name only one era has in what is stored of it."""
    while True:
        era, index, unit = _pick(history, rng)
        if histories_with(history, [unit.gtid]) == 1:
            return era, index, unit.gtid


def set_of(history: History, rng: random.Random) -> Wanted:
    """The last transaction of each domain up to a place: it ends where the later of them does."""
    while True:
        era, index, _ = _pick(history, rng)
        last = {unit.gtid.rpartition("-")[0]: unit.gtid for unit in era.units[: index + 1]}
        names = [last[domain] for domain in sorted(last)]
        if histories_with(history, names) == 1:
            return Wanted(strandline.Goal(transaction=",".join(names)), era, index + 1)


def histories_with(history: History, names: list[str]) -> int:
    """In how many eras is the transaction stored that completes *names*?"""
    return sum(
        one is not None and era.stored(one) for era in history.eras for one in [_completes(era, names)]
    )


def _completes(era: Era, names: list[str]) -> Unit | None:
    missing = {name.rpartition("-")[0]: int(name.rpartition("-")[2]) for name in names}
    for unit in era.units:
        domain, _, number = unit.gtid.rpartition("-")
        if missing.get(domain, 0) and int(number) >= missing[domain]:
            del missing[domain]
            if not missing:
                return unit
    return None


def mark(history: History, rng: random.Random) -> Wanted:
    chosen = rng.choice(history.marks)
    count = sum((unit.file, unit.end) <= chosen.place for unit in chosen.era.units)
    return Wanted(strandline.Goal(mark=chosen.name), chosen.era, count)
