"""What the screen and the command line show of what should be labelled next: the requests that tell most,
why, and a sentence about all of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, TypedDict

import pyarrow as pa

from engine.diagnostics.drift import label_candidates, labelling
from engine.diagnostics.drift.label_candidates import LabelCandidate, answer_of, collect
from engine.diagnostics.drift.labelling import Picked, ReasonWeights, pick, rank
from engine.diagnostics.phrasing import plural
from store.documents.rating.rating_desk import RatingProtocol

LISTED = 200  # requests
SHORT = 240  # characters of a text in the list
BY_KIND: Mapping[str, RatingProtocol] = {"labels": "label", "decision": "label"}
COUNTED = {  # reason -> how those are counted in a sentence
    labelling.PARTED: "were answered differently by versions",
    labelling.DISLIKED: "had an answer that somebody did not like",
    labelling.ALERTED: "are behind an open alert",
    labelling.GROWN: "are of a topic that has grown",
    labelling.ABSTAINED: "got no label",
}


class RequestToLabel(TypedDict):
    """A line of the list."""

    text: str
    answer: str
    reasons: list[str]
    asked_at: datetime
    version: str
    times: int  # that it was asked
    score: float  # 0 to 1


class NextToLabel(NamedTuple):
    """requests: that were looked at, of `total`; different: those that can be asked about; protocol: how
    people would rate them; counts: reason -> requests; listed: those that tell most, near repeats left for
    later."""

    protocol: RatingProtocol
    total: int
    requests: int
    different: int
    left_out: Mapping[str, int]
    counts: Mapping[str, int]
    listed: list[RequestToLabel]


def next_to_label_of(
    requests: pa.Table,
    topics_before: Mapping[str, int],
    total: int,
    protocol: RatingProtocol | None = None,
    weights: ReasonWeights = ReasonWeights(),  # noqa: B008 (a tuple)
    limit: int = LISTED,
) -> NextToLabel:
    """Of the rows of `logged_requests.newest`. protocol: that of their kind if None."""
    asked = protocol or protocol_of(requests)
    looked = collect(requests, asked)
    ranking = rank(looked.candidates, weights, topics_before)
    chosen = pick(looked.candidates, ranking, limit, random_share=0) if looked.candidates else []
    if len(looked.candidates) <= limit:  # of all of them the order
        chosen = [Picked(place, None, ranking.reasons[place]) for place in labelling.most_telling(ranking)]
    counts = Counter(reason for reasons in ranking.reasons for reason in reasons)
    listed = [
        _line(looked.candidates[entry.place], entry.reasons, float(ranking.score[entry.place]))
        for entry in chosen
    ]
    different = len(looked.candidates)
    return NextToLabel(asked, total, looked.requests, different, dict(looked.left_out), dict(counts), listed)


def protocol_of(requests: pa.Table) -> RatingProtocol:
    """A label for what a classifier answered, else a better text: by the kind of most requests."""
    kinds = Counter(requests["kind"].to_pylist()).most_common(1)
    return BY_KIND.get(kinds[0][0], "correction") if kinds else "label"


def _line(candidate: LabelCandidate, reasons: list[str], score: float) -> RequestToLabel:
    first = candidate.first
    return {
        "text": _cut(candidate.text),
        "answer": _cut(" | ".join(candidate.answers) or answer_of(first)),
        "reasons": reasons,
        "asked_at": first["asked_at"],
        "version": first["version"],
        "times": len({row["request_id"] for row in candidate.rows}),
        "score": score,
    }


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[:SHORT]} …"


def headline(upcoming: NextToLabel) -> str:
    """What is worth labelling, in one sentence; why nothing is, where nothing is."""
    if not upcoming.requests:
        return "No request was answered here."
    if not upcoming.different:
        return f"None of {plural(upcoming.requests, 'request')} can be asked about."
    line = f"{plural(upcoming.different, 'different request')} of {upcoming.requests:,} can be asked about"
    counts = upcoming.counts
    reasons = [f"{counts[name]:,} {words}" for name, words in COUNTED.items() if name in counts]
    return f"{line}: {', '.join(reasons)}." if reasons else f"{line}."


def order_words(upcoming: NextToLabel) -> str:
    """Why the first ones come first; that nothing tells them apart, where nothing does."""
    if upcoming.different > 1 and len({line["score"] for line in upcoming.listed}) == 1:
        return (
            "The newest come first: nothing tells them apart yet. Of none it is known how sure the model was,"
            " how like the reference it is, or whether versions part."
        )
    return (
        "First come those of which the model was least sure, that are least like the reference, or on which"
        " versions part."
    )


def empty_advice(upcoming: NextToLabel) -> str:
    """What to do where nothing can be asked about."""
    reason = max(upcoming.left_out, key=upcoming.left_out.__getitem__, default="")
    return {
        label_candidates.NO_TEXT: "Texts are not kept. Change that in the endpoint's settings; what comes"
        " from then on can be labelled.",
        label_candidates.ASKED: "All of them are in a round already, or have their answer. Rate the open"
        " round, or choose a longer window.",
        label_candidates.SAID: "Somebody has said already what is right of each. They can be trained on.",
        label_candidates.ONE_ANSWER: "One version alone answered. Let another answer the same requests as a"
        " shadow, or choose another way to rate.",
    }.get(reason, "Choose a longer window.")
