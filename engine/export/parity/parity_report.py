"""Report of a parity check, from the output of model and export on the same rows.

The evaluation's metrics are computed for both on the same rows, with their paired differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics import metric_estimates as scoring
from engine.evaluation.statistics.intervals import (
    Interval,
    bound_unseen_share,
    ratio_interval,
    wilson_interval,
)
from engine.evaluation.statistics.metric_estimates import RowScores
from engine.export.parity.exchange import ALPHA, ParityAnswers
from engine.export.parity.reference import ReferenceAnswers
from store.core.config import NO_CODE
from store.core.export_schemas import LongPrompts, ParityReport, ParityStatus, RenderingParity
from store.core.figure_schemas import Difference, Estimate
from store.core.formatting import plural
from store.core.home import Home
from store.core.metric_table import METRICS, list_default_metrics
from store.core.metrics_config import MetricsConfig
from store.export.forms import FEW_OTHER, ParityLimits, count_rows_to_pass

if TYPE_CHECKING:
    from engine.export.parity.inspection import FileInspection
    from engine.export.parity.reference import ReferenceAnswers

# File differences decide first: an export whose settings, tokens or tensors aren't the model's has failed,
# whatever its responses to some rows. Otherwise rows are the unit of every interval, as places of one row are
# not independent. An export passed if the whole interval is within the limits of its format, and failed if
# the whole interval is beyond them; in between there is a warning. If nothing is wrong and the rows are too
# few to pass, the result is inconclusive.

MIN_OTHER_PROMPT = 1.0  # nats per token from which a response counts as very different
MAX_EXACT = 1e-3  # nats per token allowed with identical bytes, as sums are ordered differently
GRADES: tuple[ParityStatus, ...] = ("passed", "untold", "warned", "failed")


class Judgement:
    """Collects reasons; the worst one determines the status."""

    def __init__(self) -> None:
        self.status: ParityStatus = "passed"
        self.reasons: list[str] = []

    def add(self, status: ParityStatus, reason: str) -> None:
        self.status = max(self.status, status, key=GRADES.index)
        self.reasons.append(reason)


def build_report(
    own: ReferenceAnswers,
    export: ParityAnswers,
    limits: ParityLimits,
    *,
    seen: FileInspection,
    figures: list[Difference],
    held: str,
    seconds: float,
) -> ParityReport:
    """Build the report.

    seen: result of the file inspection. held: quantization of the base model in the evaluation, as text;
    empty if none.
    """
    drawn = own.asked.drawn
    kl, positions = _compute_kl(export.kl[:drawn])
    argmax = _compute_argmax_agreement(export.same_best[:drawn])
    answers, long = _compare_answers(own, export), _summarize_long_prompts(own, export, drawn)
    judged = Judgement()
    for cause in seen.causes:
        judged.add("failed", cause)
    _judge_rendering(judged, export)
    _judge_files(judged, own, export)
    if export.sure_after:
        judged.add(
            "failed",
            f"Stopped after {plural(export.sure_after, 'row')}: the mean KL divergence exceeds the format's"
            f" limit of {_format_number(limits.kl[1], 'nats a token')} ({_format_number(1 - ALPHA, '%')}"
            " confidence).",
        )
    if kl is None and not export.rendering.other_ids:
        judged.add("untold", "No responses to compare: the model generates nothing for these prompts.")
    every = [value for each in export.kl + export.joined_kl for value in each or ()]
    close = bool(every) and bool((np.array(every) <= MAX_EXACT).all())  # the same numbers on these rows
    if not (seen.exact and judged.status == "passed" and close):
        _judge_answers(judged, export.kl[:drawn], kl, argmax, limits)
    if long and long.mean_kl and judged.status != "failed":
        _judge_long_prompts(judged, long, limits)
    if held and judged.status != "failed":
        judged.add(
            "warned",
            f"The model was evaluated on a base model in {held}; the export has it in full precision.",
        )
    return ParityReport(
        status=judged.status,
        reasons=judged.reasons,
        engine=export.engine,
        rendering=export.rendering,
        prompts=export.sure_after or drawn,
        positions=positions,
        long=long,
        mean_kl=kl.to_estimate() if kl else None,
        largest_kl=max(every) if every and np.isfinite(max(every)) else None,
        argmax_agreement=argmax.to_estimate() if argmax else None,
        answer_agreement=answers,
        figures=figures,
        tokens_per_second=export.tokens_per_second,
        seconds=seconds,
    )


def _judge_answers(
    judged: Judgement,
    rows: list[list[float] | None],
    kl: Interval | None,
    argmax: Interval | None,
    limits: ParityLimits,
) -> None:
    """Judge by the limits of the format, which take many rows to show."""
    if kl is not None:
        _judge_figure(judged, kl, limits.kl, "Mean KL divergence", "nats a token")
    if argmax is not None:
        _judge_figure(judged, argmax, limits.argmax, "Top-1 agreement", "%")
    judge_prompts(judged, rows, limits)


def build_unread_report(causes: list[str], why: str, seconds: float) -> ParityReport:
    """Build the report for files that differ and were not run; `why`: reason, if running them failed."""
    nothing = RenderingParity(
        prompts=0, other_bytes=0, other_ids=0, doubled_bos=0, cut=0, example=None,
    )  # fmt: skip
    return ParityReport(
        status="failed",
        reasons=[*causes, f"No prompt could be used: {why}"] if why else causes,
        engine="",
        rendering=nothing,
        prompts=0,
        positions=0,
        long=None,
        mean_kl=None,
        largest_kl=None,
        argmax_agreement=None,
        answer_agreement=None,
        figures=[],
        tokens_per_second=None,
        seconds=seconds,
    )


def _compute_kl(rows: list[list[float] | None]) -> tuple[Interval | None, int]:
    """Return nats per token over rows, and the number of places compared."""
    some = [row for row in rows if row]
    if not some or not all(np.isfinite(row).all() for row in some):
        return None, sum(map(len, some))
    counts = [len(row) for row in some]
    interval = ratio_interval([sum(row) for row in some], counts)
    if interval.low is not None:
        interval = replace(interval, low=max(0.0, interval.low))
    return interval, sum(counts)


def _compute_argmax_agreement(rows: list[list[bool] | None]) -> Interval | None:
    """Return the share of agreeing places; if all agree, the interval allows for unseen rows."""
    some = [row for row in rows if row]
    if not some:
        return None
    sums = np.array([[sum(row), len(row)] for row in some], float)
    shares = RowScores(
        "argmax",
        np.arange(len(some)),
        sums[:, 0] / sums[:, 1],
        statistics=sums,
        estimator="mean",
        bounds=(0.0, 1.0),
        unit="",
        better="higher",
    )
    interval, _ = scoring.estimate_figure(shares, np.arange(len(some)))
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high), why="")


def _compare_answers(own: ReferenceAnswers, export: ParityAnswers) -> Estimate | None:
    """Return the share of greedy responses that are identical; for a classifier, of equal classes."""
    if own.class_logs is not None:
        same = [bool(row and row[0]) for row in export.same_best]
        return wilson_interval(sum(same), len(same)).to_estimate() if same else None
    pairs = [
        (answer, other)
        for answer, other in zip(own.answers, export.answers, strict=False)
        if other is not None
    ]
    if not pairs:
        return None
    return wilson_interval(sum(a == b for a, b in pairs), len(pairs)).to_estimate()


def _summarize_long_prompts(own: ReferenceAnswers, export: ParityAnswers, drawn: int) -> LongPrompts | None:
    if own.class_logs is not None:
        return None
    rows = [*export.kl[drawn:], *export.joined_kl]
    kl, _ = _compute_kl(rows)
    texts = [*own.asked.answers.ids[drawn:], *own.asked.joined.ids]
    return LongPrompts(
        prompts=len(texts),
        tokens=max((len(ids) for ids in texts), default=0),
        mean_kl=kl.to_estimate() if kl else None,
    )


def _judge_rendering(judged: Judgement, export: ParityAnswers) -> None:
    """Judge differences of prompts in bytes and ids."""
    rendering = export.rendering
    total, example = rendering.prompts, rendering.example
    where = f" First in row {example.row_id}, at position {example.place}." if example else ""
    if rendering.other_bytes:
        judged.add(
            "failed",
            f"The chat template renders {rendering.other_bytes:,} of {plural(total, 'prompt')} differently."
            + where,
        )
    if rendering.doubled_bos:
        judged.add(
            "failed",
            f"{plural(rendering.doubled_bos, 'prompt')} of {total:,} with a double BOS token: both the"
            " template and the tokenizer add it.",
        )
    elif rendering.other_ids and not rendering.other_bytes:
        few = rendering.other_ids <= FEW_OTHER * total
        judged.add(
            "warned" if few else "failed",
            f"{rendering.other_ids:,} of {plural(total, 'prompt')} tokenized differently, with identical"
            f" text.{where}",
        )
    if rendering.cut:
        judged.add(
            "failed",
            f"{plural(rendering.cut, 'prompt')} of {total:,} too long for the model or the export; the"
            f" export's context length is {export.context:,} tokens.",
        )


def _judge_files(judged: Judgement, own: ReferenceAnswers, export: ParityAnswers) -> None:
    """Report defects of the files that fail the check whatever the responses."""
    base, other = own.asked.rope_base, export.rope_base
    if base is not None and other is not None and abs(base - other) > 1e-3 * base:
        judged.add(
            "failed",
            f"rope_theta differs: {other:,.0f} in the export, {base:,.0f} in the model. Long prompts are"
            " affected first.",
        )
    if export.zeroed:
        more = f" and {len(export.zeroed) - 1} more" if len(export.zeroed) > 1 else ""
        judged.add("failed", f"The weight matrix {export.zeroed[0]}{more} is all zero.")
    if export.not_finite:
        judged.add(
            "failed", f"The export returns non-finite values at {plural(export.not_finite, 'position')}."
        )


def _judge_figure(
    judged: Judgement,
    interval: Interval,
    limits: tuple[float, float],
    what: str,
    unit: str,
) -> None:
    """Judge a figure by its limits (passes, fails); the second is worse than the first."""
    passes, fails = limits
    sign = 1 if fails > passes else -1  # upper limit for a divergence, lower limit for an agreement
    say = f"{what}: {_format_number(interval.value, unit)}"
    if interval.low is None or interval.high is None:
        # a value far beyond the limit is no proof either, but tells more than the missing interval
        judged.add("untold", f"{say}; no confidence interval, as {interval.why or 'there are too few rows'}.")
        return
    worst, best = (interval.high, interval.low) if sign > 0 else (interval.low, interval.high)
    low, high = (_format_number(value, "%" if unit == "%" else "") for value in (interval.low, interval.high))
    between = f"({low} to {high}, {plural(interval.n, 'row')})"
    if sign * (best - fails) > 0:
        judged.add("failed", f"{say} {between}; the limit of the format is {_format_number(fails, unit)}.")
    elif sign * (worst - passes) <= 0:
        return
    elif sign * (best - passes) > 0:
        judged.add("warned", f"{say} {between}; usual for this format: {_format_number(passes, unit)}.")
    else:
        judged.add(
            "untold",
            f"{say} {between}; inconclusive against the limit of {_format_number(passes, unit)}.",
        )


def judge_prompts(judged: Judgement, rows: list[list[float] | None], limits: ParityLimits) -> None:
    """Judge prompts with very different responses, which a mean hides, and how many may be unseen.

    An export that destroys 2% of all prompts has the same mean as the model on two of three samples of 20.
    """
    means = np.array([float(np.mean(row)) for row in rows if row])
    if not len(means):
        return
    most = max(MIN_OTHER_PROMPT, 4 * limits.kl[1])
    beyond = int((~(means <= most)).sum())
    n = plural(len(means), "prompt")
    if beyond:
        share = wilson_interval(beyond, len(means))
        judged.add(
            "failed" if (share.low or 0.0) > FEW_OTHER else "warned",
            f"{beyond:,} of {n} with a very different response (KL above "
            f"{_format_number(most, 'nats a token')}): {_format_number(share.low or 0.0, '%')} to "
            f"{_format_number(share.high or 1.0, '%')} of all prompts.",
        )
    elif (unseen := bound_unseen_share(len(means), confidence=0.9)) > FEW_OTHER:  # one-sided, at 95%
        judged.add(
            "untold",
            f"None of {n} has a very different response, but up to {_format_number(unseen, '%')} of all"
            f" prompts may; {count_rows_to_pass():,} rows would bound this to "
            f"{_format_number(FEW_OTHER, '%')}.",
        )


def _judge_long_prompts(judged: Judgement, long: LongPrompts, limits: ParityLimits) -> None:
    """Fail if the whole interval of long prompts is beyond the failing limit."""
    kl = long.mean_kl
    assert kl is not None
    if kl.low is not None and kl.low > limits.kl[1]:
        judged.add(
            "failed",
            f"On the {plural(long.prompts, 'longest text')} (up to {long.tokens:,} tokens), the mean KL"
            f" divergence is {_format_number(kl.value, 'nats a token')}, and within the limits on the"
            " others: distant positions are processed differently.",
        )


def _format_number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f}%".replace(".0%", "%")
    digits = f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"
    return f"{digits} {unit}".strip()


def compare_metrics(
    own: ReferenceAnswers, export: ParityAnswers, home: Home, tokenizer: Path, check: Callable[[], None]
) -> list[Difference]:
    """Return differences, export minus model, of an evaluation's default metrics.

    Metrics of choices are omitted, as they need other questions.
    """
    labelled = any(question.label for question in own.questions)
    head = own.class_logs is not None
    names = list_default_metrics(head=head, labelled=labelled, choosing=False)
    names = [name for name in names if "choices" not in METRICS[name].needs]
    config = MetricsConfig.parse({"metrics": names})
    if head:
        assert own.class_logs is not None
        first = _build_class_answers(own, np.array(export.classes, float))
        second = _build_class_answers(own, own.class_logs)
    elif not any(export.answers):  # no prompt is tokenized the same
        return []
    else:
        losses = np.array(export.loss_sum, float)
        decode = _load_decoder(tokenizer)
        first = _build_text_answers(own, export.answers, losses, decode)
        second = _build_text_answers(own, own.answers, own.loss_sum, decode)
    if not len(first):
        return []
    pairs = zip(
        measure(config, first, home, check=check), measure(config, second, home, check=check), strict=True
    )
    every = [scoring.compute_difference(a, b) for a, b in pairs if not a.failed and not b.failed]
    return [each for each in every if each.value is not None]


def _build_class_answers(own: ReferenceAnswers, logs: np.ndarray) -> Answers:
    labels = list(own.asked.labels or ())
    best = logs.argmax(axis=1)
    return Answers(
        np.array([question.row_id for question in own.questions], np.int64),
        predictions=[labels[i] for i in best],
        labels=[question.label for question in own.questions],
        log_probabilities=logs,
        classes=labels,
    )


def _load_decoder(folder: Path) -> Callable[[list[int]], str]:
    """Return a function that decodes tokens to the text that metrics read."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _build_text_answers(
    own: ReferenceAnswers,
    answers: Sequence[list[int] | None],
    losses: np.ndarray,
    decode: Callable[[list[int]], str],
) -> Answers:
    """Build the answers; rows whose prompt the export tokenizes differently have none."""
    row_ids = np.array([question.row_id for question in own.questions], np.int64)
    place = {row_id: i for i, row_id in enumerate(own.row_ids.tolist())} if len(losses) else {}
    at = [place.get(row_id) for row_id in row_ids.tolist()]

    def column(values: np.ndarray) -> np.ndarray:
        return np.array([np.nan if i is None else values[i] for i in at], float)

    texts = answers or [None] * len(row_ids)
    return Answers(
        row_ids,
        predictions=[None if ids is None else decode(ids) for ids in texts],
        references=[question.reference for question in own.questions],
        prompts=[question.readable for question in own.questions],
        labels=[question.label for question in own.questions],
        loss_sum=column(losses),
        tokens=column(own.row_tokens),
        bytes=column(own.row_bytes),
    )
