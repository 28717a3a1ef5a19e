"""What people said of answers, as rows of the kind that a run is trained on, or the reason why it is none,
and which of them judge: new ones drawn by a hash, and those that judged earlier retrainings.

Of one request several people may have spoken: where they agree it is one row, where they don't it is none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from engine.data.cleaning.added_rows import answer_of
from engine.data.cleaning.working_rows import canonicals
from engine.data.conversion.conversation_turns import RowSkipped
from engine.data.conversion.row_conversion import Canonical, converter
from engine.data.similarity.equality import digest, normalise
from engine.data.split.dataset_split import FEW_PROMPTS, SHARED_PROMPT
from engine.retraining.duplicates import BATCH_ROWS, NewRowStanding, meant
from store.core.home import Home
from store.core.row_schemas import Kind
from store.data.dataset_files import batches, open_rows
from store.jobs.schemas import BesideRows, EarlierImprovement
from store.retraining.config import MOST_JUDGED
from store.retraining.schemas import JudgingAgain, RowCandidate

MESSAGES = converter("messages", {"messages": "messages"})
PAIR = converter("preference", {"chosen": "chosen", "rejected": "rejected"})
TEXT_GONE = "the text of the request was not kept, or is gone by now"
WORD_GONE = "what was said is gone by now"
DISAGREE = "people disagree about it"
UNLABELLED = "a row without a label"
UNKNOWN = "a label that the model doesn't have: a new class takes a run by hand"


class FittingRows(NamedTuple):
    """What kind of rows. labels: those that the old training rows have; without any no answer may be a label.
    classifier: every answer is one of them, and nothing else."""

    kind: Kind
    labels: Collection[str] = ()
    classifier: bool = False


class MadeRow(NamedTuple):
    """A row that may be trained on or judge. `random`: drawn at random of all requests; `reason`: why it is
    none, and then `row` is None; `from_people`: somebody said it of an answer; not so a row of a data set."""

    row: Canonical | None
    source: bytes  # as JSON, whose fields are columns
    random: bool = False
    reason: str = ""
    from_people: bool = True


def new_rows(candidates: Iterable[RowCandidate], wanted: FittingRows) -> Iterator[MadeRow]:
    """A row for each request, in the order of sources and times."""
    ordered = sorted(candidates, key=lambda each: (each["source"], each["asked_at"] or 0.0, each["request"]))
    for _, words in groupby(ordered, key=lambda each: (each["source"], each["asked_at"], each["request"])):
        yield _row(list(words), wanted)


def unfit(row: Canonical, wanted: FittingRows) -> str:
    """Why a row that has its answer can't be taken; "" where it can."""
    if row.label is None:
        return UNLABELLED if wanted.classifier else ""
    return UNKNOWN if wanted.labels and row.label not in wanted.labels else ""


def _row(words: list[RowCandidate], wanted: FittingRows) -> MadeRow:
    """What was said of one request."""
    first = words[0]
    fields = _fields(first)
    try:
        word = _agreed(words, wanted)
        if word["prompt"] is None:
            raise RowSkipped(TEXT_GONE)
        row = _canonical(word, wanted)
        _check_unicode(row)
    except RowSkipped as fault:
        return MadeRow(None, _json(fields | {"answer": first["answer"]}), first["random"], str(fault))
    fields |= {"messages": _turns(row), "label": row.label, "rejected": row.rejected}
    return MadeRow(row, _json(fields), first["random"])


def _agreed(words: list[RowCandidate], wanted: FittingRows) -> RowCandidate:
    """The one word that counts. Raises RowSkipped where there is none."""
    fitting = [word for kind in _kinds(wanted) for word in words if word["kind"] == kind]
    if not fitting:
        raise RowSkipped(_misfit(words[0], wanted))
    if not wanted.classifier:  # whose labels and corrections say the same thing
        fitting = [word for word in fitting if word["kind"] == fitting[0]["kind"]]
    answered = [word for word in fitting if (word["answer"] or "").strip()]
    if not answered:
        raise RowSkipped(WORD_GONE)
    if len({_folded(word, wanted) for word in answered}) > 1:
        raise RowSkipped(DISAGREE)
    return answered[-1]


def _kinds(wanted: FittingRows) -> tuple[str, ...]:
    """The kinds of words that make such rows, the better ones first."""
    if wanted.kind == "text":
        return ()
    if wanted.kind == "preference":
        return ("preference", "correction")
    if wanted.classifier:
        return ("label", "correction")  # of its answer, which is a label
    return ("correction", "label") if wanted.labels else ("correction",)


def _misfit(word: RowCandidate, wanted: FittingRows) -> str:
    """Why what was said makes no such row."""
    if word["kind"] == "none":
        return word["answer"] or "it was not answered"
    if wanted.kind == "text":
        return "the run is trained on plain texts, which no answer can be added to"
    if word["kind"] == "label":
        return "a label, and the run is not trained on labels"
    return "a preference of one of two answers, and the run is trained on answers"


def _folded(word: RowCandidate, wanted: FittingRows) -> str:
    answer = word["answer"] or ""
    return answer.strip() if wanted.classifier else normalise(answer)


def _canonical(word: RowCandidate, wanted: FittingRows) -> Canonical:
    prompt, answer = word["prompt"] or [], word["answer"] or ""
    if wanted.kind == "preference":
        chosen = [*prompt, {"role": "assistant", "content": answer}]
        refused = word["rejected"]
        if not refused or normalise(refused) == normalise(answer):
            raise RowSkipped("the answer was not changed, so there is no other to prefer it to")
        return PAIR({"chosen": chosen, "rejected": [*prompt, {"role": "assistant", "content": refused}]})
    label = answer.strip() if wanted.classifier or word["kind"] == "label" else None
    if label is not None and label not in wanted.labels:
        raise RowSkipped(UNKNOWN)
    row = MESSAGES({"messages": [*prompt, {"role": "assistant", "content": label or answer}]})
    return row._replace(label=label)


def _check_unicode(row: Canonical) -> None:
    try:
        row.text.encode()
        (row.rejected or "").encode()
    except UnicodeEncodeError:
        raise RowSkipped("holds half of a surrogate pair, which is no character") from None


def _turns(row: Canonical) -> list[dict[str, str]]:
    pairs = zip(row.roles or (), row.contents, strict=True)
    return [{"role": role, "content": content} for role, content in pairs]


def _fields(word: RowCandidate) -> dict[str, Any]:
    at = word["asked_at"]
    asked = None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return {"request": word["request"], "asked_at": asked, "said": word["kind"]}


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


CONTINUED = "goes on from earlier answers of the model, which nobody corrected and which would be learned too"


def continuing(rows: Sequence[Canonical]) -> list[bool]:
    """Which rows have earlier answers of the model. Turns before the last question that many rows share were
    put there by the caller as examples, and are none."""
    before = [_before(row) for row in rows]
    often = Counter(before)
    few = max(FEW_PROMPTS, SHARED_PROMPT * len(rows))
    return [key is not None and often[key] <= few for key in before]


def _before(row: Canonical) -> bytes | None:
    """A hash of the turns through the last answer before the row's own; None where there is none."""
    turns = list(zip(row.roles or (), row.contents, strict=False))[:-1]
    answers = [place for place, (role, _) in enumerate(turns) if role == "assistant"]
    return digest("\n\n".join(content for _, content in turns[: answers[-1] + 1])) if answers else None


LEAST = 10  # rows that judge, where there are `ENOUGH`
ENOUGH = 40


class Judging(NamedTuple):
    """judges: bool of each row. at_random: all of these were drawn at random."""

    judges: np.ndarray
    at_random: bool


def wanted(count: int, share: float) -> int:
    """How many of so many rows are to judge: never more than half."""
    least = LEAST if count >= ENOUGH else 1
    return min(max(least, round(share * count)), count // 2)


def choose_judging(
    digests: np.ndarray,
    groups: np.ndarray,
    may_judge: np.ndarray,
    random: np.ndarray,
    share: float,
    seed: int = 0,
) -> Judging:
    """digests: uint64; groups: int64, equal where rows must not be parted; may_judge, random: bool. A group
    judges as a whole, where all of its rows may."""
    count = len(digests)
    most, left = count // 2, wanted(count, share)
    names, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place, minlength=len(names))
    allowed = np.bincount(place, weights=~may_judge, minlength=len(names)) == 0
    drawn = np.bincount(place, weights=~random, minlength=len(names)) == 0
    keys = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(keys, place, _hashed(digests, seed))
    judges, taken = np.zeros(count, bool), 0
    for group in np.lexsort((keys, ~drawn)):
        if taken >= left:
            break
        if allowed[group] and taken + sizes[group] <= most:
            judges |= place == group
            taken += int(sizes[group])
    return Judging(judges, bool(judges.any() and random[judges].all()))


def _hashed(values: np.ndarray, seed: int) -> np.ndarray:
    """SplitMix64 of the digests, moved by the seed: the same rows for the same seed on every machine."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# Rows that were put aside to judge earlier improvements, as they judge the next one again.
#
# No version that is compared may have been trained on one of them, nor on what it asks: such a row judges no
# more, nor does one that has judged often enough, as those in use are chosen by what has judged them.

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


def comparable_rows(rows: Sequence[EarlierRow]) -> list[Canonical]:
    """Those that can be compared with new ones. Those that judge no more are among them: that somebody
    answers one otherwise has to be seen now, as it may be fit to judge again later."""
    return [each.row for each in rows if each.reason != OTHER_KIND]


def earlier_standing(rows: Sequence[EarlierRow], stand: NewRowStanding, first: int) -> list[EarlierRow]:
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


def mark_earlier(each: EarlierRow) -> bytes:
    """Its source, which says from now on that it has judged before, how often, and how it was drawn."""
    fields = {**json.loads(each.source), JUDGED: each.judged, AT_RANDOM: each.random}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def count_earlier(rows: Sequence[EarlierRow]) -> JudgingAgain:
    """How many judge again, and why others don't."""
    judging = [each for each in rows if not each.reason]
    times = Counter(each.judged for each in judging)
    return {
        "rows": len(judging),
        "times": {str(number): times[number] for number in sorted(times)},
        "random": sum(each.random for each in judging),
        "left_out": dict(Counter(each.reason for each in rows if each.reason).most_common()),
    }
