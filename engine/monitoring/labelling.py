"""The labeling queue: which logged requests are most informative, and why.

Each reason is a rank from 0 to 1; the score is their weighted mean, and near-duplicates of a selected request
come last. A random share is drawn first from all requests: only these can evaluate a model. Pure and seeded.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.evaluation.statistics.intervals import wilson_interval
from engine.monitoring.label_candidates import LabelCandidate, collect_candidates, extract_answer
from engine.monitoring.labelling_text import (
    ABSTAINED,
    ALERTED,
    AT_RANDOM,
    DISLIKED,
    GROWING_TOPIC,
    LESS_LIKE,
    LESS_SURE,
    NOTHING_STANDS_OUT,
    UNLIKE,
    VERSIONS_DIFFER,
    LabelQueue,
    RequestToLabel,
    format_confidence,
)
from store.core.monitoring_schemas import Monitor
from store.core.rating_schemas import RatingProtocol

# Ranks make scales irrelevant: uncertainty of the model (1 minus confidence for a label, mean token
# log-probability for a text, among responses of its kind), distance from the reference, and disagreement
# between versions. A missing measurement counts as the middle; a missing disagreement as none.
#
# Selected requests are hard on purpose and cannot evaluate a model trained on them. So the random share is
# drawn with known probability from all requests, including those already rated or labeled. If it were drawn
# only from the rest, later rounds would get the easy ones.

SHINGLE = 5  # characters
SKETCH_SIZE = 64  # smallest hashes of a text's shingles
MAX_SKETCHED = 5_000  # texts compared with selected ones; later texts are not compared
MAX_COMPARED_CHARACTERS = 2_000  # characters of a text that are compared
MIN_SIMILARITY = 0.6  # share of common shingles that makes a near-duplicate
UNSURE_FROM, UNLIKE_FROM = 0.8, 0.8  # ranks above which the reason is stated
NEUTRAL_SCORE = 0.5

Floats = NDArray[np.float64]


class ReasonWeights(NamedTuple):
    """Weight of each reason; not all 0."""

    uncertainty: float = 1.0
    drift: float = 0.5
    disagreement: float = 1.0


class LabelRanking(NamedTuple):
    """Per candidate, from 0 to 1: the score and its components. reasons: at least one text each."""

    score: Floats
    uncertainty: Floats
    drift: Floats
    disagreement: Floats
    reasons: list[list[str]]


@dataclass(frozen=True)
class PickedCandidate:
    """A selected candidate. probability: of being in the random draw; None if it was selected by score."""

    place: int
    probability: float | None
    reasons: list[str]

    @property
    def random(self) -> bool:
        """Whether it can evaluate a model."""
        return self.probability is not None


def rank_candidates(
    candidates: Sequence[LabelCandidate],
    weights: ReasonWeights,
    topics_before: Mapping[str, int] | None = None,
) -> LabelRanking:
    """topics_before: counts of topics in the reference."""
    n = len(candidates)
    unsure, kinds = _score_uncertainty(candidates)
    grown = _find_growing_topics(
        [candidate.first["input_topic"] for candidate in candidates], topics_before or {}
    )
    distance = _normalize_ranks(
        np.array([_convert_to_float(each.first["input_distance"]) for each in candidates], float)
    )
    in_grown = np.array([each.first["input_topic"] in grown for each in candidates], bool)
    alerted = np.array([each.any("alerted") for each in candidates], bool)
    drift = distance.copy()
    drift[in_grown] = (1 + drift[in_grown]) / 2
    drift[alerted] = (1 + drift[alerted]) / 2
    parted = np.array([bool(each.parted) for each in candidates], bool)
    disliked = np.array([each.any("disliked") for each in candidates], bool)
    disagreement = np.maximum(parted, disliked).astype(float)
    whole = weights.uncertainty + weights.drift + weights.disagreement
    score = np.zeros(n) if not n else (
        weights.uncertainty * unsure + weights.drift * drift + weights.disagreement * disagreement
    ) / whole  # fmt: skip
    flags = (
        (kinds, None),
        (distance >= UNLIKE_FROM, UNLIKE), (in_grown, GROWING_TOPIC), (alerted, ALERTED), (parted,
            VERSIONS_DIFFER),
        (disliked, DISLIKED),
    )  # fmt: skip
    reasons = [
        [str(words or values[place]) for values, words in flags if values[place]]
        or [_choose_lesser_reason(unsure[place], distance[place])]
        for place in range(n)
    ]
    return LabelRanking(score, unsure, drift, disagreement, reasons)


def _choose_lesser_reason(unsure: float, distance: float) -> str:
    """The reason of a request without a strong one."""
    if max(unsure, distance) <= NEUTRAL_SCORE:
        return NOTHING_STANDS_OUT
    return LESS_SURE if unsure >= distance else LESS_LIKE


def _score_uncertainty(candidates: Sequence[LabelCandidate]) -> tuple[Floats, list[str]]:
    """Ranks among requests of the same kind, and a text for the most uncertain ones."""
    ranks, words = np.full(len(candidates), NEUTRAL_SCORE), [""] * len(candidates)
    for kind in {candidate.first["kind"] for candidate in candidates}:
        own = [place for place, candidate in enumerate(candidates) if candidate.first["kind"] == kind]
        values = np.array([_measure_uncertainty(candidates[place]) for place in own], float)
        ranks[own] = _normalize_ranks(values)
        for place, value in zip(own, values, strict=True):
            first = candidates[place].first
            if first["abstained"]:
                words[place] = ABSTAINED
            elif np.isfinite(value) and ranks[place] >= UNSURE_FROM:
                sure = first["confidence"]
                words[place] = format_confidence(None if sure is None else float(sure))
    return ranks, words


def _measure_uncertainty(candidate: LabelCandidate) -> float:
    first = candidate.first
    if first["confidence"] is not None:
        return 1 - float(first["confidence"])
    if first["abstained"]:
        return 1.0
    return -_convert_to_float(first["mean_logprob"])


def _convert_to_float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _normalize_ranks(values: Floats) -> Floats:
    """Ranks from 0 to 1, equal for ties; the middle if nothing was measured or all are equal."""
    ranks = np.full(len(values), NEUTRAL_SCORE)
    has = np.isfinite(values)
    if has.sum() > 1:
        sorted_values = np.sort(values[has])
        below = np.searchsorted(sorted_values, values[has], side="left")
        up_to = np.searchsorted(sorted_values, values[has], side="right")
        ranks[has] = (below + up_to) / 2 / has.sum()
    return ranks


def _find_growing_topics(topics: Sequence[str | None], before: Mapping[str, int]) -> set[str]:
    """Topics whose share is significantly above that in the reference."""
    present = Counter(topic for topic in topics if topic is not None)
    n, m = sum(present.values()), sum(before.values())
    if not m:
        return set()
    return {
        topic for topic, count in present.items()
        if (wilson_interval(count, n).low or 0.0) > (wilson_interval(before.get(topic, 0), m).high or 1.0)
    }  # fmt: skip


def count_reference_topics(monitor: Monitor | None) -> dict[str, int]:
    """Counts of topics in the reference; empty without one."""
    reference = monitor.reference if monitor else None
    topics = reference.values.get("input_topic") if reference else None
    return dict(zip(topics.names, topics.counts, strict=True)) if topics else {}


def pick_candidates(
    candidates: Sequence[LabelCandidate],
    ranking: LabelRanking,
    count: int,
    *,
    random_share: float,
    seed: int = 0,
    reached: Sequence[LabelCandidate] = (),
) -> list[PickedCandidate]:
    """At most `count`: first a random draw from candidates and `reached`, whose places follow theirs, then
    the highest-scoring other candidates without near-duplicates. A random share of 1 draws all at random."""
    n = len(candidates) + len(reached)
    if not candidates:
        return []
    every = [*candidates, *reached]
    drawn_count = (
        n if count >= n else round(count * random_share)
    )  # if all are taken, none is selected by score
    order = np.random.default_rng(seed).permutation(n)
    drawn = sorted(order[:drawn_count].tolist())
    picked = [PickedCandidate(place, drawn_count / n, [AT_RANDOM]) for place in drawn]
    left = set(range(len(candidates))) - set(drawn)
    by_score = [place for place in order_by_score(ranking) if place in left]
    texts = [candidates[place].text for place in by_score]
    seen = [every[place].text for place in drawn]
    wanted = min(count, n) - drawn_count
    for index in _select_distinct(texts, seen, wanted):
        place = by_score[index]
        picked.append(PickedCandidate(place, None, ranking.reasons[place]))
    return picked


def order_by_score(ranking: LabelRanking) -> list[int]:
    """Places of all candidates by score; among ties, the newest first."""
    return sorted(range(len(ranking.score)), key=lambda place: (-ranking.score[place], -place))


def _select_distinct(texts: Sequence[str], seen: Sequence[str], count: int) -> Iterator[int]:
    """Places of `count` texts without near-duplicates of earlier ones; near-duplicates follow if there are
    too few."""
    postings: dict[int, list[int]] = {}
    sizes: list[int] = []
    for text in seen:
        _add_sketch(_build_sketch(text), postings, sizes)
    waiting, given = [], 0
    for place, text in enumerate(texts):
        if given == count:
            return
        if place >= MAX_SKETCHED:
            given += 1
            yield place
            continue
        sketch = _build_sketch(text)
        if _is_repeated(sketch, postings, sizes):
            waiting.append(place)
            continue
        _add_sketch(sketch, postings, sizes)
        given += 1
        yield place
    yield from waiting[: count - given]


def _build_sketch(text: str) -> list[int]:
    """The smallest hashes of character shingles: two texts share about the same fraction of these as of their
    shingles."""
    folded = " ".join(text[:MAX_COMPARED_CHARACTERS].casefold().split())
    codes = np.frombuffer(folded.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    if len(codes) < SHINGLE:
        return [zlib.crc32(folded.encode("utf-8", "replace"))] if folded else []
    mixed = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for shift in range(SHINGLE):  # overflow is fine for a hash
        mixed = mixed * np.uint64(0x100000001B3) ^ codes[shift : shift + len(mixed)]
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    smallest: list[int] = np.unique(mixed ^ (mixed >> np.uint64(32)))[:SKETCH_SIZE].tolist()
    return smallest


def _is_repeated(sketch: Sequence[int], postings: Mapping[int, list[int]], sizes: Sequence[int]) -> bool:
    shared: Counter[int] = Counter()
    for value in sketch:
        shared.update(postings.get(value, ()))
    return any(
        both >= MIN_SIMILARITY * max(len(sketch), sizes[other]) for other, both in shared.most_common(3)
    )


def _add_sketch(sketch: Sequence[int], postings: dict[int, list[int]], sizes: list[int]) -> None:
    for value in sketch:
        postings.setdefault(value, []).append(len(sizes))
    sizes.append(len(sketch))


MAX_LISTED = 200  # requests
MAX_TEXT = 240  # characters of a text in a list
PROTOCOL_BY_KIND: Mapping[str, RatingProtocol] = {"labels": "label", "decision": "label"}


def build_label_queue(
    requests: pa.Table,
    topics_before: Mapping[str, int],
    total: int,
    protocol: RatingProtocol | None = None,
    weights: ReasonWeights = ReasonWeights(),  # noqa: B008 (a tuple)
    limit: int = MAX_LISTED,
) -> LabelQueue:
    """From rows of `logged_requests.newest`. protocol: by kind of request if None."""
    asked = protocol or choose_protocol(requests)
    looked = collect_candidates(requests, asked)
    ranking = rank_candidates(looked.candidates, weights, topics_before)
    chosen = pick_candidates(looked.candidates, ranking, limit, random_share=0) if looked.candidates else []
    if len(looked.candidates) <= limit:  # all of them, ordered
        chosen = [PickedCandidate(place, None, ranking.reasons[place]) for place in order_by_score(ranking)]
    counts = Counter(reason for reasons in ranking.reasons for reason in reasons)
    listed = [
        _build_request(looked.candidates[entry.place], entry.reasons, float(ranking.score[entry.place]))
        for entry in chosen
    ]
    different = len(looked.candidates)
    return LabelQueue(asked, total, looked.requests, different, dict(looked.left_out), dict(counts), listed)


def choose_protocol(requests: pa.Table) -> RatingProtocol:
    """Label for a classifier, otherwise correction: by the kind of most requests."""
    kinds = Counter(requests["kind"].to_pylist()).most_common(1)
    return PROTOCOL_BY_KIND.get(kinds[0][0], "correction") if kinds else "label"


def _build_request(candidate: LabelCandidate, reasons: list[str], score: float) -> RequestToLabel:
    first = candidate.first
    return RequestToLabel(
        text=_truncate(candidate.text),
        answer=_truncate(" | ".join(candidate.answers) or extract_answer(first)),
        reasons=reasons,
        asked_at=first["asked_at"],
        version=first["version"],
        times=len({row["request_id"] for row in candidate.rows}),
        score=score,
    )


def _truncate(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]} …"
