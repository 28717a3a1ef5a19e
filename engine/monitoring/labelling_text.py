"""Sentences about requests to label: why a request is selected or excluded, and the state of the queue. Pure.

The reasons are stored with rating rounds as they read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from store.core.formatting import percent, plural
from store.core.rating_schemas import RatingProtocol

# Why a request is selected.

ABSTAINED = "no label predicted"
UNLIKELY_RESPONSE = "low response probability"
UNLIKE = "far from reference"
GROWING_TOPIC = "growing topic"
ALERTED = "open alert"
VERSIONS_DIFFER = "versions disagree"
DISLIKED = "thumbs down"
AT_RANDOM = "random sample"
LESS_SURE = "below-median confidence"
LESS_LIKE = "above-median distance from reference"
NOTHING_STANDS_OUT = "no signal (newest first)"

# Why a request is excluded.

NO_TEXT = "text not stored"
NO_ANSWER = "response not stored"
ANSWER_KNOWN = "already labeled or corrected"
ALREADY_ASKED = "already in a rating round"
ONE_ANSWER = "response of one version only"
SAME_ANSWER = "same response from both versions"
REPEATED_REQUEST = "duplicate request"
OTHER_VERSION = "response of another version"
SETTLED_REASONS = (
    ALREADY_ASKED,
    ANSWER_KNOWN,
    "a round asks about it, or has its answer",  # the wording in rounds of earlier versions
    "somebody has said already what is right",
)  # what a draw excludes because people have rated it: the draw represents only the rest

_COUNTED = {  # reason -> how its requests are counted in a sentence
    VERSIONS_DIFFER: "with different responses by version",
    DISLIKED: "with thumbs down",
    ALERTED: "behind an open alert",
    GROWING_TOPIC: "with a growing topic",
    ABSTAINED: "without a predicted label",
}
_EMPTY = {  # reason why most requests are excluded -> what to do
    NO_TEXT: "Request texts are not stored. Turn on text storage in the endpoint settings; new requests can"
    " then be labeled.",
    ALREADY_ASKED: "All requests are in a rating round or already rated. Rate the open round, or select a"
    " longer window.",
    ANSWER_KNOWN: "All requests are already labeled or corrected. They can be used for training.",
    ONE_ANSWER: "Only one version responded. Serve another version as a shadow, or select another rating"
    " task.",
}


@dataclass(kw_only=True)
class RequestToLabel:
    """A row of the queue."""

    text: str
    answer: str
    reasons: list[str]
    asked_at: datetime
    version: str
    times: int  # number of requests
    score: float  # 0 to 1


class LabelQueue(NamedTuple):
    """requests: number considered, of `total`; different: candidates; protocol: rating task; counts: reason
    -> requests; listed: the most informative, near-duplicates last."""

    protocol: RatingProtocol
    total: int
    requests: int
    different: int
    left_out: Mapping[str, int]
    counts: Mapping[str, int]
    listed: list[RequestToLabel]


def format_confidence(confidence: float | None) -> str:
    """Why an uncertain response is selected: "43% confidence"."""
    return UNLIKELY_RESPONSE if confidence is None else f"{percent(confidence)} confidence"


def describe_label_queue(upcoming: LabelQueue) -> str:
    """How many requests can be labeled, and what stands out among them."""
    if not upcoming.requests:
        return "No requests in this window."
    if not upcoming.different:
        return f"None of {plural(upcoming.requests, 'request')} can be labeled."
    line = f"{upcoming.different:,} unique of {plural(upcoming.requests, 'request')} can be labeled"
    counts = upcoming.counts
    reasons = [f"{counts[name]:,} {words}" for name, words in _COUNTED.items() if name in counts]
    return f"{line}: {', '.join(reasons)}." if reasons else f"{line}."


def describe_order(upcoming: LabelQueue) -> str:
    """How the queue is ordered."""
    if upcoming.different > 1 and len({line.score for line in upcoming.listed}) == 1:
        return "Newest first: no confidence, drift or disagreement data yet."
    return "Ordered by low confidence, distance from the reference, and disagreement between versions."


def describe_empty_queue(upcoming: LabelQueue) -> str:
    """What to do if nothing can be labeled."""
    reason = max(upcoming.left_out, key=upcoming.left_out.__getitem__, default="")
    return _EMPTY.get(reason, "Select a longer window.")
