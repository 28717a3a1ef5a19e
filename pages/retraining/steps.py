"""The steps of an improvement: the state of each, its counts and link, and how they are drawn in a row.

All data is passed in.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import streamlit as st

from pages.shared import meters, palette
from pages.shared.job_progress import compute_fraction, describe_activity
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.core.rating_schemas import RoundSummary
from store.core.schemas import Job
from store.data.schemas import Dataset
from store.retraining.config import MIN_ROWS, RoundRowSource
from store.retraining.schemas import Improvement, ImprovementState
from store.retraining.text import STATES, STEPS

StepState = Literal["done", "now", "person", "failed", "stopped", "later"]
STEP_STATE_TITLES: dict[StepState, str] = {
    "done": "done",
    "now": "in progress",
    "person": "waiting for a person",
    "failed": "failed",
    "stopped": "stopped",
    "later": "pending",
}
STEP_ICONS: dict[ImprovementState, str] = {
    "labelling": "rate_review",
    "gathering": "move_to_inbox",
    "joining": "dataset",
    "training": "model_training",
    "registering": "deployed_code",
    "measuring": "fact_check",
    "deciding": "how_to_reg",
}
ENDED: tuple[ImprovementState, ...] = ("promoted", "declined")


@dataclass(frozen=True)
class PageLink:
    """A page and its link parameters."""

    page: str
    label: str
    query: Mapping[str, str]


@dataclass(frozen=True)
class ChainStep:
    """A step; `icon`: name of a Material Symbol, `job`: its active job."""

    key: ImprovementState
    title: str
    icon: str
    standing: StepState
    detail: str = ""
    link: PageLink | None = None
    job: Job | None = None


@dataclass(frozen=True)
class ImprovementContext:
    """The items an improvement refers to, if they still exist."""

    model: str
    round: RoundSummary | None = None
    rows_dataset: Dataset | None = None
    dataset: Dataset | None = None
    jobs: Mapping[str, Job] = field(default_factory=dict)  # by id


def build_steps(improvement: Improvement, around: ImprovementContext) -> list[ChainStep]:
    """Build all steps in order; labeling only if a round is a source."""
    at, places = get_current_state(improvement), {state: place for place, state in enumerate(STEPS)}
    asked = [state for state in STEPS if state != "labelling" or find_round_id(improvement)]
    return [
        _build_step(improvement, around, state, _classify_step(improvement, places[state], places[at]))
        for state in asked
    ]


def find_round_id(improvement: Improvement) -> str:
    """Return the rating round that is a source of rows, or ""."""
    rounds = (source.round for source in improvement.config.rows if isinstance(source, RoundRowSource))
    return next(rounds, "")


def get_current_state(improvement: Improvement) -> ImprovementState:
    """Return the step at which it is active, waits for rows, failed, or was stopped."""
    state = improvement.state
    if state in STEPS:
        return state
    if state in ENDED:
        return "deciding"
    if improvement.failed_at in STEPS:
        return improvement.failed_at or "gathering"
    facts = improvement.facts
    begun: tuple[tuple[bool, ImprovementState], ...] = (
        ("gate" in facts, "deciding"),
        (bool(facts.get("evaluation_jobs")), "measuring"),
        ("register_job" in facts, "registering"),
        ("run_id" in facts, "training"),
        ("join_job" in facts, "joining"),
        ("gather_job" in facts or not find_round_id(improvement), "gathering"),
    )
    return next((step for there, step in begun if there), "labelling")


def _classify_step(improvement: Improvement, place: int, at: int) -> StepState:
    state = improvement.state
    if state in ENDED or place < at:
        return "done"
    if place > at:
        return "later"
    if state in ("failed", "stopped"):
        return "failed" if state == "failed" else "stopped"
    return "person" if state in ("labelling", "deciding", "waiting") else "now"


def _build_step(
    improvement: Improvement, around: ImprovementContext, key: ImprovementState, standing: StepState
) -> ChainStep:
    title, icon = STATES[key].step, STEP_ICONS[key]
    if standing == "later":
        return ChainStep(key, title, icon, standing)
    detail, link = _DETAILS[key](improvement, around)
    if standing in ("failed", "stopped") and link is None:
        detail = ""  # it would describe work in progress, and there is none
    if key == "deciding" and improvement.state == "declined":
        icon = "do_not_disturb_on"
    working = _find_active_job(improvement, around, key) if standing == "now" else None
    return ChainStep(key, title, icon, standing, detail, link, working)


def list_job_ids(improvement: Improvement) -> tuple[str, ...]:
    """Return the ids of all its jobs."""
    facts = improvement.facts
    single = [facts.get(name) for name in ("gather_job", "join_job", "run_id", "register_job")]
    return tuple(str(job_id) for job_id in [*single, *facts.get("evaluation_jobs", [])] if job_id)


def _find_active_job(
    improvement: Improvement, around: ImprovementContext, key: ImprovementState
) -> Job | None:
    facts = improvement.facts
    owned: dict[ImprovementState, Sequence[str | None]] = {
        "gathering": [facts.get("gather_job")],
        "joining": [facts.get("join_job")],
        "training": [facts.get("run_id")],
        "registering": [facts.get("register_job")],
        "measuring": facts.get("evaluation_jobs", []),
    }
    there = [around.jobs[job_id] for job_id in owned.get(key, []) if job_id and job_id in around.jobs]
    alive = [job for job in there if job.status in ALIVE]
    return min(alive, key=lambda job: job.status == "queued", default=None)


Detail = tuple[str, PageLink | None]


def _describe_labels(improvement: Improvement, around: ImprovementContext) -> Detail:
    round = around.round
    if round is None:
        return "The round was deleted", None
    query = {"round": round.round_id}
    if round.state == "open":
        rated = round.rated - round.extra
        return f"{rated:,} of {round.wanted:,} rated", PageLink("rating/rating", "Label", query)
    return f"{plural(round.rated, 'answer')} rated", PageLink("rating/rating", "The round", query)


def _describe_rows(improvement: Improvement, around: ImprovementContext) -> Detail:
    rows = improvement.facts.get("rows")
    link = None
    if around.rows_dataset is not None:
        query = {"dataset": around.rows_dataset.dataset_id}
        link = PageLink("data/data", "The rows", query)
    if rows is None:
        return "Reading feedback and ratings", link
    if improvement.state == "waiting":
        return f"{rows.train + rows.held_out:,} usable, at least {MIN_ROWS} needed", link
    again = rows.again.rows if rows.again is not None else 0
    more = f" and {again:,} earlier" if again else ""
    return f"{rows.train:,} for training, {rows.held_out:,}{more} held out", link


def _describe_version(improvement: Improvement, around: ImprovementContext) -> Detail:
    rows = improvement.facts.get("rows")
    if around.dataset is None:
        return "Combined with the existing training rows", None
    new = f", {rows.train:,} of them new" if rows else ""
    query = {"dataset": around.dataset.dataset_id}
    return f"{plural(around.dataset.row_count, 'row')}{new}", PageLink("data/data", "The data", query)


def _describe_run(improvement: Improvement, around: ImprovementContext) -> Detail:
    run_id = improvement.facts.get("run_id")
    if run_id is None:
        return "About to launch", None
    link = PageLink("runs/run", "The run", {"run": run_id})
    job = around.jobs.get(run_id)
    if job is None:
        return "The run was deleted", None
    return {"queued": "Queued", "finished": "Trained"}.get(job.status, job.status), link


def _describe_registered_model(improvement: Improvement, around: ImprovementContext) -> Detail:
    reference = improvement.facts.get("version")
    if reference is None:
        return "Copied, with checksums", None
    number = reference.rpartition("@")[2]
    query = {"model": around.model, "version": number, "tab": "versions"}
    return reference, PageLink("registry/models", "The version", query)


def _describe_evaluations(improvement: Improvement, around: ImprovementContext) -> Detail:
    facts = improvement.facts
    wanted = facts.get("evaluation_jobs", [])
    if not wanted:
        return "On old and new rows" if "gate" not in facts else "Measured before", None
    jobs = around.jobs
    ended = [job_id for job_id in wanted if job_id in jobs and jobs[job_id].status == "finished"]
    link = None
    if ended:
        link = PageLink("evaluation/evaluations", "The figures", {"evaluation": ended[0]})
    return f"{len(ended)} of {plural(len(wanted), 'evaluation')}", link


def _describe_decision(improvement: Improvement, around: ImprovementContext) -> Detail:
    by = improvement.ended_by_name or "somebody"
    words = {
        "promoted": f"Promoted by {by}",
        "declined": f"Declined by {by}",
        "stopped": f"Stopped by {by}",
    }
    return words.get(improvement.state, "Waiting for your decision"), None


_DETAILS = {
    "labelling": _describe_labels,
    "gathering": _describe_rows,
    "joining": _describe_version,
    "training": _describe_run,
    "registering": _describe_registered_model,
    "measuring": _describe_evaluations,
    "deciding": _describe_decision,
}


KEY = "improve-chain"
INKS: dict[StepState, str] = {
    "done": palette.GOOD,
    "now": palette.BUSY,
    "person": palette.TRAIN,
    "failed": palette.BAD,
    "stopped": palette.BASE,
    "later": palette.BASE,
}
STEP_STATE_ICONS: dict[StepState, str] = {"done": "check", "failed": "close", "stopped": "stop"}
# A line connects each circle with the next: to the right, on a phone downwards.
STYLE = f"""<style>
.st-key-{KEY} [data-testid="stColumn"] {{position: relative}}
.st-key-{KEY} [data-testid="stColumn"]:not(:last-child)::before {{content: ""; position: absolute;
  top: 1.2rem; left: 2.9rem; right: -.5rem; height: 2px;
  background: color-mix(in srgb, currentColor 16%, transparent)}}
.st-key-{KEY} [data-testid="stColumn"]:not(:last-child):has(.tb-done)::before {{background: {palette.GOOD}}}
.st-key-{KEY} [data-testid="stVerticalBlock"] {{gap: 0}}
.st-key-{KEY} [data-testid="stPageLink"] a {{padding-left: 0; min-height: 0; background: none}}
.st-key-{KEY} [data-testid="stPageLink"] a p {{font-weight: 400}}
.tb-link-step .tb-circle {{display: grid; place-items: center; width: 2.4rem; height: 2.4rem;
  border-radius: 50%; border: 2px solid var(--ink); color: var(--ink); box-sizing: border-box;
  font-family: "Material Symbols Rounded"; font-size: 1.3rem; line-height: 1; font-weight: 400;
  background: color-mix(in srgb, var(--ink) 10%, transparent); font-feature-settings: "liga"}}
.tb-link-step.tb-done .tb-circle {{background: var(--ink); color: #fff}}
.tb-link-step.tb-now .tb-circle, .tb-link-step.tb-person .tb-circle {{
  box-shadow: 0 0 0 4px color-mix(in srgb, var(--ink) 18%, transparent)}}
.tb-link-step.tb-now .tb-circle {{animation: tb-breathes 2s ease-in-out infinite}}
.tb-link-step.tb-later .tb-circle {{border-style: dashed; background: none; opacity: .7}}
.tb-link-step.tb-later .tb-title {{opacity: .65; font-weight: 400}}
.tb-link-step .tb-title {{font-weight: 600; margin-top: .5rem; line-height: 1.3}}
.tb-link-step .tb-said {{font-size: .84rem; opacity: .8; line-height: 1.35; overflow-wrap: anywhere}}
.tb-link-step .tb-stands {{font-size: .8rem; line-height: 1.4;
  color: color-mix(in srgb, var(--ink) 72%, currentColor)}}
@keyframes tb-breathes {{50% {{box-shadow: 0 0 0 7px color-mix(in srgb, var(--ink) 8%, transparent)}}}}
@media (prefers-reduced-motion: reduce) {{.tb-link-step.tb-now .tb-circle {{animation: none}}}}
@media (max-width: 640px) {{
  .st-key-{KEY} [data-testid="stHorizontalBlock"] {{gap: .9rem}}
  .st-key-{KEY} [data-testid="stColumn"] {{min-width: 100%}}
  .st-key-{KEY} [data-testid="stColumn"]:not(:last-child)::before {{
    top: 2.9rem; left: 1.15rem; right: auto; bottom: -.6rem; width: 2px; height: auto}}
  .tb-link-step {{display: grid; grid-template-columns: 2.4rem 1fr; gap: 0 .9rem}}
  .tb-link-step .tb-circle {{grid-row: 1 / span 4}}
  .tb-link-step .tb-title {{margin-top: 0}}
  .tb-link-step > :not(.tb-circle) {{grid-column: 2}}
  .st-key-{KEY} [data-testid="stPageLink"] {{padding-left: 3.3rem}}
}}
</style>"""


def draw_chain(steps: list[ChainStep]) -> None:
    """Draw all steps; later ones only with their names."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    ink = st.get_option(f"theme.{theme}.linkColor")
    links = f"<style>.st-key-{KEY} [data-testid=stPageLink] a p {{color: {ink}}}</style>"
    st.html(meters.STYLE + STYLE + links)
    with st.container(key=KEY):
        for column, step in zip(st.columns(len(steps), gap="small"), steps, strict=True):
            with column:
                st.html(render_step(step))
                if step.link is not None:
                    st.page_link(
                        f"pages/{step.link.page}.py",
                        label=step.link.label,
                        query_params=dict(step.link.query),
                    )


def render_step(step: ChainStep) -> str:
    """Render one step as HTML; the circle is decoration, because the text says the same."""
    icon = STEP_STATE_ICONS.get(step.standing, step.icon)
    stands = "" if step.standing in ("done", "later") else STEP_STATE_TITLES[step.standing]
    detail, bar = step.detail, ""
    if step.job is not None:
        counted = f"{detail}. " if step.key == "measuring" else ""  # one of several evaluations is active
        detail = counted + describe_activity(step.job)
        bar = "" if step.job.status == "queued" else meters.render_bar(compute_fraction(step.job))
    parts = [
        f"<div class='tb-circle' aria-hidden='true'>{icon}</div>",
        f"<div class='tb-title'>{html.escape(step.title)}</div>",
        f"<div class='tb-stands'>{stands}</div>" if stands else "",
        f"<div class='tb-said'>{html.escape(detail)}{bar}</div>" if detail or bar else "",
    ]
    title = html.escape(STEP_STATE_TITLES[step.standing])
    return (
        f"<div class='tb-link-step tb-{step.standing}' style='--ink: {INKS[step.standing]}' title='{title}'>"
        f"{''.join(parts)}</div>"
    )
