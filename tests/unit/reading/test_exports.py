"""Exports: each format reads back as the same rows, what can't be held is refused, and where files lie."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data import export_job as job_export
from engine.data.split.partition import PARTS
from engine.worker.job import JobCancelled
from store.core.documents import parse_document
from store.core.errors import ConfigError, NotFoundError
from store.core.home import Home
from store.http.client import Client
from store.jobs.schemas import JobSpec
from tests.unit.data_job import import_file, make_job, read
from tests.unit.recipe_samples import chat, folders, make, measure, run
from tests.unit.store_samples import TOKEN, new_store, serving

PAIRS = [
    chat("What is 1 + 1?", "2"),
    chat('Say "a,b"\nand ; tabs\t', " two\n\nlines "),
    chat("Ünï 🎉 ”“", "=x"),
]
TURNS = [
    {"messages": [{"role": role, "content": content} for role, content in turns]}
    for turns in (
        [("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        [("user", "[1, 2]"), ("assistant", '{"x": "y"}')],
    )
]
SYSTEM = [{"instruction": "q", "output": "a", "system": "Be kind."}, {"instruction": "r", "output": "b"}]
LABELS = [{"text": f"text {n}", "label": "spam" if n % 2 else "ham"} for n in range(4)]
TEXTS = [{"text": "Plain text,\nof two lines."}, {"text": 'and "another"'}]
CHOICES = [
    {"prompt": "p", "chosen": "good", "rejected": "bad"},
    {"prompt": "q", "chosen": "x", "rejected": "y"},
]
FORMATS = ("messages", "prompt_completion", "alpaca", "sharegpt", "csv", "parquet")
ANY = ("messages", "csv", "parquet")


def export(home: Home, dataset: dict[str, Any], **config: Any) -> dict[str, Any]:
    job = make_job(home, "export", {"dataset": dataset["name"], **config})
    first = {
        **{key: dataset[key] for key in ("name", "columns", "format", "row_count")},
        **{
            "source": {"path": "/data/a|b.jsonl"},
            "skipped_count": 1,
            "stats": {"skipped_reasons": {"no *text*": 1}},
        },
        **{"recipe": None, "fates": None, "created_at": "2026-01-02T03:04:05"},
    }
    order = {"dataset": dataset, "mixed": {}, "history": [first], "figures": {}}
    job.spec |= parse_document(JobSpec, order)
    return job_export.run(job)


def contents(home: Home, fingerprint: str, *, labels: bool) -> list[tuple[Any, ...]]:
    rows = read(home.rows(fingerprint))
    return [(r["messages"], r["text"], r["rejected"], r["digest"], labels and r["label"]) for r in rows]


@pytest.mark.parametrize(
    ("rows", "format"),
    [
        *((PAIRS, format) for format in FORMATS),
        *((SYSTEM, format) for format in FORMATS),
        *((LABELS, format) for format in FORMATS),
        *((TURNS, format) for format in (*ANY, "sharegpt")),
        *((TEXTS, format) for format in ANY),
        *((CHOICES, format) for format in ANY),
    ],
)
def test_what_is_exported_is_imported_as_the_same_rows(home: Home, rows: list[Any], format: str) -> None:
    dataset = make(home, rows)
    result = export(home, dataset, format=format)
    assert result["rows"] == len(rows)
    again = import_file(home, Path(result["path"])).result
    labels = not result["notices"]
    assert labels == (rows is not LABELS or format in ("csv", "parquet"))
    assert contents(home, again["fingerprint"], labels=labels) == contents(
        home, dataset["fingerprint"], labels=labels
    )
    assert again["kind"] == dataset["kind"]


# Many control characters make a file look binary: an import says so, whoever wrote it.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t")
TEXT = st.text(CHARACTERS, min_size=1, max_size=20).filter(lambda text: not text.isspace())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.sampled_from(FORMATS))
def test_any_text_survives(home: Home, pairs: list[tuple[str, str]], format: str) -> None:
    dataset = make(home, [{"prompt": a, "completion": b} for a, b in pairs])
    path = Path(export(home, dataset, format=format)["path"])
    again = import_file(home, path).result["fingerprint"]
    assert contents(home, again, labels=False) == contents(home, dataset["fingerprint"], labels=False)


@pytest.mark.parametrize(
    ("rows", "format", "message", "field"),
    [
        (TURNS, "alpaca", "1 of 2 rows are longer", "format"),
        (TURNS, "prompt_completion", "1 of 2 rows are longer", "format"),
        (TEXTS, "alpaca", "can't represent plain text", "format"),
        (CHOICES, "sharegpt", "can't represent preferred and rejected", "format"),
    ],
)
def test_a_format_that_can_not_hold_the_rows_is_refused(
    home: Home, rows: list[Any], format: str, message: str, field: str
) -> None:
    dataset = make(home, rows)
    before = folders(home)
    with pytest.raises(ConfigError, match=message) as caught:
        export(home, dataset, format=format)
    assert caught.value.field == field
    assert {path for path in folders(home) - before if path.is_file()} == set()
    assert list(home.exports.iterdir()) == []


def test_a_filter_and_parts_choose_the_rows(home: Home) -> None:
    dataset = make(home, [chat(f"q{n}", "a" * (n % 5 + 1)) for n in range(100)])
    measure(home, dataset, "text", answer_words=[n % 3 for n in range(100)])
    some = export(home, dataset, where={"expression": "answer_words = 2 AND length(answer) = 3"})
    prompts = [
        json.loads(line)["messages"][0]["content"] for line in Path(some["path"]).read_text().splitlines()
    ]
    assert prompts == [f"q{n}" for n in range(100) if n % 3 == 2 and n % 5 == 2]
    parts = [export(home, dataset, parts=[part]) for part in ("train", "validation", "test")]
    texts = [line for part in parts for line in Path(part["path"]).read_text().splitlines()]
    assert len(texts) == len(set(texts)) == 100
    assert parts[1]["name"] == "Old-validation.jsonl"
    with pytest.raises(ConfigError, match="No rows to export"):
        export(home, dataset, where={"search": "nowhere"})


def test_files_are_never_replaced_and_names_stay_in_the_folder(home: Home) -> None:
    dataset = make(home, PAIRS) | {"name": "../../etc/pass wd"}
    names = [Path(export(home, dataset)["path"]) for _ in range(2)]
    assert [path.name for path in names] == ["etc-pass-wd.jsonl", "etc-pass-wd-2.jsonl"]
    assert {path.parent for path in names} == {home.exports}
    assert len(list(home.exports.iterdir())) == 4  # with their cards


def test_a_cancelled_export_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(home, PAIRS)
    stop = lambda self: (_ for _ in ()).throw(JobCancelled)  # noqa: E731
    monkeypatch.setattr(job_export.WorkerJob, "check_cancelled", stop)
    with pytest.raises(JobCancelled):
        export(home, dataset)
    assert list(home.exports.iterdir()) == []
    assert not any(path.name == "export" for path in home.jobs.rglob("*"))


def test_the_card_tells_where_the_rows_come_from(home: Home) -> None:
    dataset = make(home, PAIRS)
    made = run(home, dataset, {"step": "drop_duplicates", "kind": "near"}).result
    job = make_job(home, "export", {"dataset": "New", "where": {"search": "a"}})
    base = {
        "columns": {"question": "question"},
        "format": "question_answer",
        "created_at": "2026-01-02T03:04:05",
    }
    stats = {"skipped_reasons": {"no *text*": 1}}
    first = {
        **{"name": "Old", "row_count": 3, "source": {"path": "/data/a|b.jsonl"}, "skipped_count": 1},
        **{"stats": stats, "recipe": None, "fates": None},
    }
    second = {**first, "name": "New", "fates": made["fates"]}
    second["recipe"] = {"steps": [{"step": "drop_duplicates", "kind": "near"}]}
    figures = {
        "text": {
            "options": {},
            "row_count": 3,
            "figures": {
                "html": {"n": 3, "flagged": 1},
                "words": {"n": 3, "min": 1, "mean": 2, "median": 2.5, "p95": 9, "max": 9, "positive": 3},
                "language": {"n": 3, "distinct": 1, "values": {"en": 3}},
            },
        }
    }
    order = {"dataset": dataset | {"name": "New"}, "mixed": {}, "figures": figures}
    job.spec |= parse_document(JobSpec, order | {"history": [base | first, base | second]})
    card = Path(job_export.run(job)["card_path"]).read_text()
    for phrase in (
        '**Which:** the text contains "a"',
        "path /data/a\\|b.jsonl",
        "1: no \\*text\\*",
        "3 kept, 0 changed, 0 dropped, 0 added",
        "1. Drop near duplicates (0.7), keep the first",
        "| HTML | 1 of 3 rows (33.33%) | at most 1.00% |",
        "| Words | median 2.5, 95% at most 9 words |",
        "| Language | 1 values; en 3 |",
    ):
        assert phrase in card


def test_only_files_of_the_folder_are_sent_and_only_with_the_token(tmp_path: Path) -> None:
    home, database = new_store(tmp_path / "home")
    (home.exports / "rows & more.csv").write_bytes(b"x" * 3_000_000)
    (home.exports / ".hidden").write_text("no")
    (home.exports / "link.csv").symlink_to(home.path / "token")
    with serving(home, database) as address:
        client = Client(home)
        assert sum(map(len, client.download("rows & more.csv"))) == 3_000_000
        for name in (
            "../token",
            "/etc/passwd",
            ".hidden",
            "link.csv",
            "nothing",
            "..",
            "",
            "a\0b",
            "x/../../token",
            "x" * 5_000,
            "é" * 200,
        ):
            with pytest.raises(NotFoundError):
                list(client.download(name))
        with httpx.Client(base_url=address, trust_env=False) as http:
            assert http.get("/exports/rows%20%26%20more.csv").status_code == 401
            headers = {"Authorization": f"Bearer {TOKEN}"}
            assert http.get("/exports/%2e%2e%2ftoken", headers=headers).status_code == 404
        client.close()
    database.close()


def test_every_column_of_the_file_goes_with_its_row_and_so_do_number_and_part(home: Home) -> None:
    rows = [chat(f"q{n}", f"a{n}", id=1000 + n, text=f"t{n}", tags=["x", n], score=n / 2) for n in range(60)]
    dataset = make(home, rows, ignore=["score"])
    columns = {"row_id", "split", "id", "source.text", "tags", "score"}
    lines = Path(export(home, dataset)["path"]).read_text().splitlines()
    first = json.loads(lines[7])
    assert set(first) == {"messages", *columns}
    assert (first["row_id"], first["id"], first["source.text"], first["tags"]) == (7, 1007, "t7", ["x", 7])
    parts = [json.loads(line)["split"] for line in lines]
    assert {part: parts.count(part) for part in set(parts)} == {"train": 30, "validation": 15, "test": 15}
    table = pq.read_table(export(home, dataset, format="parquet")["path"])
    assert set(table.column_names) == {"messages", *columns}
    assert (table.schema.field("id").type, table.schema.field("score").type) == (pa.int64(), pa.float64())
    assert table["tags"][7].as_py() == '["x", 7]'
    path = Path(export(home, dataset, format="csv")["path"])
    assert path.read_text().splitlines()[0].count(",") == 7
    again = import_file(home, path, ignore=["score"]).result["fingerprint"]
    assert contents(home, again, labels=False) == contents(home, dataset["fingerprint"], labels=False)


def test_csv_has_no_formulas_and_an_import_has_the_rows_as_they_were(home: Home) -> None:
    texts = ['=HYPERLINK("http://example.org")', "- a point", "'@x", "-5", "plain"]
    rows = [{"prompt": text, "completion": "ok", "=cmd": text} for text in texts]
    dataset = make(home, rows)
    path = Path(export(home, dataset, format="csv")["path"])
    with open(path, encoding="utf-8", newline="") as file:
        header, *cells = csv.reader(file)
    assert header == ["prompt", "completion", "row_id", "split", "'=cmd"]
    guarded = ["'" + texts[0], "'- a point", "''@x", "-5", "plain"]
    assert [(row[0], row[-1]) for row in cells] == [(text, text) for text in guarded]
    again = import_file(home, path).result["fingerprint"]
    assert contents(home, again, labels=False) == contents(home, dataset["fingerprint"], labels=False)
    sources = [json.loads(row["source"])["=cmd"] for row in read(home.rows(again))]
    assert sources == texts


def test_an_apostrophe_of_somebody_elses_file_stays(home: Home) -> None:
    path = home.exports / "others.csv"
    path.write_text("prompt,completion\n'=x,'-y\n")
    again = import_file(home, path).result["fingerprint"]
    [row] = read(home.rows(again))
    assert [turn["content"] for turn in row["messages"]] == ["'=x", "'-y"]


def test_json_is_one_list(home: Home) -> None:
    result = export(home, make(home, PAIRS), one_list=True)
    assert result["name"].endswith(".json")
    rows = json.loads(Path(result["path"]).read_text())
    assert [row["messages"][0]["content"] for row in rows] == [pair["question"] for pair in PAIRS]


LISTED = ["1", "2", "3"]  # which place an answer of 1 or "1" is, no value alone can tell
CHOSEN = [
    *({"question": f"Which is {n}?", "options": LISTED, "answer": n, "split": PARTS[n]} for n in range(3)),
    {"question": "The same?", "options": ["x", "x", " y"], "answer": 1, "split": "train"},
]


@pytest.mark.parametrize("format", ["prompt_completion", "alpaca", "csv", "parquet"])
def test_choices_the_right_one_and_the_part_are_read_back(home: Home, format: str) -> None:
    dataset = make(home, CHOSEN, answers="number from 0") | {"split_by": "given"}
    result = export(home, dataset, format=format)
    again = import_file(home, Path(result["path"])).result
    assert (again["format"], result["notices"]) == ("multiple_choice", [])
    columns = ("messages", "choices", "answer_index", "part", "text", "digest")
    before, after = (
        [[row[column] for column in columns] for row in read(home.rows(made["fingerprint"]))]
        for made in (dataset, again)
    )
    assert [row[2:4] for row in before] == [[0, "train"], [1, "validation"], [2, "test"], [1, "train"]]
    assert after == before


def test_choices_that_an_import_would_not_read_back_are_told_of(home: Home) -> None:
    dataset = make(home, CHOSEN, answers="number from 0")
    (notice,) = export(home, dataset, format="messages")["notices"]
    assert "4 rows are multiple choice" in notice
    other = {"dataset": "Other", "step": "mix", "share": 0.5}
    mixed = run(home, dataset, other, mixed={"Other": make(home, PAIRS * 3, "Other")}).result
    half = dataset | {key: mixed[key] for key in ("fingerprint", "row_count")}
    assert "other rows have none" in export(home, half, format="csv")["notices"][0]
