"""What people said, as rows of the kind that a run is trained on, or the reason why it is none.

Of one request several people may have spoken: where they agree it is one row, where they don't it is none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from engine.data.convert.convert import Canonical, converter
from engine.data.convert.turns import RowSkipped
from engine.near.digest import normalise
from store.documents.data.gathered import RowCandidate
from store.documents.data.row import Kind

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
