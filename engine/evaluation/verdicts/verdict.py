"""Verdict on a run: the gain over the base model, how certain it is, and what to do next.

The gain is base minus tuned loss per token on the same held-out rows, with a paired interval over rows.
First it is tested whether the gain matters: within `negligible_gain` of the base loss nothing was gained,
however significant. Otherwise its sign relative to its interval decides the state and, for a gain, whether
the question has a part in it (`question_part.py`). Every sentence names the rows it is based on. An
interpolated model has the same figures, and nothing about training. Pure functions from arrays and config
to a JSON document (without NaN); docs/results.md describes it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from engine.evaluation.statistics.intervals import (
    BROKEN_ROW,
    Interval,
    allow_for_unseen,
    estimate_rows_needed,
    get_limits,
    ratio_interval,
)
from engine.evaluation.training_curve import overfitting
from engine.evaluation.training_curve.advice import (
    MAX_NEEDED,
    CheckpointChoice,
    VerdictOutcome,
    advise,
    find_checkpoint_choice,
)
from engine.evaluation.training_curve.run_curve import NO_MEMORY, RowMemorisation, RunCurves, VerdictConfig
from engine.evaluation.verdicts.paired_measurements import Floats, HeldOut, ModelRows
from engine.evaluation.verdicts.question_part import ANSWER_WORDS, PromptPartVerdict, measure_parts
from store.core import formatting
from store.core.figure_schemas import Gain, JudgingSplit, UnitEstimate
from store.evaluation.verdict_schemas import (
    LossFigures,
    Overfitting,
    TrainingStop,
    Verdict,
    VerdictState,
)

SURE_GAINS: tuple[VerdictState, ...] = ("learned", "better", "shape")
NEGLIGIBLE = 0.01  # default of `negligible_gain`, relative to the base loss


def judge_held_out(
    held_out: HeldOut, course: RunCurves, config: VerdictConfig, memory: RowMemorisation = NO_MEMORY
) -> Verdict:
    """Judge the rows of `held_out`. Raises ValueError if no row has a token or lengths differ."""
    weights, (base, tuned) = held_out.weights, held_out.losses
    split, negligible = held_out.split, get_negligible_gain(config)
    shape = overfitting.assess_overfitting(course, memory)
    before, after = _build_figures(held_out.base, weights), _build_figures(held_out.tuned, weights)
    broken = int((~np.isfinite(base - tuned)).sum())
    choice = find_checkpoint_choice(split, course, config)
    seen, gain = (None, None) if broken else measure_gain(held_out, choice)
    correct = np.asarray(held_out.tuned.correct, np.float64) - np.asarray(held_out.base.correct, np.float64)
    accuracy = allow_for_unseen(_estimate_over_rows(correct, held_out, choice), 1.0)
    question = _judge_prompt_part(held_out, negligible * abs(before.loss or 0.0), choice)
    state = question.state(determine_state(gain, before.loss, negligible, seen=seen))
    ending = describe_ending(course.stopped, config)
    reported = seen if state == "no_gain" else gain
    return Verdict(
        state=state,
        headline=_describe_too_few(state, seen, split, choice)
        or _format_headline(state, reported, split, broken, choice, negligible, question),
        sentences=[
            *question.sentences,
            *_describe_token_figures(before, after, accuracy, choice),
            *describe_unseen(gain),
            *describe_overfitting(shape),
            *([ending] if ending else []),
            *choice.sentences,
        ],
        advice=[
            *question.advice(state, split, config),
            *advise(VerdictOutcome(state, gain, split, shape), course, config),
        ],
        gain=build_gain(gain, "nats a token", split, choice, negligible) if gain else None,
        parts=question.document,
        accuracy_gain=UnitEstimate(**vars(accuracy.to_estimate()), unit="share of tokens"),
        base=before,
        tuned=after,
        overfitting=shape,
        stopped=course.stopped,
    )


def measure_gain(held_out: HeldOut, choice: CheckpointChoice) -> tuple[Interval, Interval]:
    """Return base minus tuned loss per token, with the interval of the measured rows and with the one that
    allows for rows of an unobserved kind.
    """
    base, tuned = held_out.losses
    seen = _estimate_over_rows(base - tuned, held_out, choice)
    return seen, allow_for_unseen(seen, BROKEN_ROW)


def _estimate_over_rows(change: Floats, held_out: HeldOut, choice: CheckpointChoice) -> Interval:
    """Estimate a change that is summed over the tokens of each row."""
    return ratio_interval(
        change, held_out.weights, confidence=choice.confidence, population=held_out.population
    )


def _judge_prompt_part(held_out: HeldOut, limit: float, choice: CheckpointChoice) -> PromptPartVerdict:
    """Return the question's part of the gain, if measured."""
    others = held_out.other_prompts
    if isinstance(others, str):
        return PromptPartVerdict(None, None, others, limit, ANSWER_WORDS)
    parts = measure_parts(held_out.weights, *held_out.losses, others, confidence=choice.confidence)
    why = "" if parts else "a loss is not a number"
    return PromptPartVerdict(parts, others, why, limit, ANSWER_WORDS)


def get_negligible_gain(config: VerdictConfig) -> float:
    """Return the share of the base loss, or of rows, up to which a gain doesn't matter; runs from before the
    setting existed have the default.
    """
    return float(config.get("negligible_gain", NEGLIGIBLE))


def determine_state(
    gain: Interval | None,
    base_loss: float | None,
    negligible: float = NEGLIGIBLE,
    *,
    seen: Interval | None = None,
) -> VerdictState:
    """Return the state of a gain: first whether it can matter at all, then its sign relative to its interval.

    A gain of None means that a loss is not a number. seen: the gain with the interval of the measured rows
    only, if `gain` allows for others: "no_gain" refers to the measured rows.
    """
    if gain is None:
        return "worse"
    if gain.low is None or gain.high is None:
        return "undecided"
    limit = negligible * abs(base_loss or 0.0)
    low, high = (get_limits((seen or gain).to_estimate())) or (gain.low, gain.high)
    if low == high == 0 or -limit < low <= high < limit:
        return "no_gain"
    return "learned" if gain.above else "worse" if gain.below else "undecided"


def _build_figures(model: ModelRows, tokens: Floats) -> LossFigures:
    counted = float(tokens.sum())
    loss = float(np.asarray(model.loss_sum, np.float64).sum() / counted) if counted else math.nan
    finite = math.isfinite(loss)
    return LossFigures(
        loss=loss if finite else None,
        perplexity=math.exp(loss) if finite and loss < 700 else None,
        token_accuracy=float(np.asarray(model.correct, np.float64).sum() / counted) if counted else None,
        n=int((tokens > 0).sum()),
        tokens=int(counted),
    )


def build_gain(
    gain: Interval, unit: str, split: JudgingSplit, choice: CheckpointChoice, negligible: float
) -> Gain:
    """Build the `gain` of a verdict. `chosen_of`: the steps that its interval is widened for."""
    return Gain(
        **vars(gain.to_estimate()),
        unit=unit,
        split=split,
        detectable=gain.detectable,
        negligible=negligible,
        chosen_of=choice.steps,
    )


def _format_rows(gain: Interval, split: str) -> str:
    return formatting.plural(gain.n, "held-out row" if split == "test" else "validation row")


def _format_headline(
    state: VerdictState,
    gain: Interval | None,
    split: str,
    broken: int,
    choice: CheckpointChoice,
    negligible: float,
    question: PromptPartVerdict,
) -> str:
    if gain is None:
        where = formatting.plural(broken, f"{split} row")
        return f"Broken: the loss is not a number on {where}; training diverged."
    rows = _format_rows(gain, split)
    if gain.low is None or gain.high is None:
        return _describe_unknown(gain, rows)
    if gain.low == gain.high:
        return f"No gain: on each of {rows} the loss equals that of the base model; nothing changed."
    decimals = formatting.compute_decimals(gain.low, gain.high)
    amount = f"{formatting.format_number(abs(gain.value), decimals)} nats a token"
    way = "better" if gain.value > 0 else "worse"
    least, most = sorted((gain.low, gain.high)) if gain.value > 0 else (-gain.high, -gain.low)
    moved = (
        f"on {rows} the tuned model is {way} by {amount} ({choice.basis}"
        f" {formatting.format_interval(least, most)})"
    )
    if state in SURE_GAINS:
        return f"{question.lead(state)}: {moved}{question.amount}."
    if state == "worse":
        return f"Worse: {moved}."
    bounds = f"{choice.basis} {formatting.format_interval(gain.low, gain.high)} nats a token"
    if state == "no_gain":
        within = f"{format_negligible(negligible)} of the base model's loss (setting {SETTING})"
        if gain.above or gain.below:
            return f"No relevant gain: {moved}, less than {within}."
        return f"No gain: on {rows} the tuned model is as good as the base model ({bounds}), within {within}."
    return f"Not distinguishable from noise with {rows} ({bounds}){format_smallest_detectable(gain)}."


def _describe_too_few(
    state: VerdictState, seen: Interval | None, split: str, choice: CheckpointChoice
) -> str:
    """Return the headline if the gain is significant on the measured rows, but they are too few to
    generalize; otherwise empty.
    """
    if state != "undecided" or seen is None or not (seen.above or seen.below):
        return ""
    assert seen.low is not None
    assert seen.high is not None
    way, rows = "Better" if seen.above else "Worse", _format_rows(seen, split)
    least, most = sorted((abs(seen.low), abs(seen.high)))
    places = formatting.compute_decimals(seen.low, seen.high)
    amount = f"{formatting.format_number(abs(seen.value), places)} nats a token"
    return (
        f"{way} on these {rows} by {amount} ({choice.basis}"
        f" {formatting.format_interval(least, most, places)}), too few to generalize: kinds of rows not"
        " among them could reverse it."
    )


def describe_unseen(gain: Interval | None, size: float = BROKEN_ROW) -> list[str]:
    """Describe what the interval of a gain allows for beyond the measured rows, and how many would
    suffice.
    """
    if gain is None or not gain.unseen:
        return []
    needed, more = estimate_rows_needed(gain, gain.value), ""
    if needed and gain.n < needed <= MAX_NEEDED and not (gain.above or gain.below):
        more = f"; about {formatting.round_significant(needed):,.0f} rows would suffice"
    return [
        f"The interval of the gain allows for what {formatting.plural(gain.n, 'row')} can't show: kinds of"
        f" rows not among them, up to {formatting.percent(gain.unseen)} of all, that differ by {size:g}"
        f" nats{more}."
    ]


SETTING = "negligible_gain"


def format_negligible(negligible: float) -> str:
    """Format the threshold as "1%"."""
    return f"{100 * negligible:g}%"


def format_smallest_detectable(gain: Interval) -> str:
    """Format as "; smallest detectable gain: 0.12", empty if unknown."""
    if not gain.detectable:
        return ""
    places = max(2, formatting.compute_decimals(gain.low, gain.high))
    return f"; smallest detectable gain: {formatting.format_number(gain.detectable, places)}"


def _describe_unknown(gain: Interval, rows: str) -> str:
    sentence = f"Inconclusive with {rows}: {gain.why or 'too few rows'}, so there is no interval"
    if not gain.value:
        return f"{sentence}."
    way = "better" if gain.value > 0 else "worse"
    return (
        f"{sentence}; the tuned model is {way} there by"
        f" {formatting.format_point_value(abs(gain.value))} nats a token."
    )


def _describe_token_figures(
    base: LossFigures, tuned: LossFigures, accuracy: Interval, choice: CheckpointChoice
) -> list[str]:
    right = base.token_accuracy, tuned.token_accuracy
    if not base.perplexity or not tuned.perplexity or right[0] is None or right[1] is None:
        return []
    before, after = (
        formatting.format_perplexity(base.perplexity),
        formatting.format_perplexity(tuned.perplexity),
    )
    perplexity = f"went from {before} to {after}" if before != after else f"stayed at {before}"
    return [
        f"Perplexity {perplexity}; token accuracy is {formatting.percent(right[1])} (n {base.tokens:,}"
        f" tokens; base model {formatting.percent(right[0])}; {_format_points(accuracy, choice)})."
    ]


def _format_points(change: Interval, choice: CheckpointChoice) -> str:
    if change.low is None or change.high is None:
        return f"no interval of the change: {change.why}"
    if change.low == change.high:
        return "as many on each row"
    bounds = formatting.format_interval(100 * change.low, 100 * change.high)
    return f"{choice.basis} of the change {bounds} points"


def describe_overfitting(shape: Overfitting) -> list[str]:
    """Describe whether it overfits, where loss and metric contradict each other, and memorization, if any."""
    parts = [shape.parting.sentence] if shape.parting else []
    memorises = [shape.stage_sentence] if shape.stage == "memorising" else []
    return [shape.sentence, *parts, *memorises]


def add_unmeasured(verdict: Verdict, *, probes: bool) -> Verdict:
    """Add a sentence on what was not measured, after that on overfitting: a run that does not overfit may
    still have forgotten or memorized. probes: whether they were on.
    """
    missing = [] if verdict.forgetting else ["forgetting"]
    if not verdict.membership and not verdict.extraction:
        missing.append("memorization")
    if not missing:
        return verdict
    sentence = f"Not measured: {' and '.join(missing)}{'' if probes else ', as probes were off'}."
    sentences, shape = list(verdict.sentences), verdict.overfitting
    of_course = shape.sentence if shape else ""
    place = sentences.index(of_course) + 1 if of_course in sentences else len(sentences)
    return replace(verdict, sentences=[*sentences[:place], sentence, *sentences[place:]])


def describe_ending(stopped: TrainingStop, config: VerdictConfig) -> str:
    """Describe how training ended in a sentence; empty if there was no training."""
    step, restored = int(stopped.step), stopped.restored_step
    if stopped.reason == "mixed":  # interpolated from another run
        return ""
    reason = {
        "early_stopping": "Stopped early",
        "forgetting": "Stopped because of forgetting",
        "max_steps": "Reached its step limit",
        "epochs": "Completed all epochs",
    }[stopped.reason]
    ending = f"{reason} at step {step:,}"
    if stopped.reason == "early_stopping" and "early_stopping_patience" in config:
        waited = formatting.plural(config["early_stopping_patience"], "validation")
        ending += f", as {waited} had no improvement of {100 * config['early_stopping_threshold']:g}%"
    if restored is not None and int(restored) != step:
        ending += f"; the weights of step {int(restored):,}, the best, were restored"
    return ending + "."


# Verdict on an interpolated, not trained model: the same figures on the same rows, without training curves.

UNTRAINED_STOP = RunCurves(stopped=TrainingStop(reason="mixed", step=0, restored_step=None))


def judge_interpolated(held_out: HeldOut, config: VerdictConfig, *, alpha: float, of: str) -> Verdict:
    """Like `judge_held_out`, for a model without training curves; overfitting is null. of: the name of the
    run whose model is at α 1.
    """
    judged = judge_held_out(held_out, UNTRAINED_STOP, config)
    course = judged.overfitting.sentence if judged.overfitting else ""
    where = f"Interpolation at α {alpha:g} between the base model (0) and “{of}” (1). Nothing was trained."
    sentences = [where, *(sentence for sentence in judged.sentences if sentence != course)]
    return replace(judged, overfitting=None, sentences=sentences, advice=[])


def drop_advice(judged: Verdict) -> Verdict:
    """Drop the advice, which is for the run that was interpolated: there is no training to change here."""
    forgetting = replace(judged.forgetting, advice=[]) if judged.forgetting else None
    return replace(judged, advice=[], forgetting=forgetting)
