"""Rows that were put aside to judge earlier improvements, as they judge the next one again.

No version that is compared may have been trained on one of them, nor on what it asks: such a row judges no
more, nor does one that has judged often enough, as those in use are chosen by what has judged them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from engine.data.convert.convert import Canonical
from engine.gathering.candidates import FittingRows, unfit
from engine.gathering.old_rows import BATCH_ROWS, meant
from engine.gathering.repeats import NewRowStanding
from engine.near.digest import digest
from engine.recipe.added_rows import answer_of
from engine.recipe.recipe_rows import canonicals
from engine.rows.dataset import batches, open_rows
from store.config.shipping.improve_config import MOST_JUDGED
from store.contract.home import Home
from store.documents.data.gathered import JudgingAgain
from store.documents.tables.job_order import BesideRows, EarlierImprovement

JUDGED, AT_RANDOM = "judged_before", "drawn_at_random"  # fields of the source of a row that judges again
OFTEN = f"judges {MOST_JUDGED} improvements already, as often as a row may"
LEARNED = "asks what a version was trained on that is compared here"
DISPUTED = "somebody has answered it otherwise since"
OTHER_KIND = "is of another kind than the rows of this run"

Key = tuple[bytes, str, str | None]


class EarlierRow(NamedTuple):
    """judged: how many improvements it has. random: drawn at random of what was asked then. reason: why it
    judges no more; "" where it does."""

    row: Canonical
    source: bytes
    judged: int
    random: bool
    reason: str = ""


def read_earlier(
    home: Home,
    beside: Sequence[BesideRows],
    wanted: FittingRows,
    unknown: str,
    disputed: Collection[str] = (),
) -> list[EarlierRow]:
    """Each row once: those that may judge, then those that don't, of the newest improvement first. unknown:
    why nobody knows what a version was trained on, and so whether it knows these rows. disputed: the keys of
    rows that earlier improvements have found to be."""
    rows: dict[Key, EarlierRow] = {}
    judged: Counter[Key] = Counter()
    awaited: Counter[Key] = Counter()
    for other in beside:
        if (improvement := other.get("earlier")) is None:
            continue
        for row, source in _rows(home, other):
            key, own = _key(row), _of(row, source, improvement)
            judged[key] += improvement["judged"]
            awaited[key] += improvement["may_judge"]
            first = rows.get(key, own)
            rows[key] = first._replace(judged=max(first.judged, own.judged, judged[key]))
    barred = set(disputed)
    reasons = [
        _unfit(each, wanted)
        or (DISPUTED if _stored(key) in barred else unknown)
        or (OFTEN if each.judged + awaited[key] >= MOST_JUDGED else "")
        for key, each in rows.items()
    ]
    made = [each._replace(reason=reason) for each, reason in zip(rows.values(), reasons, strict=True)]
    return sorted(made, key=lambda each: bool(each.reason))


def _key(row: Canonical) -> Key:
    return digest(row.text), *answer_of("", row.rejected, row.label)[1:]


def _stored(key: Key) -> str:
    """As it is kept of disputed rows."""
    text, *answer = key
    return digest(json.dumps([text.hex(), *answer])).hex()


def _rows(home: Home, other: BesideRows) -> Iterator[tuple[Canonical, str]]:
    chosen = iter(meant(home, other).tolist())
    for batch in batches(open_rows(home, other["fingerprint"]), BATCH_ROWS):
        for row, source in zip(canonicals(batch), batch["source"].to_pylist(), strict=True):
            if next(chosen):
                yield row, source


def _of(row: Canonical, source: str, improvement: EarlierImprovement) -> EarlierRow:
    """As one improvement had it: new to that, or judging again already, as its source says."""
    fields = json.loads(source)
    fields = fields if isinstance(fields, dict) else {"source": fields}
    before, random = fields.get(JUDGED), fields.get(AT_RANDOM)
    if not isinstance(before, int) or not isinstance(random, bool):
        before, random = 0, improvement["at_random"]
    text = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
    return EarlierRow(row._replace(part=None), text, before + improvement["judged"], random)


def _unfit(each: EarlierRow, wanted: FittingRows) -> str:
    if (each.row.roles is None) != (wanted.kind == "text") or (
        (each.row.rejected is None) == (wanted.kind == "preference")
    ):
        return OTHER_KIND
    return unfit(each.row, wanted)


def comparable(rows: Sequence[EarlierRow]) -> list[Canonical]:
    """Those that can be compared with new ones. Those that judge no more are among them: that somebody
    answers one otherwise has to be seen now, as it may be fit to judge again later."""
    return [each.row for each in rows if each.reason != OTHER_KIND]


def standing(rows: Sequence[EarlierRow], stand: NewRowStanding, first: int) -> list[EarlierRow]:
    """With the reasons that comparing has given them; those that are comparable lie from `first` on in
    `stand`."""
    places = iter(range(first, len(stand.reasons)))
    return [
        each if each.reason == OTHER_KIND else each._replace(reason=_reason(each, stand, next(places)))
        for each in rows
    ]


def _reason(each: EarlierRow, stand: NewRowStanding, place: int) -> str:
    if stand.disputed[place]:
        return DISPUTED
    return each.reason or stand.reasons[place] or (LEARNED if stand.only_train[place] else "")


def disputed_keys(rows: Sequence[EarlierRow]) -> list[str]:
    """Of those that somebody has answered otherwise: they judge no later improvement either, though what was
    answered may be in none of its sources."""
    return sorted(_stored(_key(each.row)) for each in rows if each.reason == DISPUTED)


def marked(each: EarlierRow) -> bytes:
    """Its source, which says from now on that it has judged before, how often, and how it was drawn."""
    fields = {**json.loads(each.source), JUDGED: each.judged, AT_RANDOM: each.random}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def counted(rows: Sequence[EarlierRow]) -> JudgingAgain:
    """How many judge again, and why others don't."""
    judging = [each for each in rows if not each.reason]
    times = Counter(each.judged for each in judging)
    return {
        "rows": len(judging),
        "times": {str(number): times[number] for number in sorted(times)},
        "random": sum(each.random for each in judging),
        "left_out": dict(Counter(each.reason for each in rows if each.reason).most_common()),
    }
