"""Launch advice: which method to use, and the nearest settings that fit into memory.

Evidence from runs on the same model and rows overrides rules of thumb, and what does not fit is never
recommended. Changes that affect learning the least come first. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from store.core.figure_schemas import UnitEstimate
from store.core.formatting import format_interval, format_number, plural
from store.core.training_schemas import (
    AdviceOption,
    MeasuredRun,
    MemoryFix,
    MethodHistory,
    Recommendation,
)
from store.evaluation.forgetting_schemas import SettingValue

# LoRA is within the noise of full fine-tuning up to instruction sets of this size, and forgets less (Biderman
# et al. 2024); from there on full fine-tuning learns more, if it fits.
MANY_TOKENS = 20_000_000  # trained tokens over the run
SMALL_ROWS = 2_000
FIRST_METHOD, LIGHT_METHOD, WHOLE_METHOD = "lora", "qlora", "full"  # methods named by the rules


@dataclass(frozen=True)
class TriedMethod:
    """Option with a measured gain and its interval from past runs."""

    option: AdviceOption
    gain: float
    low: float
    high: float
    unit: str
    runs: int


def recommend_method(
    options: Sequence[AdviceOption], *, train_rows: int, trained_tokens: float
) -> Recommendation:
    """Recommend one of the options, or none. train_rows: of the data; trained_tokens: over the whole run."""
    usable = {o["method"]: o for o in options if not o["problem"]}
    fitting = {name: o for name, o in usable.items() if o["fits"]}
    if not fitting:
        return _recommend_nothing(list(usable.values()))
    measured = _find_measured_best(list(fitting.values()))
    if measured:
        return measured
    if WHOLE_METHOD in fitting and trained_tokens >= MANY_TOKENS:
        return _recommend_option(
            fitting[WHOLE_METHOD],
            f"The run trains on {trained_tokens / 1000000.0:,.0f} million tokens: from about"
            f" {MANY_TOKENS / 1000000.0:,.0f} million tokens, full fine-tuning learns more than an adapter.",
            _describe_fit(fitting[WHOLE_METHOD]),
            "It forgets more: check forgetting after the run.",
        )
    if FIRST_METHOD in fitting:
        return _recommend_option(
            fitting[FIRST_METHOD],
            _describe_size(train_rows, trained_tokens),
            _describe_fit(fitting[FIRST_METHOD]),
            *_explain_alternatives(usable),
        )
    if LIGHT_METHOD in fitting:
        reasons = [_describe_fit(fitting[LIGHT_METHOD])]
        if FIRST_METHOD in usable:
            reasons.insert(0, f"LoRA does not fit in memory: {_describe_memory_need(usable[FIRST_METHOD])}.")
        return _recommend_option(fitting[LIGHT_METHOD], *reasons)
    least = min(fitting.values(), key=lambda o: o["peak_gib"])
    return _recommend_option(
        least,
        "LoRA and QLoRA do not fit in memory; of the methods that fit, this needs the least.",
        _describe_fit(least),
    )


def _recommend_option(option: AdviceOption, *reasons: str) -> Recommendation:
    return {
        "method": option["method"],
        "sentence": f"Take {option['title']}.",
        "reasons": [reason for reason in reasons if reason],
    }


def _find_measured_best(options: Sequence[AdviceOption]) -> Recommendation | None:
    """Return the method whose measured gain is above every other's interval; at least two must have been
    tried.
    """
    tried = _list_tried_methods(options)
    if len(tried) < 2:
        return None
    best, *others = tried
    if any(best.low <= other.high for other in others):
        return None
    second = others[0]
    return _recommend_option(
        best.option,
        f"On this model and these rows it {'gained most' if best.gain >= 0 else 'lost least'}:"
        f" {_format_gain(best)}, against {_format_gain(second)} with"
        f" {second.option['title']}.",
        _describe_fit(best.option),
    )


def _list_tried_methods(options: Sequence[AdviceOption]) -> list[TriedMethod]:
    """List the methods that past runs measured with an interval, by descending gain."""
    tried = []
    for option in options:
        past = option["past"]
        if past is None or past.gain is None or past.low is None or past.high is None:
            continue
        tried.append(TriedMethod(option, past.gain, past.low, past.high, past.unit or "", past.runs))
    return sorted(tried, key=lambda method: -method.gain)


def _format_gain(tried: TriedMethod) -> str:
    bounds = format_interval(tried.low, tried.high, 2)
    return f"{format_number(tried.gain, 2)} {tried.unit} ({bounds}, {plural(tried.runs, 'run')})"


def _describe_size(rows: int, tokens: float) -> str:
    if rows < SMALL_ROWS:
        return (
            f"{plural(rows, 'row')} {'is' if rows == 1 else 'are'} few: with so few, an adapter learns as"
            " much as full fine-tuning and forgets less."
        )
    if not tokens:
        return f"{plural(rows, 'labelled row')}: LoRA with a classification head is the usual first choice."
    trained = f"{tokens / 1e6:,.1f} million" if tokens >= 1e5 else f"{tokens:,.0f}"
    return (
        f"{plural(rows, 'row')} with {trained} trained tokens over the run are below the"
        f" {MANY_TOKENS / 1000000.0:,.0f} million from which full fine-tuning pays off."
    )


def _explain_alternatives(usable: Mapping[str, AdviceOption]) -> list[str]:
    """Explain why the alternatives are not recommended."""
    sentences = []
    if WHOLE_METHOD in usable and not usable[WHOLE_METHOD]["fits"]:
        sentences.append(
            f"{usable[WHOLE_METHOD]['title']} does not fit in memory:"
            f" {_describe_memory_need(usable[WHOLE_METHOD])}."
        )
    tried = _list_tried_methods(list(usable.values()))
    if any(tried[0].low <= other.high for other in tried[1:]):
        sentences.append(
            "Runs with other methods on these rows can't be distinguished yet: their intervals overlap."
        )
    return sentences


def _describe_memory_need(option: AdviceOption) -> str:
    return f"it needs up to {option['high_gib']:.1f} GiB of {option['available_gib']:.1f} that are free"


def _describe_fit(option: AdviceOption) -> str:
    return f"It fits in memory: {_describe_memory_need(option)}."


def _recommend_nothing(options: Sequence[AdviceOption]) -> Recommendation:
    if not options:
        return {"method": None, "sentence": "No method can be used here.", "reasons": []}
    least = min(options, key=lambda o: o["high_gib"])
    return {
        "method": None,
        "sentence": "No method fits in memory with these settings.",
        "reasons": [
            f"{least['title']} needs the least: up to {least['high_gib']:.1f} GiB of"
            f" {least['available_gib']:.1f} that are free.",
            "Use smaller batches, shorter rows, gradient checkpointing or a smaller model.",
        ],
    }


def summarise_past_runs(runs: Sequence[MeasuredRun], method: str) -> MethodHistory | None:
    """Summarize past runs with one method on one model and data set: mean gain with interval, medians of
    memory (GiB) and time (s); None without such a run.
    """
    mine = [run for run in runs if run.method == method]
    if not mine:
        return None
    gains = [run.gain for run in mine if run.gain and run.gain.low is not None]
    gains = [gain for gain in gains if gain.unit == gains[0].unit]
    value, low, high = _estimate_mean_gain(gains) if gains else (None, None, None)
    return MethodHistory(
        runs=len(mine),
        gain=value,
        low=low,
        high=high,
        n=gains[0].n if gains else None,
        unit=gains[0].unit if gains else None,
        memory_gib=_median([run.peak_memory_gib for run in mine]),
        seconds=_median([run.run_seconds for run in mine]),
        best_run=max(mine, key=lambda r: r.gain.value if r.gain else float("-inf")).run_id,
    )


def _estimate_mean_gain(gains: Sequence[UnitEstimate]) -> tuple[float, float, float]:
    """Estimate the mean gain with an interval. The runs held out the same rows, so the rows' part of it does
    not shrink with more runs; the variation between runs is added to it.
    """
    values = [g.value for g in gains]
    mean, k = float(np.mean(values)), len(values)
    # gains without limits were left out before
    below = float(np.mean([g.value - g.low for g in gains if g.low is not None]))
    above = float(np.mean([g.high - g.value for g in gains if g.high is not None]))
    seeds = float(special.stdtrit(k - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(k)) if k > 1 else 0.0
    return mean, mean - math.hypot(below, seeds), mean + math.hypot(above, seeds)


def compute_mean_watts(runs: Sequence[MeasuredRun]) -> float | None:
    """Return the mean power over the runs with measured energy; None if there are none."""
    counted = [(run.energy_wh or 0.0, run.run_seconds or 0.0) for run in runs]
    counted = [(energy, seconds) for energy, seconds in counted if energy and seconds]
    if not counted:
        return None
    return 3600 * sum(energy for energy, _ in counted) / sum(seconds for _, seconds in counted)


def estimate_run_cost(option: AdviceOption, per_hour: float | None) -> tuple[float, float, float] | None:
    """Return what a run would cost at this price: low, expected, high; None if price or time is unknown."""
    if per_hour is None or option["problem"]:
        return None
    seconds = option["low_seconds"], option["seconds"], option["high_seconds"]
    low, expected, high = (each / 3600 * per_hour for each in seconds)
    return low, expected, high


def _median(values: Sequence[float | None]) -> float | None:
    ranked = sorted(v for v in values if v is not None)
    middle = len(ranked) // 2
    if not ranked:
        return None
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


# Halving a batch while doubling its accumulation changes nothing but time, and so does gradient
# checkpointing. Shorter rows lose tokens, and another method is another experiment. Each kind of change is
# tried alone and, if none is enough, together with the ones before it.

Change = dict[str, SettingValue]
Need = tuple[float, float]  # GiB: expected, and the upper end of its interval
EstimateNeed = Callable[[Change], Need | None]  # None if the settings are incompatible

MIN_LENGTH = 64  # tokens; shorter rows are another data set
MAX_OFFERS = 4


@dataclass(frozen=True)
class MemorySettings:
    """Settings that determine a run's memory besides its method; max_length in tokens, 0 for none."""

    batch_size: int
    accumulation: int
    checkpointing: bool
    max_length: int


def find_fitting_changes(
    settings: MemorySettings, estimate: EstimateNeed, room_gib: float, methods: Sequence[Change] = ()
) -> list[MemoryFix]:
    """Return changes of the settings with which a run fits, nearest first.

    `estimate` returns the memory required with a change; `methods` are changes to lighter methods, in the
    order to try.
    """
    offers: list[MemoryFix] = []

    def offer(change: Change | None) -> bool:
        need = estimate(change) if change else None
        if not change or need is None or need[1] > room_gib:
            return False
        if all(change != other.change for other in offers):
            offers.append(
                MemoryFix(change=change, peak_gib=need[0], high_gib=need[1], text=format_change(change))
            )
        return True

    smaller = list(_list_batch_changes(settings))
    lighter: Change = {} if settings.checkpointing else {"gradient_checkpointing": True}
    alone = _try_changes(smaller, offer)
    alone = offer(lighter) or alone
    if not alone and lighter:
        _try_changes([{**lighter, **change} for change in smaller], offer)
    least = {**lighter, **(smaller[-1] if smaller else {})}
    if not offers:
        _try_changes([{**least, **change} for change in _list_length_changes(settings)], offer)
    for change in methods:
        if offer(change):
            break
        if not offers and (
            offer({**change, **least})
            or _try_changes(
                [{**change, **least, **shorter} for shorter in _list_length_changes(settings)], offer
            )
        ):
            break
    return offers[:MAX_OFFERS]


def _try_changes(changes: Sequence[Change], offer: Callable[[Change], bool]) -> bool:
    return any(offer(change) for change in changes)


def _list_batch_changes(settings: MemorySettings) -> Sequence[Change]:
    """List halved batch sizes with doubled accumulation, so that a step has as many rows as before."""
    size, times = settings.batch_size, settings.accumulation
    changes: list[Change] = []
    while size > 1:
        rows = size * times
        size //= 2
        times = max(1, round(rows / size))
        changes.append({"per_device_train_batch_size": size, "gradient_accumulation_steps": times})
    return changes


def _list_length_changes(settings: MemorySettings) -> Sequence[Change]:
    """List repeatedly halved values of `max_length`."""
    length = settings.max_length // 2
    changes: list[Change] = []
    while length >= MIN_LENGTH:
        changes.append({"max_length": length})
        length //= 2
    return changes


def format_change(change: Change) -> str:
    """Describe a change in words: "batches of 2 rows, 8 of them a step; gradient checkpointing"."""
    words = []
    if "method" in change:
        words.append(f"method {change['method']}")
    if change.get("load_in_4bit"):
        words.append("base model in 4 bits")
    if "per_device_train_batch_size" in change:
        size, times = change["per_device_train_batch_size"], change["gradient_accumulation_steps"]
        words.append(f"batches of {size} row{'s' * (size != 1)}, {times} of them a step")
    if change.get("gradient_checkpointing"):
        words.append("gradient checkpointing")
    if "max_length" in change:
        words.append(f"rows truncated to {change['max_length']:,} tokens")
    text = "; ".join(words)
    return text[:1].upper() + text[1:]
