"""Preview of a recipe, step by step and on real rows, and the creation of the new version."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.data.cleaning import draft
from pages.data.cleaning.draft import StepDocument
from pages.shared import cached_queries, display, meters, text_display
from pages.shared.job_progress import show_failure, show_live
from pages.shared.session import escape_markdown, send_command
from store.core.documents import parse_document
from store.core.errors import NotFoundError
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.core.row_schemas import CleanResult, Fate, FateCounts, Fates, StepCounts
from store.core.schemas import Job
from store.data.schemas import CleanPreview, Dataset, FateExample

CHANGES: tuple[Literal["dropped", "changed", "added"], ...] = ("dropped", "changed", "added")


def count_rows_before(fates: FateCounts) -> int:
    """Number of rows of the version that the recipe was applied to."""
    return fates.kept + fates.changed + fates.dropped


def count_rows_after(fates: FateCounts) -> int:
    """Number of rows of the version that the recipe creates."""
    return fates.kept + fates.changed + fates.added


def format_changes(counts: FateCounts | StepCounts) -> list[str]:
    """Format the counts that are not 0 as "523 dropped", "10 changed"."""
    return [f"{n:,} {change}" for change in CHANGES if (n := getattr(counts, change))]


FATE_TITLES: dict[Fate, tuple[str, str]] = {
    "changed": (":orange-badge[:material/edit: Changed]", "Changed"),
    "dropped": (":red-badge[:material/delete: Dropped]", "Dropped"),
    "added": (":blue-badge[:material/add: Added]", "Added"),
    "kept": (":green-badge[:material/check: Kept]", "Kept"),
}
PAGE = 6  # examples per page


def format_preview_summary(answer: CleanPreview) -> str:
    """Format as "2,211 rows become 1,688: 523 dropped, 0 changed, 0 added."

    If only part of the rows was tried, no total is given that could be mistaken for a prediction.
    """
    fates = answer.fates
    before = count_rows_before(fates)
    did = ", ".join(format_changes(fates)) or "all kept unchanged"
    if not (scope := answer.of):
        return f"{plural(before, 'row')} become {count_rows_after(fates):,}: {did}."
    return f"How many of {scope.total:,} rows stay isn't known yet. Of the first {before:,}: {did}."


def describe_sample_limits(answer: CleanPreview) -> str:
    """Explain why the result on part of the rows does not apply to all; "" if all rows were counted."""
    if not answer.of:
        return ""
    if not (unknown := answer.unknown):
        return "The other rows may be different."
    names = "; ".join(f"step {step['step'] + 1} ({step['title']})" for step in unknown)
    return f"Steps that compare rows with each other change more with more rows: {names}."


def describe_preview_and_result(answer: CleanPreview, fates: Fates) -> str:
    """Describe the preview and the actual result in one sentence."""
    made, total = count_rows_after(fates), count_rows_before(fates)
    previewed = count_rows_after(answer.fates)
    now = f"{made:,} rows came of {total:,}"
    scope = answer.of
    if not scope:
        return f"The preview said {previewed:,} rows; {now}."
    shares = display.format_share(previewed, scope.rows), display.format_share(made, total)
    looked_at = f"{previewed:,} of the first {scope.rows:,} rows"
    return f"The preview left {looked_at} ({shares[0]}); {now} ({shares[1]})."


def show_preview(dataset: Dataset, answer: CleanPreview) -> None:
    """Draw the counts, steps and examples of a preview."""
    st.subheader("Recipe preview", anchor=False)
    for problem in answer.problems:
        st.warning(
            escape_markdown(f"{problem['message']} {problem['fix']}".strip()), icon=":material/warning:"
        )
    if scope := answer.of:
        st.caption(f"Tried on the first rows of a large data set: {scope.rows:,} of {scope.total:,}.")
    fates = answer.fates
    total = count_rows_before(fates)
    counts = [
        (title, f"{rows:,}", f"{display.format_share(rows, total)} of {total:,}")
        for title, rows in (
            ("Kept", fates.kept),
            ("Changed", fates.changed),
            ("Dropped", fates.dropped),
        )
    ]
    counts.append(("Added", f"{fates.added:,}", "rows of another data set"))
    st.html(meters.render_facts(counts))
    show_steps(fates.steps)
    _show_examples(dataset.dataset_id, answer.examples)


def show_steps(steps: list[StepCounts]) -> None:
    """Draw one line per step: its effect on the rows, and how many remain."""
    lines = []
    for index, step in enumerate(steps, 1):
        did = [f"**{change}**" for change in format_changes(step)]
        did += [f"{step.rows_out:,} left"] if did else [f"nothing to do, {step.rows_out:,} left"]
        lines.append(f"{index}. {escape_markdown(step.title)}: {', '.join(did)}")
    st.markdown("\n".join(lines))


def _show_examples(dataset_id: str, examples: list[FateExample]) -> None:
    if not examples:
        st.caption("No row changes.")
        return
    fates = [fate for fate in FATE_TITLES if any(example.fate == fate for example in examples)]
    chosen = st.segmented_control(
        "Examples",
        fates,
        selection_mode="multi",
        format_func=lambda fate: FATE_TITLES[fate][1],
        key=f"clean-fates-{dataset_id}",
        label_visibility="collapsed",
    )
    chosen_examples = [example for example in examples if not chosen or example.fate in chosen]
    pages = -(-len(chosen_examples) // PAGE)
    slot = st.container(gap="small")
    page = st.pagination(pages, key=f"clean-examples-{dataset_id}-{chosen}") if pages > 1 else 1
    with slot:
        st.caption(f"{plural(len(chosen_examples), 'example')}, the words that change are marked.")
        for example in chosen_examples[(page - 1) * PAGE : page * PAGE]:
            show_example(example)


def show_example(
    example: FateExample, titles: tuple[str, str] = ("Before", "After"), badges: dict[str, str] | None = None
) -> None:
    """Draw one row before and after. `badges`: replaces the badges of fates."""
    row_id = example.row_id
    where = f"Row {row_id:,}" if row_id is not None else "New row"
    with st.container(border=True, gap="xsmall"):
        reason = f" {escape_markdown(example.reason)}" if example.reason else ""
        badge = (badges or {}).get(example.fate, FATE_TITLES[example.fate][0])
        st.markdown(f"{badge} **{where}**{reason}")
        after = None if example.fate == "dropped" else example.after
        before = None if example.fate == "added" else example.before
        if example.fate == "kept":
            before = None
        st.html(text_display.render_pair(before, after, titles))


def suggest_version_name(dataset: Dataset, names: list[str]) -> str:
    """Return the name the engine would give to the next version: "Sums v2", or the first free number."""
    stem, _, number = dataset.name.rpartition(" v")
    stem, count = (stem, int(number)) if stem and number.isdigit() else (dataset.name, 1)
    while True:
        count += 1
        name = f"{stem[: 80 - len(f' v{count}')]} v{count}"
        if name not in names:
            return name


def show_apply(dataset: Dataset, steps: list[StepDocument], answer: CleanPreview | None) -> None:
    """Draw the summary of the recipe's effect and the button that applies it; `answer`: preview, None if
    unknown.
    """
    dataset_id = dataset.dataset_id
    name = suggest_version_name(dataset, [row.name for row in cached_queries.list_datasets()])
    whole = answer is not None and not answer.of
    nothing = whole and answer is not None and count_rows_after(answer.fates) == 0
    summary = f" **{escape_markdown(format_preview_summary(answer))}**" if answer is not None else ""
    st.markdown(f"{plural(len(steps), 'step')} in the [recipe](#recipe).{summary}")
    if answer is not None and not whole:
        st.caption(escape_markdown(describe_sample_limits(answer)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        pressed = st.button(
            f"Make version {name.rpartition(' v')[2]}",
            type="primary",
            icon=":material/auto_fix_high:",
            disabled=not steps or nothing,
            key="clean-make",
        )
        if answer is not None and not whole:
            st.button(
                "Count on all rows",
                icon=":material/calculate:",
                help="Runs the recipe without saving the result; takes as long as the cleaning itself",
                key="clean-whole",
                on_click=st.session_state.update,
                args=({whole_key(dataset_id): steps},),
            )
        with st.popover("Name it", icon=":material/edit:", type="tertiary"):
            typed = st.text_input(
                "Name of the new version", max_chars=80, placeholder=name, key=f"clean-name-{dataset_id}"
            )
    if nothing:
        st.caption("No row would be left: take a step out, or change its options.")
    if pressed:
        made = send_command("clean", {"dataset": dataset_id, "name": typed or "", "recipe": {"steps": steps}})
        if made is not None:
            st.session_state[job_key(dataset_id)] = made["job_id"]
            st.session_state[_preview_key(dataset_id)] = answer
            st.rerun()


def show_job(dataset: Dataset, job_id: str) -> None:
    """Draw the progress of the cleaning job started here, then the new version."""
    try:
        job = cached_queries.read_job(job_id)
    except NotFoundError:
        st.session_state.pop(job_key(dataset.dataset_id), None)
        return
    with st.container(border=True, key="clean-job"):
        if job.status in ALIVE:
            show_live(job_id, "cleaning", "Making the new version")
        elif job.status == "finished":
            _show_created_version(dataset, job)
        else:
            _show_failure(dataset, job)


def _show_created_version(dataset: Dataset, job: Job) -> None:
    new_id = f"data-{job.job_id.removeprefix('job-')}"
    name = str(job.config.get("name") or "The new version")
    fates = parse_document(CleanResult, job.result)["fates"]  # result of a finished cleaning job
    st.success(f"{escape_markdown(name)} is made.", icon=":material/check_circle:")
    old = f"of {count_rows_before(fates):,} old rows"
    counts = [
        ("Kept", f"{fates.kept:,}", old),
        ("Changed", f"{fates.changed:,}", old),
        ("Dropped", f"{fates.dropped:,}", old),
        ("Added", f"{fates.added:,}", "from another data set"),
    ]
    st.html(meters.render_facts(counts))
    answer: CleanPreview | None = st.session_state.get(_preview_key(dataset.dataset_id))
    if answer:
        st.caption(describe_preview_and_result(answer, fates))
    with st.container(horizontal=True):
        link = {"dataset": new_id}
        if st.button("Open the new version", type="primary", icon=":material/dataset:", key="clean-open"):
            _reset_recipe(dataset.dataset_id)
            st.switch_page("pages/data/data.py", query_params=link)
        if st.button("Fine-tune on this", icon=":material/rocket_launch:", key="clean-train"):
            st.switch_page("pages/training/launch.py", query_params=link)
        st.button(
            "Clean on",
            type="tertiary",
            help="Write another recipe for the old version",
            key="clean-again",
            on_click=_reset_recipe,
            args=(dataset.dataset_id,),
        )


def _show_failure(dataset: Dataset, job: Job) -> None:
    show_failure(job, "cleaning")
    st.button(
        "Back to the recipe",
        icon=":material/undo:",
        key="clean-back",
        on_click=st.session_state.pop,
        args=(job_key(dataset.dataset_id), None),
    )


def _reset_recipe(dataset_id: str) -> None:
    """Clear the job and the draft recipe after the new version has been created."""
    st.session_state.pop(job_key(dataset_id), None)
    draft.set_steps(dataset_id, [])


def whole_key(dataset_id: str) -> str:
    """Session key of the steps to be counted on all rows."""
    return f"clean-whole-{dataset_id}"


def _preview_key(dataset_id: str) -> str:
    """Session key of the preview of the version being created."""
    return f"clean-said-{dataset_id}"


def job_key(dataset_id: str) -> str:
    """Session key of the job that creates a version of this data set."""
    return f"clean-job-{dataset_id}"
