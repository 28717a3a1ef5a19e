"""Improvements in plain words: what each state is called, what is waited for, and what comes next."""

from __future__ import annotations

import shlex
from typing import Literal, NamedTuple

from store.registry.schemas import CheckReport, GateReport
from store.retraining.config import MAX_JUDGED, MAX_LEAKAGE, MAX_LEAKAGE_SHORT, SHORT_ANSWER
from store.retraining.schemas import (
    GatheredRows,
    Improvement,
    ImprovementState,
    LeakageEstimate,
    ReusedJudgingRows,
)


class StateText(NamedTuple):
    """title: of the state. waits: what is under way or waited for, a sentence. step: of the chain, a noun; ""
    for states that are none."""

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
STEPS: tuple[ImprovementState, ...] = (  # the chain, in order
    *("labelling", "gathering", "joining", "training", "registering", "measuring", "deciding"),
)
CHECKS = (  # of the gate, in its order
    "Not worse than allowed on the old rows",
    "Not worse than allowed on the new rows",
)
NO_TEST = " (validation rows, as the run has no test split; they selected its best step, which favors it)"
ROWS = ("old rows", "new rows")
ImprovementOutcome = Literal["better", "within", "worse_within", "worse", "cant_tell", "alone"]
MAYBE_LEAKED = "may have leaked into training, which could explain the difference"
ANSWERS = {"passed": "passed", "failed": "not passed", "cant_tell": "inconclusive"}


def classify_outcome(report: GateReport) -> ImprovementOutcome:
    """What the two checks come to, in a word."""
    if report.holder is None:
        return "alone"
    if report.answer != "passed":
        return "worse" if report.answer == "failed" else "cant_tell"
    if list_surely_worse(report):
        return "worse_within"
    lows = [_compute_sure_gain(check) for check in report.checks]
    return "better" if lows and all(low is not None and low > 0 for low in lows) else "within"


def _compute_sure_gain(check: CheckReport) -> float | None:
    """The lower end of the change, less what leaks may have lifted it by."""
    value = check.value
    return None if value is None or value.low is None else value.low - (check.lifted or 0.0)


def can_be_leakage(check: CheckReport) -> bool:
    """Whether it would have passed if nothing could have slipped through, also where nobody knows how much
    that lifts it: then nothing else keeps open what lies beyond the limit."""
    value, limit = check.value, check.limit
    if check.check != "not_worse_than" or check.answer != "cant_tell" or value is None or limit is None:
        return False
    return value.low is not None and value.low > limit


def list_surely_worse(report: GateReport) -> list[str]:
    """On which rows the whole interval of the change lies under none, however little it is."""
    named = zip(ROWS, report.checks, strict=False)
    ends = [(rows, check.value.high if check.value else None) for rows, check in named]
    return [rows for rows, high in ends if high is not None and high < 0]


def format_margin(report: GateReport) -> str:
    """ "more than 2 points worse": by more than which no version passes."""
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
    """What the two checks come to, a sentence. That it is surely worse it says also where that is allowed."""
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
    """What a person may do now, a sentence; "" where there is nothing to do."""
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
    """How many new rows there are, and what of them judges."""
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


def describe_judging_rows(rows: GatheredRows) -> str:
    """ "44 new rows and 61 that judged before": by what the new version is judged beside the old rows."""
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
    """How often the rows that judge again have judged, and how they were drawn; "" where there are none."""
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
    """How many of those that judge again were drawn at random; "" where they were drawn as the new ones."""
    count, drawn = again.random, "sampled at random from requests"
    if count == again.rows:
        return "" if new_random else f"All of the earlier ones were {drawn}."
    if not count:
        return f"None of the earlier ones was {drawn}." if new_random else ""
    return f"{count:,} of the earlier ones {_were(count)} {drawn}."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def is_all_random(rows: GatheredRows) -> bool:
    """Whether all that judge, new and again, were drawn at random of what was asked."""
    again = rows.again
    return rows.held_out_random and (again is None or again.random == again.rows)


FLATTERED = (
    f"A row is held out for at most {MAX_JUDGED} improvements. The version in use was selected on "
    "rows held out before, so it may look slightly better on them than it is; this makes the check "
    "stricter for a new version, not looser."
)


def describe_draw(rows: GatheredRows) -> str:
    """How new rows that judge were drawn, half a sentence; repeats and disputed ones are not among them."""
    left_out = sum(rows.left_out.values())
    but = (
        f", without the {left_out:,} that were left out, such as repeats and disputed ones"
        if left_out
        else ""
    )
    return f"sampled at random from requests{but}, so they show how new requests fare"


def describe_redaction(rows: GatheredRows) -> str:
    """That rows hold placeholders; "" where none does."""
    if not (count := (rows.redacted or 0)):
        return ""
    return (
        f"{count:,} of those used {'holds' if count == 1 else 'hold'} placeholders such as [EMAIL], where "
        "personal data was redacted; the model learns the placeholders as text."
    )


def describe_leakage(rows: GatheredRows, check: CheckReport | None = None) -> str:
    """How many repeats of rows that judge may have slipped through, and how far they may move the result, or
    that this has no bound; "" where nobody looked. check: that on the old rows, once they were measured."""
    if rows.repeats is None:
        return ""
    repeats = rows.repeats
    stayed_out = (
        f"{repeats:,} new row{' repeats' if repeats == 1 else 's repeat'} a held-out row, exactly or "
        "paraphrased, and was left out."
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
    """How many may have been learned, and what that lifts a share by: in others rows weigh unequally."""
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
    """What the check makes of it. That it keeps its level is simulated of shares."""
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
    """ "Up to 20 in 100": of repeats, by how long the answers are."""
    usual, short = (f"{100 * share:g}" for share in (MAX_LEAKAGE, MAX_LEAKAGE_SHORT))
    if not slipping.short:
        return f"Up to {usual} in 100"
    if slipping.short == slipping.judging:
        return f"Up to {short} in 100, as answers have under {SHORT_ANSWER} words,"
    return f"Up to {usual} in 100, and {short} where the answer has under {SHORT_ANSWER} words,"


def list_exclusions(rows: GatheredRows) -> list[str]:
    """Why the others are not, the most frequent reason first."""
    return [f"{count:,}: {reason}" for reason, count in rows.left_out.items()]


def list_reuse_exclusions(rows: GatheredRows) -> list[str]:
    """Why rows that judged before judge no more."""
    again = rows.again
    return [f"{count:,}: {reason}" for reason, count in again.left_out.items()] if again else []


def describe_moved_alias(improvement: Improvement) -> str:
    """That the alias moved while it was under way; "" where it did not."""
    facts = improvement.facts
    if not (earlier := facts.get("holder_was")):
        return ""
    now = facts.get("holder") or "no version"
    return f"{improvement.alias} has since moved from {earlier} to {now}, which it is now compared with."
