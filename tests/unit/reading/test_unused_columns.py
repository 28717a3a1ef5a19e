"""Columns of which nothing would be used: what may change what is taught stops an import, else nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.conversion.reading_plan import find_undecided_stored_columns
from engine.training.preview import preflight
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.unit.data_job import Imported, ask, import_file, write

Row = dict[str, Any]
Make = Callable[[int], Row]
ROWS = 60


def turns(number: int) -> list[Row]:
    return [{"role": "user", "content": f"Ask {number}"}, {"role": "assistant", "content": f"Reply {number}"}]


def chat(**columns: Callable[[int], Any]) -> Make:
    return lambda n: {"messages": turns(n), **{name: value(n) for name, value in columns.items()}}


def pair(**columns: Callable[[int], Any]) -> Make:
    return lambda n: {
        "prompt": f"Ask {n}",
        "completion": f"Reply {n}",
        **{name: value(n) for name, value in columns.items()},
    }


def asked(home: Home, folder: Path, make: Make, **wishes: Any) -> list[str]:
    file = write(folder, "rows.jsonl", "".join(json.dumps(make(n)) + "\n" for n in range(ROWS)))
    document = ask(home, "inspect", source={"path": str(file)}, **wishes)
    return [column.name for column in document["undecided"]]


STOPS: dict[str, tuple[Make, list[str]]] = {
    "a mark": (chat(label=lambda n: n % 3 == 0), ["label"]),
    "a mark of some rows alone": (lambda n: chat()(n) | ({"bad": True} if n % 5 == 0 else {}), ["bad"]),
    "a flag by any name": (chat(xyz=lambda n: n % 2 == 0), ["xyz"]),
    "zero and one as text": (chat(flagged=lambda n: str(n % 2)), ["flagged"]),
    "a score": (pair(quality_score=lambda n: n / 7), ["quality_score"]),
    "votes": (chat(thumbs=lambda n: "up" if n % 2 else "down"), ["thumbs"]),
    "a mark in an object": (chat(meta=lambda n: {"rating": n % 5, "source": "web"}), ["meta.rating"]),
    "another answer": (pair(response_b=lambda n: f"Other {n}"), ["response_b"]),
    "a rejected answer": (pair(rejected_response=lambda n: f"Bad {n}"), ["rejected_response"]),
    "the winner": (pair(model_a=lambda n: "x", winner=lambda n: "model_a" if n % 2 else "tie"), ["winner"]),
    "camel case": (pair(isCorrect=lambda n: n % 2 == 0), ["isCorrect"]),
    "a finer label": (
        lambda n: {"text": f"Text {n}", "coarse": "ab"[n % 2], "fine": "uvwx"[n % 4]},
        ["fine"],
    ),
    "a label beside text": (
        lambda n: {"text": f"A text of words {n}", "kind": "abc"[n % 3]},
        ["kind"],
    ),
}  # fmt: skip
PASSES: dict[str, Make] = {
    "alpaca": lambda n: {
        "instruction": f"Do {n}", "input": "", "output": f"Done {n}", "text": f"### Do {n}\nDone {n}",
    },
    "dolly": lambda n: {
        "instruction": f"Do {n}", "context": "", "response": f"Done {n}", "category": ["qa", "other"][n % 2],
    },
    "all the same": chat(label=lambda n: True, score=lambda n: 5),
    "empty": chat(label=lambda n: None, answer=lambda n: ""),
    "where it is from": chat(
        id=lambda n: n, source=lambda n: ["web", "book"][n % 2],
        created_at=lambda n: f"2026-01-{n % 28 + 1:02}",
        url=lambda n: f"https://example.org/{n}", language=lambda n: ["de", "en"][n % 2],
        response_model=lambda n: ["x", "y"][n % 2], output_tokens=lambda n: n % 9,
        response_id=lambda n: f"r{n}",
    ),
    "an answer that is taught already": lambda n: {
        "instruction": f"Choose {n}", "output": f"The right one is answer{n % 4}", "answer": f"answer{n % 4}",
    },
    "scores of the two answers": lambda n: {
        "prompt": f"Ask {n}", "chosen": f"Good {n}", "rejected": f"Bad {n}",
        "score_chosen": n % 5 + 5, "score_rejected": n % 5,
    },
    "the label in words": lambda n: {
        "text": f"Text {n}", "label": n % 2, "label_text": ["ham", "spam"][n % 2],
    },
    "a category of questions": lambda n: {
        "question": f"Q {n}?", "choices": ["a", "b", f"c{n}"], "answer": "b",
        "activity_label": ["sport", "cooking"][n % 2],
    },
    "squad": lambda n: {
        "id": f"x{n}", "title": "T", "context": f"About {n}", "question": f"Which {n}?",
        "answers": {"text": [f"It {n}"], "answer_start": [n]},
    },
}  # fmt: skip


@pytest.mark.parametrize("case", STOPS)
def test_what_may_change_what_is_taught_is_asked(home: Home, tmp_path: Path, case: str) -> None:
    make, names = STOPS[case]
    assert asked(home, tmp_path, make) == names


@pytest.mark.parametrize("case", PASSES)
def test_clean_files_ask_nothing(home: Home, tmp_path: Path, case: str) -> None:
    assert asked(home, tmp_path, PASSES[case]) == []


def rows_of(folder: Path, rows: list[Row], name: str = "rows.jsonl") -> Path:
    return write(folder, name, "".join(json.dumps(row) + "\n" for row in rows))


def test_an_import_stops_and_says_which_mapping_to_give(home: Home, tmp_path: Path) -> None:
    rows = [{"messages": turns(n), "label": n % 4 == 0} for n in range(200)]
    file = rows_of(tmp_path, rows)
    for wishes in ({}, {"format": "messages", "columns": {"messages": "messages"}}):
        with pytest.raises(DataError) as caught:
            import_file(home, file, **wishes)
        assert "rows.jsonl has a column of which nothing would be used: 'label' (false, true)" in str(
            caught.value
        )
        assert caught.value.field == "ignore"
        assert "--ignore label" in (caught.value.fix or "")
        assert "take rows that should not be taught out" in (caught.value.fix or "")
    assert not list(home.datasets.iterdir())
    done = import_file(home, file, ignore=["label"])
    assert (done.result["row_count"], done.result["stats"]["left_out"]) == (200, {"label": 200})


def test_a_mapping_that_uses_the_column_is_the_other_way_on(home: Home, tmp_path: Path) -> None:
    rows = [{"prompt": f"Ask {n}", "completion": f"Reply {n}", "passed": n % 2 == 0} for n in range(40)]
    file = rows_of(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        import_file(
            home, file, format="prompt_completion", columns={"prompt": "prompt", "completion": "completion"}
        )
    assert "--format marked --column prompt=prompt --column completion=completion --column label=passed" in (
        caught.value.fix or ""
    )
    columns = {"prompt": "prompt", "completion": "completion", "label": "passed"}
    done = import_file(home, file, format="marked", columns=columns)
    assert (done.result["row_count"], done.result["skipped_count"]) == (20, 20)


def test_the_mapping_that_an_import_names_is_whole(home: Home, tmp_path: Path) -> None:
    rows = [{"text": f"Text {n}", "coarse": "ab"[n % 2], "fine": "uvwx"[n % 4]} for n in range(40)]
    file = rows_of(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        import_file(home, file)
    assert "--column text=text --column label=fine --ignore coarse" in (caught.value.fix or "")
    columns = {"text": "text", "label": "fine"}
    done = import_file(home, file, format="text_label", columns=columns, ignore=["coarse"])
    assert done.result["stats"]["label_count"] == 4


def test_pairs_of_which_the_format_takes_one_side_stop(home: Home, tmp_path: Path) -> None:
    rows = [{"prompt": f"Ask {n}", "chosen": f"Good {n}", "rejected": f"Bad {n}"} for n in range(40)]
    columns = {"prompt": "prompt", "completion": "rejected"}
    with pytest.raises(DataError, match="'chosen'") as caught:
        import_file(home, rows_of(tmp_path, rows), format="prompt_completion", columns=columns)
    assert "--format preference" in (caught.value.fix or "")


@pytest.mark.parametrize("late", [True, False])
def test_marks_that_come_after_the_first_rows_stop_too(home: Home, tmp_path: Path, late: bool) -> None:
    rows: list[Row] = [{"messages": turns(n), "label": True} for n in range(900)]
    if late:  # sorted: the bad ones last
        rows += [{"messages": turns(n), "label": False} for n in range(900, 910)]
    else:  # a column of which the first rows know nothing
        rows = [{"messages": turns(n)} for n in range(900)] + [
            {"messages": turns(n), "good": False} for n in range(3)
        ]
    with pytest.raises(DataError, match="at line 901 a column of which nothing would be used"):
        import_file(home, rows_of(tmp_path, rows))
    assert not list(home.datasets.iterdir())


def test_an_answer_that_stops_to_repeat_what_is_taught(home: Home, tmp_path: Path) -> None:
    rows = [{"instruction": f"Do {n}", "output": f"It is {n}", "answer": str(n)} for n in range(700)]
    assert import_file(home, rows_of(tmp_path, rows)).result["row_count"] == 700
    rows.append({"instruction": "Do", "output": "It is 7", "answer": "8"})
    with pytest.raises(DataError, match="at line 701"):
        import_file(home, rows_of(tmp_path, rows))


def test_weights_and_marks_of_turns_are_seen(home: Home, tmp_path: Path) -> None:
    for field, value in (("weight", 0), ("rating", "bad")):
        rows = [{"messages": turns(n)} for n in range(40)]
        rows[3]["messages"][1][field] = value
        with pytest.raises(DataError, match=rf"'messages\.{field}'"):
            import_file(home, rows_of(tmp_path, rows))
        assert (
            import_file(home, rows_of(tmp_path, rows), ignore=[f"messages.{field}"]).result["row_count"] == 40
        )


def test_what_is_left_out_on_purpose_is_none_of_what_is_used(home: Home, tmp_path: Path) -> None:
    file = rows_of(tmp_path, [{"prompt": f"Ask {n}", "completion": f"Reply {n}"} for n in range(12)])
    with pytest.raises(ConfigError, match="'completion' is to be left out, and is used as completion"):
        import_file(home, file, ignore=["completion"])
    done = import_file(home, file, ignore=["nothing"])
    assert done.result["stats"]["left_out"] == {"nothing": 0}
    assert "The column 'nothing' was set to be ignored, but it is empty in every row." in done.alerts


def folder_of(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        write(folder, name.replace("__", "."), content)
    return folder


def lines(count: int, start: int = 0, **more: Any) -> str:
    rows = [{"text": f"Text {n}", "label": "ab"[n % 2], **more} for n in range(start, start + count)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def imported(home: Home, folder: Path, way: str = "folder", **wishes: Any) -> Imported:
    paths = sorted(map(str, folder.iterdir()))
    if way == "files":
        random.Random(3).shuffle(paths)
        return import_file(home, folder, source={"paths": paths}, **wishes)
    return import_file(home, folder, **wishes)


@pytest.mark.parametrize("way", ["folder", "files"])
def test_what_is_about_the_data_is_not_read_and_that_is_said(home: Home, tmp_path: Path, way: str) -> None:
    folder = folder_of(
        tmp_path / "set", README__md="# A set\n\nIts rows.", LICENSE="MIT", notes__md="Notes.",
        dataset_info__json='{"features": {"text": "string"}}', train__jsonl=lines(30),
        test__jsonl=lines(10, 30),
    )  # fmt: skip
    done = imported(home, folder, way)
    assert (done.result["row_count"], done.result["stats"]["parts"]) == (40, {"train": 30, "test": 10})
    for name in ("README.md", "LICENSE", "notes.md", "dataset_info.json"):
        assert name in done.alerts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels__txt", "a\nb\n"), ("more__txt", "Some text.\n"), ("classes__json", '["a", "b"]'),
        ("id2label__json", '{"0": "a"}'), ("label_names__jsonl", '{"text": "a", "label": "b"}\n'),
        ("other__csv", "text,label\nx,a\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["folder", "files"])
def test_files_that_may_be_no_rows_stop(
    home: Home, tmp_path: Path, name: str, content: str, way: str
) -> None:
    folder = folder_of(tmp_path / "set", train__jsonl=lines(30), **{name: content})
    file = name.replace("__", ".")
    if (way, file) == (
        "files",
        "other.csv",
    ):  # named one by one, with the same columns: two kinds are one set
        assert imported(home, folder, way).result["row_count"] == 31
        return
    with pytest.raises(DataError, match=file.replace(".", r"\.")) as caught:
        imported(home, folder, way)
    assert (caught.value.field, f"--ignore-file {file}" in (caught.value.fix or "")) == ("ignore_files", True)
    done = imported(home, folder, way, ignore_files=[file])
    assert done.result["row_count"] == 30
    assert f"Files left out on purpose: {file}" in done.alerts


def test_files_of_other_columns_stop_before_a_row_is_read(home: Home, tmp_path: Path) -> None:
    other = "".join(json.dumps({"question": f"Q {n}", "answer": f"A {n}"}) + "\n" for n in range(9))
    folder = folder_of(tmp_path / "set", a__jsonl=lines(30), b__jsonl=other)
    with pytest.raises(DataError, match=r"b\.jsonl has no column 'label', which a\.jsonl has"):
        imported(home, folder)
    source = {"path": str(folder)}
    with pytest.raises(DataError, match=r"b\.jsonl"):
        ask(home, "inspect", source=source)
    assert ask(home, "inspect", source=source, ignore_files=["b.jsonl"])["format"] == "text_label"


def test_a_mark_that_the_second_file_alone_has_is_asked(home: Home, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", a__jsonl=lines(30), b__jsonl=lines(30, 30, is_good=False))
    document = ask(home, "inspect", source={"path": str(folder)})
    assert [column.name for column in document["undecided"]] == ["is_good"]
    with pytest.raises(DataError, match="'is_good'"):
        imported(home, folder)
    assert imported(home, folder, ignore=["is_good"]).result["stats"]["left_out"] == {"is_good": 30}


def test_a_file_to_leave_out_must_be_there(home: Home, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", a__jsonl=lines(30))
    with pytest.raises(DataError, match=r"no file 'x\.txt' to exclude"):
        imported(home, folder, ignore_files=["x.txt"])
    with pytest.raises(DataError, match="Every file is to be left out"):
        imported(home, folder, ignore_files=["a.jsonl"])


def test_rows_of_an_older_import_are_judged_by_what_lies_beside_them(home: Home, tmp_path: Path) -> None:
    rows = [{"messages": turns(n), "label": n < 190, "id": n} for n in range(200)]
    result = import_file(home, rows_of(tmp_path, rows), ignore=["label"]).result
    imported_as = {"format": result["format"], "columns": result["columns"], "answers": None}
    undecided = find_undecided_stored_columns(home, result["fingerprint"], imported_as)
    assert [column.name for column in undecided] == ["label"]
    config = TrainConfig.parse({"dataset": "D"})
    for reason, level in (("", "error"), ("We know.", "warning")):
        (refused,) = preflight.check_columns(config.model_copy(update={"gate_override": reason}), undecided)
        assert (refused.level, refused.field) == (level, "gate_override")
        assert "'label' (true, false)" in refused.message
    clean = [{"messages": turns(n), "id": n} for n in range(20)]
    fingerprint = import_file(home, rows_of(tmp_path, clean)).result["fingerprint"]
    assert find_undecided_stored_columns(home, fingerprint, imported_as) == []
    assert preflight.check_columns(config, []) == []
