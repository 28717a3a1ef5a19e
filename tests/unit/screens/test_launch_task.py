"""Which tasks a data set leaves to choose from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pages.shared import config_fields
from pages.training import form

KNOWN = [
    SimpleNamespace(name="intents", kind="chat", format="text_label", stats={"label_count": 77}),
    SimpleNamespace(name="one class", kind="chat", format="text_label", stats={"label_count": 1}),
    SimpleNamespace(name="functions", kind="chat", format="question_answer", stats={"label_count": 120}),
    SimpleNamespace(name="pairs", kind="preference", format="preference", stats=None),
    SimpleNamespace(name="prose", kind="text", format="text", stats={}),
]


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("intents", ("sft", "classification")),
        ("one class", ("sft",)),
        ("functions", ("sft",)),  # its answers are not the labels that stand beside them
        ("pairs", ("dpo", "sft")),
        ("prose", ("sft",)),
        ("nothing of that name", ("sft",)),
    ],
)
def test_a_choice_is_offered_where_the_data_leave_one(
    name: str, tasks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    state: dict[str, Any] = {config_fields.build_widget_key("dataset"): name}
    monkeypatch.setattr(form.cached_queries, "list_datasets", lambda: KNOWN)
    monkeypatch.setattr(form.st, "session_state", state)
    assert form.list_tasks() == tasks
