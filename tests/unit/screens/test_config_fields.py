"""What is typed into a field, and what it means: nothing is lost between the form and the config."""

from __future__ import annotations

import pytest

from pages.shared import config_fields as fields
from pages.shared import config_fields as values
from store.training.methods import METHOD_FIELDS
from store.training.train_config import TrainConfig

ABOVE_THE_GROUPS = (
    *("model", "init_from", "init_mode", "parent", "dataset", "task", "method"),
    *("name", "notes"),
)


@pytest.mark.parametrize(
    "value", [1e-4, 2e-5, 5e-05, 0.05, 1.0, 0.0, 8, 123456.75, 3e-12, 0.30000000000000004]
)
def test_numbers_survive_the_way_through_a_text_field(value: float) -> None:
    assert values.parse_value("learning_rate", values.format_value(value)) == value


def test_numbers_are_shown_without_exponents_where_people_read_them() -> None:
    assert [values.format_value(value) for value in (1e-4, 2e-5, 16, None)] == ["0.0001", "0.00002", "16", ""]


def test_modules_are_all_linear_or_a_list() -> None:
    assert values.parse_value("target_modules", "all-linear") == "all-linear"
    assert values.parse_value("target_modules", "q_proj, v_proj,") == ["q_proj", "v_proj"]


def test_a_name_of_digits_stays_text() -> None:
    assert values.parse_value("name", "2024") == "2024"


def test_every_bad_field_is_named() -> None:
    config, problems = values.validate_config({"dataset": "d", "learning_rate": "abc", "r": 0, "seed": 1.5})
    assert config is None
    assert set(problems) == {"learning_rate", "r", "seed"}
    assert "'abc'" in problems["learning_rate"]


def test_a_missing_data_set_is_named() -> None:
    assert list(values.validate_config({})[1]) == ["dataset"]


def test_the_form_has_every_field_of_the_config_once() -> None:
    drawn = [*ABOVE_THE_GROUPS, *METHOD_FIELDS, *(field for group in fields.GROUPS for field in group.fields)]
    assert sorted(drawn) == sorted(TrainConfig.model_fields)
