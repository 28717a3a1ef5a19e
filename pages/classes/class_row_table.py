"""Held-out rows as they were classified: the text, its label, what was predicted, and how sure that was."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from pages.run_parts import run_reads
from pages.shared import reads
from pages.shared.conversation import shortened
from pages.shared.session import client, guarded, kept_for, plain
from store.contract.errors import NotFoundError, QueryError
from store.documents.runs.evidence_rows import ClassPrediction
from store.documents.tables.dataset import CanonicalRow
from store.documents.tables.run import Run
from store.documents.verdicts.classification import ClassFigures
from store.queries.data import datasets
from store.queries.rows import class_predictions
from store.queries.rows.class_predictions import PredictionFilter

PAGE = 10
EXAMPLES = 3
SHOWN = 600  # characters of a text
ONLY = {"Wrong": "wrong", "Right": "right", "All": ""}


def draw_class_samples(run_id: str) -> None:
    """The tab: rows with label and prediction, mistakes first, those that it was surest of at the top."""
    with guarded():
        run = run_reads.run(run_id)
        classification = run["verdict"] and run["verdict"]["classification"]
        if not classification:
            st.caption("The rows come with the verdict.")
            return
        only, label, predicted = _filters(classification["models"]["tuned"])
        wanted = PredictionFilter(only, label, predicted)
        total, _ = page(run_id, wanted, 0, 0)
        pages = max(1, -(-total // PAGE))
        number = st.pagination(pages, key=f"class-page-{only}-{label}-{predicted}") if pages > 1 else 1
        order = {"wrong": ", the surest mistakes first", "right": ", the least sure first"}.get(only, "")
        st.caption(f"{phrasing.plural(total, 'held-out row')}{order}.")
        _, rows = page(run_id, wanted, PAGE, (number - 1) * PAGE)
        texts = _texts(run, tuple(row["row_id"] for row in rows))
        for row in rows:
            _draw_row(row, texts.get(row["row_id"]))


def _filters(tuned: ClassFigures) -> tuple[str, str, str]:
    """Which rows are shown: wrong, right or all; of a label; predicted as one."""
    labels = sorted(row["label"] for row in tuned["classes"])
    left, middle, right = st.columns([2, 2, 2], vertical_alignment="bottom")
    with left:
        wrong = tuned["accuracy"]["value"] < 1
        only = st.segmented_control(
            "Rows", list(ONLY), default="Wrong" if wrong else "All", key="class-only", required=True
        )
    with middle:
        label = st.selectbox("True label", labels, index=None, placeholder="any", key="class-label")
    with right:
        predicted = st.selectbox("Predicted", labels, index=None, placeholder="any", key="class-predicted")
    return ONLY[only or "All"], label or "", predicted or ""


def draw_examples(run: Run, label: str, predicted: str, title: str) -> None:
    """The surest rows of a label that were taken for another; nothing where there are none."""
    total, rows = page(run["run_id"], PredictionFilter("wrong", label, predicted), EXAMPLES, 0)
    if not total:
        return
    more = f", the {len(rows)} surest" if total > len(rows) else ""
    st.caption(f"{title}: {phrasing.plural(total, 'row')}{more}")
    texts = _texts(run, tuple(row["row_id"] for row in rows))
    for row in rows:
        _draw_row(row, texts.get(row["row_id"]))


@kept_for(600, most=128)
def page(run_id: str, wanted: PredictionFilter, limit: int, offset: int) -> tuple[int, list[ClassPrediction]]:
    """Rows of a run that has ended; none where its file is gone."""
    try:
        return class_predictions.page(client(), run_id, wanted, limit=limit, offset=offset)
    except QueryError:
        return 0, []


def _texts(run: Run, row_ids: tuple[int, ...]) -> dict[int, str]:
    """The texts of the rows, where the data set still has the rows that the run was trained on."""
    try:
        dataset = reads.dataset(run["dataset_id"])
    except NotFoundError:
        return {}
    if dataset["fingerprint"] != run["data_fingerprint"] or not row_ids:
        return {}
    return {row["row_id"]: _text(row) for row in _rows(run["dataset_id"], row_ids)}


@kept_for(600, most=128)
def _rows(dataset_id: str, row_ids: tuple[int, ...]) -> list[CanonicalRow]:
    return datasets.get_rows(client(), reads.dataset(dataset_id), row_ids)


def _text(row: CanonicalRow) -> str:
    turns = [m["content"] for m in row["messages"] or [] if m["role"] != "assistant"]
    return "\n\n".join(turns) or str(row["text"] or "")


def _draw_row(row: ClassPrediction, text: str | None) -> None:
    with st.container(border=True, gap="xsmall"):
        st.text(shortened(text, SHOWN) if text else "(its data set is gone)")
        right = row["label"] == row["predicted"]
        color, icon = ("green", ":material/check:") if right else ("red", ":material/close:")
        badges = [f":{color}-badge[{icon} {plain(row['predicted'])} {row['probability']:.0%}]"]
        if not right:
            own = row["label_probability"]
            share = "never trained" if own is None else f"{own:.0%}"
            badges.append(f"label **{plain(row['label'])}** ({share})")
        rest = [
            f"{plain(t['label'])} {t['probability']:.0%}" for t in row["top"][1:3] if t["probability"] >= 0.01
        ]
        notes = [f"then {', '.join(rest)}"] if rest and right else []
        if row["prompted"]:
            notes.append(f"untuned: {plain(row['prompted'])} {row['prompted_probability']:.0%}")
        notes.append(f"{row['split']} row {row['row_id']:,}")
        st.markdown(f"{' '.join(badges)} :gray[{' · '.join(notes)}]")
