"""Documents from before 0.3, which said whether code that comes with a model may run, or had a metric of a
hub: those that said no are read as ever, those that said yes are refused and still looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pages.comparison.side_by_side import build_settings_rows
from pages.evaluation.results import format_metric_title
from store.core.config import NoRemoteCodeConfig
from store.core.errors import ConfigError
from store.data.config import RenderingQuery
from store.evaluation.config import EvaluateConfig, ModelSelection
from store.evaluation.evaluation_pairs import (
    build_matching_config,
    describe_metric_differences,
    describe_setting_differences,
)
from store.evaluation.schemas import EvaluationDetails
from store.rating.config import AnswerPrompts
from store.training.train_config import TrainConfig
from tests.unit.store_samples import row_of

FIELD = "trust_remote_code"
WHOLE: list[tuple[type[NoRemoteCodeConfig], dict[str, Any]]] = [
    (TrainConfig, {"dataset": "d", "model": "m"}),
    (EvaluateConfig, {"model": "m", "dataset": "d", "metrics": ["chrf"]}),
    (ModelSelection, {"model": "m"}),
    (AnswerPrompts, {"model": "m", "round": "r"}),
    (RenderingQuery, {"fingerprint": "f", "kind": "chat", "model": "m"}),
]
HUB = {"metric": "hub", "hub_id": "some-one/Word.Count", FIELD: True, "result": "wc", "max_seconds": 60}


@pytest.mark.parametrize("value", [False, None])
@pytest.mark.parametrize(("config", "document"), WHOLE)
def test_no_is_read_as_ever(
    config: type[NoRemoteCodeConfig], document: dict[str, Any], value: object
) -> None:
    parsed = config.parse(document | {FIELD: value})
    assert parsed == config.parse(document)
    assert FIELD not in parsed.model_dump()
    assert config.of_past(document | {FIELD: value}) == parsed


@pytest.mark.parametrize("value", [True, "yes", 1, {"a": "b"}])
@pytest.mark.parametrize(("config", "document"), WHOLE)
def test_yes_is_refused_by_its_name_and_looked_at(
    config: type[NoRemoteCodeConfig], document: dict[str, Any], value: object
) -> None:
    with pytest.raises(ConfigError, match="does not run custom code of models") as caught:
        config.parse(document | {FIELD: value})
    assert caught.value.field == FIELD
    assert "Convert it" in caught.value.fix
    assert config.of_past(document | {FIELD: value}) == config.parse(document)


@pytest.mark.parametrize("answer", ["false", "no", "null", "~"])
def test_a_file_that_says_no_is_read(answer: str) -> None:
    assert TrainConfig.from_yaml(f"dataset: d\n{FIELD}: {answer}\n").dataset == "d"


def test_a_file_that_says_yes_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_yaml(f"dataset: d\n{FIELD}: true\n")
    assert caught.value.field == FIELD


def test_a_change_of_a_config_is_no_way_round() -> None:
    config = TrainConfig(dataset="d")
    with pytest.raises((ConfigError, ValueError)):
        setattr(config, FIELD, True)


def test_settings_of_old_and_new_runs_differ_by_what_does() -> None:
    def run(name: str, **config: Any) -> Any:
        return SimpleNamespace(
            run_id=name, name=name, number=1, data_fingerprint="f", facts={},
            config={"dataset": "d", "r": 8} | config,
        )  # fmt: skip

    old, new, trusting = run("old", **{FIELD: False}), run("new"), run("trusting", **{FIELD: True})
    assert build_settings_rows([old, new]) == []
    assert [row["Setting"] for row in build_settings_rows([old, trusting])] == [FIELD]


# -- metrics of a hub -------------------------------------------------------------------------------


def evaluation(*metrics: object, **config: Any) -> Any:
    """As much of a stored one as is compared."""
    document = {"model": "m", "dataset": "d", "metrics": [*metrics], FIELD: False} | config
    return SimpleNamespace(config=document, details=row_of(EvaluationDetails, dtype="float32"))


def test_a_metric_of_the_hub_is_asked_for_no_more_and_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="put the file into the folder `metrics`") as caught:
        EvaluateConfig.parse({"model": "m", "dataset": "d", "metrics": [HUB]})
    assert caught.value.field == "metrics"


def test_its_figures_are_called_as_before() -> None:
    config = evaluation(HUB, "chrf").config | {"metrics": [HUB, {"metric": "chrf"}]}
    assert format_metric_title("eval/chrf", config) == "chrF"
    assert format_metric_title("eval/word_count", config) == "word_count"
    assert format_metric_title("eval/mine", config | {"metrics": [HUB | {"name": "mine"}]}) == "Hub: mine"


def test_evaluations_with_one_are_still_compared() -> None:
    first, second = evaluation(HUB, "chrf"), evaluation("chrf", max_new_tokens=9)
    config = EvaluateConfig.of_past(first.config)
    assert [choice.key for choice in config.metrics] == ["eval/word_count", "eval/chrf"]
    assert config.generates
    pair: Any = SimpleNamespace(first=first, second=second)
    assert describe_setting_differences(pair) == ["max_new_tokens: 64 and 9"]
    assert describe_metric_differences(first, second, "chrf") == ["max_new_tokens: 64 and 9"]
    asked = build_matching_config(first, "word_count")["metrics"]
    assert EvaluateConfig.parse(
        {"model": "m", "dataset": "d", "metrics": asked}
    ).generates  # its own file now


@pytest.mark.parametrize(
    ("hub_id", "key"), [("rouge", "eval/rouge"), ("a/9-lives", "eval/9_lives"), ("", "eval/hub")]
)
def test_it_keeps_its_name(hub_id: str, key: str) -> None:
    document = {"model": "m", "dataset": "d", "metrics": [HUB | {"hub_id": hub_id}]}
    assert [choice.key for choice in EvaluateConfig.of_past(document).metrics] == [key]
