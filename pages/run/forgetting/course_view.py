"""What was forgotten when: prose and questions at the checkpoints of a run, live while it trains."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.forgetting.forgetting import THRESHOLDS
from pages.run.forgetting import course_charts
from pages.run_parts import run_reads
from pages.shared.traces import PLOT
from store.contract.states import ALIVE
from store.documents.figures.estimate import Estimate
from store.documents.tables.run import Run
from store.documents.verdicts.forgetting import (
    CategoryMatrix,
    ColourLimits,
    Forgetting,
    ForgettingCourse,
    ForgottenChoices,
)


def draw_course(run: Run, forgetting: Forgetting | None) -> None:
    """Both charts, or why there is none; found: the `forgetting` part of its verdict, once there is one."""
    if run["config"].get("probes") is False or run["config"].get("task") == "classification":
        return  # said above
    st.markdown("**What was forgotten when**")
    counted = run_reads.summaries(run["run_id"]).get("probe/prose/loss")
    if not counted:
        st.caption(_why_nothing(run))
        return
    steps, probes, cells = run_reads.course(run["run_id"], counted["count"], run["status"] not in ALIVE)
    if not probes:
        st.caption(_why_no_base(run, steps))
        return
    kept = run["verdict"] and run["verdict"]["stopped"]["restored_step"]
    for probe in probes:
        if probe["probe"] == "prose" or probe["probe"].startswith("data/"):
            _draw_rise(probe, forgetting, kept)
    if cells:
        asked = forgetting["choices"] if forgetting else []
        _draw_cells(run, cells, asked[0] if asked else None, kept, steps)
    _draw_price(run)


def _draw_rise(course: ForgettingCourse, forgetting: Forgetting | None, kept: int | None) -> None:
    name = course["probe"]
    end = _of_kept(forgetting, name)
    what, item = ("plain prose", "passage") if name == "prose" else (name.removeprefix("data/"), "row")
    shares = course["kind"] == "choices"
    if end and shares:  # a change of accuracy, the other way round
        end = {**end, "value": -end["value"], "low": _less(end["high"]), "high": _less(end["low"])}
    levels = THRESHOLDS["share"] if shares else THRESHOLDS["nats"]
    limits: ColourLimits = {"amber": levels["amber"], "red": levels["red"]}
    figure = course_charts.rise_chart(course, end, kept, limits, what)
    st.plotly_chart(figure, key=f"course-{name}", config=PLOT, alt=f"Forgetting of {what} by step")
    most = max(point["n"] for point in course["points"])
    note = f"95% intervals over {phrasing.plural(most, item)}; one in colour surely passes that line."
    if end:
        note += f" The diamond is the kept model, on {phrasing.plural(end['n'], item)}."
    st.caption(f"{_since(course, limits, what)} {note}")


def _of_kept(forgetting: Forgetting | None, probe: str) -> Estimate | None:
    """What the kept model forgot of the probe."""
    if not forgetting:
        return None
    changes = {text["probe"]: text["change"] for text in forgetting["texts"]}
    changes |= {choices["probe"]: choices["change"] for choices in forgetting["choices"]}
    return changes.get(probe)


def _less(value: float | None) -> float | None:
    return None if value is None else -value


def _since(course: ForgettingCourse, limits: ColourLimits, what: str) -> str:
    """From where on it surely lies over a threshold."""
    for limit, step in ((limits["red"], course["red_since"]), (limits["amber"], course["amber_since"])):
        if step is not None:
            return f"Surely over {limit:g} {course['unit']} on {what} from step {step:,} on."
    return f"Nowhere surely over {limits['amber']:g} {course['unit']} on {what}."


def _draw_cells(
    run: Run, cells: CategoryMatrix, end: ForgottenChoices | None, kept: int | None, steps: int
) -> None:
    columns = course_charts.columns_of(cells, end, kept)
    if len(columns) < 2 or cells["steps"] == [kept]:  # the kept model may be the one that was asked before
        st.caption(_why_one(run, cells))
        return
    st.markdown("**Questions by category and checkpoint**, change of accuracy in percentage points")
    figure = course_charts.heat_chart(columns)
    alt = "Change of accuracy by category and checkpoint"
    st.plotly_chart(figure, key="course-cells", config={"displayModeBar": False}, alt=alt)
    whole = cells["totals"][0]["n"]
    fewest, most = (pick(cell["n"] for cell in cells["cells"]) for pick in (min, max))
    each = f"{most} of each" if fewest == most else f"{fewest} to {most} of a"
    note = (
        "Strong colour and a number: surely changed, after Holm's correction over all cells (over the steps"
        " for the first row). Pale without a number: can't be told from noise. While it trains"
        f" {whole} questions are asked, {each} category"
    )
    if end:
        note += f"; the kept model is asked all {end['n']:,}, its cells corrected among themselves"
    note += "."
    if steps > len(cells["steps"]):
        note += f" {len(cells['steps'])} of {steps} checkpoints are shown."
    st.caption(note)


def _draw_price(run: Run) -> None:
    spent, trained = run["facts"].get("probe_seconds"), run["facts"].get("train_seconds")
    if spent and trained:
        share = 100 * spent / trained
        st.caption(f"Probes between steps took {spent:.0f} s, {share:.0f}% of the time in training.")


def _why_nothing(run: Run) -> str:
    share = float(run["config"].get("probe_share") or 0)
    if run["status"] in ALIVE:
        return (
            f"Nothing was asked yet. Probes may take {share:.0%} of the time in training, and wait for the"
            " first validation at which it has paid for them."
        )
    return (
        "No probe was paid for while it trained: they may take"
        f" {share:.0%} of the time in training, and it ended before. Raise probe_share to see the course of a"
        " run as short as this."
    )


def _why_no_base(run: Run, steps: int) -> str:
    if run["status"] in ALIVE:
        return (
            f"Questions were asked at {phrasing.plural(steps, 'checkpoint')}. The base model, against which"
            " they count, is asked at the end, as this method changes it from the first step on; with"
            " max_forgetting it is asked before."
        )
    return "The base model was not asked: the run ended before."


def _why_one(run: Run, cells: CategoryMatrix) -> str:
    asked = phrasing.plural(cells["totals"][0]["n"], "question") if cells["totals"] else "no question"
    step = cells["steps"][0]
    return (
        f"A map of categories by checkpoint needs two checkpoints; {asked} could be asked at step {step:,}"
        " alone. Probes wait until training has paid for them: raise probe_share, or evaluations in a longer"
        " run."
    )
