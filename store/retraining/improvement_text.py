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
        "Waits for ratings", "A rating round is open. Close it once enough is rated.", "Ratings"
    ),
    "gathering": StateText(
        "Gathers new rows", "New rows are made of what people said, without repeats.", "New rows"
    ),
    "joining": StateText(
        "Joins old and new rows", "The new rows are added to those of the version in use.", "Data version"
    ),
    "training": StateText("Trains", "The same training runs on old and new rows.", "Run"),
    "registering": StateText("Registers", "What the run left becomes the next version.", "Version"),
    "measuring": StateText(
        "Measures", "The new version and the one in use answer old and new rows that judge.", "Measured"
    ),
    "deciding": StateText(
        "Waits for your yes or no", "Look at the checks, then promote the version or decline it.", "Decision"
    ),
    "promoted": StateText("Promoted", "The new version is in use."),
    "declined": StateText("Declined", "The version in use stays. What was made is still there."),
    "stopped": StateText("Stopped", "Somebody stopped it. What was made is still there."),
    "waiting": StateText(
        "Waits for rows", "Too few new rows can be used so far. Go on once more was said: it is all taken in."
    ),
    "failed": StateText("Failed", "It can go on from where it failed, once the cause is gone."),
}
STEPS: tuple[ImprovementState, ...] = (  # the chain, in order
    *("labelling", "gathering", "joining", "training", "registering", "measuring", "deciding"),
)
CHECKS = (  # of the gate, in its order
    "Not worse than allowed on the old rows",
    "Not worse than allowed on the new rows",
)
NO_TEST = (
    " (its validation rows, as the run kept none for a test: they chose its best step, which favours it)"
)
ROWS = ("old rows", "new rows")
ImprovementOutcome = Literal["better", "within", "worse_within", "worse", "cant_tell", "alone"]
MAYBE_LEAKED = "may have slipped into training, which could make this difference"
ANSWERS = {"passed": "passed", "failed": "not passed", "cant_tell": "can't be told"}


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
        return (
            f"No version is {report.alias}, so {version} was held against none: how good it is beside"
            " another nothing here says."
        )
    named = list(zip(ROWS, report.checks, strict=False))
    if report.answer == "passed":
        passed = f"{version} is surely not {by} than {holder}, on the old rows and on the new ones."
        if own := list_surely_worse(report):
            return f"{passed} On the {' and the '.join(own)} it is surely worse, though by less."
        return passed
    worse = [rows for rows, check in named if check.answer == "failed"]
    unsure = [rows for rows, check in named if check.answer == "cant_tell"]
    parts = [f"{version} is surely {by} than {holder} on the {' and the '.join(worse)}."] if worse else []
    if unsure:
        parts.append(f"On the {' and the '.join(unsure)} it can't be told whether {version} is {by}.")
    if slips := [rows for rows, check in named if can_be_leakage(check)]:
        parts.append(
            f"On the {' and the '.join(slips)} it would have passed but for repeats that {MAYBE_LEAKED}."
        )
    return " ".join(parts)


def describe_next_step(improvement: Improvement) -> str:
    """What a person may do now, a sentence; "" where there is nothing to do."""
    name = shlex.quote(improvement.name)
    match improvement.state:
        case "labelling":
            return "Close the rating round, and it goes on by itself."
        case "deciding":
            return f"Promote it: tunebench improvement promote {name}. Or decline it, with a reason."
        case "waiting":
            return f"Go on once more was said: tunebench improvement resume {name}."
        case "failed":
            return f"Go on: tunebench improvement resume {name}."
    return ""


def describe_rows(rows: GatheredRows) -> str:
    """How many new rows there are, and what of them judges."""
    used = rows.train + rows.held_out
    draw = (
        describe_draw(rows)
        if rows.held_out_random
        else "no random draw of what is asked, so they say how such rows fare and not how all requests do"
    )
    parts = [
        f"{used:,} of {rows.asked:,} are used: {rows.train:,} train and {rows.held_out:,} judge, {draw}."
    ]
    if again := describe_reuse(rows):
        parts.append(again)
    if redacted := describe_redaction(rows):
        parts.append(redacted)
    if rows.corrects:
        parts.append(f"{rows.corrects:,} of those that train correct an old row, which gives way.")
    return " ".join(parts)


def describe_judging_rows(rows: GatheredRows) -> str:
    """ "44 new rows and 61 that judged before": by what the new version is judged beside the old rows."""
    times: dict[str, int] = rows.again.times if rows.again is not None else {}
    unjudged = times.get("0", 0)
    before = sum(times.values()) - unjudged
    parts = [f"{rows.held_out:,} new row{'' if rows.held_out == 1 else 's'}"]
    if unjudged:
        parts.append(f"{unjudged:,} that {_were(unjudged)} put aside earlier and judged nothing")
    if before:
        parts.append(f"{before:,} that judged before")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def describe_reuse(rows: GatheredRows) -> str:
    """How often the rows that judge again have judged, and how they were drawn; "" where there are none."""
    again = rows.again
    if not again or not again.rows:
        return ""
    often = [
        f"{count:,} {'has' if count == 1 else 'have'} judged {number} improvement"
        + ("" if number == "1" else "s")
        for number, count in again.times.items()
        if number != "0"
    ]
    parts = [f"It is judged by {describe_judging_rows(rows)}."]
    if often:
        parts.append(f"Of the earlier ones {', '.join(often)}.")
    parts.append(_describe_earlier_draw(again, rows.held_out_random))
    return " ".join(part for part in parts if part)


def _describe_earlier_draw(again: ReusedJudgingRows, new_random: bool) -> str:
    """How many of those that judge again were drawn at random; "" where they were drawn as the new ones."""
    count, drawn = again.random, "drawn at random of what was asked"
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
    f"A row judges {MAX_JUDGED} improvements at most. What is in use was chosen by rows that judged before,"
    " and may look a little better on them than it is: that rather holds a new version back than lets one"
    " through."
)


def describe_draw(rows: GatheredRows) -> str:
    """How new rows that judge were drawn, half a sentence; repeats and disputed ones are not among them."""
    left_out = sum(rows.left_out.values())
    but = (
        f", without the {left_out:,} that were left out, such as repeats and disputed ones"
        if left_out
        else ""
    )
    return f"drawn at random of what was asked{but}: they show how new requests fare"


def describe_redaction(rows: GatheredRows) -> str:
    """That rows hold placeholders; "" where none does."""
    if not (count := (rows.redacted or 0)):
        return ""
    return (
        f"{count:,} of those used {'holds' if count == 1 else 'hold'} placeholders such as [EMAIL], where"
        " personal data was taken out; the model learns these as they stand."
    )


def describe_leakage(rows: GatheredRows, check: CheckReport | None = None) -> str:
    """How many repeats of rows that judge may have slipped through, and how far they may move the result, or
    that this has no bound; "" where nobody looked. check: that on the old rows, once they were measured."""
    if rows.repeats is None:
        return ""
    repeats = rows.repeats
    stayed_out = (
        f"{repeats:,} new row{' repeats' if repeats == 1 else 's repeat'} a row that judges, in its own or in"
        " other words, and stayed out."
    )
    slipping = rows.slipping
    if slipping == "uncounted":
        return f"{stayed_out} {UNCOUNTED}"
    if slipping is None:
        return f"{stayed_out} {NO_BOUND}"
    if not slipping.judging:
        return ""
    return (
        f"{stayed_out} {_describe_unrecognised(slipping)} of the rows that give back an old row"
        " that judges are not"
        f" recognised. {_describe_learned(slipping, check)} {_describe_allowance(slipping, check)}"
    )


def _format_in_shares(check: CheckReport | None) -> bool:
    return check is not None and check.unit.startswith("share")


def _describe_learned(slipping: LeakageEstimate, check: CheckReport | None) -> str:
    """How many may have been learned, and what that lifts a share by: in others rows weigh unequally."""
    most, judging = slipping.most, slipping.judging
    if not most:
        return f"With 95% certainty none of the {judging:,} old rows that judge was learned from such."
    points = f"{min(100.0, 100 * most / judging):.1f}".removesuffix(".0")
    lifts = f", which may lift the share by up to {points} point{'' if points == '1' else 's'}"
    return (
        f"With 95% certainty at most {most:,} of the {judging:,} old rows that judge {_were(most)} learned"
        f" from such{lifts if _format_in_shares(check) else ''}."
    )


def _describe_allowance(slipping: LeakageEstimate, check: CheckReport | None) -> str:
    """What the check makes of it. That it keeps its level is simulated of shares."""
    allowed = slipping.allowed
    if not allowed:
        return "The check on them allows for none."
    these = "it" if slipping.most == 1 else f"{allowed:,} of these"
    passes = f"The check on them passes only where it would without {these}"
    if _format_in_shares(check):
        return f"{passes}, which keeps its level of 5%."
    if check is None or not (lifted := check.lifted):
        return f"{passes}."
    which = "the row that speaks" if allowed == 1 else "the rows that speak"
    return (
        f"{passes}, taken as {which} most for the new version, which may lift it by {lifted:.3g}"
        f" {check.unit}."
    )


UNCOUNTED = "Gathered before slips were counted: the check does not allow for them."
NO_BOUND = (
    "The answers are labels: a row that asks in other words for the same label is what a classifier is to"
    " learn, so it trains, also where an old row that judges asks the same. How far that lifts the new"
    " version on the old rows has no bound here, and the check on them does not allow for it."
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
    return f"{improvement.alias} moved meanwhile from {earlier} to {now}, beside which it is measured."
