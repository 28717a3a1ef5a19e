"""Detected format of a file and the roles of its columns, and the progress and report of an import. Every row
of the file is either imported or skipped with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypedDict, cast, get_args

import streamlit as st

from pages.data.datasets import describe_repeats, draw_back_to_list, show_skipped
from pages.shared import cached_queries, display, meters
from pages.shared.job_progress import show_failure, show_live
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.core.model_fields import FieldDisplay
from store.core.row_schemas import ImportResult, RowsResult
from store.core.schemas import Job
from store.data.cleaning_text import (
    BY,
    ROLES,
    describe_excluded_columns,
    describe_ignored_columns,
    describe_used_columns,
)
from store.data.config import ImportConfig
from store.data.formats import (
    FORMATS,
    LEAVE_OUT,
    AnswerBy,
    Format,
    assign_roles,
    is_intended_skip,
    list_columns,
)
from store.data.schemas import FileProblem, Inspection

READERS = {
    "csv": "CSV",
    "tsv": "TSV",
    "json": "JSON",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "text": "plain text",
    "hub": "Hugging Face hub",
}
PROBLEMS = 6  # kinds of problems shown


class RowMapping(TypedDict, total=False):
    """How the rows of a file are read (`store.data.config.ImportConfig`); detected values may be omitted."""

    format: str
    columns: dict[str, str]  # role -> column
    answers: str  # how answers identify their choices
    values: dict[str, str]  # value of the verdict column -> its meaning
    instruction: str
    ignore: list[str]  # columns ignored on purpose


def draw_recognised(recognised: Inspection) -> None:
    """Draw the result of `inspect` except the rows: format, file and problems.

    A check mark means that nothing was guessed.
    """
    about = _describe_file(recognised)
    if not recognised["format"]:
        st.warning(
            f"**No format detected** ({escape_markdown(about)}). Choose one below, and the columns it needs.",
            icon=":material/help:",
        )
    else:
        title = escape_markdown(FORMATS[recognised["format"]].title)
        if recognised["guessed"]:
            st.markdown(f":orange[:material/help:] Best guess: **{title}** ({escape_markdown(about)})")
        else:
            st.markdown(f":green[:material/check_circle:] Detected **{title}** ({escape_markdown(about)})")
    _draw_problems(recognised["problems"])


def draw_column_use(
    format: str,
    columns: dict[str, str],
    answers: str | None,
    values: dict[str, str],
    ignored: list[str],
    ignored_count: int | None = None,
    left_out: dict[str, int] | None = None,
) -> None:
    """Draw the roles of the columns, those ignored on purpose, and the other ignored ones."""
    st.markdown(
        ":material/input: **Used:**"
        f" {escape_markdown(describe_used_columns(format, columns, answers, values))}"
    )
    if left_out:
        st.markdown(
            f":material/block: **Ignored on purpose:** {escape_markdown(describe_excluded_columns(left_out))}"
        )
    mark = ":orange[:material/visibility_off:]" if ignored else ":material/visibility:"
    st.markdown(f"{mark} **Ignored:** {escape_markdown(describe_ignored_columns(ignored, ignored_count))}")


def _describe_file(recognised: Inspection) -> str:
    parts = [
        READERS.get(recognised["reader"], recognised["reader"]),
        display.format_size(recognised["bytes"]),
    ]
    parts += ["gzip"] if recognised["compressed"] else []
    text = recognised["encoding"] and recognised["reader"] not in ("parquet", "hub")
    parts += [recognised["encoding"]] if text else []
    own = [column for column in recognised["columns"] if "." not in column.name]
    parts += [plural(len(own), "column")]
    if recognised["reader"] in ("csv", "tsv"):
        parts.append("first line is the header" if recognised["has_header"] else "no header line")
    return ", ".join(parts)


def _draw_problems(problems: list[FileProblem]) -> None:
    """Draw each kind of problem once, with the number of affected rows and the first line.

    All problems share one box, so that the form stays visible; notes on how the file is read are below it.
    """
    counts = Counter(problem.reason for problem in problems)
    first = {problem.reason: problem.line for problem in reversed(problems)}
    notices = {problem.reason for problem in problems if problem.notice}
    odd: list[str] = []
    meant: list[str] = []
    for reason, count in list(counts.items())[:PROBLEMS]:
        line = first[reason]
        where = ""
        if line:
            where = f"Line {line:,}: " if count == 1 else f"{count:,} of the first rows, from line {line:,}: "
        (meant if reason in notices or is_intended_skip(reason) else odd).append(
            escape_markdown(where + reason)
        )
    if odd:
        st.warning("  \n".join(odd), icon=":material/warning:")
    for sentence in meant:
        st.caption(f":material/info: {sentence}")
    if len(counts) > PROBLEMS:
        st.caption(f"{PROBLEMS} of {len(counts)} kinds of problems in the first rows are shown.")


MAX_SPLIT_VALUES = 30  # maximum number of values of a split column
NO_SPLIT_COLUMN = "none: split by share"
PARTS = {
    "train": "Training",
    "validation": "Validation",
    "test": "Test",
    LEAVE_OUT: "Leave out",
}


def draw_parts(
    recognised: Inspection, scope: str, look: Callable[[str], Inspection]
) -> tuple[str, dict[str, str]]:
    """Draw the choice of the split column and the part of each value.

    Return the column ("" for none) and value -> part. `look` inspects the source with another split column.
    """
    columns = [NO_SPLIT_COLUMN, *(column.name for column in recognised["columns"])]
    own = recognised["part_column"]
    column = st.selectbox(
        "Split column",
        columns,
        index=columns.index(own) if own in columns else 0,
        key=f"import-part-column {scope}",
        help="Such as split, with the values train, val and test.",
    )
    if column == NO_SPLIT_COLUMN:
        return "", {}
    if column != own:
        recognised = look(column)
    parts: dict[str, str] = {}
    options = list(PARTS)
    if len(recognised["part_values"]) > MAX_SPLIT_VALUES:
        st.warning("The column has too many values to be a split.", icon=":material/warning:")
        return "", {}
    for value, rows in recognised["part_values"].items():
        part = recognised["parts"].get(value, LEAVE_OUT)
        parts[value] = st.selectbox(
            f"{escape_markdown(value)} ({plural(rows, 'row')} looked at)",
            options,
            index=options.index(part),
            format_func=PARTS.__getitem__,
            key=f"import-part {value} {scope}",
        )
    missing = [PARTS[part].lower() for part in ("validation", "test") if part not in parts.values()]
    taken = f" Rows for {' and '.join(missing)} come from the training rows, because the file has none."
    st.caption(f"Rows keep the split from the file.{taken if missing else ''}")
    return column, parts


NOTHING = "—"
ROLE_NAMES = ROLES | {"better": "verdict: which answer is better", "system": "system prompt"}
MEANINGS = {
    "first": "the first answer is better",
    "second": "the second answer is better",
    "tie": "neither is better",
    "good": "a good answer",
    "bad": "a bad answer",
}


def draw_mapping(form: ModelForm[ImportConfig], recognised: Inspection, scope: str) -> RowMapping:
    """Draw format and columns and, depending on the format, answers, values and instruction.

    Return them as in `ImportConfig`; empty until a format is detected or chosen.
    """
    own = recognised["format"]
    chosen: str | None = form.draw_field(
        "format",
        choices={name: listed.title for name, listed in FORMATS.items()},
        key=f"import-format {scope}",
        present=own,
        display=FieldDisplay(empty="Choose a format"),
    )
    if chosen is None:
        return {}
    format = FORMATS[chosen]
    st.caption(format.help)
    same = chosen == own
    guess = recognised["mappings"].get(chosen) or (recognised["mapping"] if same else {})
    wishes: RowMapping = {"format": chosen, "columns": _draw_columns(format, recognised, guess, scope)}
    if chosen == "multiple_choice":
        wishes |= _draw_answers(form, recognised["answers"] if same else None, scope)
    if format.meanings and same:
        wishes |= _draw_meanings(format, recognised["values"], scope)
    if chosen == "text_label":
        instruction = form.draw_field(
            "instruction",
            label="Instruction before each text",
            key=f"import-instruction {scope}",
            display=FieldDisplay(example="Which category does this message belong to?"),
        )
        if instruction:
            wishes["instruction"] = instruction
    return wishes


def _draw_columns(form: Format, recognised: Inspection, guess: dict[str, str], scope: str) -> dict[str, str]:
    columns = [column.name for column in recognised["columns"]]
    mapping: dict[str, str] = {}
    typed = ("instruction",) if form.name == "text_label" else ()  # text, not a column
    for role in (role for role in form.roles if role not in typed):
        key = f"import-{form.name}-{role} {scope}"
        if role in form.several:
            several = st.multiselect(
                f"Columns of the {ROLE_NAMES.get(role, role)}",
                columns,
                default=list_columns(guess, role),
                key=key,
            )
            mapping |= assign_roles(role, several)
            continue
        options = columns if role in form.required else [NOTHING, *columns]
        wanted = guess.get(role, NOTHING if guess else role)
        index = options.index(wanted) if wanted in options else 0
        column = st.selectbox(f"Column of the {ROLE_NAMES.get(role, role)}", options, index=index, key=key)
        if column and column != NOTHING:
            mapping[role] = column
    return mapping


def _draw_answers(form: ModelForm[ImportConfig], own: str | None, scope: str) -> RowMapping:
    """Draw how the answer identifies its choice; return it only if it differs from the detected value."""
    answers = form.draw_field(
        "answers",
        choices={by: BY[by] for by in get_args(AnswerBy)},
        label="The right choice is given by",
        key=f"import-answers {scope}",
        present=own,
        display=FieldDisplay(empty="detected"),
    )
    form.put(answers=None)
    return {"answers": answers} if answers and answers != own else {}


def _draw_meanings(form: Format, own: dict[str, str], scope: str) -> RowMapping:
    """Draw the meaning of each value; return all values only if one differs from the detected meaning."""
    options = list(form.meanings)
    given: dict[str, str] = {}
    for value, meaning in own.items():
        chosen = st.selectbox(
            f"“{escape_markdown(value)}” means",
            options,
            index=options.index(meaning),
            format_func=MEANINGS.__getitem__,
            key=f"import-meaning {value} {scope}",
        )
        if chosen != meaning:
            given[value] = chosen
    return {"values": {**own, **given}} if given else {}


def show_import_job(job_id: str) -> None:
    """Draw the progress of an active import, then its result and the next step."""
    job = cached_queries.read_job(job_id)
    name = escape_markdown(_get_dataset_name(job))
    st.title(f"Importing {name}" if job.status in ALIVE else name, anchor=False)
    draw_back_to_list()
    if job.status in ALIVE:
        show_live(job_id, "import")
    elif job.status == "finished":
        show_import_result(job)
    else:
        show_failure(job, "import")
        if st.button("Import again", type="primary", icon=":material/upload_file:"):
            st.switch_page("pages/data/data.py", query_params={"view": "import"})


def show_import_result(job: Job) -> None:
    """Draw the rows read, skipped and repeated, with buttons to the data set and to a first run."""
    result = cast(ImportResult, job.result)  # result of a finished import
    st.success("Import finished.", icon=":material/check_circle:")
    st.html(meters.render_facts(format_row_counts(result)))
    stats = result["stats"]
    draw_column_use(
        result["format"],
        result["columns"],
        stats.get("answers"),
        stats.get("values", {}),
        stats.get("ignored", []),
        stats.get("ignored_count"),
        stats.get("left_out"),
    )
    dataset = next(
        (row for row in cached_queries.list_datasets() if row.name == _get_dataset_name(job)), None
    )
    if dataset:
        with st.container(horizontal=True):
            if st.button("Explore the data set", type="primary", icon=":material/troubleshoot:"):
                st.switch_page("pages/data/data.py", query_params={"dataset": dataset.dataset_id})
            if st.button("Fine-tune on this", icon=":material/rocket_launch:"):
                st.switch_page("pages/training/launch.py", query_params={"dataset": dataset.dataset_id})
        if result["skipped_count"]:
            show_skipped(dataset)


def format_row_counts(result: RowsResult) -> list[tuple[str, str, str]]:
    """Format the counts of an import or a data set as (title, value, note)."""
    read, skipped = result["row_count"], result["skipped_count"]
    repeated = result["duplicate_count"]
    counts = [
        ("Rows read", f"{read:,}", f"of {read + skipped:,} in the file"),
        ("Rows skipped", f"{skipped:,}", "with reasons" if skipped else "none"),
        ("Repeated rows", f"{repeated:,}", describe_repeats(result["stats"], repeated)),
    ]
    parts = result["stats"].get("parts", {})
    given = [(title, parts[part]) for part, title in PARTS.items() if part in parts]
    return [*counts, *((title, f"{rows:,}", "as given in the file") for title, rows in given)]


def _get_dataset_name(job: Job) -> str:
    return str(job.config.get("name") or job.title)
