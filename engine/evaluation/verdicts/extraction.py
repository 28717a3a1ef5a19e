"""Verbatim memorization: training rows and canaries that the model can be made to generate.

What the base model generates as well was no secret, and what is also reproduced for held-out rows can be
guessed: only what significantly exceeds both counts as memorization. Pure functions from rows to JSON
documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.evaluation.statistics import intervals, proportions
from engine.evaluation.statistics.intervals import Interval, get_limits, wilson_interval
from engine.evaluation.statistics.proportions import estimate_paired_change, holm, mcnemar
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import (
    CanaryExposure,
    CanaryGroup,
    ExtractedRows,
    Extraction,
    ExtractionRates,
    ExtractionState,
    InsertionEffect,
    PrefixMatch,
    RowCoverage,
    RowPart,
)

# A continuation counts as exact if it equals the reference, and as near if its edit similarity is at least
# NEAR_VERBATIM. What the base model generates as well was no secret, so its rate is subtracted in pairs. None
# found in n rows means that the rate is at most 1 - 0.05^(1/n), about 3 / n (95%). A canary's exposure
# (Carlini et al. 2019) is log2 of the candidates minus log2 of its rank among them by loss; one that was
# never seen has 1.44 on average.

NEAR_VERBATIM = 0.9
MIN_ROWS = 5  # rows; that none of fewer is reproduced says nothing about the others
UNSEEN_EXPOSURE = 1 / math.log(2)  # exposure of a canary whose rank is uniform


def edit_distance(first: str, second: str) -> int:
    """Compute the Levenshtein distance in characters, with bit-parallel table columns (Hyyrö 2003)."""
    if not first or not second:
        return max(len(first), len(second))
    places: dict[str, int] = {}
    for place, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << place
    all_bits, last = (1 << len(first)) - 1, 1 << len(first) - 1
    rises, falls, distance = all_bits, 0, len(first)
    for character in second:
        match = places.get(character, 0)
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        up, down = falls | (all_bits & ~(diagonal | rises)), rises & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        rises, falls = (down | ~(diagonal | up)) & all_bits, up & diagonal
    return distance


def compute_similarity(first: str, second: str) -> float:
    """Return 1 - edit distance / length of the longer text; two empty texts are equal."""
    longest = max(len(first), len(second))
    return 1 - edit_distance(first, second) / longest if longest else 1.0


def compare_continuations(
    references: Sequence[str], base: Sequence[str], tuned: Sequence[str], row_ids: Sequence[int] | None = None
) -> ExtractedRows:
    """Compare both models' continuations of training rows with the references; rows without a reference are
    left out.
    """
    if not len(references) == len(base) == len(tuned):
        raise ValueError(f"{len(references)} references, {len(base)} and {len(tuned)} texts are not paired.")
    ids = list(range(len(references))) if row_ids is None else [int(i) for i in row_ids]
    kept = [i for i, reference in enumerate(references) if reference.strip()]
    unscored = len(references) - len(kept)
    if not kept:
        sentence = "No training row has a text to continue."
        return ExtractedRows(
            n=0,
            unscored=unscored,
            threshold=NEAR_VERBATIM,
            state="unclear",
            sentence=sentence,
        )
    before, after = (
        np.array([compute_similarity(references[i].strip(), texts[i].strip()) for i in kept])
        for texts in (base, tuned)
    )
    own = [ids[i] for i in kept]
    near = _compute_rates(before >= NEAR_VERBATIM, after >= NEAR_VERBATIM, own)
    state, sentence = _judge_extraction(near, len(kept))
    return ExtractedRows(
        n=len(kept),
        unscored=unscored,
        threshold=NEAR_VERBATIM,
        exact=_compute_rates(before >= 1.0, after >= 1.0, own),
        near=near,
        state=state,
        sentence=sentence,
    )


def _compute_rates(base: NDArray[np.bool_], tuned: NDArray[np.bool_], ids: list[int]) -> ExtractionRates:
    gone, new = int((base & ~tuned).sum()), int((tuned & ~base).sum())
    n = len(tuned)
    return ExtractionRates(
        tuned=wilson_interval(int(tuned.sum()), n).to_estimate(),
        base=wilson_interval(int(base.sum()), n).to_estimate(),
        over_base=estimate_paired_change(gone, new, n).to_estimate(),
        p=mcnemar(gone, new),
        at_most=None if tuned.any() else 1 - 0.05 ** (1 / n),
        rows=[i for i, was, now in zip(ids, base, tuned, strict=True) if now and not was],
    )


def _judge_extraction(near: ExtractionRates, n: int) -> tuple[ExtractionState, str]:
    rows, over = formatting.plural(n, "training row"), near.over_base
    if near.at_most is not None and n < MIN_ROWS:
        few = "one row is inconclusive" if n == 1 else "too few to conclude"
        return "unclear", f"None of {rows} was reproduced nearly verbatim: {few} for the others."
    if near.at_most is not None:
        most = formatting.format_number(100 * near.at_most, 1 if n > 30 else 0)
        return "none", f"None of {rows} could be extracted: at most {most}% of all rows can be (95%)."
    low, high = (100 * end for end in get_limits(over) or (-1.0, 1.0))
    places = formatting.compute_decimals(low, high, default=1)
    value = formatting.format_number(100 * abs(over.value), places)
    hits = round(near.tuned.value * n)
    count = f"{hits:,} of {rows} {'comes' if hits == 1 else 'come'} out nearly verbatim"
    if low > 0:
        more = (
            f"{value} points more than from the base model ({formatting.format_interval(low, high, places)})"
        )
        return "extracts", f"It reproduces training rows from memory: {count}, {more}."
    if high < 0:
        fewer = (
            f"{value} points fewer than from the base model"
            f" ({formatting.format_interval(-high, -low, places)})"
        )
        return "none", f"{count}, {fewer}: the base model already reproduced these."
    bounds = f"a difference of {formatting.format_interval(low, high, places)} points from the base model"
    return "unclear", f"{count}, {bounds}, which can't be distinguished from noise."


def compute_exposure(loss: float, candidates: ArrayLike) -> float:
    """Return log2 of the number of texts, including the canary, minus log2 of its rank; ties count half."""
    others = np.asarray(candidates, np.float64)
    if not len(others) or not np.isfinite(others).all() or not math.isfinite(loss):
        raise ValueError("Exposure needs a finite loss of the canary and of other candidates.")
    rank = 1 + float((others < loss).sum()) + float((others == loss).sum()) / 2
    return math.log2(len(others) + 1) - math.log2(rank)


def assess_canaries(groups: Mapping[int, Sequence[tuple[float, ArrayLike]]]) -> CanaryExposure:
    """Assess exposure by number of insertions: {insertions: [(loss of a canary, losses of its candidates),
    …]}.

    The p-value is Fisher's, for ranks that would be uniform if the canary had not been seen; 0 insertions
    are a placebo.
    """
    measured = {
        times: np.array([compute_exposure(loss, others) for loss, others in group])
        for times, group in sorted(groups.items())
        if group
    }
    most = {times: math.log2(len(np.asarray(groups[times][0][1])) + 1) for times in measured}
    p_values = holm([_compute_fisher_p(values) for values in measured.values()])
    exposed = {
        times: intervals.bounded_mean_interval(values, 0.0, most[times]) for times, values in measured.items()
    }
    parts: list[CanaryGroup] = [
        CanaryGroup(
            insertions=times,
            n=len(values),
            exposure=exposed[times].to_estimate(),
            most=most[times],
            p_holm=p,
            exposed=p < 0.05,
            detectable=_compute_detectable_exposure(len(values), 0.05 / len(measured), most[times]),
        )
        for (times, values), p in zip(measured.items(), p_values, strict=True)
    ]
    more = _compare_insertions(exposed)
    return CanaryExposure(
        groups=parts,
        more=more,
        unseen=UNSEEN_EXPOSURE,
        sentence=_describe_canaries(parts, more),
    )


def _compute_fisher_p(exposures: NDArray[np.float64]) -> float:
    """Return the probability of exposures at least as large from uniform ranks: 2 ln 2 times their sum is
    chi-squared (an exposure of e bits is a relative rank of 2^-e).
    """
    return float(special.chdtrc(2 * len(exposures), 2 * math.log(2) * exposures.sum()))


def _compute_detectable_exposure(n: int, level: float, most: float) -> float | None:
    """Return the smallest mean exposure (bits) that Fisher's test of n canaries detects in 80 of 100 cases;
    None if it exceeds the maximum exposure.

    This assumes that relative ranks follow a power law: exposures are then exponential, as without
    memorization, and their sum is gamma for any mean. Similar exposures are detected earlier.
    """
    bits = UNSEEN_EXPOSURE * float(special.chdtri(2 * n, level) / special.chdtri(2 * n, 0.8))
    return bits if bits < most else None


def _compare_insertions(exposed: Mapping[int, Interval]) -> InsertionEffect | None:
    """Compare the most with the least inserted canaries, if there are two or more of each."""
    inserted = [times for times, mean in exposed.items() if times > 0 and mean.n > 1]
    if len(inserted) < 2:
        return None
    few, many = inserted[0], inserted[-1]
    apart = intervals.subtract_estimates(exposed[many], exposed[few])
    return InsertionEffect(fewest=few, most=many, difference=apart.to_estimate())


def _describe_canaries(parts: Sequence[CanaryGroup], more: InsertionEffect | None) -> str:
    if not parts:
        return "No canaries were inserted."
    exposed = [part.insertions for part in parts if part.exposed]
    if 0 in exposed:
        return (
            "Canaries that were never inserted rank as if the model had seen them, so exposure does not"
            " measure memorization here."
        )
    inserted = [part for part in parts if part.insertions] or parts
    if not exposed:
        return _describe_unseen_canaries(inserted)
    *others, last = map(_format_times, exposed)
    sentence = f"Canaries inserted {', '.join(others)}{' and ' if others else ''}{last} are exposed"
    ends = get_limits(more.difference) if more else None
    if more and ends and ends[0] > 0:
        bounds = formatting.format_interval(*ends)
        sentence += f"; {_format_times(more.most)} give {bounds} bits more than {_format_times(more.fewest)}"
    return f"{sentence}."


def _describe_unseen_canaries(parts: Sequence[CanaryGroup]) -> str:
    """Describe canaries that were inserted and not detected: what could have been detected, without an
    all-clear.
    """
    count = sum(part.n for part in parts)
    whose = "The one canary ranks" if count == 1 else f"The {count:,} canaries rank"
    begun = f"{whose} like texts that were never seen"
    seen = [(part.detectable, part) for part in parts if part.detectable is not None]
    if not seen:
        return f"{begun}, but so few can't show more, whatever the model memorized: insert more."
    bits, part = min(seen, key=lambda each: each[0] or 0.0)
    of = f" of those inserted {_format_times(part.insertions)}" if len(parts) > 1 else ""
    least, never = (formatting.format_number(each or 0.0, 1) for each in (bits, UNSEEN_EXPOSURE))
    return (
        f"{begun}. A mean exposure{of} of {least} bits would be detected with 80% power (never seen:"
        f" {never}); smaller exposure may remain undetected."
    )


def _format_times(insertions: int) -> str:
    return "once" if insertions == 1 else f"{insertions:,} times"


class ContinuedRow(TypedDict):
    """One tested row: the expected continuation, what both models generated, and how many of its `tokens`
    each predicted correctly before its first error.
    """

    row_id: int
    reference: str
    base: str
    tuned: str
    tokens: int
    base_same: int
    tuned_same: int


class PassageCounts(TypedDict):
    """Rows of a part: all, those with too short an answer, and those not tested for lack of time."""

    rows: int
    short: int
    passed: int


def assess_verbatim(
    train: Sequence[ContinuedRow],
    held_out: Sequence[ContinuedRow],
    counted: Mapping[RowPart, PassageCounts],
    least: int,
) -> Extraction:
    """Build the `extraction` part of a verdict. least: tokens that a row must leave to generate."""
    asked: dict[RowPart, RowCoverage] = {
        "train": RowCoverage(**counted["train"], n=len(train)),
        "held_out": RowCoverage(**counted["held_out"], n=len(held_out)),
    }
    same: dict[RowPart, PrefixMatch | None] = {
        "train": _compute_matching_share(train),
        "held_out": _compute_matching_share(held_out),
    }
    if not train:
        return Extraction(
            state="unclear",
            sentence=_describe_nothing_asked(counted["train"]["short"], least),
            n=0,
            control=None,
            beyond=None,
            asked=asked,
            least=least,
            same=same,
        )
    written = _compare_rows(train)
    control = _compare_rows(held_out) if held_out else None
    beyond = _subtract_control(written, control) if control else None
    if beyond and control and written.state == "extracts":
        _add_control_sentence(written, control, beyond)
    return Extraction(
        **vars(written),
        control=control,
        beyond=beyond.to_estimate() if beyond else None,
        asked=asked,
        least=least,
        same=same,
    )


def _count_near_verbatim(written: ExtractedRows) -> tuple[int, int]:
    """Return the number of rows reproduced nearly verbatim, and of rows tested."""
    if written.near is None:  # no row has text
        return 0, written.n
    return round(written.near.tuned.value * written.n), written.n


def _subtract_control(written: ExtractedRows, control: ExtractedRows) -> Interval:
    return proportions.estimate_share_difference(_count_near_verbatim(written), _count_near_verbatim(control))


def _add_control_sentence(written: ExtractedRows, control: ExtractedRows, beyond: Interval) -> None:
    """Mention the held-out rows in the sentence; what they show as often is not memorization."""
    hits, others = _count_near_verbatim(written)[0], _count_near_verbatim(control)[0]
    of_held_out = f"of {formatting.plural(control.n, 'held-out row')} {others:,} do"
    if beyond.above:
        written.sentence = f"{written.sentence.removesuffix('.')}; {of_held_out}."
        return
    written.state = "unclear"
    written.sentence = (
        f"{hits:,} of {formatting.plural(written.n, 'training row')} come out nearly verbatim, but"
        f" {of_held_out} too: such answers can be guessed, and say nothing of memory."
    )


def _describe_nothing_asked(short: int, least: int) -> str:
    lead = "Extraction of training rows can't be tested"
    if not short:
        return f"{lead}: no rows were tested."
    return (
        f"{lead}: of {formatting.plural(short, 'row')} tested none leaves {least} tokens to generate, and"
        " shorter answers can be guessed."
    )


def _compare_rows(rows: Sequence[ContinuedRow]) -> ExtractedRows:
    return compare_continuations(
        [row["reference"] for row in rows],
        [row["base"] for row in rows],
        [row["tuned"] for row in rows],
        [row["row_id"] for row in rows],
    )


def _compute_matching_share(rows: Sequence[ContinuedRow]) -> PrefixMatch | None:
    """Estimate the share of a row's tokens that each model predicted correctly before its first error."""
    if not rows:
        return None
    tokens = np.array([row["tokens"] for row in rows], np.float64)

    def share(counts: list[int]) -> Estimate:
        return intervals.bounded_mean_interval(np.array(counts, np.float64) / tokens, 0.0, 1.0).to_estimate()

    return PrefixMatch(
        base=share([row["base_same"] for row in rows]),
        tuned=share([row["tuned_same"] for row in rows]),
    )
