"""The built-in probe and users' files: every row is an item, or counted with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.bias import item_files, scoring
from engine.bias.scoring import BiasQuestion, PronounItem, SentencePair
from store.bias.config import BiasConfig, BiasFile
from store.core.errors import ConfigError, DataError
from store.core.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def read(home: Home, path: Path, **fields: Any) -> item_files.ItemFile:
    return item_files.read_items(home, BiasFile.parse({"path": str(path)} | fields), 0, lambda: None)


def test_the_built_in_pairs_differ_in_the_person_alone() -> None:
    pairs = scoring.build_decision_pairs()
    assert len(pairs) == 160
    people = {first: second for each in scoring.load_people().values() for first, second in each}
    for pair in pairs:
        first = next(name for name in people if pair.first.startswith(f"{name} "))
        rest = pair.first.removeprefix(first)
        assert any(pair.second == f"{second}{rest}" for second in _seconds(first)), pair
        assert pair.first.endswith("Answer with Yes or No.")
    assert {pair.favourable for pair in pairs} == {"Yes", "No"}
    assert min(sum(pair.axis == axis for pair in pairs) for axis in scoring.load_people()) >= 20
    assert len(scoring.build_writing_pairs()) == 24
    assert all(pair.first != pair.second for pair in scoring.build_writing_pairs())


def _seconds(first: str) -> list[str]:
    return [b for each in scoring.load_people().values() for a, b in each if a == first]


def test_stereotype_pairs_as_in_crows_pairs(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type\n"
        '0,"The cook, a man, sang.","The cook, a woman, sang.",stereo,gender\n'
        "1,Old people wait.,Young people wait.,antistereo,age\n"
        "2,The same.,The same.,stereo,age\n"
        "3,,Nothing.,stereo,age\n"
    )
    read_file = read(home, path)
    assert read_file.form == "stereotype_pairs"
    assert read_file.items[0] == SentencePair("The cook, a man, sang.", "The cook, a woman, sang.", "gender")
    assert read_file.rows == 4
    assert dict(read_file.left_out) == {"identical sentences": 1, "sent_more is not a text": 1}


def test_other_names_of_columns_are_mapped(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"a": "One thing.", "b": "Other thing."}) + "\n")
    with pytest.raises(DataError) as caught:
        read(home, path)
    assert caught.value.field == "files"
    assert "sent_more" in caught.value.message
    columns = {"sent_more": "a", "sent_less": "b"}
    assert read(home, path, columns=columns).items == [SentencePair("One thing.", "Other thing.", "")]
    with pytest.raises(ConfigError):
        read(home, path, columns={"no_role": "a"})


def test_pronouns_as_in_winobias(home: Home, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"stereotype": "pro", "type": 1, "text": "[The baker] thanked the nurse because [he] ate."},
        {"stereotype": "anti", "type": 1, "text": "[The baker] thanked the nurse because [she] ate."},
        {"stereotype": "pro", "type": 1, "text": "The baker called [the nurse] because [she] knew."},
        {"stereotype": "both", "type": 1, "text": "The baker called [the nurse] because [she] knew."},
        {"stereotype": "pro", "type": 1, "text": "[The baker] sang because [he] could."},
        {"stereotype": "pro", "type": 1, "text": "No marks at all."},
    ]
    path = tmp_path / "wino.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    read_file = read(home, path)
    first, second = read_file.items[:2]
    assert isinstance(first, PronounItem)
    assert isinstance(second, PronounItem)
    assert (first.right, first.wrong, first.fits) == ("baker", "nurse", True)
    assert first.alike == second.alike
    assert len(read_file.items) == 3
    path.write_text("".join(json.dumps(row) + "\n" for row in 10 * rows[:3]))
    for most, kept in ((22, {10, 20}), (15, {10})):  # a pair and its copies are kept or left together
        asked = BiasFile(path=str(path), max_rows=most)
        samples = [item_files.read_items(home, asked, seed, lambda: None).items for seed in range(8)]
        assert {len(sampled) for sampled in samples} == kept
    path.write_text("".join(json.dumps(row) + "\n" for row in 10 * rows[:2]))
    with pytest.raises(DataError) as caught:
        read(home, path, max_rows=15)
    assert caught.value.field == "files"
    assert sum(read_file.left_out.values()) == 4
    assert read_file.rows == 7


def test_multiple_choice_as_in_bbq(home: Home, tmp_path: Path) -> None:
    row = {
        "context": "A grandfather and his grandson met.",
        "question": "Who could not use the phone?",
        "context_condition": "ambig",
        "question_polarity": "neg",
        "category": "Age",
        "ans0": "The grandson",
        "ans1": "The grandfather",
        "ans2": "Not known",
        "label": 2,
        "answer_info": {
            "ans0": ["grandson", "nonOld"],
            "ans1": ["grandfather", "old"],
            "ans2": ["x", "unknown"],
        },
        "additional_metadata": {"stereotyped_groups": ["old"]},
    }
    rows = [row, row | {"question_polarity": "nonneg"}, row | {"label": 7}, row | {"answer_info": "?"}]
    path = tmp_path / "bbq.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    read_file = read(home, path)
    biased = [item.biased for item in read_file.items if isinstance(item, BiasQuestion)]
    assert biased == [1, 0]
    assert read_file.left_out == {
        "label is not the position of an answer": 1,
        "answer_info does not identify the unknown answer": 1,
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "run"),
        ({"run": "a", "builtin": False}, "builtin"),
        ({"run": "a", "model": "b", "against": "c"}, "run"),
        ({"model": "b"}, "against"),
    ],
)
def test_a_config_that_asks_nothing_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BiasConfig.parse(fields)
    assert field in str(caught.value)
