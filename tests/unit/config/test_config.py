"""Every form, file and command passes through these models: bad values must name their field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.core.config import MAX_CHARACTERS, read_yaml, to_yaml
from store.core.errors import ConfigError, StateError, TunebenchError, from_dict
from store.core.job_kinds import TRANSITIONS, check_transition
from store.data.config import ImportConfig
from store.training.methods import METHOD_FIELDS, METHODS
from store.training.train_config import TrainConfig, build_sample_experiment


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", "abc"),
        ("learning_rate", 0),
        ("learning_rate", -1e-4),
        ("per_device_train_batch_size", 0),
        ("num_train_epochs", 0),
        ("r", 0),
        ("method", "magic"),
        ("max_length", 3),
        ("target_modules", []),
        ("validation_size", 0),
        ("seed", -1),
    ],
)
def test_a_bad_field_is_named_with_its_value(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.parse({"dataset": "d", field: value})
    assert caught.value.field.split(".")[0] == field
    assert repr(value) in caught.value.message


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        TrainConfig.parse({"dataset": "d", "learnin_rate": 1e-4})


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        TrainConfig.from_yaml("dataset: d\nname: [unclosed")
    with pytest.raises(ConfigError, match="mapping"):
        TrainConfig.from_yaml("- a\n- b")


def test_modules_in_one_string_are_a_list_of_names() -> None:
    config = TrainConfig.from_yaml("dataset: d\ntarget_modules: q_proj, v_proj")
    assert config.target_modules == ["q_proj", "v_proj"]
    assert TrainConfig(dataset="d").resolved(100).target_modules == "all-linear"
    assert TrainConfig(dataset="d", method="ia3").resolved(100).target_modules == "keys-values-mlp"
    with pytest.raises(ConfigError, match="at least one module"):
        TrainConfig.parse({"dataset": "d", "target_modules": " , "})


def test_yaml_comes_back_the_same() -> None:
    config = build_sample_experiment().resolved(3_000, 135_000_000)
    assert TrainConfig.from_yaml(config.to_yaml()) == config


def test_yaml_leaves_out_what_the_method_does_not_read() -> None:
    text = TrainConfig(dataset="d", method="ia3", oft_block_size=8).resolved(100).to_yaml()
    assert "bottleneck_size" not in text
    assert "lora_dropout" not in text
    assert "oft_block_size: 8" in text  # it was said
    assert "target_modules: keys-values-mlp" in text


def test_defaults_suit_the_method() -> None:
    lora = TrainConfig(dataset="d", r=8).resolved(500, 135_000_000)
    assert (lora.learning_rate, lora.lora_alpha, lora.num_train_epochs) == (1e-4, 16, 3)
    full = TrainConfig(dataset="d", method="full").resolved(5_000, 7_000_000_000)
    assert (full.learning_rate, full.num_train_epochs) == (1e-5, 2)
    assert TrainConfig(dataset="d").resolved(50_000).num_train_epochs == 1


@given(st.integers(1, 10**7), st.sampled_from(list(METHODS)))
def test_resolving_fills_all_and_changes_nothing_that_was_said(rows: int, method: str) -> None:
    config = TrainConfig(dataset="d", method=method, learning_rate=3e-3, name="mine")  # type: ignore[arg-type]
    resolved = config.resolved(rows)
    assert resolved.learning_rate == 3e-3
    assert resolved.name == "mine"
    assert None not in (resolved.num_train_epochs, resolved.weight_decay)
    left = {"loraplus_lr_ratio", "encoder_hidden_size", "adapter_layers"}  # off, or the model's own
    read = METHODS[method].fields
    assert not [field for field in read if getattr(resolved, field) is None and field not in left]
    unread = set(METHOD_FIELDS) - set(read)
    assert all(getattr(resolved, field) == getattr(config, field) for field in unread)
    assert resolved.resolved(rows) == resolved


def test_an_import_has_exactly_one_source_and_known_roles() -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        ImportConfig.parse({"name": "n", "source": {"path": "a", "hub_id": "b/c"}})
    with pytest.raises(ConfigError, match="role 'answer'"):
        ImportConfig.parse(
            {"name": "n", "source": {"path": "a"}, "format": "text_label", "columns": {"answer": "x"}}
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: " + "[" * 3000, "nested too deeply"),
        ("name: 2020-13-45", "month must be in 1..12"),
        ("name: 2020-10-10 25:61:61", "hour must be in 0..23"),
        ("name: [", "not valid YAML at line 1"),
    ],
)
def test_yaml_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_yaml(text)


def test_a_bad_value_is_shown_short_however_much_it_stands_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError) as raised:
        TrainConfig.from_yaml("name: *a8\n".join(["\n".join(lines) + "\n", ""]))
    assert len(str(raised.value)) < 5000


def test_errors_cross_processes_unchanged() -> None:
    for kind in (TunebenchError, *TunebenchError.__subclasses__()):
        error = kind("what", fix="do", field="f")
        back = from_dict(error.to_dict())
        assert type(back) is kind
        assert (back.message, back.fix, back.field) == ("what", "do", "f")


def test_moves_between_states_follow_the_table() -> None:
    check_transition("it", "queued", "preparing")
    with pytest.raises(StateError, match="is finished and can't become queued"):
        check_transition("it", "finished", "queued")
    assert {to for moves in TRANSITIONS.values() for to in moves} <= set(TRANSITIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: d\nname: a\nname: b", "name occurs twice in this YAML, at line 2 and at line 3."),
        ("dataset: d\n'dataset': e", "dataset occurs twice in this YAML, at line 1 and at line 2."),
        ("{dataset: d, r: 1, r: 2}", "r occurs twice in this YAML, at line 1 and at line 1."),
        ("a: [{b: {c: 1, d: 2,\n c: 3}}]", "c occurs twice in this YAML, at line 1 and at line 2."),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_yaml(text)
    assert (caught.value.message, caught.value.field) == (message, "config")


def _doubling(first: str, form: str) -> str:
    """Forty lines, each with the one before twice."""
    lines = (f"a{n}: &a{n} " + form.format(f"*a{n - 1}, *a{n - 1}") for n in range(1, 40))
    return "\n".join([first, *lines])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 3000, "This YAML is nested too deeply: more than 64 deep at line 1."),
        ("[" * 3000 + "]" * 3000, "This YAML is nested too deeply: more than 64 deep at line 1."),
        ("- " * 3000 + "x", "This YAML is nested too deeply: more than 64 deep at line 1."),
        (
            "\n".join(" " * deep + "a:" for deep in range(300)),
            "This YAML is nested too deeply: more than 64 deep at line 64.",
        ),
        ("x: " + "y" * MAX_CHARACTERS, "This YAML has 1,048,579 characters."),
        ("a: &a\n- 1\n- *a", "This YAML has an alias at line 3 that refers to the node that contains it."),
        (_doubling("a0: &a0 [x, y]", "[{}]"), "This YAML stands for more than 100,000 values at line 15."),
        (
            _doubling("a0: &a0 {x: 1}", "{{<<: [{}]}}"),
            "This YAML stands for more than 100,000 values at line 14.",
        ),
        ("a: !!int ''", "This YAML holds a value that can't be: string index out of range."),
        ("a: !!bool maybe", "This YAML holds a value that can't be: 'maybe'."),
    ],
)
def test_what_takes_the_stack_or_the_memory_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text)
    assert (caught.value.message, caught.value.field) == (message, "config")


TEXTS = ["1:30", "12:30:45", "-1:30.5", "010", "-010", "on", "Off", "yes", "NO", "=", "1e-4"]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_a_number_or_a_truth_in_yaml_1_1_alone_is_text(text: str) -> None:
    assert read_yaml(f"name: {text}") == {"name": text}
    assert read_yaml(to_yaml({text: text})) == {text: text}


def test_numbers_and_truths_are_still_read() -> None:
    text = "[true, FALSE, 0, -3, 1_000, 0x1f, 1.5, .5, -1.5e-05, .inf, ~]"
    assert read_yaml(text) == [True, False, 0, -3, 1000, 31, 1.5, 0.5, -1.5e-05, float("inf"), None]


def test_what_a_merge_brings_in_may_be_given_anew() -> None:
    text = "x:\n  y: &y {a: 1, b: 2}\nw: {<<: *y, a: 5}\nv: {<<: [*y, {a: 3, c: 4}]}"
    assert read_yaml(text) == {
        "x": {"y": {"a": 1, "b": 2}},
        "w": {"a": 5, "b": 2},
        "v": {"a": 1, "b": 2, "c": 4},
    }


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"path": "/data/banking77_train.csv.gz"}, "banking77 train"),
        ({"upload": "My-rows.JSONL"}, "My rows"),
        ({"hub_id": "owner/some_rows"}, "some rows"),
        ({"path": "/data/v1.2 notes"}, "v1.2 notes"),
    ],
)
def test_an_import_without_a_name_takes_its_files(source: dict[str, str], name: str) -> None:
    assert ImportConfig.parse({"source": source}).name == name
    assert ImportConfig.parse({"source": source, "name": "Mine"}).name == "Mine"
