"""Every share of the way from a run's base to its model that was scored, as points of the plot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.diagnostics import phrasing
from engine.diagnostics.forgetting import kept_share, probe_scores
from pages.compare.tradeoff.cost_points import MEASURES, Point, Row, cost_of
from pages.shared import quantities

USUAL = (0.2, 0.4, 0.6, 0.8)
STEP = 0.05  # between two shares that can be asked for
FIGURES = {"prose": "texts", "answers": "choices", "kl": "divergence"}
PASSES = ("held_out", "prose", "choices")  # over which every share is measured, as the run's models were
OWN_TEXTS = "own_samples"  # and these where the run has them
LOADING = 10.0  # seconds until the model of a job is there, about
BUSY = 1.25  # times as long as estimated, from which on it is said


def scored(run: Mapping[str, Any], measured: Sequence[Row]) -> list[Row]:
    """What was measured, and of the two ends what the run's verdict says, where no job has measured them."""
    by_alpha = {row["alpha"]: row | _named(row.get("named") or ()) for row in measured}
    tuned = _tuned(run["verdict"] or {})
    if tuned["gain"]:
        by_alpha.setdefault(1.0, {"run_id": run["run_id"], "alpha": 1.0, **tuned})
    same = {"run_id": run["run_id"], "number": run["number"], "name": run["name"]}
    return [row | same for _, row in sorted(by_alpha.items()) if row["alpha"] > 0]


def _tuned(verdict: Mapping[str, Any]) -> Row:
    forgetting = verdict.get("forgetting") or {}
    figures = {"gain": verdict.get("gain")}
    for name, probe, figure in (
        ("prose", "prose", "change"), ("answers", "choices", "change"), ("kl", "own_samples", "kl")
    ):  # fmt: skip
        parts = [part for part in forgetting.get(FIGURES[name], ()) if part["probe"] == probe]
        figures[name] = parts[0][figure] if parts else None
    parts = [*forgetting.get("texts", ()), *forgetting.get("choices", ())]
    # tasks are asked at the end of a run alone, never of a share of the way
    return figures | _named([part for part in parts if part["probe"].startswith(probe_scores.DATA)])


def _named(parts: Sequence[Mapping[str, Any]]) -> Row:
    """What was measured of the data sets that are probes, as `cost_points.measure_of` calls them."""
    return {f"{part['probe']}/{'loss' if 'unit' in part else 'accuracy'}": part["change"] for part in parts}


def measures(rows: Sequence[Row]) -> list[str]:
    """What can be measured against the gain: what every run has, then the data sets that are probes."""
    named = dict.fromkeys(name for row in rows for name in row if probe_scores.users(name))
    return [*MEASURES, *named]


def points(rows: Sequence[Row], measure: str) -> list[Point]:
    """Those that have a figure on both axes, along the way."""
    drawable = []
    for row in rows:
        cost = cost_of(row, measure)
        if cost and row["gain"]:
            drawable.append(Point(row, cost, "", (), ""))
    return drawable


def recommend(rows: Sequence[Row]) -> dict[str, Any]:
    """As `engine.diagnostics.forgetting.kept_share.recommend`, over all that was scored."""
    gaining = [{**row, "text": row["prose"] and {"change": row["prose"]}} for row in rows if row["gain"]]
    return kept_share.recommend(gaining)


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


def expected(run: Mapping[str, Any], measured: Sequence[Row]) -> Expected | None:
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


def nearest(rows: Sequence[Row], alpha: float) -> tuple[Row | None, Row | None]:
    """The scored shares under and over `alpha`."""
    below = [row for row in rows if row["alpha"] < alpha]
    above = [row for row in rows if row["alpha"] > alpha]
    return (below[-1] if below else None), (above[0] if above else None)
