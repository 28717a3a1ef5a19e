"""Gate report: the outcome of each check with its interval, its limit and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from engine.evaluation.statistics import intervals
from engine.registry import gate_statistics
from store.core import formatting
from store.core.export_schemas import PARITY_LABELS
from store.core.features import check_same_names
from store.core.figure_schemas import BiasFigure, Estimate, Gain, get_measure_title
from store.registry.gate_checks import GATE_CHECKS
from store.registry.schemas import CheckAnswer, CheckInputs, CheckReport, GateReport, GateRow

Check = Mapping[str, Any]  # store.registry.config, in its stored form
SHARE = "share"


class CheckOutcome(NamedTuple):
    """Outcome of a check.

    fact: the evidence in words, before the answer. lifted: how much leaked rows may have inflated the
    value.
    """

    answer: CheckAnswer
    fact: str
    value: Gain | Estimate | None = None
    limit: float | None = None
    unit: str = ""
    evaluations: Sequence[str] = ()
    lifted: float = 0.0


def build_gate_report(
    reference: str,
    alias: str,
    holder: str | None,
    checks: Sequence[tuple[Check, str, CheckInputs]],
) -> GateReport:
    """Build the report from each check with its title and evidence, in the order of the gate."""
    judged = [_report_check(check, title, evidence) for check, title, evidence in checks]
    answer = gate_statistics.combine_answers([line.answer for line in judged])
    return GateReport(
        reference=reference,
        alias=alias,
        holder=holder,
        answer=answer,
        sentence=_format_sentence(reference, alias, judged, answer),
        checks=judged,
    )


def _format_sentence(reference: str, alias: str, judged: Sequence[CheckReport], answer: CheckAnswer) -> str:
    if not judged:
        return f"The gate of {alias} has no checks: {reference} may become {alias}."
    if answer == "passed":
        what = "the one check" if len(judged) == 1 else f"all {len(judged)} checks"
        return f"{reference} passes {what} of {alias}."
    failed = [line.title for line in judged if line.answer == "failed"]
    open_ = [line.title for line in judged if line.answer == "cant_tell"]
    parts = [f"fails: {'; '.join(failed)}"] if failed else []
    parts += [f"inconclusive: {'; '.join(open_)}"] if open_ else []
    return f"{reference} does not pass the gate of {alias}. {'. '.join(_capitalize(p) for p in parts)}."


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _report_check(check: Check, title: str, evidence: CheckInputs) -> CheckReport:
    kind = check["check"]
    if missing := evidence.get("missing"):
        judged = CheckOutcome("cant_tell", missing)
    else:
        judged = JUDGES[kind](check, evidence)
    line = CheckReport(
        check=kind,
        title=title,
        answer=judged.answer,
        sentence=judged.fact,
        limit=judged.limit,
        unit=judged.unit,
        value=judged.value,
        other=evidence.get("other") or "",
        evaluations=list(judged.evaluations),
    )
    if judged.lifted:
        line.lifted = judged.lifted
    if (tries := evidence.get("tries", 1)) > 1 and not evidence.get("missing"):
        line.tries = tries
        line.sentence += (
            f" {_capitalize(_format_ordinal(tries))} measurement: its interval is as wide as that needs."
        )
    if evidence.get("missing") and evidence.get("command"):
        line.command = evidence["command"]
        line.gather = evidence.get("gather", False)
    return line


def _format_ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    teens = number % 100 in (11, 12, 13)
    return f"{number:,}{'th' if teens else endings.get(number % 10, 'th')}"


def count_looks(tries: int) -> int:
    """Return the number of comparisons to correct the given measurement for.

    However often a measurement is repeated until it passes, a version beyond its limit then passes with a
    probability of at most 5%: 2.5% for the first, and 2.5% for all later ones together.
    """
    return max(1, tries * (tries - 1))


def _widen_interval(estimate: Estimate, evidence: CheckInputs) -> Estimate:
    return intervals.widen_for_comparisons(estimate, count_looks(evidence.get("tries", 1)))


def _judge_not_worse(check: Check, evidence: CheckInputs) -> CheckOutcome:
    margin, metric = check["margin"], check["metric"]
    rows, others = evidence.get("rows"), evidence.get("other_rows")
    if not evidence.get("other"):
        return CheckOutcome("passed", "No other version has this alias, so there is nothing to compare with.")
    if rows is None or others is None:
        return CheckOutcome("cant_tell", "The evaluation's rows could not be read.")
    gap = gate_statistics.estimate_advantage(rows, others)
    ids = (rows.evaluation_id, others.evaluation_id)
    if gap is None:
        return CheckOutcome("cant_tell", "No row is in both evaluations.", evaluations=ids)
    gap = _widen_interval(gap, evidence)
    lifted = gate_statistics.estimate_lift(rows, others, evidence.get("slipped", 0))
    answer = gate_statistics.check_above_despite_lift(gap, -margin, lifted)
    least = f"; at most {formatting.format_point_value(margin)} worse is allowed"
    fact = f"{_format_metric(metric)}: {_format_gap(gap)} than {evidence['other']}{least}."
    why = (
        _describe_leaked_rows(lifted, rows, evidence)
        if answer != gate_statistics.check_above(gap, -margin)
        else _describe_few_rows(answer, gap)
    )
    return CheckOutcome(answer, fact + why, gap, -margin, rows.figure.unit, ids, lifted or 0.0)


def _describe_leaked_rows(lifted: float | None, rows: GateRow, evidence: CheckInputs) -> str:
    if lifted is None:
        return (
            " Repeats of these rows may have leaked into training, by an unknown amount, "
            f"{gate_statistics.explain_unknown_lift(rows)}, so the check is inconclusive."
        )
    repeated = formatting.plural(evidence.get("slipped", 0), "row")
    return (
        f" Without {repeated} whose repeats may have leaked into training, the difference could be "
        f"{formatting.format_point_value(lifted)} less, so the check is inconclusive."
    )


def _judge_better(check: Check, evidence: CheckInputs) -> CheckOutcome:
    least = check["least"]
    rows, others = evidence.get("rows"), evidence.get("other_rows")
    if rows is not None and others is not None:
        gap = gate_statistics.estimate_advantage(rows, others)
        ids: Sequence[str] = (rows.evaluation_id, others.evaluation_id)
        what, unit, whom = _format_metric(check["metric"]), rows.figure.unit, evidence.get("other", "")
    else:
        gap, ids, unit = evidence.get("gain"), (), evidence.get("gain_unit", "")
        what, whom = "Held-out rows of its run", evidence.get("other", "its base")
    if gap is None:
        return CheckOutcome("cant_tell", "No measurable gain.", evaluations=ids)
    gap = _widen_interval(gap, evidence)
    answer = gate_statistics.check_above(gap, least)
    more = f"; it has to be more than {formatting.format_point_value(least)}" if least else ""
    fact = f"{what}: {_format_gap(gap, '' if ids else unit)} than {whom}{more}."
    return CheckOutcome(answer, fact + _describe_few_rows(answer, gap), gap, least, unit, ids)


def _judge_question(check: Check, evidence: CheckInputs) -> CheckOutcome:
    own, least, unit = evidence.get("gain"), check["least"], evidence.get("gain_unit", "")
    answer = gate_statistics.check_above(own, least)
    if own is None:
        return CheckOutcome(answer, "No measurable gain from the question.")
    fact = (
        f"From the question {_format_with_interval(own)} {unit}; the lower bound has to be above "
        f"{formatting.format_point_value(least)}."
    )
    return CheckOutcome(answer, fact + _describe_few_rows(answer, own), own, least, unit)


def _judge_forgetting(check: Check, evidence: CheckInputs) -> CheckOutcome:
    prose, answers = evidence.get("prose"), evidence.get("answers")
    parts, facts = [], []
    if prose is not None:
        prose = gate_statistics.extrapolate_to_all_texts(prose)
        parts.append(gate_statistics.check_below(prose, check["nats"]))
        bounds = formatting.format_interval(prose.low, prose.high)
        facts.append(
            f"loss on general texts {_format_signed(prose)} nats per token ({bounds}, n {prose.n:,}), "
            f"limit {formatting.format_point_value(check['nats'])}"
        )
    if answers is not None:
        parts.append(gate_statistics.check_above(answers, -check["share"]))
        facts.append(
            f"correct answers to general questions {_format_points(answers)}, n {answers.n:,}, limit"
            f" {formatting.MINUS}{formatting.format_setting(100 * check['share'])} points"
        )
    if not parts:
        return CheckOutcome("cant_tell", "Its run measured neither general texts nor questions.")
    answer = gate_statistics.combine_answers(parts)
    few = " These rows are not conclusive." if answer == "cant_tell" else ""
    if prose is not None and (least := gate_statistics.estimate_unseen_rise(prose)) >= check["nats"]:
        few = (
            f" Too few texts to rule out a rise above {formatting.format_point_value(least)}, because other"
            " kinds of text may be worse. Set a higher limit."
        )
    value, limit = (prose, check["nats"]) if prose is not None else (answers, -check["share"])
    return CheckOutcome(answer, f"{_capitalize('; '.join(facts))}.{few}", value, limit, "nats a token")


def _judge_bias(check: Check, evidence: CheckInputs) -> CheckOutcome:
    bias = evidence.get("bias")
    overall = [figure for figure in bias.figures if not figure.group] if bias else []
    if not overall:
        return CheckOutcome("cant_tell", "The bias check has no figure over all groups.")
    answers, worst = [], None
    for figure in overall:
        own = check["limit"] is None or figure.unit != SHARE
        limit = figure.limit if own else check["limit"]
        change = figure.change and _widen_interval(figure.change, evidence)
        answer = gate_statistics.check_below(change, limit)
        answers.append(answer)
        if worst is None or _rank_severity(answer) > _rank_severity(worst[0]):
            judged: BiasFigure = replace(figure, change=change)
            worst = (answer, judged, limit)
    assert worst is not None
    answer, figure, limit = worst
    change = figure.change
    counts = {key: sum(each == key for each in answers) for key in ("passed", "failed", "cant_tell")}
    amount = f"{100 * limit:g} points" if figure.unit == SHARE else f"{limit:g} {figure.unit}"
    fact = (
        f"Of {formatting.plural(len(answers), 'figure')} {counts['passed']} under the limit, "
        f"{counts['failed']} over the limit, {counts['cant_tell']} inconclusive. "
        f"{_capitalize(get_measure_title(figure.measure, ''))} in {figure.probe}: "
        f"{_format_bias_change(figure, evidence.get('other', ''))}, limit {amount}."
    )
    return CheckOutcome(gate_statistics.combine_answers(answers), fact, change, limit, figure.unit)


def _format_bias_change(figure: BiasFigure, against: str) -> str:
    """Format a change as "+1.0 points (−2.0 to 4.0, n 90) against tiny": shares in points, others in their
    own unit.
    """
    change = figure.change
    if change is None:
        return "its change was not measured"
    scale = 100 if figure.unit == SHARE else 1
    scaled = _scale_estimate(change, scale)
    unit = "points" if scale == 100 else figure.unit
    bounds = formatting.format_interval(scaled.low, scaled.high)
    whom = f" against {against}" if against else ""
    return f"{_format_signed(scaled)} {unit} ({bounds}, n {change.n:,}){whom}"


def _scale_estimate(estimate: Estimate, scale: float) -> Estimate:
    low, high = estimate.low, estimate.high
    return Estimate(
        value=scale * estimate.value,
        low=None if low is None else scale * low,
        high=None if high is None else scale * high,
        n=estimate.n,
    )


def _rank_severity(answer: CheckAnswer) -> int:
    return ("passed", "cant_tell", "failed").index(answer)


def _judge_calibration(check: Check, evidence: CheckInputs) -> CheckOutcome:
    certainty = evidence.get("certainty")
    if certainty is None:
        return CheckOutcome("cant_tell", "It outputs no probabilities; only classifiers do.")
    error = _widen_interval(
        gate_statistics.estimate_calibration_error(certainty.probability, certainty.right), evidence
    )
    answer = gate_statistics.check_below(error, check["limit"])
    fact = (
        f"Calibration error {_format_with_interval(error)}, limit"
        f" {formatting.format_point_value(check['limit'])}."
        f"{_describe_few_rows(answer, error)}"
    )
    return CheckOutcome(answer, fact, error, check["limit"], "share", (certainty.evaluation_id,))


def _judge_parity(check: Check, evidence: CheckInputs) -> CheckOutcome:
    exports = evidence.get("exports") or []
    answers: list[CheckAnswer] = []
    facts = []
    for export in exports:
        status = export.status
        good = status == "passed" or (status in ("warned", "untold") and check["warned"])
        unknown = status is None or status == "untold"
        answers.append("passed" if good else "cant_tell" if unknown else "failed")
        outcome = "not compared yet" if status is None else PARITY_LABELS[status]
        same = _describe_same_answers(export.answer_agreement)
        why = f" ({export.reasons[0].rstrip('.')})" if export.reasons and not good else ""
        facts.append(f"{export.title}: {outcome}{same}{why}")
    agreement = next((export.answer_agreement for export in exports if export.answer_agreement), None)
    return CheckOutcome(
        gate_statistics.combine_answers(answers), f"{'; '.join(facts)}.", agreement, None, "share of prompts"
    )


def _describe_same_answers(agreement: Estimate | None) -> str:
    if agreement is None:
        return ""
    if agreement.low is None or agreement.high is None:
        return f", {formatting.percent(agreement.value)} of the answers the same (n {agreement.n:,})"
    bounds = formatting.format_share_bounds(agreement)
    return f", {formatting.format_share(agreement)} of the answers the same ({bounds}, n {agreement.n:,})"


def _judge_ratings(check: Check, evidence: CheckInputs) -> CheckOutcome:
    rated = evidence.get("rated")
    if rated is None:
        return CheckOutcome("passed", "No other version has this alias, so there is none to prefer.")
    share = gate_statistics.estimate_preference(rated.outcomes, rated.items, rated.raters)
    limit = 0.5 - check["margin"]
    n = len(rated.outcomes)
    fact = (
        f"Preferred over {rated.other} in {_format_with_interval(share)}; the lower bound has to be above "
        f"{formatting.percent(limit)}, with {check['least']:,} ratings or more."
    )
    answer = gate_statistics.check_above(share, limit)
    if n < check["least"] and answer == "passed":
        answer = "cant_tell"
        fact += f" There are {formatting.plural(n, 'rating')}."
    return CheckOutcome(answer, fact + _describe_few_rows(answer, share), share, limit, "share of ratings")


def _judge_latency(check: Check, evidence: CheckInputs) -> CheckOutcome:
    seconds = gate_statistics.estimate_median_seconds(
        evidence["seconds"], count_looks(evidence.get("tries", 1))
    )
    answer = gate_statistics.check_below(seconds, check["seconds"])
    where = evidence.get("device", "one machine")
    places = formatting.compute_decimals(seconds.low, seconds.high)
    bounds = formatting.format_interval(seconds.low, seconds.high, places)
    counted = formatting.plural(seconds.n, "evaluation")
    took = f"{formatting.format_number(seconds.value, places)} seconds per answer ({bounds}, {counted})"
    fact = f"{took} on {where}, limit {formatting.format_point_value(check['seconds'])}."
    why = f" {_capitalize(seconds.why)}." if seconds.why else ""
    return CheckOutcome(answer, fact + why, seconds, check["seconds"], "seconds an answer")


def _format_gap(gap: Estimate, unit: str = "") -> str:
    """Format a gap as "0.031 better (interval 0.01 to 0.05, n 200)"; positive limits are better."""
    side = "better" if gap.value > 0 else "worse" if gap.value < 0 else "no better"
    places = formatting.compute_decimals(gap.low, gap.high)
    size = formatting.format_number(abs(gap.value), places) + (f" {unit}" if unit else "")
    amount = f"{size} {side}" if gap.value else side
    bounds = formatting.format_interval(gap.low, gap.high, places)
    return f"{amount} (interval {bounds}, n {gap.n:,})"


def _format_with_interval(estimate: Estimate) -> str:
    places = formatting.compute_decimals(estimate.low, estimate.high)
    bounds = formatting.format_interval(estimate.low, estimate.high, places)
    return f"{formatting.format_number(estimate.value, places)} ({bounds}, n {estimate.n:,})"


def _format_signed(estimate: Estimate) -> str:
    text = formatting.format_number(estimate.value, formatting.compute_decimals(estimate.low, estimate.high))
    return text if text.startswith(formatting.MINUS) else f"+{text}"


def _format_points(estimate: Estimate) -> str:
    """Format a change of a share with its interval: "−0.7 points (−4 to 3)"."""
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        return f"{formatting.format_point_value(100 * estimate.value)} points"
    places = formatting.compute_decimals(100 * low, 100 * high)
    bounds = formatting.format_interval(100 * low, 100 * high, places)
    return f"{formatting.format_number(100 * estimate.value, places)} points ({bounds})"


def _format_metric(name: str) -> str:
    return name.removeprefix("eval/").replace("_", " ")


def _describe_few_rows(answer: CheckAnswer, estimate: Estimate) -> str:
    if answer != "cant_tell":
        return ""
    if why := estimate.why:
        return f" No interval: {why}."
    return " These rows are not conclusive."


JUDGES: dict[str, Callable[[Check, CheckInputs], CheckOutcome]] = {
    "not_worse_than": _judge_not_worse,
    "better_on_task": _judge_better,
    "question_above": _judge_question,
    "forgetting_under": _judge_forgetting,
    "bias_under": _judge_bias,
    "calibration_under": _judge_calibration,
    "parity_passed": _judge_parity,
    "human_ratings": _judge_ratings,
    "latency_under": _judge_latency,
}
check_same_names("check of a gate", GATE_CHECKS, JUDGES)
