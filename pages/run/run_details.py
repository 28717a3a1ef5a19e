"""The tabs of a run's page that answer questions of detail: samples, log, config and facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from engine.diagnostics.statistics.statistics import wilson_interval
from pages.people import comments_view
from pages.people.activity_lines import draw_last
from pages.run_parts import run_reads
from pages.shared import quantities, wording
from pages.shared.conversation import show_text
from pages.shared.session import guarded, plain
from store.config.training.train_config import TrainConfig
from store.contract.states import ALIVE
from store.documents.tables.run import Prediction, Run, RunFacts

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
TAILS = {"64 KiB": 65_536, "1 MiB": 1_048_576}
COUNTS: dict[CountedFact, str] = {
    "trainable_parameters": "Trainable parameters",
    "total_parameters": "Parameters in all",
    "steps": "Optimiser steps",
    "tokens_per_epoch": "Tokens an epoch",
    "trained_tokens_per_epoch": "Trained tokens an epoch",
    "truncated_rows": "Rows cut at max_length",
    "untrained_rows": "Rows without a trained token",
    "max_length": "Longest row kept, tokens",
    "label_count": "Classes",
    "unlabelled_rows": "Rows without a label",
}


def draw_samples(run_id: str) -> None:
    """Held-out prompts answered by base and tuned model, with the reference."""
    with guarded():
        rows = run_reads.predictions(run_id)
        if not rows:
            alive = run_reads.run(run_id)["status"] in ALIVE
            why = "They come with the verdict." if alive else "This run wrote none."
            st.caption(f"There are no samples. {why}")
            return
        st.markdown(agreement(rows))
        for row in rows:
            _sample(row)


def agreement(rows: list[Prediction]) -> str:
    """How many answers equal their reference, base and tuned, with Wilson's interval."""
    tuned, base = (
        sum(_same(answer, row["reference"]) for answer, row in zip(answers, rows, strict=True))
        for answers in ([row["tuned"] for row in rows], [row["base"] for row in rows])
    )
    interval = wilson_interval(tuned, len(rows))
    return (
        f"The tuned model gives exactly the reference in **{tuned} of {len(rows)}** "
        f"(95% interval {interval.low:.0%} to {interval.high:.0%}), the base model in {base}."
    )


def _same(answer: str, reference: str) -> bool:
    return " ".join(answer.split()) == " ".join(reference.split())


def _sample(row: Prediction) -> None:
    with st.container(border=True):
        st.caption(f":material/person: Prompt · {row['split']} row {row['row_id']:,}")
        show_text(row["prompt"])
        columns = st.columns(3, gap="medium")
        texts = {"Reference": row["reference"], "Base model": row["base"], "Tuned model": row["tuned"]}
        for column, (title, text) in zip(columns, texts.items(), strict=True):
            with column:
                same = title != "Reference" and _same(text, row["reference"])
                mark = " :green-badge[:material/check: as the reference]" if same else ""
                st.markdown(f"**{title}**{mark}")
                show_text(text, nothing="(nothing)")


def draw_log(run_id: str) -> None:
    """The end of what the worker wrote, and how much there is."""
    with guarded():
        tail = st.segmented_control(
            "How much", list(TAILS), default="64 KiB", key="log-tail", label_visibility="collapsed"
        )
        log = run_reads.log(run_id, TAILS[tail or "64 KiB"])
        if not log["text"]:
            st.caption("The log is empty.")
            return
        if log["shown_bytes"] < log["bytes"]:
            st.caption(f"The last {quantities.size(log['shown_bytes'])} of {quantities.size(log['bytes'])}.")
        st.code(log["text"], language=None, height=480, wrap_lines=True)


def draw_config(run_id: str) -> None:
    """The resolved config as YAML that `tunebench launch` takes, and what is needed to repeat the run."""
    with guarded():
        run = run_reads.run(run_id)
        left, right = st.columns([3, 2], gap="large")
        text = TrainConfig.of_past(run["config"]).to_yaml()
        with left:
            st.markdown("**Config**")
            st.code(text, language="yaml")
            st.download_button(
                "Download YAML", text, f"{run_id}.yaml", "application/yaml", icon=":material/download:"
            )
        with right:
            st.markdown("**Facts**")
            st.table(facts(run), border="horizontal")


def draw_comments(run_id: str) -> None:
    """What people say of the run, and what they did with it last."""
    with guarded():
        comments_view.draw("run", run_id)
        draw_last("run", run_id)


@dataclass(frozen=True)
class Predicted:
    """An amount that was predicted, with its interval's ends, and what was measured; how people say one and
    two of them."""

    measured: float | None
    guess: float | None
    low: float | None
    high: float | None
    one_text: Callable[[float], str]
    two_text: Callable[[float, float], str]

    def __str__(self) -> str:
        """ "2.3 GiB, predicted 2.1 GiB (1.9 to 2.4 GiB)"."""
        parts = [self.one_text(self.measured)] if self.measured is not None else []
        if self.guess is not None:
            between = ""
            if self.low is not None and self.high is not None:
                between = f" ({self.two_text(self.low, self.high)})"
            parts.append(f"predicted {self.one_text(self.guess)}{between}")
        return ", ".join(parts)


def predicted_memory(facts: RunFacts) -> Predicted:
    return Predicted(
        facts.get("peak_memory_gib"),
        facts.get("estimated_memory_gib"),
        facts.get("estimated_memory_low_gib"),
        facts.get("estimated_memory_high_gib"),
        quantities.gib,
        quantities.gib_between,
    )


def predicted_time(facts: RunFacts) -> Predicted:
    return Predicted(
        facts.get("run_seconds"),
        facts.get("estimated_seconds"),
        facts.get("estimated_low_seconds"),
        facts.get("estimated_high_seconds"),
        quantities.span,
        quantities.span_between,
    )


def facts(run: Run) -> dict[str, str]:
    """What was counted and what it ran on, as Markdown for a table."""
    measured = run["facts"]
    fingerprint = f"{run['data_fingerprint'][:16]}…" if run["data_fingerprint"] else "–"
    cells: dict[str, str | int] = {"Run": run["run_id"], "Data fingerprint": fingerprint, "Seed": run["seed"]}
    if rows := measured.get("rows"):
        cells["Rows"] = ", ".join(f"{count:,} {part}" for part, count in rows.items())
    if planted := measured.get("canaries"):
        secrets = f"{len(planted['planted']):,} made-up secrets in {planted['rows']:,} training rows"
        cells["Canaries"] = secrets
    for name, title in COUNTS.items():
        if (count := measured.get(name)) is not None:
            cells[title] = wording.compact(count)
    device = (measured.get("device"), measured.get("device_name"), measured.get("dtype"))
    cells["Device"] = " ".join(part for part in device if part) or "–"
    if measured.get("peak_memory_gib") is not None:
        cells["Peak memory"] = str(predicted_memory(measured))
    if (seconds := measured.get("train_seconds")) is not None:
        cells["Time in training"] = quantities.span(seconds)
    if measured.get("run_seconds") is not None or measured.get("estimated_seconds") is not None:
        cells["Whole run"] = str(predicted_time(measured))
    if measured.get("run_seconds") is not None:
        energy = measured.get("energy_wh")
        cells["Energy"] = "unknown, not counted here" if energy is None else f"{energy:,.1f} Wh of its device"
    cells |= measured.get("versions") or {}
    return {plain(str(name)): plain(str(value)) for name, value in cells.items()}
