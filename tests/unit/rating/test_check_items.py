"""Check items of a round as its job makes them, of each protocol and each source of known answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.core.errors import ConfigError, DataError
from store.core.rating_schemas import RoundItem
from store.rating import rounds
from tests.unit.rating.round_desk import RoundDesk

CRITERIA = [{"name": name, "question": "", "anchors": list("abcde")} for name in ("Tone", "Facts")]
LABELS = ["card", "cash", "loan"]
ONE, TWO = ["An answer."], ["An answer.", "Another one."]
PROTOCOLS: dict[str, tuple[dict[str, Any], list[str], list[Any], Any]] = {
    # protocol: config, answers of a row, expected as files say it, and as the store keeps the first
    "pairwise": ({}, TWO, ["A", "B", "tie"], {"choice": "A"}),
    "rank": ({}, TWO, [[2, 1], "[1, 2]", [1, 1]], {"ranks": [2, 1]}),
    "rubric": (
        {"criteria": CRITERIA},
        ONE,
        [{"Tone": 4}, '{"Tone": 2, "Facts": 5}'],
        {"scores": {"Tone": 4}},
    ),
    "pass_fail": ({}, ONE, ["pass", False, "yes", "0"], {"passed": True, "reasons": []}),
    "label": ({"labels": LABELS}, [], ["card", "loan"], {"label": "card", "note": ""}),
    "correction": ({}, ONE, ["Opens at nine"], {"text": "Opens at nine"}),
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path, prompts=12)
    yield desk
    desk.database.close()


def known_file(desk: RoundDesk, rows: list[dict[str, Any]], name: str = "known.jsonl") -> dict[str, str]:
    (desk.home.uploads / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"upload": name}


def checks(desk: RoundDesk, round_id: str, kind: str) -> list[RoundItem]:
    return [item for item in rounds.items(desk.database, round_id) if item.check == kind]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_of_known_answers_makes_gold_and_qualification_of_each_protocol(
    desk: RoundDesk, protocol: str
) -> None:
    config, answers, expected, stored = PROTOCOLS[protocol]
    rows = [{"prompt": f"Known {n}?", "answers": answers, "expected": expected[0]} for n in range(5)]
    rows += [{"prompt": "Other?", "answers": answers, "expected": each} for each in expected[1:]]
    rows += [
        {"prompt": "Nothing expected", "answers": answers},
        {"answers": answers, "expected": expected[0]},
    ]
    counts = {"gold_items": len(expected) + 1, "qualification_items": 3}
    round_id = desk.round(protocol=protocol, gold_file=known_file(desk, rows), **counts, **config)
    gold, qualification = checks(desk, round_id, "gold"), checks(desk, round_id, "qualification")
    assert (len(gold), len(qualification)) == (len(expected) + 1, 3)
    made = rounds.get(desk.database, round_id)
    assert (made.item_count, made.details.gold) == (12, len(gold))
    for item in [*gold, *qualification]:
        assert item.answers == answers or (protocol == "label" and set(item.answers) <= set(LABELS))
        if item.prompt[0]["content"].startswith("Known"):
            assert item.expected == stored
    prompts = [item.prompt[0]["content"] for item in [*gold, *qualification]]
    assert len(set(prompts)) >= 5  # no known answer comes twice
    assert "Known answers left out: 1, as it has no expected answer." in made.details.notices
    assert not (desk.home.uploads / "known.jsonl").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_attention_item_is_one_of_the_round_but_for_what_its_prompt_asks(
    desk: RoundDesk, protocol: str
) -> None:
    config, *_ = PROTOCOLS[protocol]
    round_id = desk.round(protocol=protocol, attention_share=0.1, seed=3, **config)
    own = [item for item in rounds.items(desk.database, round_id) if item.check is None]
    attention = checks(desk, round_id, "attention")
    assert len(attention) in (2, 3)  # a tenth of 12, or of 24 where each answer is rated alone
    for item in attention:
        text = item.prompt[-1]["content"]
        (source,) = [each for each in own if text.startswith(each.prompt[-1]["content"] + "\n")]
        assert set(item.answers) <= set(source.answers)
        assert item.reference == source.reference
        ask, right = text.partition("Ignore the answers and ")[2], item.expected
        assert right is not None
        wanted = next(iter(right.values()))
        words = {
            "pairwise": f"choose answer {wanted}.",
            "rank": "rank the answers in their order" if wanted == [1, 2] else "rank the answers in reverse",
            "rubric": f"give point {dict(wanted).get('Tone')} on every" if protocol == "rubric" else "",
            "pass_fail": f"choose {'pass' if wanted else 'fail'}.",
            "label": f"choose the label “{wanted}”.",
            "correction": f"write “{wanted}”",
        }
        assert ask.startswith(words[protocol])


def test_sides_and_points_that_attention_asks_for_vary(desk: RoundDesk) -> None:
    desk.prompts = 12
    round_id = desk.round(protocol="pairwise", attention_share=0.1, per_rater=100, overlap=1)
    asked = {json.dumps(item.expected) for seed in range(6) for item in attention_of(desk, round_id, seed)}
    assert asked == {'{"choice": "A"}', '{"choice": "B"}'}


def attention_of(desk: RoundDesk, round_id: str, seed: int) -> list[RoundItem]:
    models = rounds.get(desk.database, round_id).config["models"]
    again = desk.round(attention_share=0.1, seed=seed, models=models)
    return checks(desk, again, "attention")


def test_labelled_texts_of_a_data_set_are_gold_of_a_round_of_labels(desk: RoundDesk) -> None:
    rows = [{"text": f"Text {n}", "label": LABELS[n % 3]} for n in range(9)] + [
        {"text": "Odd", "label": "gem"}
    ]
    desk.imported("Labelled", rows)
    config = {"protocol": "label", "labels": LABELS, "gold_dataset": "Labelled"}
    round_id = desk.round(gold_items=9, **config)
    gold = checks(desk, round_id, "gold")
    assert {item.prompt[0]["content"]: item.expected for item in gold} == {
        row["text"]: {"label": row["label"], "note": ""} for row in rows[:9]
    }
    assert all(len(item.answers) == 2 for item in gold)  # as many as models: raters may see their labels


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"expected": "C"}, "expected: choice is 'C'"),
        ({"expected": None}, "no expected answer"),
        ({"answers": ONE}, "not 2 answers to rate"),
        ({"prompt": " "}, "prompt is empty"),
    ],
)
def test_a_file_without_a_fitting_answer_is_refused_with_the_reason(
    desk: RoundDesk, row: dict[str, Any], why: str
) -> None:
    row = {"prompt": "P", "answers": TWO, "expected": "A"} | row
    with pytest.raises(DataError, match=why) as caught:
        desk.round(gold_file=known_file(desk, [row]), gold_items=1)
    assert caught.value.field == "gold_file"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"gold_items": 3}, "gold_dataset"),
        ({"qualification_items": 3}, "gold_dataset"),
        ({"gold_dataset": "Known", "gold_file": {"upload": "a"}}, "gold_file"),
        ({"gold_dataset": "Known", "protocol": "pass_fail"}, "gold_dataset"),
    ],
)
def test_checks_without_known_answers_are_refused(
    desk: RoundDesk, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError, match=field):
        desk.round(**config)


def test_the_engine_reads_no_other_file_of_known_answers_than_it_was_given(desk: RoundDesk) -> None:
    for upload in ("../tunebench.duckdb", "gone.jsonl"):
        with pytest.raises((ConfigError, DataError)) as caught:
            desk.round(gold_file={"upload": upload}, gold_items=1)
        assert getattr(caught.value, "field", "") in ("gold_file", "upload", "config", "source")
