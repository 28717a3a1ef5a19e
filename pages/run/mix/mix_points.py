"""Every share of the way from a run's base to its model that was scored, as points of the plot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.diagnostics import phrasing
from engine.diagnostics.forgetting import kept_share, probe_scores
from pages.compare.tradeoff.cost_points import MEASURES, MixPoint, cost_by, figures_of
from pages.shared import quantities
from store.documents.figures.estimate import Estimate
from store.documents.tables.run import MeasuredShare, Run
from store.documents.verdicts.forgetting import Forgetting, ForgottenChoices, ForgottenText
from store.documents.verdicts.interpolation import RecommendedShare

USUAL = (0.2, 0.4, 0.6, 0.8)
STEP = 0.05  # between two shares that can be asked for
PASSES = ("held_out", "prose", "choices")  # over which every share is measured, as the run's models were
OWN_TEXTS = "own_samples"  # and these where the run has them
LOADING = 10.0  # seconds until the model of a job is there, about
BUSY = 1.25  # times as long as estimated, from which on it is said


@dataclass(frozen=True)
class ScoredShare:
    """A share of the way to a run that was scored; figures: by measure, as `cost_points.measure_of` calls
    them, null where it was not measured."""

    run_id: str
    number: int  # of the run, as its name is
    name: str
    alpha: float
    gain: Estimate | None
    figures: Mapping[str, Estimate | None]

    def cost(self, measure: str) -> Estimate | None:
        """What it forgot, more being worse; None where it was not measured."""
        return cost_by(self.figures.get(measure), measure)


def scored(run: Run, measured: Sequence[MeasuredShare]) -> list[ScoredShare]:
    """What was measured, and of the two ends what the run's verdict says, where no job has measured them."""
    identity = (run["run_id"], run["number"], run["name"])
    by_alpha = {
        row["alpha"]: ScoredShare(
            *identity, row["alpha"], row["gain"], figures_of(row) | _named(row["named"] or ())
        )
        for row in measured
    }
    verdict = run["verdict"]
    if verdict and verdict["gain"]:
        gain: Estimate = verdict["gain"]
        by_alpha.setdefault(1.0, ScoredShare(*identity, 1.0, gain, _tuned(verdict["forgetting"])))
    return [share for _, share in sorted(by_alpha.items()) if share.alpha > 0]


def _tuned(forgetting: Forgetting | None) -> dict[str, Estimate | None]:
    """What the tuned model forgot."""
    if not forgetting:
        return dict.fromkeys(MEASURES)
    texts = {text["probe"]: text["change"] for text in forgetting["texts"]}
    choices = {part["probe"]: part["change"] for part in forgetting["choices"]}
    divergence = {part["probe"]: part["kl"] for part in forgetting["divergence"]}
    figures = {
        "prose": texts.get(probe_scores.PROSE),
        "answers": choices.get(probe_scores.CHOICES),
        "kl": divergence.get(probe_scores.OWN_SAMPLES),
    }
    parts: list[ForgottenText | ForgottenChoices] = [*forgetting["texts"], *forgetting["choices"]]
    # tasks are asked at the end of a run alone, never of a share of the way
    return figures | _named([part for part in parts if part["probe"].startswith(probe_scores.DATA)])


def _named(parts: Sequence[ForgottenText | ForgottenChoices]) -> dict[str, Estimate | None]:
    """What was measured of the data sets that are probes, as `cost_points.measure_of` calls them."""
    return {f"{part['probe']}/{'loss' if 'unit' in part else 'accuracy'}": part["change"] for part in parts}


def measures(shares: Sequence[ScoredShare]) -> list[str]:
    """What can be measured against the gain: what every run has, then the data sets that are probes."""
    named = dict.fromkeys(name for share in shares for name in share.figures if probe_scores.users(name))
    return [*MEASURES, *named]


def points(shares: Sequence[ScoredShare], measure: str) -> list[MixPoint]:
    """Those that have a figure on both axes, along the way."""
    drawable = []
    for share in shares:
        gain, cost = share.gain, share.cost(measure)
        if gain and cost:
            drawable.append(MixPoint(share.run_id, share.number, share.name, share.alpha, gain, cost))
    return drawable


def recommend(shares: Sequence[ScoredShare]) -> RecommendedShare:
    """As `engine.diagnostics.forgetting.kept_share.recommend`, over all that was scored."""
    gains = [
        kept_share.ShareGain(share.alpha, share.gain, share.figures.get("prose"))
        for share in shares
        if share.gain
    ]
    return kept_share.recommend(gains)


def shares() -> list[float]:
    """That can be asked for, the ends left out."""
    return [round(STEP * place, 2) for place in range(1, round(1 / STEP))]


@dataclass(frozen=True)
class Expected:
    """How long scoring one share takes, in seconds, and in words what that rests on."""

    low: float
    high: float
    basis: str

    def shares(self, count: int) -> str:
        """For so many of them."""
        low, high = (LOADING + each * count for each in (self.low, self.high))
        return f"{quantities.span_between(low, high)} for {phrasing.plural(count, 'share')}, {self.basis}"


def expected(run: Run, measured: Sequence[MeasuredShare]) -> Expected | None:
    """By the shares of this run that were scored before, else by the same passes of the run's own evidence;
    None where neither was timed. A machine that was busy then makes it too long: how much so shows in what
    the run took against its estimate."""
    if before := [row["seconds"] for row in measured if row["seconds"]]:
        counted = phrasing.plural(len(before), "share")
        return Expected(min(before), max(before), f"as {counted} of this run took before")
    facts = run["facts"]
    passes = facts.get("judged_seconds") or {}
    if not all(name in passes for name in PASSES):
        return None
    once = sum(passes.get(name, 0.0) for name in (*PASSES, OWN_TEXTS))
    whole, thought = facts.get("run_seconds"), facts.get("estimated_seconds")
    busy = max(1.0, whole / thought) if whole and thought else 1.0
    basis = "by the run's own evidence, measured once"
    if busy > BUSY:
        basis += f"; the run took {busy:.1f} times as long as estimated, perhaps as the machine was busy"
    return Expected(once / busy, once, basis)


def nearest(shares: Sequence[ScoredShare], alpha: float) -> tuple[ScoredShare | None, ScoredShare | None]:
    """The scored shares under and over `alpha`."""
    below = [share for share in shares if share.alpha < alpha]
    above = [share for share in shares if share.alpha > alpha]
    return (below[-1] if below else None), (above[0] if above else None)
