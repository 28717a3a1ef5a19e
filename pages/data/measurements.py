"""Signal groups of a data set: available, running, and measured, with diversity figures and their recommended
ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from pages.data import dataset_queries
from pages.shared import cached_queries
from pages.shared.job_progress import render_progress
from pages.shared.session import (
    escape_markdown,
    has_right,
    live,
    redraw,
    send_command,
    show_errors,
    watch_engine,
)
from store.core.formatting import format_number, format_percent_at_limit, percent, plural
from store.core.job_kinds import ALIVE
from store.core.row_schemas import GroupFigure, SetFigure, SignalFigure
from store.core.schemas import Job
from store.data.schemas import Dataset
from store.data.signals import GROUPS, SIGNALS, SignalGroup


def list_measurable_groups(dataset: Dataset) -> dict[str, SignalGroup]:
    """Return the signal groups that apply to such rows: labels need labels, and difficulty needs answers."""
    without = set() if (dataset.stats.get("label_count") or 0) > 1 else {"labels"}
    if dataset.kind == "text":
        without.add("model")
    return {name: group for name, group in GROUPS.items() if group.needs not in without}


@live("1s")
def show_measurement_progress(dataset_id: str, count: int, group: str = "") -> None:
    """Draw running measurements, of all groups or of one; redraw the page if there are not `count` jobs."""
    with show_errors():
        watch_engine()
        jobs = _list_jobs(dataset_id, group)
        if len(jobs) != count:
            st.cache_data.clear()
            redraw()
        for job in jobs:
            title = GROUPS[job.config["group"]].title
            st.markdown(f":material/straighten: Measuring **{escape_markdown(title)}**")
            st.html(render_progress(job))
            key = f"measure-cancel-{job.job_id}"
            if has_right("work") and st.button(
                "Cancel", icon=":material/stop_circle:", type="tertiary", key=key
            ):
                send_command("cancel", {"job": job.job_id}, "Cancelling …")


def show_missing_measurement(dataset: Dataset, group: str, button: str, why: str) -> None:
    """Draw a button that measures a group, or the progress of its jobs.

    `why`: what the panel would show and what measuring costs.
    """
    dataset_id = dataset.dataset_id
    if jobs := _list_jobs(dataset_id, group):
        show_measurement_progress(dataset_id, len(jobs), group)
        return
    _draw_last_failure(dataset_id, group)
    st.markdown(escape_markdown(why))
    key = f"measure-{group}-{dataset_id}"
    pressed = has_right("work") and st.button(button, type="primary", icon=":material/speed:", key=key)
    if pressed:
        answer = send_command("profile", {"dataset": dataset_id, "group": group})
        if answer is not None:
            st.session_state[_key(dataset_id, group)] = answer["job_id"]
            st.rerun()


def _list_jobs(dataset_id: str, group: str) -> list[Job]:
    """Running and queued jobs that measure the group, or any group if it is ""."""
    jobs = dataset_queries.list_measurement_jobs(dataset_id)
    return [job for job in jobs if group in ("", job.config["group"])]


def _draw_last_failure(dataset_id: str, group: str) -> None:
    job_id = st.session_state.get(_key(dataset_id, group))
    if job_id is None:
        return
    job = cached_queries.read_job(job_id)
    error = job.error
    if job.status == "failed":
        fix = f"  \n{escape_markdown(error['fix'])}" if error and error.get("fix") else ""
        st.error(
            f"{escape_markdown((error and error['message']) or 'It failed.')}{fix}", icon=":material/error:"
        )
    elif job.status not in ALIVE and job.status != "finished":
        st.info(f"The measurement was {job.status}.", icon=":material/info:")


def _key(dataset_id: str, group: str) -> str:
    return f"measured-{group}-{dataset_id}"


HALF_FIGURES = {"half_loss_topics": "topics", "half_loss_pairs": "word pairs", "half_loss": "coverage"}


@dataclass(frozen=True)
class DiversityKind:
    """A diversity figure: title, meaning and healthy range. Titles are plain; papers' names are in the
    meanings.

    scale: 100 shows a share in per cent. healthy: [low, high], None for no bound. Most have no healthy range:
    they are for comparing two versions of a set, or two similar sets.
    """

    name: str
    title: str
    means: str
    scale: int = 1
    places: int = 2
    healthy: tuple[float | None, float | None] | None = None
    below: str = ""
    above: str = ""


DIVERSITY_KINDS = (
    DiversityKind(
        "vendi",
        "Variety",
        "Effective number of distinct rows (Vendi score)",
        places=1,
    ),
    DiversityKind(
        "cluster_entropy", "Balance of topics", "1 where all topics are equally frequent (entropy)"
    ),
    DiversityKind(
        "top_template",
        "Most frequent beginning",
        "Share of the rows that begin with the same words",
        scale=100,
        places=0,
        healthy=(None, 0.1),
        above="The model learns the template rather than the task.",
    ),
    DiversityKind(
        "compression",
        "Compressed size",
        "Compressed size as a share of the text size (gzip)",
        scale=100,
        places=0,
        healthy=(0.3, 0.5),
        below="The text repeats itself.",
        above="The text does not look like prose: codes, numbers, or many languages.",
    ),
    DiversityKind(
        "distinct_1", "Different words", "Share of the words that are different (distinct-1)", 100, 1
    ),
    DiversityKind(
        "distinct_2", "Different word pairs", "Share of the pairs that are different (distinct-2)", 100, 1
    ),
    DiversityKind(
        "self_bleu",
        "Similarity of rows",
        "How well a row is predicted by the others, 0 to 1; lower is more diverse (Self-BLEU)",
    ),
)


def list_set_figures(measured: Mapping[str, SignalFigure]) -> dict[str, SetFigure]:
    """Figures of the set as a whole, by name."""
    return {name.removeprefix("set."): figure for name, figure in measured.items() if "value" in figure}


def classify_figure(kind: DiversityKind, value: float) -> tuple[str, str]:
    """Return ("good" | "warn" | "" without a healthy range, what the deviation means)."""
    if kind.healthy is None:
        return "", ""
    low, high = kind.healthy
    if low is not None and value < low:
        return "warn", kind.below
    if high is not None and value > high:
        return "warn", kind.above
    return "good", ""


def format_value(kind: DiversityKind, value: float) -> str:
    """Format the value in its unit, with enough digits to tell it from a bound that it exceeds."""
    text = format_number(kind.scale * value, kind.places) + ("%" if kind.scale == 100 else "")
    for bound in kind.healthy or ():
        if bound is not None and text == f"{kind.scale * bound:g}%":
            return format_percent_at_limit(value, bound)
    return text


def describe_band(kind: DiversityKind) -> str:
    """Describe the healthy range, or ""."""
    if kind.healthy is None:
        return ""
    unit = "%" if kind.scale == 100 else ""
    low, high = (None if side is None else f"{kind.scale * side:g}{unit}" for side in kind.healthy)
    return f"{f'{low} to {high}' if low else f'At most {high}'} is healthy"


def describe_random_half(set_figures: Mapping[str, SetFigure], duplicates: GroupFigure | None) -> str:
    """Describe what a random half of the rows keeps, and whether more rows would help; "" if unknown.

    Values are given as ranges over the halves. `duplicates`: figures of `near_group` if measured.

    Coverage compares with the distance to the nearest row. For a repeated row that distance is zero, so that
    a half would seem to lose everything: coverage is then omitted, and the repetition is stated instead.
    """
    repeated = _describe_repeats(duplicates)
    trusted = duplicates is not None and not repeated
    names = {name: title for name, title in HALF_FIGURES.items() if trusted or name != "half_loss"}
    half_figures = {
        name: set_figures[name]
        for name in names
        if name in set_figures and set_figures[name]["value"] is not None
    }
    if not half_figures:
        return repeated
    parts = []
    for name, figure in half_figures.items():
        losses = (figure["high"], figure["low"])
        low, high = (round(100 * (1 - loss)) for loss in losses if loss is not None)
        kept = f"{low}%" if low == high else f"{low} to {high}%"
        parts.append(f"**{kept}** of the {names[name]}")
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    rows = " or ".join(
        f"{n:,}" for n in sorted({figure["n"] for figure in half_figures.values()}, reverse=True)
    )
    halves = f"{next(iter(half_figures.values()))['repeats']} random halves of {rows} rows"
    sentence = f"A random half of the rows keeps {listed} ({halves})."
    return f"{sentence} {repeated or _describe_advice(half_figures.get('half_loss'))}".strip()


def _describe_repeats(duplicates: GroupFigure | None) -> str:
    """Describe how many rows nearly repeat an earlier one if they are too many, in the summary's words."""
    most = (SIGNALS["near_group"].healthy or (None, None))[1]
    if not duplicates or not duplicates["n"] or most is None:
        return ""
    share = duplicates["extra"] / duplicates["n"]
    if share <= most:
        return ""
    share_of = f"**{percent(share)}** of {plural(duplicates['n'], 'row')}"
    return f"{share_of} nearly repeat an earlier row and add little. Review them on the Clean tab."


def _describe_advice(coverage: SetFigure | None) -> str:
    if coverage is None or coverage["value"] is None:
        return ""
    if coverage["value"] < 0.05:
        return "Half the rows would do nearly as well: more rows of this kind add little."
    if coverage["value"] < 0.2:
        return "Rows overlap somewhat; more of the same kind add a little."
    return "Rows overlap little: each one adds something."
