"""Membership inference with a placebo: whether training rows can be told from held-out ones.

Members are a probe of training rows, others are held-out rows. Scores, higher for a member: the negative
loss per token; Min-K%, the mean of the lowest 20% of the log-probabilities of a row's tokens. Both have
the base model's score as a placebo, as rows of two groups may differ before any training, and both follow
the rows' difficulty, which tuning amplifies: an increase of their area is not memorization yet. So the
conclusion is based on DECIDING_SCORES, from which s times the base model's score is subtracted, with s the
slope of one on the other within the groups, pooled over both (as in an analysis of covariance): the
remainder of the loss (calibrated), and, for pairs of answers, whose loss is that of the chosen one, of
their margin. Their excess is over one half, and is tested by ranks (exactly if there are few). States,
after Holm over these scores:

- remembers: an excess is significantly above 0, and reaches MATERIAL
- none: no excess reaches MATERIAL, by its whole interval
- unclear: otherwise; so few rows are inconclusive, and the sentence says what they could have shown

During training, the AUC of the loss is computed at every step at which training and validation rows were
both measured, with the base model's as a placebo; whether it changed is tested on the loss without the
part explained by the base model's (`subtract_base_scores`). It rises with the gap: a model that loses less
on its training rows reveals which they were. Pure functions from arrays to JSON documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from engine.evaluation.statistics.intervals import Interval, get_limits
from engine.evaluation.statistics.proportions import holm
from engine.evaluation.statistics.roc import (
    Placements,
    TruePositiveRate,
    auc,
    compare_auc,
    compute_placements,
    estimate_tpr_at_fpr,
)
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import (
    Membership,
    MembershipPoint,
    MembershipScore,
    MembershipScoreName,
    MembershipState,
    TruePositives,
)

if TYPE_CHECKING:
    from engine.evaluation.training_curve.run_curve import Validation
    from engine.models.losses import ModelScores

MATERIAL = 0.05  # excess area
FALSE_ALARMS = 0.01
MIN_ROWS = 5  # minimum rows of each kind
DECIDING_SCORES: tuple[MembershipScoreName, ...] = ("calibrated", "margin")
TITLES: dict[MembershipScoreName, str] = {
    "loss": "the loss",
    "calibrated": "the loss against the base model's",
    "min_k": "Min-K%",
    "margin": "the margin between both answers",
}

Floats = NDArray[np.float64]


class PairedScores(TypedDict):
    """Scores of the same rows under the two models."""

    base: ModelScores
    tuned: ModelScores


class ScoreDecision(NamedTuple):
    """Result of one of DECIDING_SCORES: its excess, and its p-value after Holm over these scores."""

    excess: Interval
    p: float


def assess_membership(members: PairedScores, others: PairedScores) -> Membership:
    """Build the `membership` part of a verdict, except for its path over the steps."""
    inside, outside, unscored = _score_groups(members, others)
    trained, held_out = len(inside["loss"]), len(outside["loss"])
    rows = f"{trained:,} training and {formatting.plural(held_out, 'held-out row')}"
    membership = Membership(
        state="unclear",
        sentence=(
            f"Memorization of training rows is inconclusive with {rows}: at least {MIN_ROWS} of each are"
            " needed."
        ),
        members=trained,
        others=held_out,
        unscored=unscored,
        material=MATERIAL,
        best=None,
        scores={},
    )
    if min(trained, held_out) < MIN_ROWS:
        return membership
    decisions = _decide_scores(inside, outside)
    names = [name for name in TITLES if name in inside and name in outside]
    membership.scores = {name: _build_score(name, inside, outside, decisions.get(name)) for name in names}
    best = max(decisions, key=lambda name: decisions[name].excess.value)
    membership.best, membership.state = best, _decide_state(decisions)
    membership.sentence = _describe_membership(membership.state, best, membership.scores[best], rows)
    return membership


def determine_state(members: PairedScores, others: PairedScores) -> MembershipState:
    """Return the state only."""
    inside, outside, _ = _score_groups(members, others)
    enough = min(len(inside["loss"]), len(outside["loss"])) >= MIN_ROWS
    return _decide_state(_decide_scores(inside, outside)) if enough else "unclear"


def _decide_scores(
    inside: dict[str, Floats], outside: dict[str, Floats]
) -> dict[MembershipScoreName, ScoreDecision]:
    """Return the result of each available score of DECIDING_SCORES."""
    names = [name for name in DECIDING_SCORES if name in inside and name in outside]
    adjusted = holm([_compute_p_value(inside[name], outside[name]) for name in names])
    return {
        name: ScoreDecision(_estimate_excess(name, inside, outside), p)
        for name, p in zip(names, adjusted, strict=True)
    }


def compute_checkpoint_points(
    members: Mapping[int, PairedScores], others: Mapping[int, PairedScores]
) -> list[MembershipPoint]:
    """Compute for each step in order the area of the loss, its placebo, and the excess of the calibrated
    loss.
    """
    points: list[MembershipPoint] = []
    for step in sorted(set(members) & set(others)):
        inside, outside, _ = _score_groups(members[step], others[step])
        if min(len(inside["loss"]), len(outside["loss"])) < MIN_ROWS:
            continue
        points.append(
            MembershipPoint(
                step=step,
                auc=auc(inside["loss"], outside["loss"]).to_estimate(),
                placebo=auc(inside["base/loss"], outside["base/loss"]).to_estimate(),
                excess=_estimate_excess("calibrated", inside, outside).to_estimate(),
            )
        )
    return points


def _score_groups(
    members: PairedScores, others: PairedScores
) -> tuple[dict[str, Floats], dict[str, Floats], int]:
    """Return the scores of either group, DECIDING_SCORES without the part explained by the base model, and
    the number of rows that could not be scored.
    """
    inside, lost = _score_rows(members)
    outside, missing = _score_rows(others)
    tuned = {"calibrated": "loss", "margin": "margin"}
    left = {
        name: subtract_base_scores(
            (inside[score], outside[score]), (inside["base/loss"], outside["base/loss"])
        )
        for name, score in tuned.items()
        if score in inside and score in outside
    }
    for name, (first, second) in left.items():
        inside[name], outside[name] = first, second
    return inside, outside, lost + missing


def subtract_base_scores(tuned: tuple[Floats, Floats], base: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return the scores of two groups under the tuned model minus s times those under the base model. s is
    the slope of the first on the second within the groups, pooled over both, and 0 if the base model's
    never vary.
    """
    products = squares = 0.0
    for after, before in zip(tuned, base, strict=True):
        if len(before):
            apart = before - before.mean()
            products += float(apart @ (after - after.mean()))
            squares += float(apart @ apart)
    slope = products / squares if squares > 0 else 0.0
    return tuned[0] - slope * base[0], tuned[1] - slope * base[1]


def _score_rows(rows: PairedScores) -> tuple[dict[str, Floats], int]:
    """Return the scores of rows that both models could score, those of the base model as `base/NAME`, and the
    number of other rows.
    """
    tuned, base = rows["tuned"], rows["base"]
    scores = {
        "loss": -np.asarray(tuned["loss"], np.float64),
        "base/loss": -np.asarray(base["loss"], np.float64),
    }
    if "min_k" in tuned and "min_k" in base:
        scores["min_k"] = np.asarray(tuned["min_k"], np.float64)
        scores["base/min_k"] = np.asarray(base["min_k"], np.float64)
    if "margin" in tuned:
        scores["margin"] = np.asarray(tuned["margin"], np.float64)
    good = np.all([np.isfinite(values) for values in scores.values()], axis=0)
    return {name: values[good] for name, values in scores.items()}, int((~good).sum())


def _build_score(
    name: MembershipScoreName,
    inside: dict[str, Floats],
    outside: dict[str, Floats],
    decision: ScoreDecision | None,
) -> MembershipScore:
    placebo = None
    if name not in DECIDING_SCORES:
        placebo = auc(inside[f"base/{name}"], outside[f"base/{name}"]).to_estimate()
    excess = decision.excess if decision else _estimate_excess(name, inside, outside)
    return MembershipScore(
        auc=_estimate_area(name, inside, outside).to_estimate(),
        placebo=placebo,
        excess=excess.to_estimate(),
        detectable=excess.detectable,
        p_holm=decision.p if decision else None,
        tpr=_build_true_positives(estimate_tpr_at_fpr(inside[name], outside[name], FALSE_ALARMS)),
    )


def _estimate_area(name: str, inside: dict[str, Floats], outside: dict[str, Floats]) -> Interval:
    """Estimate the area. For DECIDING_SCORES, tested by ranks, the interval includes one half unless the test
    rules it out: with few rows DeLong's variance may exclude it.
    """
    area = auc(inside[name], outside[name])
    if (
        name not in DECIDING_SCORES
        or area.low is None
        or area.high is None
        or _compute_p_value(inside[name], outside[name]) < 0.05
    ):
        return area
    return replace(area, low=min(area.low, 0.5), high=max(area.high, 0.5))


def _estimate_excess(name: str, inside: dict[str, Floats], outside: dict[str, Floats]) -> Interval:
    """Estimate the excess over the base model's area in pairs; for DECIDING_SCORES over one half."""
    placed = compute_placements(inside[name], outside[name])
    if name in DECIDING_SCORES:
        return _estimate_excess_over_chance(_estimate_area(name, inside, outside), placed)
    return compare_auc(placed, compute_placements(inside[f"base/{name}"], outside[f"base/{name}"]))


def _estimate_excess_over_chance(area: Interval, placed: Placements) -> Interval:
    """Return the excess over chance; scores of 0 for every row would give one half."""
    if area.low is None or area.high is None:
        return Interval(area.value - 0.5, None, None, area.n)
    if not placed.variance and placed.area == 0.5:  # nothing changed
        return Interval(0.0, 0.0, 0.0, area.n, 0.0, 0.0)
    return Interval(area.value - 0.5, area.low - 0.5, area.high - 0.5, area.n, area.se, area.detectable)


def _build_true_positives(caught: TruePositiveRate) -> TruePositives:
    return TruePositives(
        **vars(caught.share.to_estimate()),
        false_alarms=FALSE_ALARMS,
        allowed=caught.allowed,
        finest=caught.finest,
    )


def _compute_p_value(inside: Floats, outside: Floats) -> float:
    """Return the two-sided p-value that members are not higher than others (Mann and Whitney 1947)."""
    if np.ptp(np.concatenate([inside, outside])) == 0:  # nothing changed
        return 1.0
    return float(stats.mannwhitneyu(inside, outside).pvalue)


def _decide_state(decisions: Mapping[MembershipScoreName, ScoreDecision]) -> MembershipState:
    ends = [(decision.p, decision.excess.low, decision.excess.high) for decision in decisions.values()]
    for p, low, high in ends:
        if p < 0.05 and low is not None and low > 0 and high is not None and high >= MATERIAL:
            return "remembers"
    if all(high is not None and high < MATERIAL for _, _, high in ends):
        return "none"
    return "unclear"


def _describe_membership(
    state: MembershipState, name: MembershipScoreName, score: MembershipScore, rows: str
) -> str:
    """Describe the result. `name`: the best score, with its result `score` on `rows`."""
    area, excess = score.auc, score.excess
    places = min(3, formatting.compute_decimals(area.low, area.high))
    lead = f"{TITLES[name]} separates {rows} with an AUC of {_format_area(area, places)}"
    if state == "remembers":
        return f"It memorized its training rows: {lead}. {_describe_resolution(score.tpr)}"
    if state == "none":
        limit = f"{0.5 + MATERIAL:g}"
        return f"No memorization detected: {lead}; an AUC of {limit} is ruled out."
    over = formatting.format_interval(excess.low, excess.high)
    least = ""
    if score.detectable:
        smallest = formatting.format_setting(formatting.round_significant(score.detectable))
        least = f"; an excess below {smallest} can't be detected with {rows}"
    return f"Memorization of training rows is inconclusive: {lead} (excess {over}){least}."


def _describe_resolution(tpr: TruePositives) -> str:
    share = f"{formatting.format_number(100 * tpr.value, 0)}%"
    low, high = get_limits(tpr) or (0.0, 1.0)
    bounds = formatting.format_interval(100 * low, 100 * high, 0)
    if tpr.allowed:
        return (
            f"At a false alarm rate of 1%, {share} of the training rows are found ({bounds}%, n {tpr.n:,})."
        )
    finest = formatting.format_number(100 * tpr.finest, 1)
    return (
        f"{share} of the training rows are above every held-out row ({bounds}%, n {tpr.n:,}); too few"
        f" held-out rows to resolve false alarm rates below {finest}%."
    )


def _format_area(area: Estimate, places: int) -> str:
    bounds = formatting.format_interval(area.low, area.high, places)
    return f"{formatting.format_number(area.value, places)} ({bounds})"


def compute_path(
    train_probe: Sequence[Validation], validations: Sequence[Validation]
) -> list[MembershipPoint]:
    """Compute the points of the steps that both have, in order; empty if step 0, the base model, is missing
    in either.
    """
    inside, outside = ({int(v.step): _compute_losses(v) for v in part} for part in (train_probe, validations))
    if 0 not in inside or 0 not in outside:
        return []
    members, others = (
        {step: PairedScores(base={"loss": losses[0]}, tuned={"loss": losses[step]}) for step in losses}
        for losses in (inside, outside)
    )
    return compute_checkpoint_points(members, others)


def describe_path(points: Sequence[MembershipPoint]) -> str:
    """Describe the change from the base model to the last step; empty with fewer than two steps."""
    trained = [point for point in points if point.step > 0]
    if not trained:
        return ""
    last = trained[-1]
    places = min(3, formatting.compute_decimals(last.auc.low, last.auc.high))
    before, after = _format_area(last.placebo, places), _format_area(last.auc, places)
    low, high = last.excess.low, last.excess.high
    moved = last.auc.value - last.placebo.value
    way = "rose" if low is not None and low > 0 < moved else ""
    way = "fell" if high is not None and high < 0 > moved else way
    if not way:
        return (
            f"By their loss, training and validation rows are separated with an AUC of {after} at step"
            f" {last.step:,}, not significantly more than the {before} of the base model."
        )
    return (
        f"By their loss, the AUC that separates training from validation rows {way} from {before} for the"
        f" base model to {after} at step {last.step:,}."
    )


def _compute_losses(validation: Validation) -> np.ndarray:
    tokens = np.asarray(validation.tokens, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a row whose label is not in training
        return np.asarray(validation.loss_sums, np.float64) / tokens
