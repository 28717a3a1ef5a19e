"""Convert people's feedback on answers to rows of the kind a run is trained on, or to a reason why it can't
be, and choose the rows to hold out: new ones by hash, and those held out for earlier improvements.

Feedback of several people on one request gives one row if they agree, and none otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from engine.data.cleaning.added_rows import build_answer_key
from engine.data.cleaning.working_rows import read_canonical_rows
from engine.data.conversion.row_conversion import CanonicalRow, make_converter
from engine.data.readers.file_rows import RowSkipped
from engine.data.similarity.equality import hash_folded_text, normalise_text
from engine.data.split.dataset_split import FEW_PROMPTS, SHARED_PROMPT
from engine.retraining.duplicates import BATCH_ROWS, NewRowComparison, mask_selected_rows
from store.core.home import Home
from store.core.row_schemas import Kind
from store.data.dataset_files import iterate_batches, open_rows
from store.jobs.schemas import ComparisonRows, EarlierImprovement
from store.retraining.config import MAX_JUDGED
from store.retraining.schemas import ReusedJudgingRows, RowCandidate

MESSAGES = make_converter("messages", {"messages": "messages"})
PAIR = make_converter("preference", {"chosen": "chosen", "rejected": "rejected"})
TEXT_GONE = "the text of the request was not kept or has been deleted"
FEEDBACK_GONE = "the feedback has been deleted"
DISAGREE = "people disagree about it"
UNLABELLED = "a row without a label"
UNKNOWN = "a label that the model doesn't have; launch a run yourself to add a class"


class RowRequirements(NamedTuple):
    """Required kind of rows.

    labels: those of the old training rows; if empty, no answer may be a label. classifier: every answer is
    exactly a label.
    """

    kind: Kind
    labels: Collection[str] = ()
    classifier: bool = False


class FeedbackRow(NamedTuple):
    """Row to train on or hold out.

    random: sampled at random from all requests. reason: why it is unusable; `row` is None if it couldn't
    be built. from_people: feedback on an answer, unlike rows of a data set.
    """

    row: CanonicalRow | None
    source: bytes  # JSON object, with fields as columns
    random: bool = False
    reason: str = ""
    from_people: bool = True


def build_new_rows(candidates: Iterable[RowCandidate], wanted: RowRequirements) -> Iterator[FeedbackRow]:
    """Yield one row per request, in order of source and time."""
    ordered = sorted(candidates, key=lambda each: (each["source"], each["asked_at"] or 0.0, each["request"]))
    for _, words in groupby(ordered, key=lambda each: (each["source"], each["asked_at"], each["request"])):
        yield _build_row(list(words), wanted)


def explain_unfit(row: CanonicalRow, wanted: RowRequirements) -> str:
    """Return why a complete row can't be used, or ""."""
    if row.label is None:
        return UNLABELLED if wanted.classifier else ""
    return UNKNOWN if wanted.labels and row.label not in wanted.labels else ""


def _build_row(words: list[RowCandidate], wanted: RowRequirements) -> FeedbackRow:
    """Build the row of one request from its feedback."""
    first = words[0]
    at = first["asked_at"]
    asked_at = None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    fields: dict[str, object] = {"request": first["request"], "asked_at": asked_at, "said": first["kind"]}
    try:
        word = _find_agreed_feedback(words, wanted)
        if word["prompt"] is None:
            raise RowSkipped(TEXT_GONE)
        row = _build_canonical(word, wanted)
        _check_unicode(row)
    except RowSkipped as fault:
        return FeedbackRow(
            None, _encode_json(fields | {"answer": first["answer"]}), first["random"], str(fault)
        )
    turns = zip(row.roles or (), row.contents, strict=True)
    messages = [{"role": role, "content": content} for role, content in turns]
    fields |= {"messages": messages, "label": row.label, "rejected": row.rejected}
    return FeedbackRow(row, _encode_json(fields), first["random"])


def _find_agreed_feedback(words: list[RowCandidate], wanted: RowRequirements) -> RowCandidate:
    """Return the entry to use. Raises RowSkipped if there is none."""
    fitting = [word for kind in _list_kinds(wanted) for word in words if word["kind"] == kind]
    if not fitting:
        raise RowSkipped(_explain_misfit(words[0], wanted))
    if not wanted.classifier:  # for classifiers, labels and corrections are equivalent
        fitting = [word for word in fitting if word["kind"] == fitting[0]["kind"]]
    answered = [word for word in fitting if (word["answer"] or "").strip()]
    if not answered:
        raise RowSkipped(FEEDBACK_GONE)
    normalize = str.strip if wanted.classifier else normalise_text
    if len({normalize(word["answer"] or "") for word in answered}) > 1:
        raise RowSkipped(DISAGREE)
    return answered[-1]


def _list_kinds(wanted: RowRequirements) -> tuple[str, ...]:
    """Return the kinds of feedback that give the required rows, preferred ones first."""
    if wanted.kind == "text":
        return ()
    if wanted.kind == "preference":
        return ("preference", "correction")
    if wanted.classifier:
        return ("label", "correction")  # a correction of the answer, which is a label
    return ("correction", "label") if wanted.labels else ("correction",)


def _explain_misfit(word: RowCandidate, wanted: RowRequirements) -> str:
    """Return why the feedback can't give the required row."""
    if word["kind"] == "none":
        return word["answer"] or "it was not answered"
    if wanted.kind == "text":
        return "the run was trained on plain texts, which have no answers"
    if word["kind"] == "label":
        return "a label, but the run was not trained on labels"
    return "a preference between two answers, but the run was trained on single answers"


def _build_canonical(word: RowCandidate, wanted: RowRequirements) -> CanonicalRow:
    prompt, answer = word["prompt"] or [], word["answer"] or ""
    if wanted.kind == "preference":
        chosen = [*prompt, {"role": "assistant", "content": answer}]
        refused = word["rejected"]
        if not refused or normalise_text(refused) == normalise_text(answer):
            raise RowSkipped("the answer was not changed, so there is no second answer to compare with")
        return PAIR({"chosen": chosen, "rejected": [*prompt, {"role": "assistant", "content": refused}]})
    label = answer.strip() if wanted.classifier or word["kind"] == "label" else None
    if label is not None and label not in wanted.labels:
        raise RowSkipped(UNKNOWN)
    row = MESSAGES({"messages": [*prompt, {"role": "assistant", "content": label or answer}]})
    return row._replace(label=label)


def _check_unicode(row: CanonicalRow) -> None:
    try:
        row.text.encode()
        (row.rejected or "").encode()
    except UnicodeEncodeError:
        raise RowSkipped("contains an unpaired surrogate, which is not a valid character") from None


def _encode_json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


CONTINUED = "continues earlier answers of the model that nobody corrected and that would be learned too"


def find_continued_rows(rows: Sequence[CanonicalRow]) -> list[bool]:
    """Return which rows contain earlier answers of the model.

    Turns before the last question that many rows share are examples put there by the caller and don't
    count.
    """
    before = [_hash_earlier_turns(row) for row in rows]
    often = Counter(before)
    few = max(FEW_PROMPTS, SHARED_PROMPT * len(rows))
    return [key is not None and often[key] <= few for key in before]


def _hash_earlier_turns(row: CanonicalRow) -> bytes | None:
    """Return a hash of the turns through the last answer before the row's own, or None if there is none."""
    turns = list(zip(row.roles or (), row.contents, strict=False))[:-1]
    answers = [place for place, (role, _) in enumerate(turns) if role == "assistant"]
    return (
        hash_folded_text("\n\n".join(content for _, content in turns[: answers[-1] + 1])) if answers else None
    )


MIN_JUDGING_ROWS = 10  # minimum held-out rows if there are `ENOUGH` rows
ENOUGH = 40


class JudgingSelection(NamedTuple):
    """Boolean mask of held-out rows, and whether all of them were sampled at random."""

    judges: np.ndarray
    at_random: bool


def count_judging_rows(count: int, share: float) -> int:
    """Return how many of `count` rows to hold out, at most half."""
    least = MIN_JUDGING_ROWS if count >= ENOUGH else 1
    return min(max(least, round(share * count)), count // 2)


def choose_judging_rows(
    digests: np.ndarray,
    groups: np.ndarray,
    may_judge: np.ndarray,
    random: np.ndarray,
    share: float,
    seed: int = 0,
) -> JudgingSelection:
    """Choose the rows to hold out.

    digests: uint64. groups: int64, equal for rows that must stay in one part. may_judge, random: bool. A
    group is held out as a whole, and only if all of its rows may be; groups sampled at random come first.
    """
    count = len(digests)
    most, left = count // 2, count_judging_rows(count, share)
    names, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place, minlength=len(names))
    allowed = np.bincount(place, weights=~may_judge, minlength=len(names)) == 0
    drawn = np.bincount(place, weights=~random, minlength=len(names)) == 0
    keys = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(keys, place, _hash_digests(digests, seed))
    judges, taken = np.zeros(count, bool), 0
    for group in np.lexsort((keys, ~drawn)):
        if taken >= left:
            break
        if allowed[group] and taken + sizes[group] <= most:
            judges |= place == group
            taken += int(sizes[group])
    return JudgingSelection(judges, bool(judges.any() and random[judges].all()))


def _hash_digests(values: np.ndarray, seed: int) -> np.ndarray:
    """Hash the digests and seed with SplitMix64, so that a seed selects the same rows on every machine."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# Rows held out for earlier improvements are held out again for the next one. None of the compared versions
# may have been trained on such a row or its question; otherwise it is no longer used. Neither is a row that
# was used often enough, as versions in use were selected by their results on it.

JUDGED, AT_RANDOM = "judged_before", "drawn_at_random"  # fields in the source of a reused row
JUDGED_TOO_OFTEN = f"held out for {MAX_JUDGED} improvements already, which is the limit"
TRAINED_ON = "same question as a training row of a compared version"
DISPUTED = "answered differently since"
OTHER_KIND = "is of a different kind than the rows of this run"

Key = tuple[bytes, str, str | None]


class EarlierRow(NamedTuple):
    """Row that was held out for earlier improvements.

    judged: number of improvements it was used for. random: sampled at random at the time. reason: why it
    is no longer held out, or "".
    """

    row: CanonicalRow
    source: bytes
    judged: int
    random: bool
    reason: str = ""


def read_earlier_rows(
    home: Home,
    beside: Sequence[ComparisonRows],
    wanted: RowRequirements,
    unknown: str,
    disputed: Collection[str] = (),
) -> list[EarlierRow]:
    """Return each row once, usable ones first, in order of the newest improvement.

    `unknown` says why a version's training data is unknown, so that it may contain these rows. `disputed`
    are keys of rows that earlier improvements found disputed.
    """
    rows: dict[Key, EarlierRow] = {}
    judged: Counter[Key] = Counter()
    awaited: Counter[Key] = Counter()
    for other in beside:
        if (improvement := other.earlier) is None:
            continue
        for row, source in _read_rows(home, other):
            key, own = _build_key(row), _build_earlier_row(row, source, improvement)
            judged[key] += improvement["judged"]
            awaited[key] += improvement["may_judge"]
            first = rows.get(key, own)
            rows[key] = first._replace(judged=max(first.judged, own.judged, judged[key]))
    barred = set(disputed)
    reasons = [
        _explain_unfit_earlier_row(each, wanted)
        or (DISPUTED if _encode_key(key) in barred else unknown)
        or (JUDGED_TOO_OFTEN if each.judged + awaited[key] >= MAX_JUDGED else "")
        for key, each in rows.items()
    ]
    made = [each._replace(reason=reason) for each, reason in zip(rows.values(), reasons, strict=True)]
    return sorted(made, key=lambda each: bool(each.reason))


def _build_key(row: CanonicalRow) -> Key:
    return hash_folded_text(row.text), *build_answer_key("", row.rejected, row.label)[1:]


def _encode_key(key: Key) -> str:
    """Return the key in the form in which disputed rows are stored."""
    text, *answer = key
    return hash_folded_text(json.dumps([text.hex(), *answer])).hex()


def _read_rows(home: Home, other: ComparisonRows) -> Iterator[tuple[CanonicalRow, str]]:
    chosen = iter(mask_selected_rows(home, other).tolist())
    for batch in iterate_batches(open_rows(home, other.fingerprint), BATCH_ROWS):
        for row, source in zip(read_canonical_rows(batch), batch["source"].to_pylist(), strict=True):
            if next(chosen):
                yield row, source


def _build_earlier_row(row: CanonicalRow, source: str, improvement: EarlierImprovement) -> EarlierRow:
    """Build the row from an improvement's data: new there, or reused already, as its source says."""
    fields = json.loads(source)
    fields = fields if isinstance(fields, dict) else {"source": fields}
    before, random = fields.get(JUDGED), fields.get(AT_RANDOM)
    if not isinstance(before, int) or not isinstance(random, bool):
        before, random = 0, improvement["at_random"]
    text = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
    return EarlierRow(row._replace(part=None), text, before + improvement["judged"], random)


def _explain_unfit_earlier_row(each: EarlierRow, wanted: RowRequirements) -> str:
    if (each.row.roles is None) != (wanted.kind == "text") or (
        (each.row.rejected is None) == (wanted.kind == "preference")
    ):
        return OTHER_KIND
    return explain_unfit(each.row, wanted)


def list_comparable_rows(rows: Sequence[EarlierRow]) -> list[CanonicalRow]:
    """Return the rows that can be compared with new ones.

    Rows that are no longer held out are included: a different answer must be detected now, as the row may
    be usable again later.
    """
    return [each.row for each in rows if each.reason != OTHER_KIND]


def apply_comparison(rows: Sequence[EarlierRow], stand: NewRowComparison, first: int) -> list[EarlierRow]:
    """Add the reasons from the comparison; the comparable rows start at index `first` in `stand`."""
    places = iter(range(first, len(stand.reasons)))
    return [
        each if each.reason == OTHER_KIND else each._replace(reason=_find_reason(each, stand, next(places)))
        for each in rows
    ]


def _find_reason(each: EarlierRow, stand: NewRowComparison, place: int) -> str:
    if stand.disputed[place]:
        return DISPUTED
    return each.reason or stand.reasons[place] or (TRAINED_ON if stand.only_train[place] else "")


def list_disputed_keys(rows: Sequence[EarlierRow]) -> list[str]:
    """Return the keys of rows that were answered differently since.

    They are not held out for later improvements either, even if those sources don't contain the other
    answer.
    """
    return sorted(_encode_key(_build_key(each.row)) for each in rows if each.reason == DISPUTED)


def mark_earlier(each: EarlierRow) -> bytes:
    """Return the row's source with how often it was held out before, and whether it was sampled at random."""
    fields = {**json.loads(each.source), JUDGED: each.judged, AT_RANDOM: each.random}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def count_earlier(rows: Sequence[EarlierRow]) -> ReusedJudgingRows:
    """Count the rows that are held out again, and the others by reason."""
    judging = [each for each in rows if not each.reason]
    times = Counter(each.judged for each in judging)
    return ReusedJudgingRows(
        rows=len(judging),
        times={str(number): times[number] for number in sorted(times)},
        random=sum(each.random for each in judging),
        left_out=dict(Counter(each.reason for each in rows if each.reason).most_common()),
    )
