"""Forgetting in plain words, and advice against it.

Every number has its interval and n; if nothing was found, the sentence says what could not have been
detected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from engine.evaluation.statistics.intervals import get_limits
from engine.evaluation.training_curve.advice import advise_lower_rate
from engine.evaluation.training_curve.run_curve import VerdictConfig
from engine.evaluation.verdicts.paired_measurements import TASK, format_probe_title, is_users_probe
from engine.evaluation.verdicts.paired_measurements import format_item_name as unit_of
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.core.model_schemas import STOPPED_EARLY
from store.evaluation.forgetting_schemas import (
    AdviceItem,
    ChoiceForgetting,
    Divergence,
    ForgettingParts,
    ForgettingState,
    SettingValue,
    TextForgetting,
)
from store.evaluation.verdict_schemas import TrainingStop

LEADS: dict[ForgettingState, str] = {
    "much": "It forgot much",
    "some": "It forgot some",
    "none": "It forgot nothing that matters",
    "unclear": "Whether it forgot is unclear",
}
NEGLIGIBLE = 1e-5  # nats per token; smaller values are not displayed
MAX_TIMES = 1_000  # largest factor of a perplexity stated
REPLAY_SHARE, MAX_REPLAY = 0.05, 0.25
KL_BETA, MAX_KL = 1.0, 10.0


def describe_forgetting(state: ForgettingState, parts: ForgettingParts) -> list[str]:
    """Return a headline and its basis: one sentence for each probe, the most important first."""
    if not parts.texts and not parts.choices:
        return ["Whether it forgot is unclear: no probe was measured on both models."]
    phrases = [(part.state, _describe_text(part)) for part in parts.texts]
    phrases += [(part.state, _describe_choices(part)) for part in parts.choices]
    order = ("much", "some", "unclear", "none")
    phrases.sort(key=lambda pair: (pair[0] != state, order.index(pair[0])))
    lines = [f"{LEADS[state]}: {phrases[0][1]}."]
    lines += [f"{line[:1].upper()}{line[1:]}." for _, line in phrases[1:]]
    for part in parts.choices:
        lines += _describe_categories(part)
        lines += _describe_chance(part)
    return lines + [_describe_divergence(part, part.kl) for part in parts.divergence if part.kl]


def describe_skipped_tasks(reasons: Mapping[str, str], of: int) -> list[str]:
    """Describe how many tasks were skipped, and why."""
    if not reasons:
        return []
    count = len(reasons)
    lead = f"Of {formatting.plural(of, 'task')} {count:,} {'was' if count == 1 else 'were'} not asked."
    return [" ".join([lead, *reasons.values()])]


def _describe_text(part: TextForgetting) -> str:
    name, broken, unit = format_probe_title(part.probe), part.broken, unit_of(part.probe)
    change, passages = part.change, formatting.plural(part.n, unit)
    if change is None:
        return f"on {name} the loss is no longer a number, on {formatting.plural(broken, unit)}"
    worse = f", and on {broken:,} more the loss is not a number" if broken else ""
    ends = get_limits(change)
    if ends is None:
        return (
            f"the change of the loss on {name} has no interval:"
            f" {_explain_missing_interval(change, unit)}{worse}"
        )
    low, high = ends
    if low == high == 0:
        return f"{name} is predicted exactly as before ({passages}){worse}"
    if max(abs(low), abs(high)) < NEGLIGIBLE:
        return f"{name} is predicted as before, to {NEGLIGIBLE:.5f} nats a token ({passages}){worse}"
    amount = f"{_format_value(change)} nats a token (95% interval {_format_bounds(low, high)}, {passages})"
    if low > 0:
        return (
            f"the loss on {name} rose by {amount},"
            f" {_format_perplexity_factor(change.value)}{_describe_uncertainty(part)}{worse}"
        )
    if high < 0:
        return f"the loss on {name} changed by {amount}: it fell{worse}"
    return (
        f"the loss on {name} changed by {amount};"
        f" {_describe_detectable(part, 'nats a token', passages)}{worse}"
    )


def _explain_missing_interval(interval: Estimate, unit: str) -> str:
    """Explain why there is no interval, in terms of the measured items: rows are passages here, or
    samples.
    """
    why = interval.why or "the rows are too few, or too unequal in length"
    return re.sub(r"\brow\b|\brows\b", lambda row: unit + row[0][3:], why)


def _format_perplexity_factor(rise: float) -> str:
    """Format the factor of the perplexity for a rise in nats."""
    if rise > math.log(MAX_TIMES):
        return f"perplexity more than {MAX_TIMES:,} times as high"
    return f"perplexity times {formatting.format_number(math.exp(rise), 2)}"


def _describe_uncertainty(part: TextForgetting | ChoiceForgetting) -> str:
    """Note that the interval excludes 0, but not significantly given all probes that the user named."""
    return ", which may be chance given the number of tests" if part.state == "unclear" else ""


def _describe_choices(part: ChoiceForgetting) -> str:
    broken, unit, change = part.broken, unit_of(part.probe), part.change
    of = f" of {format_probe_title(part.probe)}" if is_users_probe(part.probe) else ""
    questions = f"{formatting.plural(part.n, unit)}{of}"
    if change is None:
        return f"not one of {formatting.plural(broken, unit)}{of} can be scored any more"
    if part.before is None or not part.before.value:
        none = f"of {questions} the base model answered none correctly, so nothing can be lost"
        return f"{none}; the tuned model answers {part.won:,} correctly"
    low, high = 100 * (change.low or 0), 100 * (change.high or 0)
    places = formatting.compute_decimals(low, high, default=1)
    lost = f"of {questions} {part.lost:,} went from right to wrong and {part.won:,} from wrong to right"
    points = f"{formatting.format_number(100 * change.value, places)} points"
    amount = f"accuracy changed by {points} (95% interval {formatting.format_interval(low, high, places)})"
    worse = f", and {broken:,} could not be scored" if broken else ""
    if low <= 0 <= high:
        return f"{lost}: {amount}; {_describe_detectable(part, 'points', questions, 100)}{worse}"
    return f"{lost}: {amount}{_describe_uncertainty(part) if high < 0 else ''}{worse}"


def _describe_detectable(
    part: TextForgetting | ChoiceForgetting, unit: str, items: str, scale: float = 1
) -> str:
    least = scale * (part.detectable or 0.0)
    if unit == "points" and least >= 100:
        return f"no change can be seen with {items}"
    smallest = formatting.format_setting(formatting.round_significant(least))
    return f"a change under {smallest} {unit} can't be seen with {items}"


def _describe_categories(part: ChoiceForgetting) -> list[str]:
    """Describe the categories that changed significantly, after Holm over all of them."""
    several = len(part.categories) > 1  # otherwise it is the same as the whole
    sure = [c for c in part.categories if several and c.p_holm < 0.05 and c.category]
    kinds, words = "categories", []
    if is_users_probe(part.probe):
        kinds = f"{'tasks' if part.probe.startswith(TASK) else 'labels'} of {format_probe_title(part.probe)}"
    for way, chosen in (
        ("lost in", [c for c in sure if c.lost > c.won]),
        ("gained in", [c for c in sure if c.won > c.lost]),
    ):
        listed = [f"{c.category} ({c.lost:,} lost, {c.won:,} won of {c.n:,})" for c in chosen]
        if listed:
            words.append(f"Of {len(part.categories)} {kinds} it significantly {way} {', '.join(listed)}.")
    return words


def _describe_chance(part: ChoiceForgetting) -> list[str]:
    change = part.change
    if change is None or part.adjusted is None or not part.lost or part.open:
        return []
    least = part.adjusted.lost
    low, high = 100 * (least.low or 0), 100 * (least.high or 0)
    places = formatting.compute_decimals(low, high, default=1)
    if low == high:  # all the same: too few to assess luck
        return []
    if low > 0:
        share = formatting.format_number(100 * least.value, places)
        bounds = formatting.format_interval(low, high, places)
        asked = f"the {unit_of(part.probe)}s"
        asked += f" of {format_probe_title(part.probe)}" if is_users_probe(part.probe) else ""
        return [f"Guessing explains some of the lost answers, but not {share}% of {asked} ({bounds}%)."]
    if change.high is not None and change.high < 0:  # luck goes both ways; a drop in accuracy exceeds it
        return []
    of = f" of {format_probe_title(part.probe)}" if is_users_probe(part.probe) else ""
    return [f"This many lost answers{of} can be explained by guesses with another outcome."]


def _describe_divergence(part: Divergence, kl: Estimate) -> str:
    where = "answers to the task's prompts" if part.prompts == "task" else "texts of general kinds"
    lead = f"On the base model's own {where} the tuned model is"
    ends = get_limits(kl)
    if ends is None:
        value = formatting.format_number(kl.value, 2)
        return (
            f"{lead} {value} nats a token away, without an interval:"
            f" {_explain_missing_interval(kl, 'sample')}."
        )
    if max(map(abs, ends)) < NEGLIGIBLE:
        return f"{lead} the same as the base model ({formatting.plural(kl.n, 'sample')})."
    samples = formatting.plural(kl.n, "sample")
    return (
        f"{lead} {_format_value(kl)} nats a token away (KL, 95% interval {_format_bounds(*ends)}, {samples})."
    )


def _format_value(interval: Estimate) -> str:
    return formatting.format_number(interval.value, formatting.compute_decimals(interval.low, interval.high))


def _format_bounds(low: float, high: float) -> str:
    return formatting.format_interval(low, high)


def advise_against_forgetting(state: ForgettingState, config: VerdictConfig) -> list[AdviceItem]:
    """Return advice against forgetting, if there is any forgetting.

    A change has only fields that the config has; interpolation needs no training, so its change is empty.
    """
    if state not in ("some", "much"):
        return []
    pieces: list[AdviceItem] = []
    slower = advise_lower_rate(config, "Smaller steps forget less.")
    if slower:
        pieces.append(replace(slower, kind="learning_rate"))
    pieces += _advise_replay(config)
    epochs = float(config.get("num_train_epochs") or 0)
    if epochs > 1:
        fewer = max(1.0, math.ceil(epochs) / 2)
        shorter: dict[str, SettingValue] = {"num_train_epochs": fewer}
        text = f"Fewer epochs: {formatting.format_epochs(fewer)} instead of {epochs:g}"
        if limit := int(config.get("max_steps") or 0):  # either of the two may end the run
            steps = max(1, math.ceil(limit * fewer / epochs))
            text, shorter = (
                f"{text}, and {steps:,} steps at most instead of {limit:,}",
                shorter | {"max_steps": steps},
            )
        pieces.append(AdviceItem(text=f"{text}.", change=shorter, kind="epochs"))
    text = "Keep only part of the change: interpolate between base and tuned weights. No training needed."
    return [*pieces, AdviceItem(text=text, change={}, kind="interpolation")]


def drop_incompatible_advice(advice: list[AdviceItem], stopped: TrainingStop) -> list[AdviceItem]:
    """Drop the advice to halve the epochs if a run may have ended before half of them: it would be as long
    again.
    """
    if stopped.reason not in STOPPED_EARLY:
        return advice
    return [piece for piece in advice if piece.kind != "epochs"]


def _advise_replay(config: VerdictConfig) -> list[AdviceItem]:
    """Advise to replay general rows, and to add a KL penalty towards the base model on them."""
    pieces: list[AdviceItem] = []
    can_replay = "replay_share" in config and config.get("task", "sft") == "sft"  # rejected for other tasks
    before = float(config.get("replay_share") or 0)
    if not before:
        share = f"{100 * REPLAY_SHARE:g}%"
        change: dict[str, SettingValue] = {"replay_share": REPLAY_SHARE} if can_replay else {}
        text = f"Mix {share} of general rows, or of the base model's own texts, into training (replay)."
        pieces.append(AdviceItem(text=text, change=change, kind="replay"))
    elif can_replay and before < MAX_REPLAY:
        more = min(MAX_REPLAY, 5 * before)
        text = f"Replay more general rows: {100 * more:g}% instead of {100 * before:g}%."
        pieces.append(AdviceItem(text=text, change={"replay_share": more}, kind="replay"))
    beta = float(config.get("kl_beta") or 0)
    if can_replay and "kl_beta" in config and beta < MAX_KL:
        stronger = min(MAX_KL, 10 * beta) if beta else KL_BETA
        change = {"replay_share": before or REPLAY_SHARE, "kl_beta": stronger}
        text = f"Add a KL penalty towards the base model on replayed rows (weight {stronger:g})."
        pieces.append(AdviceItem(text=text, change=change, kind="kl"))
    return pieces
