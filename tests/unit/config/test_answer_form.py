"""JSON, schemas, patterns and constraints: what is kept, what is not, and nothing that hangs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from engine.evaluation.metrics import answer_format, answer_metrics
from store.core.errors import ConfigError
from store.core.metric_options import Constraint
from store.core.metric_table import list_offered_metrics
from store.core.metrics_config import MetricsConfig
from store.training.train_config import TASK_TITLES

EVIL = "a" * 40 + "!"


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), st.lists, max_leaves=5)
)
def test_what_json_writes_is_valid_json_bare_or_fenced(document: Any) -> None:
    text = json.dumps(document)
    assert answer_format.score_valid_json([text, f"```json\n{text}\n```"]).tolist() == [1, 1]
    assert answer_format.score_valid_json([f"```\n{text}\n```"], fenced=False).tolist() == [0]


@pytest.mark.parametrize(
    "text", ["", "{", "{'a': 1}", "NaN", "[1, Infinity]", 'Here: {"a": 1}', '{"a": 1} {}', "[" * 100_000]
)
def test_what_is_no_json(text: str) -> None:
    assert answer_format.score_valid_json([text]).tolist() == [0]


def test_a_schema_accepts_or_says_why_not() -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
        "additionalProperties": False,
    }
    texts = [
        '{"name": "Ada"}',
        '{"name": "ada"}',
        '{"name": "A", "x": 1}',
        "{}",
        "no",
        '{"name": "B", "age": "x"}',
    ]
    scores, why = answer_format.score_json_schema(texts, schema)
    assert scores.tolist() == [1, 0, 0, 0, 0, 0]
    assert why == {
        "name: pattern": 1,
        "at the top: additionalProperties": 1,
        "at the top: required": 1,
        "not JSON": 1,
        "age: type": 1,
    }


def test_names_by_pattern_are_those_that_re2_finds() -> None:
    schema = {"patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    texts = ['{"x_a": 1, "b": "c"}', '{"x_a": "1"}', '{"b": 1}']
    assert answer_format.score_json_schema(texts, schema)[0].tolist() == [1, 0, 0]


def test_no_pattern_takes_time_beyond_measure() -> None:
    began = time.monotonic()
    evil = "^(a+)+$"
    assert answer_format.score_regex([EVIL], evil).tolist() == [0]
    for schema in (
        {"pattern": evil},
        {"patternProperties": {evil: False}, "additionalProperties": False},
        {"propertyNames": {"pattern": evil}},
    ):
        answer_format.score_json_schema([json.dumps(EVIL), json.dumps({EVIL: 1})], schema)
    assert time.monotonic() - began < 5


def test_a_schema_opens_nothing_outside_itself() -> None:
    for reference in ("file:///etc/passwd", "http://127.0.0.1:9/schema"):
        with pytest.raises(Exception, match=r"nresolvable|Unretrievable"):
            answer_format.score_json_schema(["{}"], {"$ref": reference})
    own = {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}
    assert answer_format.score_json_schema(["1", '"a"'], own)[0].tolist() == [1, 0]


def test_a_pattern_is_found_or_is_the_whole() -> None:
    texts = ["no 42 here", "42", "42\n", ""]
    assert answer_format.score_regex(texts, r"\d+").tolist() == [1, 1, 1, 0]
    assert answer_format.score_regex(texts, r"\d+|x", whole=True).tolist() == [0, 1, 0, 0]
    assert answer_format.score_regex(["AB"], "(?i)ab", whole=True).tolist() == [1]
    assert answer_format.score_regex([], "x").tolist() == []


LIST = "Three fruits:\n\n- apples\n* pears\n2. plums\n\nAsk [NAME] about them, e.g. soon. Will you?"

KEPT = [
    ({"kind": "words", "at_least": 5, "at_most": 20}, LIST, True),
    ({"kind": "words", "at_most": 3}, LIST, False),
    ({"kind": "bullets", "at_least": 3, "at_most": 3}, LIST, True),
    ({"kind": "paragraphs", "at_least": 3, "at_most": 3}, LIST, True),
    ({"kind": "lines", "at_least": 5, "at_most": 5}, LIST, True),
    ({"kind": "placeholders", "at_least": 1}, LIST, True),
    ({"kind": "headings", "at_least": 1}, LIST, False),
    ({"kind": "headings", "at_least": 2, "at_most": 2}, "# One\ntext\n## Two", True),
    ({"kind": "characters", "at_most": 5}, "  12345  ", True),
    ({"kind": "sentences", "at_least": 2, "at_most": 2}, "It costs 3.50 euros. Does it? ", True),
    ({"kind": "sentences", "at_least": 2, "at_most": 2}, "今天很好。你呢？", True),
    ({"kind": "contains", "texts": ["APPLES", "pears"]}, LIST, True),
    ({"kind": "contains", "texts": ["APPLES"], "ignore_case": False}, LIST, False),
    ({"kind": "contains", "texts": ["a"], "at_least": 2, "at_most": 2}, "a b A", True),
    ({"kind": "excludes", "texts": ["kiwi"]}, LIST, True),
    ({"kind": "excludes", "texts": ["kiwi", "plums"]}, LIST, False),
    ({"kind": "starts_with", "text": "Three"}, LIST, True),
    ({"kind": "ends_with", "text": "you?"}, LIST + "\n", True),
    ({"kind": "ends_with", "text": "YOU?"}, LIST, False),
    ({"kind": "case", "case": "lower"}, "all small, 1", True),
    ({"kind": "case", "case": "upper"}, "ALL LARGe", False),
    ({"kind": "case", "case": "title"}, "Every Word Begins Large", True),
    ({"kind": "language", "language": "de"}, "Das ist ein ganz gewöhnlicher deutscher Satz.", True),
    ({"kind": "language", "language": "de"}, "This is a quite ordinary English sentence.", False),
    ({"kind": "matches", "pattern": r"\d\."}, LIST, True),
    ({"kind": "does_not_match", "pattern": ","}, LIST, False),
    ({"kind": "json"}, '{"a": 1}', True),
]  # fmt: skip


@pytest.mark.parametrize(("document", "text", "expected"), KEPT)
def test_each_constraint(document: dict[str, Any], text: str, expected: bool) -> None:
    constraint = TypeAdapter(Constraint).validate_python(document)
    assert answer_metrics.check_constraints([text, ""], [constraint]).tolist() == [[expected], [False]]
    assert constraint.words()


def test_every_kind_of_constraint_is_tried_above() -> None:
    parts = TypeAdapter(Constraint).json_schema()["$defs"].values()
    schemas = [part["properties"]["kind"] for part in parts if "kind" in part["properties"]]
    kinds = {kind for schema in schemas for kind in schema.get("enum", [schema.get("const")])}
    assert kinds == {document["kind"] for document, _, _ in KEPT}


def test_shares_are_told_in_words_with_their_interval() -> None:
    some = [
        TypeAdapter(Constraint).validate_python(d)
        for d in ({"kind": "words", "at_most": 2}, {"kind": "json"})
    ]
    texts = ["one", "two words", "now three words", "1"]
    shares = answer_metrics.compute_constraint_shares(
        texts, answer_metrics.check_constraints(texts, some), some
    )
    assert [(s.constraint, s.value, s.n) for s in shares] == [
        ("at most 2 words", 0.75, 4),
        ("is JSON", 0.25, 4),
    ]
    assert all(s.low < s.value < s.high for s in shares)


def judge(**options: Any) -> dict[str, Any]:
    return {"metric": "judge", "base_url": "https://a.example/v1", "model": "m"} | options


def schema(document: Any) -> dict[str, Any]:
    return {"metric": "json_schema", "json_schema": document}


WORDLESS = {"metric": "constraints", "constraints": [{"kind": "words"}]}
BOTH = {"unevaluatedProperties": False, "allOf": [{"patternProperties": {"^a": {}}}]}
INTL = {"metric": "bleu", "name": "bleu_intl", "tokenize": "intl"}
BAD = [
    ("blue", "", "is it bleu?"),
    ({"metric": "regex", "pattern": "(?=a)"}, "regex.pattern", "RE2"),
    ({"metric": "bleu", "name": "a b"}, "bleu.name", "small letters"),
    (schema({"type": "x"}), "json_schema.json_schema", "not a JSON schema"),
    (schema(BOTH), "json_schema.json_schema", "unevaluatedProperties"),
    (WORDLESS, "constraints.constraints.0.words", "at_least or at_most"),
    ({"metric": "hub", "hub_id": "a/b"}, "", "put the file into the folder `metrics`"),
    ({"metric": "own", "file": "a/b"}, "own.file", "pattern"),
    (judge(base_url="http://a.example/v1"), "judge.base_url", "https"),
    (judge(base_url="https://u:p@a.example"), "judge.base_url", "password"),
    (judge(extra={"messages": []}), "judge.extra", "can't be changed"),
    (judge(lowest=5), "judge", "not below"),
    (judge(key_env="A", key_file="b"), "judge", "not both"),
    ({"metric": "chrf", "word_orders": 2}, "chrf.word_orders", "no field"),
]


@pytest.mark.parametrize(("metric", "field", "words"), BAD)
def test_a_bad_option_is_named(metric: Any, field: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        MetricsConfig.parse({"metrics": ["bleu", metric]})
    assert caught.value.field == (f"metrics.1.{field}" if field else "metrics")


def test_two_metrics_of_one_name_are_refused_and_a_name_tells_them_apart() -> None:
    with pytest.raises(ConfigError, match="twice"):
        MetricsConfig.parse({"metrics": ["bleu", "bleu"]})
    config = MetricsConfig.parse({"metrics": ["bleu", INTL]})
    assert [choice.key for choice in config.metrics] == ["eval/bleu", "eval/bleu_intl"]
    assert MetricsConfig.from_yaml(config.to_yaml()) == config


@pytest.mark.parametrize(
    "metric", [{"metric": "own", "file": "bleu"}, {"metric": "regex", "pattern": "a", "name": "loss"}]
)
def test_no_metric_takes_the_name_of_another(metric: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the name of another metric"):
        MetricsConfig.parse({"metrics": [metric]})
    assert MetricsConfig.parse({"metrics": [metric | {"name": "my_own"}]}).metrics[0].key == "eval/my_own"


def test_each_task_offers_metrics_that_can_be_parsed() -> None:
    for task in TASK_TITLES:
        config = MetricsConfig.parse({"metrics": list_offered_metrics(task)})
        assert [choice.metric for choice in config.metrics] == list_offered_metrics(task)
    assert "exact_match" in list_offered_metrics("sft")
    assert "f1_macro" in list_offered_metrics("classification")
