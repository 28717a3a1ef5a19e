"""How much of the tuning is worth keeping? The tab of one run: what was scored on its way from the base, what
is being scored, the slider, and keeping a share.

Models between a run's base (α 0) and its own (α 1) are scored on what they gain and what they forget. Nothing
is trained. The chosen α is in the link.
"""

from __future__ import annotations

import streamlit as st

from pages.comparison.tradeoff_points import MEASURES, measure_of
from pages.runs import interpolation_points
from pages.runs.interpolation_points import ScoredShare, draw_table, mix_chart
from pages.shared import cached_queries, display, run_queries
from pages.shared.charts import PLOT
from pages.shared.job_progress import show_live
from pages.shared.layout import BETWEEN, LINK
from pages.shared.run_chips import chip_link
from pages.shared.session import act, client, guarded, kept_for, may, plain
from store.core import formatting
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.runs import run_outcomes
from store.runs.config import refusal
from store.runs.schemas import KeptVariant, MeasuredShare, Run
from store.training.train_config import TrainConfig

CHART, SLIDER = "mix-chart", "alpha"


@kept_for(cached_queries.LIVE, most=16)
def _read(run_id: str) -> tuple[list[MeasuredShare], list[Job], dict[float, KeptVariant]]:
    """What was scored, the jobs that wait, work or failed since, and the shares that were kept."""
    db = client()
    return (
        run_outcomes.measured_shares(db, run_id),
        run_outcomes.unfinished_interpolations(db, run_id),
        run_outcomes.kept_variants(db, run_id),
    )


def has_between(run: Run) -> bool:
    """Whether there are models between base and tuned one, or will be once the run has finished."""
    return run["status"] in ("finished", *ALIVE) and not _refusal(run)


def draw_mix(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        st.header("How much of the tuning is worth keeping?", anchor=False)
        run = run_queries.run(run_id)
        if why := _why_not(run):
            _draw_why(run, why)
        else:
            _draw_way(run)


def _draw_way(run: Run) -> None:
    measured, jobs, kept = _read(run["run_id"])
    rows = interpolation_points.scored(run, measured)
    alive = [job for job in jobs if job["status"] in ALIVE]
    _draw_lead(rows)
    for job in alive:
        with st.container(border=True):
            show_live(job["job_id"], "scoring", plain(job["title"]))
    for job in jobs[-1:] if not alive else []:
        _draw_bad_end(job)
    wide, narrow = st.columns([3, 1.35], gap="medium")
    with narrow:
        measure = _measure(rows)
        alpha = _slider(rows)
        _draw_share(run, rows, kept, alpha, measure, busy=bool(alive))
        _draw_more(run, measured, rows, busy=bool(alive))
    with wide:
        _draw_plot(run, rows, measure, alpha, kept)
    draw_table(rows, kept)


def _why_not(run: Run) -> str:
    if run["status"] != "finished":
        return f"This run is {run['status']}. A run that has finished left the two models that are mixed."
    return _refusal(run)


def _refusal(run: Run) -> str:
    return refusal(TrainConfig.of_past(run["config"]), run["facts"])


def _draw_why(run: Run, why: str) -> None:
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("This run can't be mixed with its base", anchor=False)
        st.markdown(plain(why))
        parent = run["facts"].get("mixed_from")
        if parent and st.button("Open that run", icon=":material/linear_scale:", key="mix-parent"):
            st.switch_page("pages/runs/run.py", query_params={"run": parent, LINK: BETWEEN})
        if not parent and run["status"] == "finished":
            st.markdown("Against what it forgot: replay general rows, or train with smaller steps.")


def _draw_lead(rows: list[ScoredShare]) -> None:
    """What a reader in a hurry takes with them."""
    between = [row for row in rows if row.alpha < 1]
    if not between:
        st.markdown(
            "**α** is the share of what tuning changed that is kept: at 0 the model is the base, at 1 the"
            " tuned model. In between it often keeps most of the gain and forgets less. Score some shares to"
            " see."
        )
        return
    recommendation = interpolation_points.recommend(rows)
    icon = (
        ":green[:material/verified:]"
        if recommendation["recommended"] is not None
        else ":gray[:material/help:]"
    )
    st.subheader(f"{icon} {plain(recommendation['sentence'])}", anchor=False)


def _measure(rows: list[ScoredShare]) -> str:
    titles = {key: measure_of(key).title for key in interpolation_points.measure_names(rows)}
    chosen = st.segmented_control(
        "Forgetting", list(titles), default="prose", key="forgetting", format_func=titles.__getitem__,
        bind="query-params", wrap=True,
    )  # fmt: skip
    return chosen or "prose"


def _slider(rows: list[ScoredShare]) -> float:
    """The chosen share; at first the recommended one, else half the way."""
    best = interpolation_points.recommend(rows)["recommended"] if rows else None
    usual = best if best in interpolation_points.shares() else 0.5
    chosen = st.slider(
        "α: from the base model (0) to the tuned one (1)", 0.0, 1.0, usual, interpolation_points.STEP,
        key=SLIDER,
        bind="query-params",
    )  # fmt: skip
    return round(chosen, 2)


def _draw_share(
    run: Run,
    rows: list[ScoredShare],
    kept: dict[float, KeptVariant],
    alpha: float,
    measure: str,
    *,
    busy: bool,
) -> None:
    """The chosen share: its figures, and what can be done with it."""
    row = next((row for row in rows if row.alpha == alpha), None)
    with st.container(border=True, key="mix-one"):
        st.markdown(f"**α {alpha:g}**{_named(alpha)}")
        st.markdown(plain(_share_text(row, rows, alpha, measure)))
        if not 0 < alpha < 1:
            return
        if alpha in kept:
            st.markdown("Kept as a run of its own:")
            chip_link(kept[alpha])
            return
        if not may("work"):
            return
        with st.container(horizontal=True):
            if row is None and st.button(
                f"Score α {alpha:g}", icon=":material/fact_check:", key="mix-score-one", disabled=busy
            ):
                _score(run, [alpha])
            if st.button(
                "Save this one",
                icon=":material/save:",
                key="mix-keep",
                type="primary" if row else "secondary",
                help="A run of its own with this model: to compare, evaluate or continue like any other.",
            ):
                _keep(run, alpha)


def _named(alpha: float) -> str:
    return ", the base model" if alpha == 0 else ", the tuned model" if alpha == 1 else ""


def _share_text(row: ScoredShare | None, rows: list[ScoredShare], alpha: float, measure: str) -> str:
    what = measure_of(measure)
    if alpha == 0:
        return "Nothing gained and nothing forgotten: everything is held against it."
    if row:
        scored = interpolation_points.points([row], measure)
        rested_on = formatting.plural(row.gain["n"], "row") if row.gain else "no row"
        gained = f"Gain {display.estimate(row.gain)} nats a token on {rested_on}"
        if not scored:
            return f"{gained}; {_called(measure)} was not measured."
        cost = scored[0].cost
        n = formatting.plural(cost["n"], what.items)
        return f"{gained}; {_called(measure)} {display.estimate(dict(cost))} {what.unit}, {n}."
    below, above = interpolation_points.nearest(rows, alpha)
    low = f"α {below.alpha:g}" if below else "the base model"
    high = f"α {above.alpha:g}" if above and above.alpha < 1 else "the tuned model"
    return f"Not scored yet. It lies between {low} and {high}."


def _called(measure: str) -> str:
    """In a sentence; a name that a user gave stays as it is."""
    title = measure_of(measure).title
    return title.lower() if measure in MEASURES else title


def _draw_more(run: Run, measured: list[MeasuredShare], rows: list[ScoredShare], *, busy: bool) -> None:
    """Which shares to score next, and about how long it takes."""
    if not may("work"):
        return
    done = {row.alpha for row in rows}
    left = [alpha for alpha in interpolation_points.shares() if alpha not in done]
    usual = [alpha for alpha in interpolation_points.USUAL if alpha in left]
    with st.container(border=True, key="mix-more"):
        chosen = st.multiselect(
            "Shares to score", left, default=usual, key=f"mix-shares-{len(done)}", format_func="α {:g}".format
        )
        expected = interpolation_points.expected(run, measured)
        if expected and chosen:
            duration = expected.shares(len(chosen))
            st.caption(f"{duration[0].upper()}{duration[1:]}. Nothing is trained.")
        if st.button(
            "Score these",
            icon=":material/fact_check:",
            key="mix-score",
            type="primary" if usual else "secondary",
            disabled=busy or not chosen,
        ):
            _score(run, chosen)


def _keep(run: Run, alpha: float) -> None:
    answer = act("keep_variant", {"run": run["run_id"], "alpha": alpha})
    if answer is not None:
        st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})


def _score(run: Run, alphas: list[float]) -> None:
    if act("interpolate", {"run": run["run_id"], "alphas": alphas}) is not None:
        st.rerun()


def _draw_bad_end(job: Job) -> None:
    error = job["error"]
    why = (error and error["message"]) or f"It was {job['status']}."
    fix = f"  \n{plain(error['fix'])}" if error and error.get("fix") else ""
    notice = st.info if job["status"] == "cancelled" else st.error
    notice(f"The last scoring has no result. {plain(why)}{fix}", icon=":material/info:")


def _draw_plot(
    run: Run, rows: list[ScoredShare], measure: str, alpha: float, kept: dict[float, KeptVariant]
) -> None:
    shares = interpolation_points.points(rows, measure)
    if not shares:
        st.caption(f"Nothing to draw: “{plain(measure_of(measure).title)}” was not measured of this run.")
        return
    st.plotly_chart(
        mix_chart(shares, measure, alpha, list(kept)),
        key=CHART,
        on_select=_clicked,
        selection_mode="points",
        config=PLOT,
        alt=(
            f"Gain against forgetting of {formatting.plural(len(shares), 'share')} of the way to"
            f" {run['name']}"
        ),
    )
    st.caption(
        "Bars, and figures in brackets, are 95% intervals; gains are over"
        f" {formatting.plural(shares[-1].gain['n'], 'held-out row')}. Filled diamonds were kept as runs. All"
        " shares are measured on the same rows, so that they differ more surely than their bars say. Click"
        " one to choose it."
    )


def _clicked() -> None:
    """Callback: the slider goes to the clicked share."""
    points = st.session_state[CHART]["selection"]["points"]
    alpha = next((p["customdata"][0] for p in points if p.get("customdata")), None)
    if alpha is not None:
        st.session_state[SLIDER] = float(alpha)
