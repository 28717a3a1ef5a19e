"""What an import says of columns, on the form and on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from pages.data import import_report as progress
from store.core.errors import ConfigError
from store.data.cleaning_text import describe_ignored_columns, describe_used_columns
from store.data.schemas import Dataset
from tests.unit.store_samples import row_of
from tunebench.commands import data
from tunebench.commands.data import build_source, describe_import, parse_columns


def test_what_is_used_as_what() -> None:
    columns = {"question": "Q", "choices": "A", "choices_2": "B", "answer": "key", "part": "split"}
    assert describe_used_columns("multiple_choice", columns, "letter") == (
        "question = Q; choices = A, B; answer = key (its letter); part = split"
    )
    values = {"0": "tie", "1": "first"}
    assert describe_used_columns(
        "comparison", {"first": "a", "second": "b", "better": "who"}, None, values
    ) == ("first answer = a; second answer = b; better answer = who (0: tie, 1: first)")
    same = {"prompt": "prompt", "completion": "answer", "label": "label"}
    assert describe_used_columns("marked", same, None, {"true": "good"}) == (
        "prompt; completion = answer; label (true: good)"
    )


def test_ignored_columns_are_named_and_counted() -> None:
    assert describe_ignored_columns([]) == "no column"
    assert describe_ignored_columns(["id", "url"]) == "id, url"
    assert describe_ignored_columns([f"c{n}" for n in range(200)], 4000).endswith("c11 and 3,988 more")


def test_a_role_that_is_given_again_has_one_more_column() -> None:
    assert parse_columns(["choices=a", "answer=x=y", "choices=b", "choices=c"]) == {
        "choices": "a",
        "answer": "x=y",
        "choices_2": "b",
        "choices_3": "c",
    }
    with pytest.raises(ConfigError, match="Invalid value 'x' for --column"):
        parse_columns(["x"])


def test_files_are_one_source_and_a_set_of_the_hub_another() -> None:
    assert build_source(["/a.csv"], "all") == {"path": "/a.csv"}
    assert build_source(["/a.csv", "/b.csv"], "all") == {"paths": ["/a.csv", "/b.csv"]}
    assert build_source(["hf://o/n"], "all") == {"hub_id": "o/n", "hub_split": "all"}
    with pytest.raises(ConfigError, match="can't be imported together"):
        build_source(["hf://o/n", "/a.csv"], "all")


def test_the_account_says_used_ignored_parts_and_skipped() -> None:
    stats = {
        "answers": None,
        "values": {"true": "good", "false": "bad"},
        "ignored": ["id"],
        "ignored_count": 1,
        "left_out": {"score": 9, "meta.rank": 1200},
        "parts": {"train": 8, "test": 2},
        "notices": ["A notice."],
        "skipped_reasons": {"marked as bad: not trained on": 5},
    }
    columns = {"prompt": "p", "completion": "c", "label": "l", "part": "split"}
    counts = {"row_count": 10, "skipped_count": 5, "duplicate_count": 0}
    dataset = row_of(Dataset, name="N", format="marked", columns=columns, stats=stats, **counts)
    assert describe_import(dataset) == [
        "N: 10 rows read as marked, 5 skipped, 0 exact duplicates.",
        "  used: prompt = p; completion = c; label = l (true: good, false: bad); part = split",
        "  ignored: id",
        "  excluded: score (in 9 rows), meta.rank (in 1,200 rows)",
        "  splits as given in the file: train 8, test 2",
        "  A notice.",
        "  skipped 5: marked as bad: not trained on",
    ]


def test_the_parts_that_a_file_gives_are_counted_in_their_order() -> None:
    stats = {"parts": {"test": 2, "train": 8}, "duplicates": {"exact": 0, "folded": 0}}
    made = {"row_count": 10, "skipped_count": 0, "duplicate_count": 0, "stats": stats}
    counted = progress.format_row_counts(made)[-2:]
    assert counted == [("Training", "8", "as given in the file"), ("Test", "2", "as given in the file")]


@pytest.mark.parametrize(
    ("stats", "count", "note"),
    [
        (
            {"duplicates": {"exact": 3, "folded": 5}},
            3,
            "exactly as an earlier row; 2 more except for case and",
        ),
        ({"duplicates": {"exact": 0, "folded": 0}}, 0, "none"),
        ({}, 4, "same as an earlier row except for case and spacing"),
    ],
)
def test_a_count_of_repeated_rows_says_of_which_kind(stats: dict[str, Any], count: int, note: str) -> None:
    made = {"row_count": 9, "skipped_count": 0, "duplicate_count": count, "stats": stats}
    (line,) = [line for line in progress.format_row_counts(made) if line[0] == "Repeated rows"]
    assert line[1] == str(count)
    assert line[2].startswith(note)
    assert data._describe_repeats(row_of(Dataset, **made)).endswith(
        "exact" if stats else "except for case and spacing"
    )
