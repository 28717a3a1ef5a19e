"""Settings that can't work together are refused with a reason at their field, and all else is not."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from store.training import setting_conflicts
from store.training.methods import METHODS
from store.training.setting_conflicts import explain_refused_change, list_conflicts
from store.training.train_config import TrainConfig

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"method": "full", "load_in_4bit": True}, "load_in_4bit", "Take LoRA"),
    ({"method": "freeze", "load_in_8bit": True}, "load_in_8bit", "Take LoRA"),
    ({"method": "qlora", "load_in_8bit": True}, "load_in_8bit", "For 8 bits use LoRA"),
    ({"method": "lora", "load_in_8bit": True, "load_in_4bit": True}, "load_in_8bit", "not in both"),
    ({"method": "vera", "load_in_8bit": True}, "load_in_8bit", "VeRA can't be trained on 8-bit"),
    ({"method": "lora", "load_in_8bit": True, "use_dora": True}, "use_dora", "DoRA can't"),
    ({"method": "qlora", "init_lora_weights": "pissa"}, "init_lora_weights", "Use loftq"),
    ({"method": "lora", "init_lora_weights": "loftq"}, "init_lora_weights", "doesn't load 4-bit"),
    ({"method": "lora", "init_lora_weights": "olora", "use_dora": True}, "use_dora", "Choose one"),
    ({"method": "adalora", "r": 8, "init_r": 8}, "init_r", "begins wider"),
    ({"method": "prefix_tuning", "gradient_checkpointing": True}, "gradient_checkpointing", "Turn it off"),
]


@pytest.mark.parametrize(("fields", "field", "words"), REFUSED)
def test_what_can_not_work_names_the_field_and_the_way_out(
    fields: dict[str, Any], field: str, words: str
) -> None:
    refused = list_conflicts(TrainConfig(dataset="d", **fields))
    assert [name for name, _ in refused] == [field]
    assert words in refused[0][1]


def test_every_method_works_as_it_is_offered() -> None:
    for method in METHODS:
        config = TrainConfig(dataset="d", method=method)  # type: ignore[arg-type]
        assert list_conflicts(config.resolved(100), "llama") == []


def test_an_architecture_that_a_method_is_not_made_for_is_refused() -> None:
    config = TrainConfig(dataset="d", method="llama_adapter")
    assert list_conflicts(config, "qwen2") == [
        ("method", "LLaMA-Adapter is made for llama and mistral, not for qwen2. Take LoRA.")
    ]
    assert list_conflicts(config, "") == []


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "DebertaV2", "xlm-roberta", "modernbert"])
def test_a_model_that_only_reads_classifies_and_takes_methods_made_for_it(model_type: str) -> None:
    [(field, why)] = list_conflicts(TrainConfig(dataset="d"), model_type)
    assert field == "task"
    assert f"A {model_type} model is an encoder" in why
    fitting = []
    for method in METHODS:
        config = TrainConfig(dataset="d", task="classification", method=method)  # type: ignore[arg-type]
        refused = list_conflicts(config.resolved(100), model_type)
        assert [name for name, _ in refused] == ([] if METHODS[method].fits(model_type) else ["method"])
        fitting += [method] * (not refused)
    assert {"lora", "qlora", "full", "freeze", "adalora", "vera", "oft", "ia3"} <= set(fitting)


def test_a_change_is_refused_for_what_it_brings_and_not_for_what_was_wrong_before() -> None:
    config = TrainConfig(dataset="d", method="vera")
    assert "8-bit" in explain_refused_change(config, "load_in_8bit", True)
    assert explain_refused_change(config, "load_in_4bit", True) == ""
    wrong = TrainConfig(dataset="d", method="adalora", r=8, init_r=4)
    assert explain_refused_change(wrong, "load_in_4bit", True) == ""


def test_no_refusal_breaks_on_any_pair_of_switches() -> None:
    starts = ("default", "pissa", "olora", "eva", "loftq")
    for method, four, eight, start in product(METHODS, (True, False), (True, False), starts):
        config = TrainConfig.parse(
            {"dataset": "d", "method": method, "load_in_4bit": four, "load_in_8bit": eight}
            | {"init_lora_weights": start}
        )
        assert all(
            field in TrainConfig.model_fields and reason for field, reason in list_conflicts(config, "llama")
        )


def test_data_sets_are_probes_of_models_with_words_alone() -> None:
    for fields in ({"probes": False}, {"task": "classification"}):
        config = TrainConfig.parse({"dataset": "d", "probe_datasets": "a, b"} | fields)
        assert config.probe_datasets == ["a", "b"]
        assert [field for field, _ in list_conflicts(config)] == ["probe_datasets"]
    assert list_conflicts(TrainConfig.parse({"dataset": "d", "probe_datasets": ["a"]})) == []


def test_tasks_need_words_and_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_conflicts, "has_harness", lambda: True)
    config = TrainConfig.parse({"dataset": "d", "probe_tasks": "piqa, arc_easy, piqa"})
    assert config.probe_tasks == ["piqa", "arc_easy"]
    assert list_conflicts(config) == []
    for fields in ({"probes": False}, {"task": "classification"}):
        ((field, why),) = list_conflicts(config.model_copy(update=fields))
        assert (field, "Empty probe_tasks." in why or "empty probe_tasks." in why) == ("probe_tasks", True)
    monkeypatch.setattr(setting_conflicts, "has_harness", lambda: False)
    ((field, why),) = list_conflicts(config)
    assert field == "probe_tasks"
    assert "not installed" in why
    assert why.startswith("probe_tasks")
    assert "pip install 'tunebench[tasks]'" in why
    assert list_conflicts(TrainConfig.parse({"dataset": "d"})) == []


def test_canaries_are_questions_with_answers() -> None:
    config = TrainConfig(dataset="rows", canaries=2)
    assert not list_conflicts(config)
    for task, kind in (("dpo", "pairs of answers"), ("classification", "texts with labels")):
        ((field, why),) = list_conflicts(config.model_copy(update={"task": task}))
        assert field == "canaries"
        assert kind in why
