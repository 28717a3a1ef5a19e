"""Descriptions of improvements: states, progress, a shortage of rows, and next steps."""

from __future__ import annotations

import shlex
from typing import Literal, NamedTuple

from store.registry.schemas import CheckReport, GateReport
from store.retraining.config import MAX_JUDGED, MAX_LEAKAGE, MAX_LEAKAGE_SHORT, MIN_ROWS, SHORT_ANSWER
from store.retraining.schemas import (
    GatheredRows,
    Improvement,
    ImprovementState,
    LeakageEstimate,
    ReusedJudgingRows,
    TooFewRowsResult,
)


class StateText(NamedTuple):
    """Texts for a state.

    title: title of the state. waits: sentence on what is in progress or waited for. step: noun for the
    step of the chain; "" for states that aren't steps.
    """

    title: str
    waits: str
    step: str = ""


STATES: dict[ImprovementState, StateText] = {
    "labelling": StateText(
        "Waiting for ratings", "A rating round is open. Close it once there are enough ratings.", "Ratings"
    ),
    "gathering": StateText(
        "Gathering new rows", "New rows are built from feedback and ratings, without duplicates.", "New rows"
    ),
    "joining": StateText(
        "Joining old and new rows",
        "The new rows are added to the training data of the version in use.",
        "Data version",
    ),
    "training": StateText("Training", "The same config is trained on old and new rows.", "Run"),
    "registering": StateText("Registering", "The run's model is registered as the next version.", "Version"),
    "measuring": StateText(
        "Evaluating",
        "The new version and the one in use are evaluated on the held-out old and new rows.",
        "Evaluation",
    ),
    "deciding": StateText(
        "Waiting for a decision", "Review the checks, then promote or decline the version.", "Decision"
    ),
    "promoted": StateText("Promoted", "The new version is in use."),
    "declined": StateText("Declined", "The version in use stays. The new version is kept."),
    "stopped": StateText("Stopped", "Stopped by a person. Everything made so far is kept."),
    "waiting": StateText(
        "Waiting for rows",
        "Too few new rows are usable. Resume once there is more feedback; all of it is included.",
    ),
    "failed": StateText("Failed", "Resume it once the cause is fixed; completed steps are kept."),
}
STEPS: tuple[ImprovementState, ...] = (  # steps in order
    *("labelling", "gathering", "joining", "training", "registering", "measuring", "deciding"),
)
CHECKS = (  # titles of the gate's checks, in order
    "Not worse than allowed on the old rows",
    "Not worse than allowed on the new rows",
)
NO_TEST = " (validation rows, as the run has no test split; they selected its best step, which favors it)"
ROWS = ("old rows", "new rows")
ImprovementOutcome = Literal["better", "within", "worse_within", "worse", "cant_tell", "alone"]
MAYBE_LEAKED = "may have leaked into training, which could explain the difference"
ANSWERS = {"passed": "passed", "failed": "not passed", "cant_tell": "inconclusive"}


def classify_outcome(report: GateReport) -> ImprovementOutcome:
    """Classify the outcome of the two checks."""
    if report.holder is None:
        return "alone"
    if report.answer != "passed":
        return "worse" if report.answer == "failed" else "cant_tell"
    if list_surely_worse(report):
        return "worse_within"
    lows = [_compute_sure_gain(check) for check in report.checks]
    return "better" if lows and all(low is not None and low > 0 for low in lows) else "within"


def _compute_sure_gain(check: CheckReport) -> float | None:
    """Return the lower bound of the change minus the possible effect of leakage."""
    value = check.value
    return None if value is None or value.low is None else value.low - (check.lifted or 0.0)


def can_be_leakage(check: CheckReport) -> bool:
    """Return whether an inconclusive check would have passed without possible leakage.

    This includes checks whose effect of leakage is unknown: if the lower bound is above the limit, nothing
    else makes them inconclusive.
    """
    value, limit = check.value, check.limit
    if check.check != "not_worse_than" or check.answer != "cant_tell" or value is None or limit is None:
        return False
    return value.low is not None and value.low > limit


def list_surely_worse(report: GateReport) -> list[str]:
    """Return the rows (old, new) on which the change is significantly negative, however small."""
    named = zip(ROWS, report.checks, strict=False)
    ends = [(rows, check.value.high if check.value else None) for rows, check in named]
    return [rows for rows, high in ends if high is not None and high < 0]


def format_margin(report: GateReport) -> str:
    """Format the margin that no passing version exceeds: "more than 2 points worse"."""
    limits = [(check.limit, check.unit) for check in report.checks if check.limit is not None]
    if not limits:
        return "worse than allowed"
    size, unit = abs(limits[0][0]), limits[0][1]
    if not size:
        return "worse at all"
    if unit.startswith("share"):
        points = f"{100 * size:.4g}"
        return f"more than {points} point{'' if points == '1' else 's'} worse"
    return f"more than {size:.4g} {unit} worse"


def describe_outcome(report: GateReport) -> str:
    """Describe the outcome of the two checks; a significant decrease is mentioned even if it is allowed."""
    version, holder, by = report.reference, report.holder, format_margin(report)
    if holder is None:
        return f"No version has the alias {report.alias}, so {version} was not compared with any."
    named = list(zip(ROWS, report.checks, strict=False))
    if report.answer == "passed":
        passed = f"{version} is not {by} than {holder}, on old and new rows (95% confidence)."
        if own := list_surely_worse(report):
            return f"{passed} On the {' and the '.join(own)} it is significantly worse, but by less."
        return passed
    worse = [rows for rows, check in named if check.answer == "failed"]
    unsure = [rows for rows, check in named if check.answer == "cant_tell"]
    parts = (
        [f"{version} is significantly {by} than {holder} on the {' and the '.join(worse)}."] if worse else []
    )
    if unsure:
        parts.append(f"On the {' and the '.join(unsure)} it is inconclusive whether {version} is {by}.")
    if slips := [rows for rows, check in named if can_be_leakage(check)]:
        parts.append(
            f"On the {' and the '.join(slips)} it would have passed if not for repeats that {MAYBE_LEAKED}."
        )
    return " ".join(parts)


def describe_next_step(improvement: Improvement) -> str:
    """Describe what a person can do now; "" if nothing."""
    name = shlex.quote(improvement.name)
    match improvement.state:
        case "labelling":
            return "Close the rating round; the improvement then continues automatically."
        case "deciding":
            return f"Promote it with tunebench improvement promote {name}, or decline it with a reason."
        case "waiting":
            return f"Once there is more feedback, resume it: tunebench improvement resume {name}."
        case "failed":
            return f"Resume it: tunebench improvement resume {name}."
    return ""


def describe_rows(rows: GatheredRows) -> str:
    """Describe the number of new rows, and how many are held out."""
    used = rows.train + rows.held_out
    draw = (
        describe_draw(rows)
        if rows.held_out_random
        else "not a random sample of requests, so the results apply to such rows and not to all requests"
    )
    parts = [
        f"{used:,} of {rows.asked:,} rows are used: {rows.train:,} for training and {rows.held_out:,} "
        f"held out, {draw}."
    ]
    if again := describe_reuse(rows):
        parts.append(again)
    if redacted := describe_redaction(rows):
        parts.append(redacted)
    if rows.corrects:
        parts.append(f"{rows.corrects:,} of the training rows correct an old row and replace it.")
    return " ".join(parts)


MAX_NAMED = 4  # reasons named in a sentence
CONTINUE_NOTE = "then resume; everything collected by then is included."


def describe_shortage(rows: GatheredRows) -> TooFewRowsResult | None:
    """Describe why these rows aren't enough to train and evaluate a run; None if they are."""
    usable = rows.train + rows.held_out
    reasons = [f"{count:,} {reason}" for reason, count in rows.left_out.items()]
    more = f" and {len(reasons) - MAX_NAMED} more reasons" if len(reasons) > MAX_NAMED else ""
    why = f" Left out: {'; '.join(reasons[:MAX_NAMED])}{more}." if reasons else ""
    if usable < MIN_ROWS:
        too_few = f"{usable:,} of {rows.asked:,} new rows are usable; at least {MIN_ROWS} are needed.{why}"
        return {"rows": rows, "too_few": too_few, "fix": f"Get more answers corrected, {CONTINUE_NOTE}"}
    if not rows.held_out:
        too_few = (
            f"None of the {usable:,} new rows can be held out: all ask the same as old training rows.{why}"
        )
        fix = f"Get answers to new questions labelled, {CONTINUE_NOTE}"
        return {"rows": rows, "too_few": too_few, "fix": fix}
    return None


def describe_judging_rows(rows: GatheredRows) -> str:
    """Describe the held-out rows other than the old ones: "44 new rows and 61 held out before"."""
    times: dict[str, int] = rows.again.times if rows.again is not None else {}
    unjudged = times.get("0", 0)
    before = sum(times.values()) - unjudged
    parts = [f"{rows.held_out:,} new row{'' if rows.held_out == 1 else 's'}"]
    if unjudged:
        parts.append(f"{unjudged:,} that {_were(unjudged)} held out earlier but not used")
    if before:
        parts.append(f"{before:,} held out before")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def describe_reuse(rows: GatheredRows) -> str:
    """Describe how often reused held-out rows were used and how they were sampled; "" if there are none."""
    again = rows.again
    if not again or not again.rows:
        return ""
    often = [
        f"{count:,} {_were(count)} used for {number} improvement" + ("" if number == "1" else "s")
        for number, count in again.times.items()
        if number != "0"
    ]
    parts = [f"It is evaluated on {describe_judging_rows(rows)}."]
    if often:
        parts.append(f"Of the earlier ones {', '.join(often)}.")
    parts.append(_describe_earlier_draw(again, rows.held_out_random))
    return " ".join(part for part in parts if part)


def _describe_earlier_draw(again: ReusedJudgingRows, new_random: bool) -> str:
    """Describe how many reused rows were sampled at random; "" if they were sampled like the new ones."""
    count, drawn = again.random, "sampled at random from requests"
    if count == again.rows:
        return "" if new_random else f"All of the earlier ones were {drawn}."
    if not count:
        return f"None of the earlier ones was {drawn}." if new_random else ""
    return f"{count:,} of the earlier ones {_were(count)} {drawn}."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def is_all_random(rows: GatheredRows) -> bool:
    """Return whether all held-out rows, new and reused, were sampled at random from requests."""
    again = rows.again
    return rows.held_out_random and (again is None or again.random == again.rows)


FLATTERED = (
    f"A row is held out for at most {MAX_JUDGED} improvements. The version in use was selected on "
    "rows held out before, so it may look slightly better on them than it is; this makes the check "
    "stricter for a new version, not looser."
)


def describe_draw(rows: GatheredRows) -> str:
    """Describe, as a clause, how new held-out rows were sampled; repeats and disputed rows are excluded."""
    left_out = sum(rows.left_out.values())
    but = (
        f", without the {left_out:,} that were left out, such as repeats and disputed ones"
        if left_out
        else ""
    )
    return f"sampled at random from requests{but}, so they show how new requests fare"


def describe_redaction(rows: GatheredRows) -> str:
    """Describe how many rows contain placeholders; "" if none does."""
    if not (count := (rows.redacted or 0)):
        return ""
    return (
        f"{count:,} of those used {'holds' if count == 1 else 'hold'} placeholders such as [EMAIL], where "
        "personal data was redacted; the model learns the placeholders as text."
    )


def describe_leakage(rows: GatheredRows, check: CheckReport | None = None) -> str:
    """Describe how many repeats of held-out rows may be undetected and how much they may affect the result.

    States if there is no bound; "" if repeats weren't searched. check: the check on the old rows, once
    measured.
    """
    if rows.repeats is None:
        return ""
    repeats = rows.repeats
    stayed_out = (
        f"{repeats:,} new row{' repeats' if repeats == 1 else 's repeat'} a held-out row, exactly or "
        f"paraphrased, and {_were(repeats)} left out."
    )
    slipping = rows.slipping
    if slipping == "uncounted":
        return f"{stayed_out} {UNCOUNTED}"
    if slipping is None:
        return f"{stayed_out} {NO_BOUND}"
    if not slipping.judging:
        return ""
    return (
        f"{stayed_out} {_describe_unrecognised(slipping)} of the rows that repeat a held-out old row may go "
        f"undetected. {_describe_learned(slipping, check)} {_describe_allowance(slipping, check)}"
    )


def _format_in_shares(check: CheckReport | None) -> bool:
    return check is not None and check.unit.startswith("share")


def _describe_learned(slipping: LeakageEstimate, check: CheckReport | None) -> str:
    """Describe how many held-out rows may have been learned and how much that lifts a metric that is a share.

    For other metrics rows have unequal weights, so the lift isn't stated.
    """
    most, judging = slipping.most, slipping.judging
    if not most:
        return f"With 95% confidence, none of the {judging:,} held-out old rows was learned from such rows."
    points = f"{min(100.0, 100 * most / judging):.1f}".removesuffix(".0")
    lifts = f", which may lift the share by up to {points} point{'' if points == '1' else 's'}"
    return (
        f"With 95% confidence, at most {most:,} of the {judging:,} held-out old rows {_were(most)} "
        f"learned from such rows{lifts if _format_in_shares(check) else ''}."
    )


def _describe_allowance(slipping: LeakageEstimate, check: CheckReport | None) -> str:
    """Describe how the check allows for it. That it keeps its level was simulated for shares."""
    allowed = slipping.allowed
    if not allowed:
        return "The check on old rows allows for none."
    these = "it" if slipping.most == 1 else f"{allowed:,} of these"
    passes = f"The check on old rows passes only if it would also pass without {these}"
    if _format_in_shares(check):
        return f"{passes}, which keeps its 5% significance level."
    if check is None or not (lifted := check.lifted):
        return f"{passes}."
    which = "the row" if allowed == 1 else "the rows"
    return (
        f"{passes}, counted as {which} most in favor of the new version, which may lift it by "
        f"{lifted:.3g} {check.unit}."
    )


UNCOUNTED = "Gathered before leaks were counted, so the check does not account for them."
NO_BOUND = (
    "The answers are labels. A paraphrase with the same label is what a classifier should learn, so "
    "it is used for training even if a held-out old row asks the same. How much that lifts the new "
    "version on the old rows has no bound here, and the check does not account for it."
)


def _describe_unrecognised(slipping: LeakageEstimate) -> str:
    """Describe the share of undetected repeats by length of the answers: "Up to 20 in 100"."""
    usual, short = (f"{100 * share:g}" for share in (MAX_LEAKAGE, MAX_LEAKAGE_SHORT))
    if not slipping.short:
        return f"Up to {usual} in 100"
    if slipping.short == slipping.judging:
        return f"Up to {short} in 100, as answers have under {SHORT_ANSWER} words,"
    return f"Up to {usual} in 100, and {short} where the answer has under {SHORT_ANSWER} words,"


def list_exclusions(rows: GatheredRows) -> list[str]:
    """Return reasons why rows were excluded, the most frequent first."""
    return [f"{count:,}: {reason}" for reason, count in rows.left_out.items()]


def list_reuse_exclusions(rows: GatheredRows) -> list[str]:
    """Return reasons why earlier held-out rows aren't reused."""
    again = rows.again
    return [f"{count:,}: {reason}" for reason, count in again.left_out.items()] if again else []


def describe_moved_alias(improvement: Improvement) -> str:
    """Describe that the alias moved while the improvement was in progress; "" if it didn't."""
    facts = improvement.facts
    if not (earlier := facts.get("holder_was")):
        return ""
    now = facts.get("holder") or "no version"
    return f"{improvement.alias} has since moved from {earlier} to {now}, which it is now compared with."
