"""Preview of a run, requested once per config and cached, and its display.

Name and notes are not part of the request, so typing them triggers none. The last answer is kept in the
session: its resolved values are the automatic defaults of the form, and its problems are shown at their
fields. Also here: class counts, and the label of the row that is shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import streamlit as st

from pages.shared import cached_queries, config_fields, display, meters
from pages.shared.features import load_page_features
from pages.shared.session import escape_markdown
from pages.shared.text_display import render_row
from store.core import formatting
from store.core.errors import EngineUnavailable, TunebenchError
from store.core.schemas import ConfigDocument
from store.core.training_schemas import Preview, PreviewClasses, Problem
from store.data import datasets
from store.data.schemas import Dataset
from store.training.split import get_split
from store.training.train_config import TrainConfig

LISTED = 4  # classes shown before the table scrolls
UNTIMED_REASONS = {
    "wanted": ", until a few steps are timed",
    "waiting": ": steps can be timed once the machine is free",
    "impossible": ": no step could be timed",
}


def build_class_fact(classes: PreviewClasses) -> tuple[str, str, str]:
    """Return the number of classes and the size of the smallest, as a figure."""
    smallest = formatting.plural(classes.smallest, "training row")
    return ("Classes", f"{classes.count:,}", f"the smallest has {smallest}")


def show_counts(classes: PreviewClasses) -> None:
    """Draw the number of rows of each class by split, largest first."""
    names = ("Class", "Train", "Valid.", "Test")
    rows = [dict(zip(names, row, strict=True)) for row in classes.rows]
    listed = "" if len(rows) == classes.count else f", the {len(rows):,} largest of {classes.count:,}"
    st.caption(f"Rows of each class{listed}")
    st.dataframe(
        rows,
        hide_index=True,
        height="content" if len(rows) <= LISTED else 35 * (LISTED + 1) + 3,
        column_config={
            "Class": st.column_config.TextColumn(width=130),
            **{name: st.column_config.NumberColumn(width=62) for name in names[1:]},
        },
        alt="Rows of each class",
    )


STATE = "launch-preview"


@dataclass(frozen=True)
class PreviewQuery:
    """A query with its result or its error."""

    question: str
    answer: Preview | None = None
    error: TunebenchError | None = None
    asked_to_time: bool = False

    @property
    def times_steps_next(self) -> bool:
        """Whether timing a few steps would improve the estimate and has not been requested yet."""
        wanted = self.answer is not None and self.answer.time.timing == "wanted"
        return wanted and not self.asked_to_time

    @property
    def problems(self) -> list[Problem]:
        """Problems of the result; an error counts as one."""
        if self.error:
            error = self.error.to_dict()
            message, field, fix = error["message"], error["field"], error["fix"]
            return [Problem(level="error", field=field, message=message, fix=fix)]
        return list(self.answer.problems) if self.answer else []


def build_question(config: TrainConfig, dataset: Dataset, row: int) -> str:
    """Build the query for `config` as JSON; equal configs give equal queries."""
    document = config.model_dump(exclude_none=True)
    document |= {"name": "", "notes": ""}
    split = get_split(document, datasets.get_split_fields(dataset))
    body = {"config": document, "fingerprint": dataset.fingerprint, "split": split, "row": row}
    return json.dumps(body, sort_keys=True)


def get_last_preview() -> PreviewQuery | None:
    """Return the result in the session, which may be of an earlier query."""
    return st.session_state.get(STATE)


def ask_preview(text: str, *, time_steps: bool = False) -> PreviewQuery:
    """Send the query and store the result; this may take seconds at the first use of a model.

    time_steps: first time a few steps of the run, unless similar ones were timed before.
    """
    asked = json.dumps(json.loads(text) | {"time_steps": True}, sort_keys=True) if time_steps else text
    try:
        preview = PreviewQuery(text, answer=cached_queries.read_preview(asked), asked_to_time=time_steps)
    except EngineUnavailable:
        raise
    except TunebenchError as error:
        before = get_last_preview()
        if time_steps and before and before.question == text:  # the result without timed steps remains valid
            preview = replace(before, asked_to_time=True)
        else:
            preview = PreviewQuery(text, error=error)
    st.session_state[STATE] = preview
    return preview


def resolve_fields(config: TrainConfig | None, dataset: Dataset | None) -> ConfigDocument:
    """Return the values of automatic fields from the last preview, or else derived from the row count."""
    kept: ConfigDocument = {**datasets.get_split_fields(dataset)} if dataset else {}
    answer = before.answer if (before := get_last_preview()) else None
    same = ("method", "task")
    if answer and (config is None or all(answer.config[field] == getattr(config, field) for field in same)):
        settings = {k: v for k, v in answer.config.items() if v is not None}
        name = config.resolved(1).name if config else ""
        return {**kept, **settings, "max_length": answer.max_length, "name": name}
    if config is None or dataset is None:
        return {}
    held_out = {**kept, **config.model_dump(include={"validation_size", "test_size"}, exclude_none=True)}
    share = held_out["validation_size"] + held_out["test_size"]
    settings = config.resolved(int(dataset.row_count * (1 - share))).model_dump(exclude_none=True)
    return {**kept, **settings}


def show_cost(answer: Preview) -> None:
    """Draw time, memory, trained parameters and data, as figures with intervals."""
    st.html(meters.render_grid([_format_time(answer), _format_memory(answer)]))
    st.html(meters.render_facts(_format_figures(answer)))
    if classes := answer.classes:
        show_counts(classes)


def show_fitting(answer: Preview) -> None:
    """If the run may not fit, draw buttons that set the nearest settings that fit."""
    offers = answer.fitting
    if answer.memory.fits:
        return
    if not offers:
        st.caption("No smaller batch, shorter row or lighter method fits; choose a smaller model.")
        return
    st.markdown("**Settings that fit in memory**")
    for index, offer in enumerate(offers):
        st.button(
            f"{offer.text}: {display.format_gib(offer.peak_gib)}",
            key=f"launch-fitting-{index}",
            icon=":material/compress:",
            width="stretch",
            on_click=config_fields.set_fields,
            args=(offer.change,),
            help=f"At most {display.format_gib(offer.high_gib)}. Sets these fields in the form.",
        )


def _format_time(answer: Preview) -> str:
    time = answer.time
    between = display.format_duration_range(time.low_seconds, time.high_seconds)
    if time.timing != "timed":
        return meters.render_fact(
            "Time", between, f"a rough estimate{UNTIMED_REASONS[time.timing]}", time.basis
        )
    expected = f"about {display.format_duration(time.seconds)}"
    notes = [between] * (between != expected) + display.list_time_notes(time)
    return meters.render_fact("Time", expected, "; ".join(notes), time.basis)


def _format_memory(answer: Preview) -> str:
    memory = answer.memory
    available = memory.available_gib
    return meters.render_range(
        "Memory",
        display.format_gib_range(memory.low_gib, memory.high_gib),
        memory.low_gib,
        memory.high_gib,
        available,
        ", ".join(
            p
            for p in (
                f"of {display.format_gib(available)} that are free",
                f"from {formatting.plural(memory.runs, 'run')} here" if memory.runs else "",
            )
            if p
        ),
    )


def _format_figures(answer: Preview) -> list[tuple[str, str, str]]:
    rows, counted = answer.rows, answer.counted_rows
    about = "" if counted >= rows["train"] else f"counted on {counted:,} rows"
    trained, total = answer.trainable_parameters, answer.total_parameters
    pairs = answer.config["task"] == "dpo"
    noun = "Pairs" if pairs else "Rows"
    return [
        (
            "Trained parameters",
            display.format_parameters(trained),
            f"{display.format_share(trained, total)} of {display.format_parameters(total)}",
        ),
        ("Optimizer steps", f"{answer.steps:,}", f"{answer.steps_per_epoch:,} per epoch"),
        (
            f"{noun} to train on",
            f"{rows['train']:,}",
            f"{rows['validation']:,} validation, {rows['test']:,} test",
        ),
        ("Tokens per epoch", display.format_count(answer.tokens_per_epoch), _describe_epoch(answer, about)),
        (f"{noun} cut short", f"{answer.truncated_rows:,}", _describe_truncation(answer)),
        build_class_fact(classes)
        if (classes := answer.classes)
        else (
            f"{noun} that teach nothing" if pairs else "Rows without a trained token",
            f"{answer.untrained_rows:,}",
            _describe_untrained(answer, noun),
        ),
        ("Precision", answer.dtype, "of the numbers in training"),
        *_build_replay_fact(answer),
        *(
            fact
            for feature in load_page_features().values()
            if feature.build_preview_facts
            for fact in feature.build_preview_facts(answer)
        ),
    ]


def _describe_epoch(answer: Preview, about: str) -> str:
    """Describe the share of tokens trained on per epoch. about: the rows on which they were counted."""
    tokens, trained = answer.tokens_per_epoch, answer.trained_tokens_per_epoch
    both = "both answers of each pair, " if answer.config["task"] == "dpo" else ""
    of = f"{display.format_share(trained, tokens)} trained on" if trained else "of the texts alone"
    return both + of + (f", {about}" if about else "")


def _describe_truncation(answer: Preview) -> str:
    """Describe what truncated rows lose, and the limit."""
    lost = "none is too long"
    if answer.truncated_rows:
        lost = f"of {answer.counted_rows:,}; {answer.lost_tokens:,} trained tokens lost"
        lost += describe_full_length(answer.keeping_all)
    return f"{lost} (limit {answer.max_length:,} tokens)"


def describe_full_length(limit: tuple[int, float] | None) -> str:
    """Describe a limit that truncates no row: its length, and the share of additional tokens."""
    if not limit:
        return ""
    length, share = limit
    return f"; {length:,} would cut none, for {formatting.percent(share)} more tokens"


def _build_replay_fact(answer: Preview) -> list[tuple[str, str, str]]:
    """Build the fact of replayed general rows over the whole run."""
    if (replay := answer.replay) is None:
        return []
    tokens = f"{display.format_count(replay['tokens'])} tokens of {replay['from']}"
    return [("Rows replayed", f"{replay['rows']:,}", tokens)]


def _describe_untrained(answer: Preview, noun: str) -> str:
    if not answer.untrained_rows:
        return f"every {noun.lower().removesuffix('s')} teaches"
    return "they are left out" if noun == "Pairs" else "they teach nothing"


def show_row(answer: Preview) -> None:
    """Draw the previewed row token by token, with buttons to the previous and next ones."""
    row = answer.row
    with st.container(horizontal=True, vertical_alignment="center"):
        pair = row.get("rejected")
        st.markdown(f"**Model input: one {'pair' if pair else 'row'}**")
        st.button(
            "Previous row",
            key="launch-previous-row",
            icon=":material/chevron_left:",
            disabled=row["index"] <= 0,
            on_click=_move_to_row,
            args=(row["index"] - 1,),
        )
        st.button(
            "Next row",
            key="launch-next-row",
            icon=":material/chevron_right:",
            icon_position="right",
            disabled=row["index"] + 1 >= row["of"],
            on_click=_move_to_row,
            args=(row["index"] + 1,),
        )
        st.caption(f"{'Pair' if pair else 'Row'} {row['index'] + 1:,} of {row['of']:,} to train on")
    if "label" in row:
        st.markdown(f"Label: **{escape_markdown(row['label'])}**. The text alone is read, at its last token.")
    st.html(render_row(row))


def show_leak_fixes(answer: Preview, config: TrainConfig, dataset: Dataset) -> None:
    """If splits given in the file leak, offer a random split for this run or the data set's Split tab."""
    leaks = answer.leaks
    dealt = get_split(config.model_dump(exclude_none=True), datasets.get_split_fields(dataset))
    if dealt["split_by"] != "given" or not (leaks["exact"] or leaks["near"] or leaks["same_prompt"]):
        return
    with st.container(horizontal=True, vertical_alignment="center", key="launch-leaks"):
        st.button(
            "Split at random in this run",
            icon=":material/shuffle:",
            key="launch-leaks-deal",
            help="Duplicates and near duplicates stay in one split.",
            on_click=config_fields.set_fields,
            args=({"split_by": "random", "split_column": None},),
        )
        link = {"dataset": dataset.dataset_id, "tab": "split"}
        if st.button("To the tab Split", type="tertiary", key="launch-leaks-split"):
            st.switch_page("pages/data/data.py", query_params=link)


def _move_to_row(row: int) -> None:
    st.session_state["launch-row"] = row


def group_notes_by_field(problems: list[Problem]) -> dict[str, list[tuple[str, str]]]:
    """Group problems as notes of the form: field -> [(level, message and fix)]; no field is ""."""
    notes: dict[str, list[tuple[str, str]]] = {}
    for problem in problems:
        text = f"{problem.message} {problem.fix or ''}".strip()
        notes.setdefault(problem.field or "", []).append((problem.level, text))
    return notes


def show_general(notes: dict[str, list[tuple[str, str]]], fields: set[str]) -> None:
    """Draw problems that belong to no field of the form."""
    for field, messages in notes.items():
        if field not in fields:
            for level, message in messages:
                show = st.error if level == "error" else st.warning
                show(escape_markdown(message), icon=f":material/{level}:")
