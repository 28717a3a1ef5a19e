"""Forms that are drawn from config models: a widget for every kind of field, and refusals at their fields."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from streamlit.testing.v1 import AppTest

import pages
from pages.shared import model_form
from store.core.config import Config
from store.core.model_fields import FieldDisplay, read_bounds, read_kind
from store.monitoring.config import LIMITS, MonitorConfig, MonitorSettings
from store.registry.gate_checks import GATE_CHECKS

PAGES = Path(pages.__file__).parent


class Every(Config):
    """A field of each kind."""

    name: str = Field("", max_length=40, title="name it", description="What it is called")
    notes: str = Field("", max_length=10_000)
    rows: int = Field(5, ge=1, le=9)
    share: Annotated[float, FieldDisplay(scale=100)] = Field(0.25, ge=0, le=1)
    limit: Annotated[float | None, FieldDisplay(empty="no limit")] = Field(None, gt=0)
    own: bool = Field(False, title="Own")
    part: Annotated[Literal["test", "train"], FieldDisplay(choices={"test": "Held out"})] = "test"
    several: list[Literal["a", "b"]] = Field(default_factory=lambda: ["a"])
    stop: list[str] = Field(default_factory=list)
    labels: Annotated[list[str], FieldDisplay(separator=",")] = Field(default_factory=list)
    start: datetime | None = None
    options: dict[str, int] = Field(default_factory=dict)


def draw_every_kind() -> None:
    import streamlit as st

    from pages.shared.model_form import ModelForm
    from tests.unit.screens.test_model_form import Every

    form = ModelForm(Every, "every-", {"rows": 7, "labels": ["x", "y"]})
    form.draw(*Every.model_fields)
    if st.button("Save"):
        config = form.parse()
        st.session_state["made"] = config.model_dump() if config else None


@pytest.fixture
def drawn() -> AppTest:
    return AppTest.from_function(draw_every_kind).run()


def test_every_kind_of_field_has_a_widget(drawn: AppTest) -> None:
    assert not drawn.exception
    assert [each.label for each in drawn.text_input] == ["Name it", "Labels"]
    assert [each.label for each in drawn.text_area] == ["Notes", "Options"]
    assert [each.label for each in drawn.number_input] == ["Rows", "Share", "Limit"]
    assert [each.label for each in drawn.toggle] == ["Own"]
    assert [each.label for each in drawn.selectbox] == ["Part"]
    assert [each.label for each in drawn.multiselect] == ["Several", "Stop"]


def test_help_bounds_and_titles_are_those_of_the_model(drawn: AppTest) -> None:
    assert drawn.text_input[0].help == "What it is called"
    assert drawn.text_input[0].max_chars == 40
    rows, share, limit = drawn.number_input
    assert (rows.min, rows.max, rows.value) == (1, 9, 7)
    assert (share.min, share.max, share.value) == (0.0, 100.0, 25.0)
    assert (limit.value, limit.placeholder) == (None, "no limit")
    assert drawn.selectbox[0].options == ["Held out", "train"]


def test_what_was_typed_becomes_a_model(drawn: AppTest) -> None:
    drawn.text_input(key="every-labels").set_value("x, y , ,x")
    drawn.number_input(key="every-share").set_value(7)
    drawn.toggle(key="every-own").set_value(True)
    drawn.button[0].click().run()
    made = drawn.session_state["made"]
    assert (made["rows"], made["share"], made["limit"]) == (7, 0.07, None)
    assert (made["labels"], made["several"], made["own"]) == (["x", "y"], ["a"], True)


def test_a_refusal_stands_at_its_field(drawn: AppTest) -> None:
    drawn.number_input(key="every-limit").set_value(0.0)
    drawn.button[0].click().run()
    assert drawn.session_state["made"] is None
    (note,) = drawn.markdown
    assert "limit is 0.0" in note.value
    assert not drawn.error


def test_an_object_is_typed_as_yaml(drawn: AppTest) -> None:
    drawn.button[0].click().run()
    assert drawn.session_state["made"]["options"] == {}
    drawn.text_area(key="every-options").set_value("{tokens: 3")
    drawn.button[0].click().run()
    assert drawn.session_state["made"] is None
    (note,) = drawn.markdown
    assert "not valid YAML" in note.value
    drawn.text_area(key="every-options").set_value("tokens: 3")
    drawn.button[0].click().run()
    assert drawn.session_state["made"]["options"] == {"tokens": 3}


def test_every_bad_field_is_named() -> None:
    config, problems = model_form.validate_fields(MonitorSettings, {"alpha": 9, "keep_days": 0})
    assert config is None
    assert set(problems) == {"alpha", "keep_days"}


def test_a_field_that_no_widget_asks_for_is_named() -> None:
    class Part(BaseModel):
        inner: MonitorSettings | None = None
        name: str = ""

    assert list_undrawable(Part) == ["inner"]
    assert list_undrawable(Part, without=("inner",)) == []


def test_kinds_are_read_through_what_wraps_them() -> None:
    kind = read_kind(Annotated[list[Literal["a", "b"]] | None, FieldDisplay()])
    assert (kind.type, kind.repeated, kind.choices, kind.nullable) == (str, True, ("a", "b"), True)
    assert read_bounds(MonitorConfig.model_fields["alpha"])[:2] == (0, 0.5)


def list_undrawable(model: type[BaseModel], without: Sequence[str] = ()) -> list[str]:
    """Fields that no widget asks for, beside those that the page draws itself."""
    return [
        name
        for name, described in model.model_fields.items()
        if name not in without and read_kind(described.annotation).type not in model_form.SCALARS
    ]


# Fields that a form leaves to configuration files and the command line, or draws without their names.
NOT_ON_FORM: dict[str, set[str]] = {
    "bias.BiasConfig": {"model", "per_device_eval_batch_size", "seed"},
    "bias.BiasContinuations": {"max_new_tokens", "threshold"},
    "bias.BiasFile": {"columns", "form"},
    "bias.BiasGroups": {"metric"},
    "data.Source": {"builtin", "paths", "round", "round_ratings"},
    "evaluation.EvaluateConfig": {
        "chat_template", "confidence", "dtype", "max_length", "num_fewshot", "rows_of", "seed",
    },
    "export.ModelExport": {"checkpoint", "max_new_tokens", "reader"},
    "monitoring.MonitorConfig": {"bias", *LIMITS},
    "playground.ChatSampling": {"repetition_penalty", "stop"},
    "playground.Endpoint": {
        "concurrency", "extra", "json_mode", "key_file", "max_calls", "max_tokens", "retries", "timeout",
    },
    "rating.ImportRound": {"path"},
    "rating.RoundConfig": {"blind", "notes", "requests", "seed", "top_p"},
    "transfer.TransferConfig": {"max_length", "per_device_eval_batch_size", "seed"},
}  # fmt: skip
SHORT = {"playground.RoundConfig"}  # forms that ask for a few fields of a model and leave it at that
WHOLE = {
    "CHOICES[name]",
    "draft.kind",
    "draft.STEPS[step]",
}  # forms that draw every field of their model in a loop


def list_forms() -> dict[str, tuple[type[Config], set[Any]]]:
    """Every form of the screens, by room and model: its model, and all names in its files."""
    forms: dict[str, tuple[type[Config], set[Any]]] = {}
    for room in sorted(path for path in PAGES.iterdir() if path.is_dir()):
        files = [path for path in sorted(room.rglob("*.py")) if "ModelForm" in path.read_text()]
        trees = {path: ast.parse(path.read_text()) for path in files if path.name != "model_form.py"}
        nodes = [node for tree in trees.values() for node in ast.walk(tree)]
        named: set[Any] = {node.value for node in nodes if isinstance(node, ast.Constant)}
        named |= {node.arg for node in nodes if isinstance(node, ast.keyword)}
        for path, tree in trees.items():
            module = import_module(".".join(path.relative_to(room.parent.parent).with_suffix("").parts))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "ModelForm":
                    model = ast.unparse(node.args[0])
                    if model not in WHOLE:
                        forms[f"{room.name}.{model}"] = (getattr(module, model), named)
    return forms


@pytest.mark.parametrize("form", sorted(list_forms().keys() - SHORT))
def test_a_form_draws_every_field_of_its_model(form: str) -> None:
    model, named = list_forms()[form]
    assert set(model.model_fields) - named == NOT_ON_FORM.get(form, set())


def test_only_forms_that_exist_leave_fields_out() -> None:
    removed = {form for form in NOT_ON_FORM if not (PAGES / form.partition(".")[0]).is_dir()}
    assert set(NOT_ON_FORM) - removed <= set(list_forms())


@pytest.mark.parametrize("check", GATE_CHECKS)
def test_every_field_of_a_check_of_a_gate_has_a_widget(check: str) -> None:
    assert list_undrawable(GATE_CHECKS[check], without=("where",)) == []
