"""Multiple choice: read in every way that files have it, shown by one rule, kept in the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.data.cleaning.working_rows import read_canonical_rows, replace_texts
from engine.data.conversion.format_detection import FormatOptions, choose_format, recognise_format
from engine.data.conversion.multiple_choice import load_questions
from engine.data.conversion.row_conversion import make_converter
from engine.data.readers.file_rows import RowSkipped
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data import dataset_files
from store.data.config import ImportConfig
from store.data.formats import append_choices, strip_choices
from tests.unit.data_job import import_file, write
from tests.unit.recipe_samples import make, run

CITIES = ["Tirana", "Kabul", "Dushanbe"]
SHOWN = "Capital of Afghanistan?\n\nA. Tirana\nB. Kabul\nC. Dushanbe"
ASKED = {"question": "Capital of Afghanistan?"}
APART = {"ans0": "Tirana", "ans1": "Kabul", "ans2": "Dushanbe"}
NAMED = {"text": CITIES, "label": ["1", "2", "3"]}


@pytest.mark.parametrize(
    ("row", "where", "answers"),
    [
        ({**ASKED, "choices": CITIES, "answer": "Kabul"}, ["choices"], "text"),
        ({**ASKED, "choices": CITIES, "answer": 1}, ["choices"], "number from 0"),
        ({**ASKED, "choices": json.dumps(CITIES), "answer": "B"}, ["choices"], "letter"),
        ({**ASKED, "choices": str(CITIES), "answer": "(b)"}, ["choices"], "letter"),
        ({**ASKED, "choices": NAMED, "answerKey": "2"}, ["choices"], "letter"),
        (
            {**ASKED, "choices": [{"label": "1", "text": t} for t in CITIES], "answerKey": "B"},
            None,
            None,
        ),
        ({**ASKED, **APART, "label": 1}, list(APART), "number from 0"),
        ({**ASKED, "opa": "Tirana", "opb": "Kabul", "opc": "Dushanbe", "cop": 1}, None, "number from 0"),
        ({**ASKED, "A": "Tirana", "B": "Kabul", "C": "Dushanbe", "answer": "B"}, ["A", "B", "C"], "letter"),
        (
            {
                "goal": "Capital of Afghanistan?",
                "sol1": "Tirana",
                "sol2": "Kabul",
                "sol3": "Dushanbe",
                "label": "1",
            },
            ["sol1", "sol2", "sol3"],
            "number from 0",
        ),
    ],
)
def test_choices_in_every_form(row: dict[str, Any], where: list[str] | None, answers: str | None) -> None:
    format = recognise_format(list(row), [row])
    if answers is None:
        assert format.format != "multiple_choice"
        return
    assert format.format == "multiple_choice"
    chosen = choose_format(list(row), [row], FormatOptions(None, {}))
    assert chosen.answers == answers
    if where:
        assert [chosen.mapping[role] for role in chosen.mapping if role.startswith("choices")] == where
    made = make_converter("multiple_choice", chosen.mapping, answers=chosen.answers)(row)
    assert made.contents == (SHOWN, "Kabul")
    assert (made.choices, made.answer_index, made.label) == (tuple(CITIES), 1, None)


def test_numbers_from_one_are_told_from_numbers_from_zero_by_all_rows() -> None:
    rows = [{"question": "q", "options": ["a", "b", "c"], "answer": n} for n in (1, 3, 2)]
    assert choose_format(list(rows[0]), rows, FormatOptions(None, {})).answers == "number from 1"
    rows = [{"question": "q", "options": ["a", "b", "c"], "answer": n} for n in (1, 0, 2)]
    assert choose_format(list(rows[0]), rows, FormatOptions(None, {})).answers == "number from 0"


def test_a_number_as_the_answer_keeps_context_and_question(home: Home, tmp_path: Path) -> None:
    """What was once trained as the answer "2" to a bare question."""
    rows = [
        {
            "context": f"Story {n}.",
            "question": "Who?",
            "ans0": "Ada",
            "ans1": "Bob",
            "ans2": "None",
            "label": n % 3,
        }
        for n in range(6)
    ]
    body = "\n".join(map(json.dumps, [*rows, {**rows[0], "label": 7}, {**rows[0], "ans1": " "}]))
    done = import_file(home, write(tmp_path, "a.jsonl", body))
    assert (done.result["format"], done.result["kind"]) == ("multiple_choice", "chat")
    first = done.rows[2]
    assert [turn["content"] for turn in first["messages"]] == [
        "Story 2.\n\nWho?\n\nA. Ada\nB. Bob\nC. None",
        "None",
    ]
    assert (first["choices"], first["answer_index"]) == (["Ada", "Bob", "None"], 2)
    assert [row["reason"] for row in done.skipped] == [
        "the answer '7' is none of 3 choices (read as number from 0)",
        "a choice is empty",
    ]


def test_stored_rows_give_their_questions_with_and_without_choices(home: Home, tmp_path: Path) -> None:
    rows = [
        {**ASKED, "choices": CITIES, "answer": "Kabul"},
        {**ASKED, "choices": CITIES[:2], "answer": "Tirana"},
    ]
    done = import_file(home, write(tmp_path, "a.json", json.dumps(rows)))
    second, first = load_questions(home, done.result["fingerprint"], [1, 0])
    assert first is not None
    assert second is not None
    assert first.listed == [{"role": "user", "content": SHOWN}]
    assert first.bare == [{"role": "user", "content": ASKED["question"]}]
    assert (second.row_id, second.choices.options, second.choices.answer) == (1, ("Tirana", "Kabul"), 0)
    other = import_file(home, write(tmp_path, "b.json", json.dumps([{"prompt": "p", "completion": "c"}])))
    assert load_questions(home, other.result["fingerprint"], [0]) == [None]


def test_a_changed_text_keeps_its_choices_only_where_the_prompt_still_lists_them(
    home: Home, tmp_path: Path
) -> None:
    rows = [{**ASKED, "choices": CITIES, "answer": "Kabul"}]
    done = import_file(home, write(tmp_path, "a.json", json.dumps(rows)))
    batch = next(dataset_files.iterate_batches(dataset_files.open_rows(home, done.result["fingerprint"]), 10))
    (row,) = read_canonical_rows(batch)
    same = replace_texts(row, ("Which is the c" + row.contents[0][1:], "Kabul"), "", None)
    assert same.choices == tuple(CITIES)
    for contents in ((row.contents[0], "Kabul!"), (ASKED["question"], "Kabul")):
        changed = replace_texts(row, contents, "", None)
        assert (changed.choices, changed.answer_index) == (None, None)


def test_a_data_set_from_before_there_were_choices_is_read_with_none(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "a.json", json.dumps([{"prompt": "p", "completion": "c"}] * 3)))
    path = home.rows(done.result["fingerprint"])
    pq.write_table(pq.read_table(path).drop_columns(["choices", "answer_index", "part"]), path)
    fingerprint = done.result["fingerprint"]
    for row_ids in (None, [2, 0], []):
        table = dataset_files.load_rows(home, fingerprint, row_ids=row_ids)
        assert table.schema.equals(dataset_files.SCHEMA)
        assert table["choices"].null_count == len(table)
    batch = next(dataset_files.iterate_batches(dataset_files.open_rows(home, fingerprint), 2))
    assert batch.schema.equals(dataset_files.SCHEMA)
    assert load_questions(home, fingerprint, np.array([1])) == [None]


def test_the_name_by_content_tells_choices_apart(home: Home, tmp_path: Path) -> None:
    bodies = (
        [{**ASKED, "choices": ["a\nB. b", "c"], "answer": "c"}],
        [{**ASKED, "choices": ["a", "b\nB. c"], "answer": "b\nB. c"}],
    )
    names = {
        import_file(home, write(tmp_path, "a.json", json.dumps(b))).result["fingerprint"] for b in bodies
    }
    assert len(names) == 2


def test_what_can_not_be_chosen_among_is_skipped_with_the_reason() -> None:
    convert = make_converter(
        "multiple_choice", {"question": "question", "choices": "choices", "answer": "answer"}, answers="text"
    )
    for choices, answer, reason in (
        (["only"], "only", "1 choice, where two"),
        ([str(n) for n in range(27)], "3", "more than 26"),
        (["a", "a"], "a", "several of the choices"),
        (["a", "b"], None, "the answer is missing"),
        ("a or b", "a", "not a list of choices"),
        (None, "a", "choices is missing"),
        (["a", {"b": 1}], "a", "is an object, not a text"),
    ):
        with pytest.raises(RowSkipped, match=reason):
            convert({**ASKED, "choices": choices, "answer": answer})


def test_an_answer_column_that_names_no_choice_is_refused_with_the_field() -> None:
    row = {"q": "q", "options": ["a", "b"], "right": "neither"}
    given = {"question": "q", "choices": "options", "answer": "right"}
    with pytest.raises(DataError, match="names none of the choices") as caught:
        choose_format(list(row), [row], FormatOptions("multiple_choice", given))
    assert caught.value.field == "answers"


def test_a_mapping_may_name_several_columns_of_choices() -> None:
    document = {"source": {"path": "/a.csv"}, "format": "multiple_choice"}
    given = {"question": "q", "choices": "x", "choices_2": "y", "answer": "z"}
    assert ImportConfig.parse({**document, "columns": given}).columns == given
    with pytest.raises(Exception, match="has the role 'question_2'"):
        ImportConfig.parse({**document, "columns": {**given, "question_2": "w"}})


def test_the_rule_is_its_own_reverse() -> None:
    assert strip_choices(append_choices("Who?\n\nA. x", CITIES), CITIES) == "Who?\n\nA. x"


def test_versions_keep_choices_and_parts_and_read_them_anew(home: Home) -> None:
    rows = [
        {**ASKED, "choices": ["Tirana ", "Kabul "], "answer": n, "split": "test" if n else "train"}
        for n in (0, 1)
    ]
    dataset_of_rows = make(home, rows)
    stripped = run(home, dataset_of_rows, {"step": "normalise", "unicode": "none"})
    assert [row["part"] for row in stripped.rows] == ["train", "test"]
    assert [row["answer_index"] for row in stripped.rows] == [0, 1]
    assert stripped.rows[1]["messages"][-1]["content"] == stripped.rows[1]["choices"][1]
    columns = {"question": "question", "choices": "choices", "answer": "answer"}
    mapped = run(
        home, dataset_of_rows, {"step": "map_columns", "format": "multiple_choice", "columns": columns}
    )
    assert [row["answer_index"] for row in mapped.rows] == [0, 1]
    with pytest.raises(ConfigError, match="created at import"):
        run(
            home,
            dataset_of_rows,
            {"step": "map_columns", "format": "marked_pairs", "columns": {"prompt": "question"}},
        )


def test_another_choice_or_another_order_is_another_row(home: Home) -> None:
    """The prompt lists the choices, so exact duplicates are told by them."""
    rows = [
        {**ASKED, "choices": some, "answer": "Kabul"} for some in (CITIES, CITIES[:2], CITIES[::-1], CITIES)
    ]
    made = run(home, make(home, rows), {"step": "drop_duplicates", "kind": "exact"})
    assert [row["choices"] for row in made.rows] == [CITIES, CITIES[:2], CITIES[::-1]]
