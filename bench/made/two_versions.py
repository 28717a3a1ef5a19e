"""A log of an endpoint with a candidate or a shadow beside its live version.

Callers are assigned to a version permanently, some send a hundred times as many requests as others, and
labels come later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.made.request_log import Traffic, request_lines
from store.serving.schemas import EndpointRoute, FeedbackLine, RequestLine, RouteRole

LIVE, OTHER = "intents@3", "intents@4"


@dataclass(frozen=True)
class TwoVersions:
    """Parameters of the traffic. live_right, other_right: how often each version is right; failing: share of
    the candidate's requests that the live version served.
    """

    callers: int = 60
    share: float = 0.5
    most: int = 100  # maximum requests of a caller
    live_right: float = 0.9
    other_right: float = 0.9
    failing: float = 0.0
    shadow: bool = False


def routes(share: float = 0.5, role: RouteRole = "candidate") -> list[EndpointRoute]:
    """Return the routes as in `config.json`."""
    both: tuple[tuple[str, RouteRole, float], ...] = ((LIVE, "live", 1.0), (OTHER, role, share))
    return [
        EndpointRoute(
            subject=version, version=version, role=part, share=of, backend_id=version, asked_as=version
        )
        for version, part, of in both
    ]


def lines(asked: TwoVersions, start: float, rng: np.random.Generator) -> Iterator[RequestLine | FeedbackLine]:
    """Yield requests in random order, one second apart, each followed by its shadow copy, if any, and its
    label.
    """
    many = np.exp(rng.uniform(0, np.log(asked.most), asked.callers)).astype(int)
    dealt = np.arange(asked.callers) < round(asked.share * asked.callers)
    who = rng.permutation(np.repeat(np.arange(asked.callers), many))
    texts = [f"question {place}" for place in range(len(who))]
    made = Traffic(version=LIVE, start=start, every=1.0, failing=0.0)
    for caller, line in zip(who.tolist(), request_lines(texts, texts, made, rng), strict=True):
        line["request_id"], line["user"] = f"{start:.0f}-{line['request_id']}", None
        line["dealt_to"] = f"caller-{caller}"
        of_other = bool(dealt[caller]) and not asked.shadow
        line["dealt"] = OTHER if of_other else LIVE
        if of_other and rng.random() >= asked.failing:
            line["version"], line["role"] = OTHER, "candidate"
        by_other = line["role"] == "candidate"
        right = bool(rng.random() < (asked.other_right if by_other else asked.live_right))
        line["label"] = "yes" if right else "no"
        yield line
        if asked.shadow:
            says = "yes" if rng.random() < asked.other_right else "no"
            yield {**line, "request_id": f"{line['request_id']}-copy", "copy_of": line["request_id"],
                   "role": "shadow", "version": OTHER, "dealt": None, "label": says}  # fmt: skip
        yield {
            "feedback_id": f"fb-{line['request_id']}", "request_id": line["request_id"],
            "endpoint_id": line["endpoint_id"], "at": line["at"] + 30, "person_id": None, "kind": "label",
            "value": None, "text": "yes", "comment": "",
        }  # fmt: skip
