"""Detail views of a run: samples, log, config, facts, and gain by slice.

With several slices the intervals are widened (Bonferroni), so that looking at many does not produce a false
finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from engine.evaluation.statistics.intervals import Interval, ratio_interval, wilson_interval
from pages.data import dataset_queries
from pages.people import activity_feed
from pages.people.activity_feed import draw_recent_activity
from pages.shared import cached_queries, display, run_queries
from pages.shared.session import cached, escape_markdown, get_client, get_current_person, show_errors
from pages.shared.text_display import show_text
from store.core.errors import NotFoundError
from store.core.job_kinds import ALIVE
from store.data.schemas import Dataset, SliceRow
from store.evaluation import scored_rows
from store.runs.schemas import Prediction, Run, RunFacts
from store.training.train_config import TrainConfig

CountedFact = Literal[
    "trainable_parameters",
    "total_parameters",
    "steps",
    "tokens_per_epoch",
    "trained_tokens_per_epoch",
    "truncated_rows",
    "untrained_rows",
    "max_length",
    "label_count",
    "unlabelled_rows",
]
LOG_TAILS = {"64 KiB": 65_536, "1 MiB": 1_048_576}
COUNT_TITLES: dict[CountedFact, str] = {
    "trainable_parameters": "Trainable parameters",
    "total_parameters": "Total parameters",
    "steps": "Optimizer steps",
    "tokens_per_epoch": "Tokens per epoch",
    "trained_tokens_per_epoch": "Trained tokens per epoch",
    "truncated_rows": "Rows truncated at max_length",
    "untrained_rows": "Rows without a trained token",
    "max_length": "Maximum row length, tokens",
    "label_count": "Classes",
    "unlabelled_rows": "Rows without a label",
}


def draw_samples(run_id: str) -> None:
    """Draw held-out prompts with the answers of base and tuned model and the reference."""
    with show_errors():
        rows = run_queries.list_predictions(run_id)
        if not rows:
            alive = run_queries.read_current_run(run_id).status in ALIVE
            why = (
                "They are written when training ends, with the verdict."
                if alive
                else "This run wrote none: set `sample_prompts` above 0 in a clone to get some."
            )
            st.caption(f"No samples yet. {why}")
            return
        st.markdown(describe_agreement(rows))
        for row in rows:
            _draw_sample(row)


def describe_agreement(rows: list[Prediction]) -> str:
    """Describe how many answers match their reference, base and tuned, with a Wilson interval."""
    tuned, base = (
        sum(_is_equal_answer(answer, row.reference) for answer, row in zip(answers, rows, strict=True))
        for answers in ([row.tuned for row in rows], [row.base for row in rows])
    )
    interval = wilson_interval(tuned, len(rows))
    return (
        f"The tuned model matches the reference exactly in **{tuned} of {len(rows)}** "
        f"(95% interval {interval.low:.0%} to {interval.high:.0%}), the base model in {base}."
    )


def _is_equal_answer(answer: str, reference: str) -> bool:
    return " ".join(answer.split()) == " ".join(reference.split())


def _draw_sample(row: Prediction) -> None:
    with st.container(border=True):
        st.caption(f":material/person: Prompt · {row.split} row {row.row_id:,}")
        show_text(row.prompt)
        columns = st.columns(3, gap="medium")
        texts = {"Reference": row.reference, "Base model": row.base, "Tuned model": row.tuned}
        for column, (title, text) in zip(columns, texts.items(), strict=True):
            with column:
                same = title != "Reference" and _is_equal_answer(text, row.reference)
                mark = " :green-badge[:material/check: matches the reference]" if same else ""
                st.markdown(f"**{title}**{mark}")
                show_text(text, nothing="(nothing)")


def draw_log(run_id: str) -> None:
    """Draw the end of the worker's log, and its size."""
    with show_errors():
        tail = st.segmented_control(
            "How much", list(LOG_TAILS), default="64 KiB", key="log-tail", label_visibility="collapsed"
        )
        log = run_queries.read_log(run_id, LOG_TAILS[tail or "64 KiB"])
        if not log["text"]:
            st.caption("The log is empty. The worker writes to it once the run starts.")
            return
        if log["shown_bytes"] < log["bytes"]:
            st.caption(
                f"The last {display.format_size(log['shown_bytes'])} of {display.format_size(log['bytes'])}."
            )
        st.code(log["text"], language=None, height=480, wrap_lines=True)


def draw_config(run_id: str) -> None:
    """Draw the resolved config as YAML for `tunebench launch`, and the facts needed to repeat the run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        left, right = st.columns([3, 2], gap="large")
        text = TrainConfig.of_past(run.config).to_yaml()
        with left:
            st.markdown("**Config**")
            st.code(text, language="yaml")
            st.download_button(
                "Download YAML", text, f"{run_id}.yaml", "application/yaml", icon=":material/download:"
            )
        with right:
            st.markdown("**Facts**")
            st.table(list_facts(run), border="horizontal")


def draw_comments(run_id: str) -> None:
    """Draw the comments on the run, and its recent activity."""
    with show_errors():
        activity_feed.draw_comments("run", run_id)
        draw_recent_activity("run", run_id)


@dataclass(frozen=True)
class PredictedAmount:
    """A measured amount and its prediction with interval.

    one_text, two_text: format one amount, or two as a range.
    """

    measured: float | None
    guess: float | None
    low: float | None
    high: float | None
    one_text: Callable[[float], str]
    two_text: Callable[[float, float], str]

    def __str__(self) -> str:
        """Format as "2.3 GiB, predicted 2.1 GiB (1.9 to 2.4 GiB)"."""
        parts = [self.one_text(self.measured)] if self.measured is not None else []
        if self.guess is not None:
            between = ""
            if self.low is not None and self.high is not None:
                between = f" ({self.two_text(self.low, self.high)})"
            parts.append(f"predicted {self.one_text(self.guess)}{between}")
        return ", ".join(parts)


def get_predicted_memory(facts: RunFacts) -> PredictedAmount:
    return PredictedAmount(
        facts.get("peak_memory_gib"),
        facts.get("estimated_memory_gib"),
        facts.get("estimated_memory_low_gib"),
        facts.get("estimated_memory_high_gib"),
        display.format_gib,
        display.format_gib_range,
    )


def get_predicted_time(facts: RunFacts) -> PredictedAmount:
    return PredictedAmount(
        facts.get("run_seconds"),
        facts.get("estimated_seconds"),
        facts.get("estimated_low_seconds"),
        facts.get("estimated_high_seconds"),
        display.format_duration,
        display.format_duration_range,
    )


def list_facts(run: Run) -> dict[str, str]:
    """List counts and hardware of the run, as Markdown for a table."""
    measured = run.facts
    fingerprint = f"{run.data_fingerprint[:16]}…" if run.data_fingerprint else "–"
    cells: dict[str, str | int] = {"Run": run.run_id, "Data fingerprint": fingerprint, "Seed": run.seed}
    if rows := measured.get("rows"):
        cells["Rows"] = ", ".join(f"{count:,} {part}" for part, count in rows.items())
    if planted := measured.get("canaries"):
        secrets = f"{len(planted['planted']):,} made-up secrets in {planted['rows']:,} training rows"
        cells["Canaries"] = secrets
    for name, title in COUNT_TITLES.items():
        if (count := measured.get(name)) is not None:
            cells[title] = display.format_compact(count)
    device = (measured.get("device"), measured.get("device_name"), measured.get("dtype"))
    cells["Device"] = " ".join(part for part in device if part) or "–"
    if measured.get("peak_memory_gib") is not None:
        cells["Peak memory"] = str(get_predicted_memory(measured))
    if (seconds := measured.get("train_seconds")) is not None:
        cells["Training time"] = display.format_duration(seconds)
    if measured.get("run_seconds") is not None or measured.get("estimated_seconds") is not None:
        cells["Total time"] = str(get_predicted_time(measured))
    if measured.get("run_seconds") is not None:
        energy = measured.get("energy_wh")
        cells["Energy"] = (
            "not measured on this machine" if energy is None else f"{energy:,.1f} Wh of its device"
        )
    cells |= measured.get("versions") or {}
    return {escape_markdown(str(name)): escape_markdown(str(value)) for name, value in cells.items()}


ERROR_RATE = 0.05


def draw_slices(run_id: str) -> None:
    """Draw the gain on each slice of one run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        dataset = _find_dataset(run)
        gain = run.verdict.gain if run.verdict else None
        if dataset is None or not gain:
            lack = (
                "They are compared when the run has a verdict."
                if dataset
                else "The data set it was trained on was changed or deleted."
            )
            st.caption(f"Slices can't be compared. {lack}")
            return
        slices = cached_queries.list_slices(dataset.dataset_id, get_current_person().person_id)
        if not slices:
            st.caption(
                "The data set has no slices. Filter its rows and save the filter as a slice to see the gain"
                " on those rows."
            )
            st.page_link(
                "pages/data/data.py",
                label="Filter its rows",
                icon=":material/filter_alt:",
                query_params={"dataset": dataset.dataset_id},
            )
            return
        confidence = 1 - ERROR_RATE / len(slices)
        whole = {"Slice": "All held-out rows", "Gain ↑ (95% interval)": display.format_estimate(gain)}
        rows = [whole | {"Held-out rows": gain.n, "": _describe_interval(gain.low, gain.high)}]
        rows += [
            _build_row(run, dataset.dataset_id, named_slice, gain.split, confidence) for named_slice in slices
        ]
        st.dataframe(rows, hide_index=True, alt="Gain by slice")
        wider = f", widened for {len(slices)} slices (Bonferroni)" if len(slices) > 1 else ""
        st.caption(f"{gain.unit.capitalize()}, base minus tuned; paired intervals over rows{wider}.")


def _find_dataset(run: Run) -> Dataset | None:
    """Return the data set of the run if it still has the rows that the run was trained on, else None."""
    try:
        dataset = run_queries.find_dataset(run.dataset_id)
    except NotFoundError:
        return None
    return dataset if dataset.fingerprint == run.data_fingerprint else None


def _build_row(
    run: Run, dataset_id: str, named_slice: SliceRow, split: str, confidence: float
) -> dict[str, Any]:
    interval = compute_filtered_gain(
        run.run_id, dataset_id, split, json.dumps(named_slice.filter), confidence
    )
    line: dict[str, Any] = {"Slice": escape_markdown(named_slice.name)}
    if interval is None:
        return line | {"Gain ↑ (95% interval)": "–", "Held-out rows": 0, "": "no held-out row in this slice"}
    gain = interval.to_estimate()
    return line | {
        "Gain ↑ (95% interval)": display.format_estimate(gain),
        "Held-out rows": interval.n,
        "": _describe_interval(interval.low, interval.high),
    }


def _describe_interval(low: float | None, high: float | None) -> str:
    """Describe what the interval shows: better, worse or inconclusive."""
    if low is None or high is None:
        return "one row has no interval"
    return "better" if low > 0 else "worse" if high < 0 else "can't be distinguished from noise"


@cached(600, max_entries=256)
def compute_filtered_gain(
    run_id: str, dataset_id: str, split: str, where: str, confidence: float
) -> Interval | None:
    """Compute the gain on the held-out rows matching a filter (as JSON); None if no row matches."""
    table = scored_rows.sliced_losses(
        get_client(),
        run_id,
        split,
        dataset_queries.build_table(dataset_id),
        dataset_queries.parse_filter(where),
    )
    if not table.num_rows:
        return None
    columns = {name: table[name].to_numpy() for name in ("base_loss", "tuned_loss", "tokens")}
    return ratio_interval(
        columns["base_loss"] - columns["tuned_loss"], columns["tokens"], confidence=confidence
    )
