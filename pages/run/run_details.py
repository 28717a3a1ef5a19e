"""The tabs of a run's page that answer questions of detail: samples, log, config and facts."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.statistics.statistics import wilson_interval
from pages.run_parts import run_reads
from pages.shared import quantities, reads, wording
from pages.shared.conversation import shortened
from pages.shared.session import guarded, plain
from store.config.train_config import TrainConfig
from store.contract.states import ALIVE

TAILS = {"64 KiB": 65_536, "1 MiB": 1_048_576}
COUNTS = {
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
            alive = reads.runs_by_id((run_id,))[run_id]["status"] in ALIVE
            why = "They come with the verdict." if alive else "This run wrote none."
            st.caption(f"There are no samples. {why}")
            return
        st.markdown(agreement(rows))
        for row in rows:
            _sample(row)


def agreement(rows: list[dict[str, Any]]) -> str:
    """How many answers equal their reference, base and tuned, with Wilson's interval."""
    counts = {who: sum(_same(row[who], row["reference"]) for row in rows) for who in ("base", "tuned")}
    interval = wilson_interval(counts["tuned"], len(rows))
    return (
        f"The tuned model gives exactly the reference in **{counts['tuned']} of {len(rows)}** "
        f"(95% interval {interval.low:.0%} to {interval.high:.0%}), the base model in {counts['base']}."
    )


def _same(answer: str, reference: str) -> bool:
    return " ".join(answer.split()) == " ".join(reference.split())


def _sample(row: dict[str, Any]) -> None:
    with st.container(border=True):
        st.caption(f":material/person: Prompt · {row['split']} row {row['row_id']:,}")
        st.text(shortened(row["prompt"]))
        columns = st.columns(3, gap="medium")
        titles = {"reference": "Reference", "base": "Base model", "tuned": "Tuned model"}
        for column, (who, title) in zip(columns, titles.items(), strict=True):
            with column:
                same = who != "reference" and _same(row[who], row["reference"])
                mark = " :green-badge[:material/check: as the reference]" if same else ""
                st.markdown(f"**{title}**{mark}")
                st.text(shortened(row[who]) or "(nothing)")


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
        run = reads.runs_by_id((run_id,))[run_id]
        left, right = st.columns([3, 2], gap="large")
        text = TrainConfig.parse(run["config"]).to_yaml()
        with left:
            st.markdown("**Config**")
            st.code(text, language="yaml")
            st.download_button(
                "Download YAML", text, f"{run_id}.yaml", "application/yaml", icon=":material/download:"
            )
        with right:
            st.markdown("**Facts**")
            st.table(facts(run), border="horizontal")


PREDICTED = {  # what was measured -> its prediction, with the interval's ends
    "peak_memory_gib": ("estimated_memory_gib", "estimated_memory_low_gib", "estimated_memory_high_gib"),
    "run_seconds": ("estimated_seconds", "estimated_low_seconds", "estimated_high_seconds"),
}


def with_prediction(facts: dict[str, Any], measured: str) -> str:
    """ "2.3 GiB, predicted 2.1 GiB (1.9 to 2.4 GiB)", of the facts of a run."""
    memory = measured == "peak_memory_gib"
    formatted = quantities.gib if memory else quantities.span
    both = quantities.gib_between if memory else quantities.span_between
    value, (guess, low, high) = facts.get(measured), (facts.get(name) for name in PREDICTED[measured])
    parts = [formatted(value)] if value is not None else []
    if guess is not None:
        between = f" ({both(low, high)})" if low is not None and high is not None else ""
        parts.append(f"predicted {formatted(guess)}{between}")
    return ", ".join(parts)


def facts(run: dict[str, Any]) -> dict[str, str]:
    """What was counted and what it ran on, as Markdown for a table."""
    measured, rows = run["facts"], run["facts"].get("rows") or {}
    data = f"{run['data_fingerprint'][:16]}…" if run["data_fingerprint"] else "–"
    cells = {"Run": run["run_id"], "Data fingerprint": data, "Seed": run["seed"]}
    if rows:
        cells["Rows"] = ", ".join(f"{count:,} {part}" for part, count in rows.items())
    if planted := measured.get("canaries"):
        secrets = f"{len(planted['planted']):,} made-up secrets in {planted['rows']:,} training rows"
        cells["Canaries"] = secrets
    for name, title in COUNTS.items():
        if measured.get(name) is not None:
            cells[title] = wording.compact(measured[name])
    cells["Device"] = (
        " ".join(str(measured[k]) for k in ("device", "device_name", "dtype") if measured.get(k)) or "–"
    )
    if measured.get("peak_memory_gib") is not None:
        cells["Peak memory"] = with_prediction(measured, "peak_memory_gib")
    if measured.get("train_seconds") is not None:
        cells["Time in training"] = quantities.span(measured["train_seconds"])
    if measured.get("run_seconds") is not None or measured.get("estimated_seconds") is not None:
        cells["Whole run"] = with_prediction(measured, "run_seconds")
    if measured.get("run_seconds") is not None:
        energy = measured.get("energy_wh")
        cells["Energy"] = "unknown, not counted here" if energy is None else f"{energy:,.1f} Wh of its device"
    cells |= measured.get("versions") or {}
    return {plain(str(name)): plain(str(value)) for name, value in cells.items()}
