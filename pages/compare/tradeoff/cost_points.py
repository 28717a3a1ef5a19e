"""Which runs can lie on one plot of gain against forgetting, and what became of the others.

Two runs are on one plot where both axes mean the same: the same base model (tokens of another tokenizer are
others, and so is what can be forgotten) and a gain in nats a token over that base model. Every run that is
left out is counted under its reason. Pure: rows of `store.queries.runs.gains_and_costs.costs` in.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.diagnostics.comparison import pareto
from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.forgetting.forgetting import THRESHOLDS, state_of
from engine.diagnostics.phrasing import plural, setting
from store.catalog.methods import METHODS
from store.documents.figures.estimate import Estimate
from store.documents.tables.run import MeasuredShare, RunCosts
from store.documents.verdicts.forgetting import ColourLimits
from store.documents.verdicts.verdict import Gain

UNIT = "nats a token"


@dataclass(frozen=True)
class Measure:
    """One way to measure what was forgotten: more is worse once multiplied by `scale`."""

    title: str
    axis: str
    unit: str
    scale: float = 1
    limits: Literal["nats", "share", ""] = (
        ""  # of THRESHOLDS; a distance has none, that it moved is what was wanted
    )
    items: str = ""


MEASURES = {
    "prose": Measure(
        "Plain prose", "Rise of the loss on plain prose (nats a token)", UNIT, 1, "nats", "passage"
    ),
    "answers": Measure(
        "Questions", "Fall of accuracy on questions (points)", "points", -100, "share", "question"
    ),
    "kl": Measure(
        "Distance (KL)", "KL from the base model on its own texts (nats a token)", UNIT, items="sample"
    ),
}


def measure_of(name: str) -> Measure:
    """One of MEASURES; or of a probe that the user named, as "data/Notes/loss" or "task/piqa/accuracy"."""
    if name in MEASURES:
        return MEASURES[name]
    probe, _, figure = name.rpartition("/")
    title, unit = probe_scores.named(probe), probe_scores.unit(probe)
    escaped = html.escape(title)
    if figure == "accuracy":
        return Measure(title, f"Fall of accuracy on {escaped} (points)", "points", -100, "share", unit)
    return Measure(title, f"Rise of the loss on {escaped} (nats a token)", UNIT, 1, "nats", unit)


@dataclass(frozen=True)
class Point:
    """A run on the plot. cost: more is worse; status: of `pareto.front`; behind: names of the runs of the
    front that gain as much and forget as little; state: of the cost by its thresholds."""

    row: RunCosts
    gain: Gain
    cost: Estimate
    status: str
    behind: tuple[str, ...]
    state: str

    @property
    def method(self) -> str:
        return method_title(self.row)

    @property
    def label(self) -> str:
        """Number and name, as people tell runs apart."""
        return label(self.row)


@dataclass(frozen=True)
class MixPoint:
    """A model between a run and its base on the plot. cost: more is worse."""

    run_id: str
    number: int  # of the run, as its name is
    name: str
    alpha: float
    gain: Estimate
    cost: Estimate

    @property
    def label(self) -> str:
        """Number and name of its run."""
        return f"#{self.number} {self.name}"


Plotted = Point | MixPoint


def label(row: RunCosts) -> str:
    """Number and name, as people tell runs apart."""
    return f"#{row['number']} {row['name']}"


def method_title(row: RunCosts) -> str:
    """The method as people name it."""
    method = METHODS.get(row["method"])
    return method.title if method else str(row["method"])


def limits(measure: str) -> ColourLimits | None:
    """Where amber and red begin, in the unit of the axis."""
    what = measure_of(measure)
    if not what.limits:
        return None
    levels = THRESHOLDS["share"] if what.limits == "share" else THRESHOLDS["nats"]
    return {"amber": abs(what.scale) * levels["amber"], "red": abs(what.scale) * levels["red"]}


def figures_of(row: RunCosts | MeasuredShare) -> dict[str, Estimate | None]:
    """What was forgotten by each of MEASURES."""
    return {"prose": row["prose"], "answers": row["answers"], "kl": row["kl"]}


def cost_of(row: RunCosts | MeasuredShare, measure: str) -> Estimate | None:
    """What the run forgot, more being worse; None where it was not measured, or is not a number."""
    return cost_by(figures_of(row).get(measure), measure)


def cost_by(figure: Estimate | None, measure: str) -> Estimate | None:
    """The figure of a measure as a cost, more being worse; None where it was not measured, or is not a
    number."""
    scale = measure_of(measure).scale
    if not figure or not isinstance(figure["value"], int | float):
        return None
    low, high = (None if end is None else scale * end for end in (figure["low"], figure["high"]))
    if scale < 0:
        low, high = high, low
    return {"value": scale * figure["value"], "low": low, "high": high, "n": figure["n"]}


def reason(row: RunCosts, measure: str) -> str:
    """Why a run is not on the plot, as the end of "3 runs …"; empty where it is."""
    if row["task"] == "classification":
        return "with a classification head (a gain in nats a row; nothing to ask it)"
    if row["task"] == "dpo":
        return "of preference tuning (a gain in nats a pair)"
    if row["init_from"]:
        return "continuing an earlier run, which it is judged against"
    if not row["gain"] or not isinstance(row["gain"]["value"], int | float):
        return "whose loss is not a number"
    if row["gain"]["unit"] != UNIT:
        return "with a gain in another unit"
    if cost_of(row, measure) is None:
        name = MEASURES[measure].title
        return f"without a figure for “{name}” (from before there were probes, or with probes switched off)"
    return ""


def sort_out(rows: Sequence[RunCosts], measure: str) -> tuple[list[RunCosts], Counter[str]]:
    """The runs that can be drawn, and how many can't for which reason."""
    reasons = [reason(row, measure) for row in rows]
    drawable = [row for row, why in zip(rows, reasons, strict=True) if not why]
    return drawable, Counter(why for why in reasons if why)


def left_out(drawn: int, total: int, reasons: Counter[str]) -> str:
    """What is drawn of how many, and why not the rest."""
    sentence = f"{drawn:,} of {plural(total, 'finished run')}."
    if not reasons:
        return sentence
    parts = [f"{plural(count, 'run')} {why}" for why, count in reasons.most_common()]
    return f"{sentence} Left out: {'; '.join(parts)}."


def pareto_run(row: RunCosts, measure: str, group: str = "") -> pareto.RunPoint:
    """The run as `pareto` takes it."""
    cost = cost_of(row, measure)
    return {
        "run": row["run_id"],
        "group": group,
        "setting": row["learning_rate"] or 0.0,
        "gain": _bounds(row["gain"]) if row["gain"] else {},
        "forgetting": _bounds(cost) if cost else {},
    }


def _bounds(figure: Estimate | Gain) -> pareto.PointFigure:
    return {"value": figure["value"], "low": figure["low"], "high": figure["high"]}


def points(
    rows: Sequence[RunCosts], measure: str, pair: pareto.PairedDifference = pareto.unpaired
) -> list[Point]:
    """The runs that were measured with their place against the front of their data set, in the order given;
    `pair`: differences of two runs where they were measured on the same items."""
    labels = {row["run_id"]: label(row) for row in rows}
    placed: list[Point] = []
    places: dict[str, pareto.FrontPlace] = {}
    for dataset_id in dict.fromkeys(row["dataset_id"] for row in rows):
        mine = [pareto_run(row, measure) for row in rows if row["dataset_id"] == dataset_id]
        places |= {place["run"]: place for place in pareto.front(mine, pair)}
    for row in rows:
        gain, cost = row["gain"], cost_of(row, measure)
        if gain and cost:
            place = places[row["run_id"]]
            behind = tuple(labels[run_id] for run_id in place["dominated_by"])
            placed.append(Point(row, gain, cost, place["status"], behind, _state(cost, measure)))
    return placed


def _state(cost: Estimate, measure: str) -> str:
    kind = measure_of(measure).limits
    if not kind:
        return ""
    scale = abs(measure_of(measure).scale)
    low, high = (None if end is None else end / scale for end in (cost["low"], cost["high"]))
    return state_of(low, high, kind)


def cheapest(runs: Sequence[Point]) -> Point | None:
    """The run that gains most of those that surely gained and forgot nothing that matters."""
    free = [p for p in runs if p.state == "none" and p.gain["low"] is not None and p.gain["low"] > 0]
    return max(free, key=lambda p: (p.gain["value"], -p.cost["value"])) if free else None


def rate_text(row: RunCosts) -> str:
    """The learning rate, or a dash for a run that has none."""
    return setting(row["learning_rate"]) if row["learning_rate"] else "–"
