"""Verdict on preference tuning: whether the chosen answer is preferred more than by the base model, and the
cost.

For each held-out pair the margin says by how much the chosen answer gained on the rejected one; an
untrained model has margins of 0 and the loss of margin 0, whatever the pairs. The gain is that loss minus
the tuned one, paired over pairs, and its sign relative to its interval decides the state. A lower loss
does not mean that the chosen answers became more likely: both may have become less likely, the rejected
ones more so (likelihood displacement, Razin et al. 2024), so this is measured and reported. Pure
functions, as in `verdict.py`.
"""

from __future__ import annotations

import math

import numpy as np

from engine.evaluation.statistics.intervals import Interval, allow_for_unseen, ratio_interval, wilson_interval
from engine.evaluation.training_curve import overfitting
from engine.evaluation.training_curve.advice import (
    CheckpointChoice,
    VerdictOutcome,
    advise,
    find_checkpoint_choice,
)
from engine.evaluation.training_curve.run_curve import NO_MEMORY, RowMemorisation, RunCurves, VerdictConfig
from engine.evaluation.verdicts.paired_measurements import Floats, HeldOutPairs, ModelPairs
from engine.evaluation.verdicts.question_part import PAIR_WORDS, PromptPartVerdict, measure_parts
from engine.evaluation.verdicts.verdict import (
    SETTING,
    SURE_GAINS,
    build_gain,
    describe_ending,
    describe_overfitting,
    describe_unseen,
    determine_state,
    format_negligible,
    format_smallest_detectable,
    get_negligible_gain,
)
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import AdviceItem, SettingValue
from store.evaluation.verdict_schemas import LossFigures, PreferenceFigures, Verdict, VerdictState

BROKEN_PAIR = 1.0  # by which the loss of a pair of an unobserved kind may be higher
IN_NATS = ("sigmoid", "robust", "sigmoid_norm")  # the other losses are not log-likelihoods


def judge_preference(
    held_out: HeldOutPairs, course: RunCurves, config: VerdictConfig, memory: RowMemorisation = NO_MEMORY
) -> Verdict:
    """Judge a preference tuning run; the verdict also has `preference`."""
    base, tuned, split = held_out.base, held_out.tuned, held_out.split
    unit = "nats a pair" if config["loss_type"] in IN_NATS else "loss a pair"
    broken = int((~np.isfinite(tuned.losses)).sum())
    choice, negligible = find_checkpoint_choice(split, course, config), get_negligible_gain(config)
    gained = base.losses - tuned.losses
    seen = gain = None
    if not broken:
        seen = ratio_interval(gained, np.ones(len(gained)), confidence=choice.confidence)
        gain = allow_for_unseen(seen, BROKEN_PAIR)
    shape = overfitting.assess_overfitting(course, memory, unit=unit)
    before, after = _build_figures(base.losses), _build_figures(tuned.losses)
    question = _judge_prompt_part(held_out, choice)
    state = question.state(determine_state(gain, before.loss, negligible, seen=seen))
    preference = None if broken else _build_preference_figures(base, tuned)
    advice = advise(VerdictOutcome(state, gain, split, shape), course, config)
    headline, moved = "", list[str]()
    if gain and preference:
        headline = _format_headline(state, gain, preference, split, negligible, question)
        moved = [
            *question.sentences,
            _describe_loss(gain, before, after, unit, choice),
            _describe_answers(preference),
            *describe_unseen(gain, BROKEN_PAIR),
        ]
    ending = describe_ending(course.stopped, config)
    return Verdict(
        task="dpo",
        state=state,
        headline=headline or _describe_broken(broken, split),
        sentences=[
            *moved,
            *describe_overfitting(shape),
            *([ending] if ending else []),
            *choice.sentences,
        ],
        advice=[
            *question.advice(state, split, config),
            *advise_against_displacement(preference, config),
            *advice,
        ],
        gain=build_gain(gain, unit, split, choice, negligible) if gain else None,
        parts=question.document,
        accuracy_gain=None,
        preference=preference,
        base=before,
        tuned=after,
        overfitting=shape,
        membership=memory.membership,
        stopped=course.stopped,
    )


def _judge_prompt_part(held_out: HeldOutPairs, choice: CheckpointChoice) -> PromptPartVerdict:
    """Return how much of the margin remains without the prompt, and what the prompt adds, if measured."""
    others = held_out.other_prompts
    if isinstance(others, str):
        return PromptPartVerdict(None, None, others, 0.0, PAIR_WORDS)
    base, tuned = (model.rejected_logps - model.chosen_logps for model in (held_out.base, held_out.tuned))
    parts = measure_parts(np.ones(len(base)), base, tuned, others, confidence=choice.confidence)
    return PromptPartVerdict(parts, others, "" if parts else "a loss is not a number", 0.0, PAIR_WORDS)


def _build_figures(losses: Floats) -> LossFigures:
    loss = float(losses.mean())
    return LossFigures(
        loss=loss if math.isfinite(loss) else None,
        perplexity=None,
        token_accuracy=None,
        n=len(losses),
        tokens=len(losses),
    )


def _build_preference_figures(base: ModelPairs, tuned: ModelPairs) -> PreferenceFigures:
    """Return reward accuracy with Wilson's interval, the mean margin, and the changes of both answers."""
    margins, ones = tuned.margins, np.ones(len(tuned.margins))
    return PreferenceFigures(
        moved=int((margins != 0).sum()),
        reward_accuracy=wilson_interval(int((margins > 0).sum()), len(margins)).to_estimate(),
        reward_margin=ratio_interval(margins, ones).to_estimate(),
        chosen_change=ratio_interval(tuned.chosen_logps - base.chosen_logps, ones).to_estimate(),
        rejected_change=ratio_interval(tuned.rejected_logps - base.rejected_logps, ones).to_estimate(),
    )


def _describe_broken(count: int, split: str) -> str:
    where = formatting.plural(count, f"{split} pair")
    return f"Broken: the loss is not a number on {where}; training diverged."


def _format_headline(
    state: VerdictState,
    gain: Interval | None,
    preference: PreferenceFigures,
    split: str,
    negligible: float,
    question: PromptPartVerdict,
) -> str:
    accuracy, moved = preference.reward_accuracy, preference.moved
    n = accuracy.n
    pairs = formatting.plural(n, "held-out pair" if split == "test" else "validation pair")
    if not moved:
        lead = "No gain" if state == "no_gain" else "Inconclusive"
        return (
            f"{lead}: nothing changed; on each of {pairs} the tuned model has the preference of the base"
            " model."
        )
    bounds = f"95% interval {formatting.format_share_bounds(accuracy)}; chance is 50%"
    value = formatting.format_share(accuracy)
    share = f"prefers the chosen answer more than the base model does in {value} of {pairs}"
    if state in SURE_GAINS:
        return f"{question.lead(state)}: the tuned model {share} ({bounds}){question.amount}."
    if state == "worse":
        joined = ", though" if (accuracy.low or 0.0) > 0.5 else ":"
        return f"Worse than the base model by its loss{joined} the tuned model {share} ({bounds})."
    if state == "no_gain":
        within = f"within {format_negligible(negligible)} of the base model's (setting {SETTING})"
        return f"No gain: the loss is {within}; the tuned model {share} ({bounds})."
    if gain is not None and gain.low is None:
        why = f"{gain.why}, so the gain has no interval"
        return f"Inconclusive: {why}; the tuned model {share} ({bounds})."
    return f"Not distinguishable from noise: the tuned model {share} ({bounds})."


def _describe_loss(
    gain: Interval, base: LossFigures, tuned: LossFigures, unit: str, choice: CheckpointChoice
) -> str:
    places = max(formatting.compute_decimals(gain.low, gain.high), 2)
    before, after = (formatting.format_number(model.loss or 0.0, places) for model in (base, tuned))
    if before == after:
        lead = f"The preference loss stayed at {before}, the value of any untrained model"
    else:
        way = "fell" if gain.value > 0 else "rose"
        lead = f"The preference loss {way} from {before}, the value of any untrained model, to {after} {unit}"
    if gain.low is None or gain.high is None:
        return f"{lead} (no interval: {gain.why})."
    if gain.low == gain.high:
        return f"{lead}."
    least = "" if gain.above or gain.below else format_smallest_detectable(gain)
    return f"{lead} ({choice.basis} of the gain {formatting.format_interval(gain.low, gain.high)}{least})."


def _describe_answers(preference: PreferenceFigures) -> str:
    """Describe the change in the chosen answers' own likelihood; a decrease is a known failure and is
    reported.
    """
    chosen, rejected = preference.chosen_change, preference.rejected_change
    amounts = (
        f"by {_format_change(chosen)} nats an answer, that of the rejected ones by {_format_change(rejected)}"
    )
    if chosen.high is not None and chosen.high < 0:
        return (
            f"The chosen answers themselves became less likely: their log-probability changed {amounts}. The"
            " model learned to avoid the rejected answers rather than to give the chosen ones (likelihood"
            " displacement); read its answers before you use it."
        )
    sure = chosen.low is not None and chosen.low > 0
    lead = (
        "The chosen answers became more likely"
        if sure
        else "The chosen answers did not become significantly more likely"
    )
    return f"{lead}: their log-probability changed {amounts}."


def _format_change(interval: Estimate) -> str:
    places = formatting.compute_decimals(interval.low, interval.high)
    value = formatting.format_number(interval.value, places)
    sign = "+" if interval.value > 0 and value.strip("0.,") else ""
    if interval.low is None:
        return f"{sign}{value} (no interval: {interval.why})"
    if interval.low == interval.high:
        return f"exactly {sign}{value}"
    return f"{sign}{value} ({formatting.format_interval(interval.low, interval.high, places)})"


def advise_against_displacement(
    preference: PreferenceFigures | None, config: VerdictConfig
) -> list[AdviceItem]:
    """Advise another loss if the chosen answers significantly became less likely."""
    high = preference.chosen_change.high if preference else None
    if high is None or high >= 0 or config["loss_type"] == "apo_zero":
        return []
    change: dict[str, SettingValue] = {"loss_type": "apo_zero"}
    if config.get("label_smoothing"):  # only the robust loss supports it
        change["label_smoothing"] = 0.0
    return [
        AdviceItem(
            text="The chosen answers became less likely: try the loss apo_zero, which raises their"
            " likelihood and not only the margin.",
            change=change,
        )
    ]
