"""The interpolation view of a run: models between its base (α 0) and its own weights (α 1), scored on gain
and forgetting; the slider, and saving one of them.

Nothing is trained. The selected α is kept in the link.
"""

from __future__ import annotations

import streamlit as st

from pages.comparison.tradeoff_points import MEASURES, find_measure
from pages.runs import interpolation_points
from pages.runs.interpolation_points import ScoredShare, draw_table, plot_interpolation
from pages.shared import cached_queries, display, run_queries
from pages.shared.charts import PLOT
from pages.shared.job_progress import show_live
from pages.shared.layout import INTERPOLATION, LINK
from pages.shared.run_chips import draw_chip_link
from pages.shared.session import cached, escape_markdown, get_client, has_right, send_command, show_errors
from store.core import formatting
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.runs import run_outcomes
from store.runs.config import explain_refusal
from store.runs.schemas import MeasuredMix, Run, SavedVariant
from store.training.train_config import TrainConfig

CHART, SLIDER = "mix-chart", "alpha"


@cached(cached_queries.LIVE, max_entries=16)
def _read_shares(run_id: str) -> tuple[list[MeasuredMix], list[Job], dict[float, SavedVariant]]:
    """Return the scored shares, jobs that are active or have failed since, and the saved variants."""
    db = get_client()
    return (
        run_outcomes.measured_shares(db, run_id),
        run_outcomes.unfinished_interpolations(db, run_id),
        run_outcomes.kept_variants(db, run_id),
    )


def can_interpolate(run: Run) -> bool:
    """Whether the run can be interpolated with its base model, now or once it has finished."""
    return run.status in ("finished", *ALIVE) and not _explain_refusal(run)


def draw_interpolation(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        st.header("Interpolation", anchor=False)
        run = run_queries.read_current_run(run_id)
        if run.status != "finished":
            why = f"This run is {run.status}. Only a finished run can be interpolated with its base model."
        else:
            why = _explain_refusal(run)
        if why:
            _draw_unavailable(run, why)
        else:
            _draw_interpolation_form(run)


def _draw_interpolation_form(run: Run) -> None:
    measured, jobs, kept = _read_shares(run.run_id)
    rows = interpolation_points.build_scored_shares(run, measured)
    alive = [job for job in jobs if job.status in ALIVE]
    _draw_summary(rows)
    for job in alive:
        with st.container(border=True):
            show_live(job.job_id, "scoring", escape_markdown(job.title))
    for job in jobs[-1:] if not alive else []:
        _draw_bad_end(job)
    wide, narrow = st.columns([3, 1.35], gap="medium")
    with narrow:
        measure = _choose_measure(rows)
        alpha = _draw_slider(rows)
        _draw_share(run, rows, kept, alpha, measure, busy=bool(alive))
        _draw_more(run, measured, rows, busy=bool(alive))
    with wide:
        _draw_plot(run, rows, measure, alpha, kept)
    draw_table(rows, kept)


def _explain_refusal(run: Run) -> str:
    return explain_refusal(TrainConfig.of_past(run.config), run.facts)


def _draw_unavailable(run: Run, why: str) -> None:
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("This run can't be interpolated with its base model", anchor=False)
        st.markdown(escape_markdown(why))
        parent = run.facts.get("mixed_from")
        if parent and st.button("Open the parent run", icon=":material/linear_scale:", key="mix-parent"):
            st.switch_page("pages/runs/run.py", query_params={"run": parent, LINK: INTERPOLATION})
        if not parent and run.status == "finished":
            st.markdown("To reduce forgetting: replay general rows, or lower the learning rate.")


def _draw_summary(rows: list[ScoredShare]) -> None:
    """Draw the recommendation as a headline."""
    between = [row for row in rows if row.alpha < 1]
    if not between:
        st.markdown(
            "**α** is the share of the weight change that is kept: 0 is the base model, 1 the tuned model."
            " Values in between often keep most of the gain and forget less. Score some to see."
        )
        return
    recommendation = interpolation_points.recommend_share(rows)
    icon = (
        ":green[:material/verified:]" if recommendation.recommended is not None else ":gray[:material/help:]"
    )
    st.subheader(f"{icon} {escape_markdown(recommendation.sentence)}", anchor=False)


def _choose_measure(rows: list[ScoredShare]) -> str:
    titles = {key: find_measure(key).title for key in interpolation_points.list_measures(rows)}
    chosen = st.segmented_control(
        "Forgetting", list(titles), default="prose", key="forgetting", format_func=titles.__getitem__,
        bind="query-params", wrap=True,
    )  # fmt: skip
    return chosen or "prose"


def _draw_slider(rows: list[ScoredShare]) -> float:
    """Draw the slider and return the chosen share; initially the recommended one, or else 0.5."""
    best = interpolation_points.recommend_share(rows).recommended if rows else None
    usual = best if best in interpolation_points.list_available_shares() else 0.5
    chosen = st.slider(
        "α: from the base model (0) to the tuned one (1)", 0.0, 1.0, usual, interpolation_points.STEP,
        key=SLIDER,
        bind="query-params",
    )  # fmt: skip
    return round(chosen, 2)


def _draw_share(
    run: Run,
    rows: list[ScoredShare],
    kept: dict[float, SavedVariant],
    alpha: float,
    measure: str,
    *,
    busy: bool,
) -> None:
    """Draw the figures of the chosen share, and its actions."""
    row = next((row for row in rows if row.alpha == alpha), None)
    with st.container(border=True, key="mix-one"):
        which = ", the base model" if alpha == 0 else ", the tuned model" if alpha == 1 else ""
        st.markdown(f"**α {alpha:g}**{which}")
        st.markdown(escape_markdown(_describe_share(row, rows, alpha, measure)))
        if not 0 < alpha < 1:
            return
        if alpha in kept:
            st.markdown("Saved as a run:")
            draw_chip_link(kept[alpha])
            return
        if not has_right("work"):
            return
        with st.container(horizontal=True):
            if row is None and st.button(
                f"Score α {alpha:g}", icon=":material/fact_check:", key="mix-score-one", disabled=busy
            ):
                _score_shares(run, [alpha])
            if st.button(
                "Save as run",
                icon=":material/save:",
                key="mix-keep",
                type="primary" if row else "secondary",
                help="Saves this model as a run, to compare, evaluate or continue training.",
            ):
                _save_share(run, alpha)


def _describe_share(row: ScoredShare | None, rows: list[ScoredShare], alpha: float, measure: str) -> str:
    what = find_measure(measure)
    if alpha == 0:
        return "No gain and no forgetting: the reference for all other values."
    if row:
        scored = interpolation_points.build_points([row], measure)
        rested_on = formatting.plural(row.gain.n, "row") if row.gain else "no row"
        gained = f"Gain {display.format_estimate(row.gain)} nats a token on {rested_on}"
        if not scored:
            return f"{gained}; {_format_measure(measure)} was not measured."
        cost = scored[0].cost
        n = formatting.plural(cost.n, what.items)
        return f"{gained}; {_format_measure(measure)} {display.format_estimate(cost)} {what.unit}, {n}."
    below, above = interpolation_points.find_neighbouring_shares(rows, alpha)
    low = f"α {below.alpha:g}" if below else "the base model"
    high = f"α {above.alpha:g}" if above and above.alpha < 1 else "the tuned model"
    return f"Not scored yet. Between {low} and {high}."


def _format_measure(measure: str) -> str:
    """Format a measure's title within a sentence; names given by users are unchanged."""
    title = find_measure(measure).title
    return title.lower() if measure in MEASURES else title


def _draw_more(run: Run, measured: list[MeasuredMix], rows: list[ScoredShare], *, busy: bool) -> None:
    """Draw the choice of the shares to score next, with the estimated time."""
    if not has_right("work"):
        return
    done = {row.alpha for row in rows}
    left = [alpha for alpha in interpolation_points.list_available_shares() if alpha not in done]
    usual = [alpha for alpha in interpolation_points.DEFAULT_SHARES if alpha in left]
    with st.container(border=True, key="mix-more"):
        chosen = st.multiselect(
            "Values of α to score",
            left,
            default=usual,
            key=f"mix-shares-{len(done)}",
            format_func="α {:g}".format,
        )
        expected = interpolation_points.estimate_scoring_time(run, measured)
        if expected and chosen:
            duration = expected.shares(len(chosen))
            st.caption(f"{duration[0].upper()}{duration[1:]}. No training.")
        if st.button(
            "Score",
            icon=":material/fact_check:",
            key="mix-score",
            type="primary" if usual else "secondary",
            disabled=busy or not chosen,
        ):
            _score_shares(run, chosen)


def _save_share(run: Run, alpha: float) -> None:
    answer = send_command("keep_variant", {"run": run.run_id, "alpha": alpha})
    if answer is not None:
        st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})


def _score_shares(run: Run, alphas: list[float]) -> None:
    if send_command("interpolate", {"run": run.run_id, "alphas": alphas}) is not None:
        st.rerun()


def _draw_bad_end(job: Job) -> None:
    error = job.error
    why = (error and error["message"]) or f"It was {job.status}."
    fix = f"  \n{escape_markdown(error['fix'])}" if error and error.get("fix") else ""
    notice = st.info if job.status == "cancelled" else st.error
    notice(f"The last scoring has no result. {escape_markdown(why)}{fix}", icon=":material/info:")


def _draw_plot(
    run: Run, rows: list[ScoredShare], measure: str, alpha: float, kept: dict[float, SavedVariant]
) -> None:
    shares = interpolation_points.build_points(rows, measure)
    if not shares:
        st.caption(
            f"Nothing to draw: “{escape_markdown(find_measure(measure).title)}” was not measured of this run."
        )
        return
    st.plotly_chart(
        plot_interpolation(shares, measure, alpha, list(kept)),
        key=CHART,
        on_select=_handle_plot_click,
        selection_mode="points",
        config=PLOT,
        alt=(
            f"Gain against forgetting of {formatting.plural(len(shares), 'share')} of the way to {run.name}"
        ),
    )
    st.caption(
        "Bars, and figures in brackets, are 95% intervals; gains are over"
        f" {formatting.plural(shares[-1].gain.n, 'held-out row')}. Filled diamonds were saved as runs. All"
        " shares are measured on the same rows, so their differences are more certain than the bars"
        " suggest. Click one to select it."
    )


def _handle_plot_click() -> None:
    """Callback: move the slider to the clicked share."""
    points = st.session_state[CHART]["selection"]["points"]
    alpha = next((p["customdata"][0] for p in points if p.get("customdata")), None)
    if alpha is not None:
        st.session_state[SLIDER] = float(alpha)
