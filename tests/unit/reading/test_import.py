"""The import: what is stored, that every row is accounted for, and that nothing half-made stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data import import_job
from engine.data.conversion import dataset_writer
from engine.data.readers import source_files
from engine.data.similarity.equality import hash_folded_text
from engine.worker.job import JobCancelled
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.dataset_files import SCHEMA, SKIPPED_SCHEMA
from tests.unit.data_job import import_file, make_job, write


def leftovers(home: Home) -> list[str]:
    return [
        str(path) for folder in (home.datasets, *home.jobs.iterdir()) for path in folder.glob("*.parquet")
    ] + [str(path) for path in home.datasets.iterdir()]


def test_a_csv_with_bad_rows(home: Home, tmp_path: Path) -> None:
    body = 'text,label\n"Where is\nmy card?",arrival\nHello\nwhere  IS my card?,arrival\n,empty\n'
    done = import_file(home, write(tmp_path, "a.csv", body))
    assert [(row["row_id"], row["line"], row["label"]) for row in done.rows] == [
        (0, 2, "arrival"),
        (1, 5, "arrival"),
    ]
    assert done.rows[0]["messages"] == [
        {"role": "user", "content": "Where is\nmy card?"},
        {"role": "assistant", "content": "arrival"},
    ]
    assert done.rows[0]["text"] == "Where is\nmy card?\n\narrival"
    assert json.loads(done.rows[0]["source"]) == {"text": "Where is\nmy card?", "label": "arrival"}
    assert done.rows[0]["digest"] == done.rows[1]["digest"]
    assert done.skipped == [
        {"line": 4, "reason": "1 field where the header names 2", "excerpt": "Hello"},
        {"line": 6, "reason": "text is empty", "excerpt": '{"text": "", "label": "empty"}'},
    ]
    result = done.result
    assert (result["kind"], result["format"]) == ("chat", "text_label")
    assert result["columns"] == {"text": "text", "label": "label"}
    assert result["duplicate_count"] == 0  # not exactly
    assert result["stats"]["duplicates"] == {"exact": 0, "folded": 1}
    assert result["stats"]["labels"] == {"arrival": 2}
    assert result["stats"]["label_count"] == 1
    assert result["stats"]["turns"] == {"min": 2, "median": 2.0, "p95": 2.0, "max": 2}
    assert result["stats"]["skipped_reasons"] == {"1 field where the header names 2": 1, "text is empty": 1}
    assert (result["stats"]["reader"], result["stats"]["encoding"]) == ("csv", "utf-8")
    assert result["source_bytes"] == len(body)


def test_the_files_have_the_columns_of_the_contract(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "a.txt", "One.\n\nTwo."))
    fingerprint = done.result["fingerprint"]
    assert pq.read_schema(home.rows(fingerprint)).equals(SCHEMA)
    assert pq.read_schema(home.skipped(fingerprint)).equals(SKIPPED_SCHEMA)
    assert [row["messages"] for row in done.rows] == [None, None]
    assert (done.result["kind"], done.result["stats"]["turns"]["max"]) == ("text", 0)


def test_preferences_keep_the_rejected_answer(home: Home, tmp_path: Path) -> None:
    body = json.dumps([{"prompt": "Hi", "chosen": "Hello", "rejected": "No"}])
    done = import_file(home, write(tmp_path, "a.json", body))
    assert (done.result["kind"], done.rows[0]["rejected"]) == ("preference", "No")
    assert done.rows[0]["messages"][-1] == {"role": "assistant", "content": "Hello"}


def test_the_same_file_twice_shares_its_folder_and_any_change_does_not(home: Home, tmp_path: Path) -> None:
    body = "text,label\nHello you,x\nGood day,y\n"
    names = {}
    for name, content in {
        "first.csv": body,
        "second.csv": body,
        "label.csv": body.replace(",y", ",z"),
        "moved.csv": body.replace("Good day,y\n", "\nGood day,y\n"),
        "skipped.csv": body + "ragged\n",
    }.items():
        names[name] = import_file(home, write(tmp_path, name, content)).result["fingerprint"]
    assert names["first.csv"] == names["second.csv"]
    assert len(set(names.values())) == 4
    assert {path.name for path in home.datasets.iterdir()} == set(names.values())


def test_the_fingerprint_does_not_depend_on_batches(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.csv", "text,label\n" + "".join(f"Row {n},x\nragged\n" for n in range(100)))
    whole = import_file(home, path)
    monkeypatch.setattr(dataset_writer, "FLUSH_ROWS", 7)
    other = import_file(Home(tmp_path / "other").create(), path)
    assert other.result == whole.result
    assert other.rows == whole.rows


def test_numbers_as_text_are_read_and_said(home: Home, tmp_path: Path) -> None:
    done = import_file(
        home, write(tmp_path, "a.jsonl", '{"text": 1, "label": 0}\n{"text": 2.5, "label": 1}\n')
    )
    assert [row["messages"][0]["content"] for row in done.rows] == ["1", "2.5"]
    assert "Every value of the column 'text' is a number" in done.alerts
    assert done.result["stats"]["notices"]
    done = import_file(home, write(tmp_path, "a.csv", "text,label\n1,a\n2,b\n"))
    assert "Every value of the column 'text' is a number" in done.alerts


def test_latin1_is_reported(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "a.csv", "text,label\ncafé,x\n".encode("latin-1")))
    assert done.rows[0]["messages"][0]["content"] == "café"
    assert done.result["stats"]["encoding"] == "cp1252"
    assert "Windows-1252" in done.alerts


def test_values_that_json_or_unicode_has_no_word_for(home: Home, tmp_path: Path) -> None:
    body = '{"question": "a", "answer": "b", "score": NaN}\n{"question": "\\ud83d", "answer": "b"}\n'
    done = import_file(home, write(tmp_path, "a.jsonl", body))
    assert json.loads(done.rows[0]["source"])["score"] is None
    assert [(row["line"], row["reason"]) for row in done.skipped] == [
        (2, "contains half of a surrogate pair, which is not a character")
    ]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"], "image": [b"\xff\x00"]}), path)
    assert json.loads(import_file(home, path).rows[0]["source"])["image"] == "<2 bytes>"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\n", "No rows to import"),
        ("a.json", "[]", "No rows to import"),
        ("a.jsonl", '{"text": \n{"text": \n', r"None of 2 rows .* the first at line 1\): broken JSON"),
        ("a.jsonl", '{"messages": []}\n{"messages": []}\n', "No column holds text"),
        ("a.csv", "question,answer\na,\nb,\n", r"None of 2 rows .*: answer is empty"),
        ("a.csv", b"", "is empty"),
    ],
)
def test_nothing_to_read_is_an_error_with_the_reason(
    home: Home, tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        import_file(home, write(tmp_path, name, content))
    assert caught.value.fix
    assert not leftovers(home)


def test_rows_that_all_fail_the_mapping(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}\n' * 3)
    with pytest.raises(
        DataError, match=r"None of 3 rows .*\(3 rows, the first at line 1\): no turn by the assis"
    ):
        import_file(home, path, format="messages")
    assert not leftovers(home)


def test_truncated_files_leave_nothing(home: Home, tmp_path: Path) -> None:
    rows = ",\n".join(json.dumps({"text": f"Row {n}", "label": "x"}) for n in range(5000))
    with pytest.raises(DataError, match="it ends in the middle"):
        import_file(home, write(tmp_path, "a.json", f"[{rows}"[:-5]))
    assert not leftovers(home)


def test_fields_that_can_not_be_are_named(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "question,answer\na,b\n")
    with pytest.raises(ConfigError, match="no column 'reply'"):
        import_file(home, path, format="question_answer", columns={"question": "question", "answer": "reply"})
    with pytest.raises(ConfigError, match="An instruction is only for texts with a label") as caught:
        import_file(home, path, instruction="Answer.")
    assert caught.value.field == "instruction"
    with pytest.raises(ConfigError, match="validation_size"):
        import_file(home, path, validation_size=3)


def test_cancel_leaves_nothing(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\n" + "Hello there,x\n" * 1000)
    job = make_job(home, "import", {"name": "a", "source": {"path": str(path)}})
    job.cancel_requested.set()
    with pytest.raises(JobCancelled):
        import_job.run(job)
    assert not leftovers(home)


def test_what_a_killed_attempt_left_is_replaced(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\nHello there,x\n")
    job = make_job(home, "import", {"name": "a", "source": {"path": str(path)}})
    (job.dir.temporary / "dataset").mkdir(parents=True)
    (job.dir.temporary / "dataset" / "rows.parquet").write_bytes(b"half")
    assert import_job.run(job)["row_count"] == 1
    assert not job.dir.temporary.exists()


def test_a_full_disk_is_named(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\n" + "".join(f"Hello {n},{n * n}\n" for n in range(50_000)))
    job = make_job(home, "import", {"name": "a", "source": {"path": str(path)}})
    code = (
        "import resource, signal, sys\n"
        "from engine.worker.job import WorkerJob\nfrom engine.data import import_job\n"
        "from store.core.errors import DataError\n"
        "job = WorkerJob(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n    import_job.run(job)\nexcept DataError as error:\n    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(job.dir.path)], capture_output=True, text=True, check=False
    )
    assert "disk" in done.stdout, done.stderr
    assert "is full" in done.stdout
    assert not leftovers(home)


def test_progress_is_told_in_bytes(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("engine.worker.progress.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(source_files, "HEAD", 10_000)
    monkeypatch.setattr(source_files, "CHUNK", 10_000)
    path = write(tmp_path, "a.csv", "text,label\n" + "Hello there,x\n" * 10_000)
    done = import_file(home, path)
    progress = [event for event in done.events if event["type"] == "progress"]
    assert progress[-1]["unit"] == "bytes"
    assert progress[-1]["total"] == path.stat().st_size
    assert [event["done"] for event in progress] == sorted(event["done"] for event in progress)
    assert progress[-1]["eta_seconds"] is not None


def test_equal_texts_have_equal_digests() -> None:
    assert (
        hash_folded_text("Ｃafé\t  NOIR ")
        == hash_folded_text("Café noir")
        == hash_folded_text("cafe\u0301 noir")
    )
    assert hash_folded_text("one") != hash_folded_text("two")
    assert np.frombuffer(hash_folded_text("one"), "<u8").shape == (1,)


ROW = st.one_of(
    st.fixed_dictionaries({"question": st.text(max_size=5), "answer": st.text(max_size=5)}).map(json.dumps),
    st.sampled_from(
        ['{"question": "q"}', '{"question": 1, "answer": null}', "[]", "{", "nonsense", '{"a": {}}']
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=30))
def test_rows_read_and_rows_skipped_are_the_rows_of_the_file(
    home: Home, tmp_path: Path, rows: list[str]
) -> None:
    lines = ['{"question": "first", "answer": "one"}', *rows]
    done = import_file(home, write(tmp_path, "a.jsonl", "\n".join(lines)))
    line_numbers = [row["line"] for row in done.rows] + [row["line"] for row in done.skipped]
    assert sorted(line_numbers) == list(range(1, len(lines) + 1))
    assert all(row["reason"] for row in done.skipped)
