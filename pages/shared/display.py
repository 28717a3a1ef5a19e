"""Formatting of numbers and states: digits supported by the interval, units, sizes, times and shares.

Pure functions without Streamlit. Verdict sentences come from the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from store.core import formatting
from store.core.formatting import percent
from store.core.training_schemas import TimeEstimate


def format_parameters(count: float) -> str:
    """Format a number of parameters as "134.5 M", "1.2 B"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{_format_three_digits(count / size)} {unit}"
    return f"{count:.0f}"


def format_count(number: float) -> str:
    """A count in full below a million, "1.2 M" above."""
    return f"{number:,.0f}" if number < 1e6 else format_parameters(number)


def format_gib_range(low: float, high: float) -> str:
    """Format two sizes in GiB as one: "1.7 to 2.1 GiB", or a single size if both round to the same."""
    first, last = format_gib(low), format_gib(high)
    if first == last:
        return first
    number, unit = first.rsplit(" ", 1)
    return f"{number} to {last}" if last.endswith(unit) else f"{first} to {last}"


def format_gib(value: float) -> str:
    """Format GiB as "640 MiB" or "3.2 GiB"."""
    if value < 0.95:
        return f"{1024 * value:.0f} MiB"
    return f"{_format_three_digits(value)} GiB"


def format_size(count: float) -> str:
    """Format bytes as "12 KiB", "3.4 MiB"."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{_format_three_digits(count / unit)} {name}"
    return f"{count:.0f} bytes"


def format_duration(seconds: float | None) -> str:
    """Format a duration as "less than a second", "40 s", "4 min", "2 h 10 min", "3 days"."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"
    return f"{round(hours / 24)} days"


def format_duration_range(low: float, high: float) -> str:
    """Format two durations as one: "4 to 6 min", or "about 4 min" if both round to the same."""
    first, last = format_duration(low), format_duration(high)
    if first == last:
        return f"about {first}"
    if first.split(" ", 1)[1:] == last.split(" ", 1)[1:] and first.count(" ") == 1:
        return f"{first.split(' ')[0]} to {last}"
    return f"{first} to {last}"


def format_ago(moment: datetime | None, now: datetime | None = None) -> str:
    """Format the time since a time of the store (naive UTC) as "just now", "5 min ago", "12 Mar 2026"."""
    if moment is None:
        return ""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    seconds = (now - moment).total_seconds()
    if seconds < 45:
        return "just now"
    if seconds < 7 * 86_400:
        return f"{format_duration(seconds)} ago"
    return f"{moment.day} {moment:%b %Y}"


def format_share(part: float, whole: float) -> str:
    """Format a share in per cent with the digits it needs; "0%" of nothing."""
    return percent(part / whole) if whole else "0%"


def _format_three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def list_time_notes(time: TimeEstimate) -> list[str]:
    """The conditions under which an estimated time holds."""
    notes = []
    if time.busy:
        notes.append(f"while other processes use {time.others:.0%} of the processors")
    if time.alone_seconds:
        notes.append(f"alone about {format_duration(time.alone_seconds)}")
    if time.may_stop:
        notes.append("less if it stops early")
    return notes


Better = Literal["lower", "higher", ""]
Color = Literal["red", "orange", "blue", "green", "gray"]


@dataclass(frozen=True)
class Status:
    """Name, theme colour and Material symbol of a status."""

    title: str
    color: Color
    icon: str


STATUSES: dict[str, Status] = {
    "queued": Status("Queued", "gray", ":material/schedule:"),
    "preparing": Status("Preparing", "blue", ":material/hourglass_top:"),
    "training": Status("Training", "blue", ":material/model_training:"),
    "evaluating": Status("Evaluating", "blue", ":material/fact_check:"),
    "finished": Status("Finished", "green", ":material/check_circle:"),
    "failed": Status("Failed", "red", ":material/error:"),
    "cancelled": Status("Cancelled", "orange", ":material/cancel:"),
    "lost": Status("Lost", "orange", ":material/link_off:"),
}

VERDICTS: dict[str, Status] = {
    "learned": Status("Learned", "green", ":material/trending_up:"),
    "better": Status("Better", "orange", ":material/trending_up:"),
    "shape": Status("Shape only", "orange", ":material/shapes:"),
    "undecided": Status("Can't tell", "orange", ":material/help:"),
    "no_gain": Status("No gain", "gray", ":material/trending_flat:"),
    "worse": Status("Worse", "red", ":material/trending_down:"),
}


FORGETTING: dict[str, Status] = {
    "none": Status("Forgot nothing that matters", "green", ":material/verified:"),
    "some": Status("Forgot some", "orange", ":material/warning:"),
    "much": Status("Forgot much", "red", ":material/error:"),
    "unclear": Status("Forgetting unclear", "gray", ":material/help:"),
}


STAGES: dict[str, Status] = {
    "learning": Status("Still learning", "blue", ":material/trending_down:"),
    "converged": Status("Converged", "green", ":material/check_circle:"),
    "overfitting": Status("Overfitting", "red", ":material/u_turn_right:"),
    "memorising": Status("Memorizing", "red", ":material/psychology:"),
    "diverged": Status("Diverged", "red", ":material/trending_up:"),
    "unclear": Status("Can't tell", "gray", ":material/help:"),
}


@dataclass(frozen=True)
class Quantity:
    """The quantity that a metric measures: chart title, and axis title with unit."""

    title: str
    axis: str


QUANTITIES: dict[str, Quantity] = {
    "train/loss": Quantity("Training loss", "Loss (nats a token)"),
    "train/replay_loss": Quantity("Loss of replayed rows", "Loss (nats a token)"),
    "train/replay_kl": Quantity("Distance to the base on replayed rows", "KL (nats a token)"),
    "eval/loss": Quantity("Validation loss", "Loss (nats a token)"),
    "eval/perplexity": Quantity("Validation perplexity", "Perplexity"),
    "eval/token_accuracy": Quantity("Validation token accuracy", "Tokens right (share)"),
    "eval/label_accuracy": Quantity("Label accuracy, validation", "Rows right (share)"),
    "eval/token_f1": Quantity("Token F1 of answers, validation", "Token F1"),
    "eval/exact_match": Quantity("Exact match of answers, validation", "Rows right (share)"),
    "eval/reward_accuracy": Quantity("Chosen answer preferred, validation", "Share of pairs"),
    "eval/reward_margin": Quantity("Reward margin, validation", "Margin (nats × beta)"),
    "eval/chosen_logp": Quantity("Log-probability of chosen answers", "Nats an answer"),
    "eval/rejected_logp": Quantity("Log-probability of rejected answers", "Nats an answer"),
    "train/reward_accuracy": Quantity("Chosen answer preferred, training", "Share of pairs"),
    "train/reward_margin": Quantity("Reward margin, training", "Margin (nats × beta)"),
    "eval/accuracy": Quantity("Validation accuracy", "Rows right (share)"),
    "eval/f1_macro": Quantity("Validation macro F1", "Mean F1 of the classes"),
    "train/learning_rate": Quantity("Learning rate", "Learning rate"),
    "train/grad_norm": Quantity("Gradient norm, before clipping", "L2 norm"),
    "train/tokens_per_second": Quantity("Throughput", "Tokens per second"),
    "train/tokens_seen": Quantity("Tokens seen", "Tokens"),
    "train/epoch": Quantity("Epoch", "Passes over the training rows"),
    "probe/train_rows/loss": Quantity("Loss on rows it trains on, without dropout", "Loss (nats a token)"),
    "probe/prose/loss": Quantity("Loss on plain prose", "Loss (nats a token)"),
    "probe/choices/loss": Quantity("Loss on general questions", "Loss (nats a question)"),
    "probe/choices/accuracy": Quantity("General questions right", "Questions right (share)"),
    "system/memory_gib": Quantity("Peak memory so far", "Memory (GiB)"),
}


def find_quantity(name: str) -> Quantity:
    """The quantity of a metric; an unknown metric is titled by its name."""
    if name.startswith("probe/data/"):
        dataset, _, what = name.removeprefix("probe/data/").rpartition("/")
        title = f"Loss on {dataset}" if what == "loss" else f"Rows of {dataset} right"
        return Quantity(title, title)
    return QUANTITIES.get(name) or Quantity(name, name)


def format_number(value: float | None, places: int = 3) -> str:
    """Format a figure, or a dash if there is none."""
    return "–" if value is None else formatting.format_number(value, places)


def format_compact(value: float | None) -> str:
    """Format a figure of unknown magnitude with four significant digits: "0.0002", "1,536", "2.1e-07"."""
    if value is None or not math.isfinite(value):
        return format_number(value)
    if 0 < abs(value) < 1e15 and value == int(value):
        return formatting.format_number(value, 0)
    return f"{value:.4g}".replace("-", formatting.MINUS, 1) if value < 0 else f"{value:.4g}"


def format_detectable(value: float | None, scale: float = 1) -> str:
    """Format the smallest detectable difference, with two digits because it is based on an estimate of the
    noise.
    """
    return "–" if value is None else format_compact(float(f"{scale * value:.2g}"))


class Interval(Protocol):
    """A value with its interval, or the reason why it has none: an estimate, a figure or a difference."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def why(self) -> str | None: ...


def describe_missing_intervals(figures: Iterable[tuple[str, Interval]]) -> str:
    """Explain why figures have no interval, below a table whose cells have no room for it."""
    return " ".join(f"{name} has no interval: {figure.why}." for name, figure in figures if figure.why)


def format_estimate(
    interval: Interval | None, *, scale: float = 1, sign: bool = True, reason: bool = True
) -> str:
    """Format as "+0.83 (0.78 to 0.88)", multiplied by `scale` (100 for per cent). reason: append why there is
    no interval.
    """
    if interval is None or interval.value is None:
        return "–"
    low, high, write = interval.low, interval.high, format_signed if sign else format_number
    if low is None or high is None:
        why = f": {interval.why}" if reason and interval.why else ""
        return f"{write(scale * interval.value, 2)} (no interval{why})"
    places = formatting.compute_decimals(scale * low, scale * high)
    ends = formatting.format_interval(scale * low, scale * high, places)
    return f"{write(scale * interval.value, places)} ({ends})"


def scale_bounds(interval: Interval, scale: float = 1) -> tuple[float | None, float | None]:
    """Both ends of an interval multiplied by `scale`; (None, None) if one is missing."""
    low, high = interval.low, interval.high
    return (None, None) if low is None or high is None else (scale * low, scale * high)


def format_p_value(p: float) -> str:
    """Format a p-value as "p = 0.034", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def format_signed(value: float, places: int) -> str:
    """Format a change with its sign, also if positive."""
    text = formatting.format_number(value, places)
    return text if value <= 0 or not text.strip("0.,") else f"+{text}"


def get_loss_axis(config: Mapping[str, Any]) -> str:
    """Title and unit of the axis of a run's losses."""
    axes = {"classification": "Cross-entropy (nats a row)", "dpo": "Preference loss (a pair)"}
    return axes.get(str(config.get("task")), QUANTITIES["eval/loss"].axis)


def get_reference_name(config: Mapping[str, Any]) -> str:
    """The name of the baseline that a run is compared with."""
    return "the most frequent class" if config.get("task") == "classification" else "the base model"


def get_arrow(better: Better) -> str:
    """The better direction: "↓", "↑" or ""."""
    return {"lower": "↓", "higher": "↑", "": ""}[better]


def format_transition(before: float | None, after: float | None, places: int = 3) -> str:
    """Format as "1.85 → 1.02" or "13.10 → 12.48"; fewer digits from 10 on, to fit a card."""
    if max(abs(value) for value in (before, after, 0.0) if value is not None and math.isfinite(value)) >= 10:
        places = min(places, 2)
    return f"{format_number(before, places)} → {format_number(after, places)}"


def format_elapsed(started: datetime | None, ended: datetime | None) -> str:
    """Duration of the attempt, or a dash."""
    if not started or not ended:
        return "–"
    return format_duration((ended - started).total_seconds())
