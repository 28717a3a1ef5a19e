"""What the cleaning screens read: figures, saved recipes, previews, measuring jobs; kept for a moment."""

from __future__ import annotations

import json
from typing import cast

import streamlit as st

from pages.data.rows.clean_draft import StepDocument
from pages.shared import reads
from pages.shared.session import client, kept_for
from store.documents.data.clean_preview import CleanPreview
from store.documents.tables.dataset import RecipeRow, SignalRow
from store.documents.tables.job import Job
from store.queries.data import quality, saved

WHOLE_SECONDS = 150.0  # the engine's own limit for an ask
EXAMPLES = 8  # rows of each fate and step that a preview shows before and after


@kept_for(reads.CALM, most=64)
def signals(fingerprint: str) -> dict[str, SignalRow]:
    """What was measured of these rows, by group."""
    return quality.signals(client(), fingerprint)


@kept_for(reads.CALM, most=4)
def recipes(person_id: str) -> list[RecipeRow]:
    """A person's own recipes and the shared ones, by name."""
    return saved.recipes(client(), person_id)


def measuring(dataset_id: str) -> list[Job]:
    """Jobs that measure this data set now, or wait to."""
    return [
        job
        for job in reads.queue()
        if job["kind"] == "profile" and job["config"].get("dataset") == dataset_id
    ]


def preview(dataset_id: str, steps: list[StepDocument], *, whole: bool = False) -> CleanPreview:
    """What would become of the rows by a valid recipe: the answer of the ask `clean_preview`; `whole`: of all
    rows, however long it takes."""
    return _preview(dataset_id, json.dumps(steps, sort_keys=True), whole, _measured(dataset_id))


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def _preview(dataset_id: str, steps: str, whole: bool, measured: str) -> CleanPreview:
    recipe = {"steps": json.loads(steps)}
    order = quality.work_order(client(), {"dataset": dataset_id, "recipe": recipe})
    body = {**order, "recipe": recipe, "examples": EXAMPLES, "whole": whole}
    answer = client().ask("clean_preview", body, timeout=WHOLE_SECONDS)
    return cast(CleanPreview, answer)  # as the worker writes it


def _measured(dataset_id: str) -> str:
    """What a filter's answer depends on besides the rows: which signals there are, and from when."""
    measured = signals(reads.dataset(dataset_id)["fingerprint"])
    return json.dumps({name: str(row["computed_at"]) for name, row in measured.items()}, sort_keys=True)
