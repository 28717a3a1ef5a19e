"""What the playground may be asked, and how a bad field is named."""

from __future__ import annotations

from typing import Any

import pytest

from store.core.errors import ConfigError
from store.playground.config import (
    ChatModel,
    ChatRequest,
    ChatSampling,
    ChatSettings,
    KeptRowsTarget,
    NextTurn,
    drop_defaults,
)

LOCAL = {"base_url": "http://127.0.0.1:8000/v1", "model": "their-model"}


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({}, "give one of model, run and endpoint"),
        ({"model": "a", "run": "b"}, "give one of"),
        ({"model": "a", "checkpoint": "best"}, "only a run has checkpoints"),
        ({"model": "a", "alpha": 0.5}, "share of the way"),
        ({"run": "a", "alpha": 0.5, "checkpoint": "base"}, "share of the way"),
        ({"run": "a", "alpha": 1.5}, "alpha is 1.5"),
        ({"endpoint": LOCAL | {"base_url": "http://example.org/v1"}}, "http shows the key to the network"),
        ({"endpoint": LOCAL | {"base_url": "ftp://x"}}, "use an address such as"),
        ({"model": "a", "trust_remote_code": True}, "no field trust_remote_code"),
    ],
)
def test_a_model_that_is_none_is_refused(model: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ChatModel.parse(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1), ("top_p", 0), ("top_k", -1), ("max_new_tokens", 0), ("seed", -1), ("stop", [""])],
)
def test_a_bad_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        ChatSampling.parse({field: value})
    assert refused.value.field == field


def test_white_space_is_kept_where_it_means_something() -> None:
    assert ChatSampling.parse({"stop": ["\n\n"]}).stop == ["\n\n"]
    assert NextTurn.parse({"conversation": "c", "prompt": "  indented\n"}).prompt == "  indented\n"
    assert ChatSettings.parse({"system": " x ", "models": [{"model": "a"}]}).system == " x "


def test_no_more_than_four_talk_and_the_last_word_is_a_persons() -> None:
    models = [{"model": "a"}] * 5
    with pytest.raises(ConfigError, match="models"):
        ChatSettings.parse({"models": models})
    rows = [{"role": "user", "content": "Hello"}]
    talk = ChatRequest.parse({"models": models[:4], "messages": rows})
    assert talk.to_messages() == rows
    for messages in ([], [{"role": "assistant", "content": "x"}], [{"role": "user", "content": " "}]):
        with pytest.raises(ConfigError):
            ChatRequest.parse({"models": models[:1], "messages": messages})
    with pytest.raises(ConfigError, match="field system"):
        ChatRequest.parse({"models": models[:1], "messages": [{"role": "system", "content": "x"}, *rows]})


def test_a_model_is_called_by_what_it_is() -> None:
    assert ChatModel.parse({"model": "a"}).get_label() == "a"
    assert ChatModel.parse({"run": "r"}).get_label("My run") == "My run"
    assert ChatModel.parse({"run": "r", "alpha": 0.5}).get_label("My run") == "My run at α 0.5"
    assert (
        ChatModel.parse({"run": "r", "checkpoint": "best"}).get_label("My run")
        == "My run, the best checkpoint"
    )
    assert ChatModel.parse({"endpoint": LOCAL}).get_label() == "their-model"


def test_models_are_told_apart_by_what_is_otherwise_with_them() -> None:
    common = {"temperature": 0.0, "max_new_tokens": 256}
    owns: list[Any] = [
        {"temperature": 0.8}, {}, {"max_new_tokens": 1024, "stop": ["\n"]}, {"temperature": 0.8},
    ]  # fmt: skip
    models = [{"model": "a", "sampling": {**common, **own}} for own in owns]
    settings = ChatSettings.parse({"models": models, "sampling": common})
    assert settings.list_labels({}) == [
        "a · temperature 0.8 (1)",
        "a",
        "a · longest answer 1,024 · stop “↵”",
        "a · temperature 0.8 (2)",
    ]
    stops = ChatSampling(stop=["a", "b"]), ChatSampling(stop=["\x07"]), ChatSampling(stop=["x" * 99])
    assert [own.list_differences(ChatSampling())[0] for own in stops] == [
        "stop at 2 texts", "stop at 1 text", "stop at 1 text",
    ]  # fmt: skip
    old = ChatSettings.parse({"models": [{"run": "r"}, {"run": "r", "sampling": {"top_p": 0.5}}]})
    assert old.list_labels({"r": "My run"}) == ["My run", "My run · top p 0.5"]  # kept without what is common


def test_how_it_is_sampled_does_not_tell_a_model_from_another() -> None:
    cold, warm = (ChatModel.parse({"model": "a", "sampling": {"temperature": heat}}) for heat in (0.0, 1.0))
    assert drop_defaults(cold) == drop_defaults(warm) == {"model": "a"}


def test_kept_rows_need_a_name_or_a_data_set() -> None:
    with pytest.raises(ConfigError, match="give a name"):
        KeptRowsTarget.parse({"kind": "training"})


def test_what_a_models_own_settings_say_is_read_as_transformers_does() -> None:
    named = ChatSampling.from_generation
    assert named({}) == {}
    assert named({"temperature": 0.6}) == {}  # it draws only where do_sample says so
    assert named({"do_sample": False, "temperature": 0.6}) == {"temperature": 0.0}
    assert named({"do_sample": True}) == {"temperature": 1.0, "top_k": 50}
    asked = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    assert named(asked) == {name: value for name, value in asked.items() if name != "do_sample"}  # type: ignore[arg-type]
    assert named({"max_new_tokens": 100_000, "repetition_penalty": 1.1}) == {"repetition_penalty": 1.1}
