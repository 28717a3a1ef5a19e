"""Tokens and difficulty of odd rows: nothing that can be seen, very long, one alone, each kind of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.data import measurement_job
from store.core.errors import DataError
from store.core.home import Home
from tests.tiny import write_model
from tests.unit.data_job import make_job, read
from tests.unit.recipe_samples import make

LONG = "The quick brown fox jumps over the lazy dog. " * 4_000
PAIRS = [
    {"prompt": "q1", "completion": "\u200b"},
    {"prompt": "q2", "completion": "\u00ad \u2060"},
    {"prompt": "q3", "completion": "\ufeff"},
    {"prompt": "\u200b", "completion": "."},
]
ROWS: dict[str, list[dict[str, Any]]] = {
    "unseen": PAIRS,
    "one": [{"prompt": "q", "completion": "a"}],
    "long answer": [{"prompt": "q", "completion": LONG}, {"prompt": "q", "completion": "a"}],
    "long question": [{"prompt": LONG, "completion": "a"}],
    "long word": [{"prompt": "q", "completion": "a" * 100_000}],
    "preference": [
        {"prompt": f"q{n}", "chosen": "a", "rejected": text} for n, text in enumerate(("b", ".", LONG))
    ],
    "turns": [
        {
            "messages": [
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "\u200b"},
                {"role": "user", "content": "v"},
                {"role": "assistant", "content": "b"},
            ]
        }
    ],
}
TEXTS = [{"text": "hello world"}, {"text": "x"}, {"text": ".\n "}, {"text": "\u200b"}, {"text": LONG}]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    return home


def measured(home: Home, rows: list[dict[str, Any]], group: str, **more: Any) -> tuple[list[Any], Any]:
    dataset = make(home, rows)
    job = make_job(home, "profile", {"dataset": "Old", "group": group, "model": "tiny", **more})
    job.spec |= {"dataset": dataset, "parent": None, "mixed": {}}
    job.device = "cpu"
    result = measurement_job.run(job)
    return read(job.dir.path / f"{group}.parquet"), result["figures"]


@pytest.mark.parametrize(
    ("name", "length"), [*((name, None) for name in [*ROWS, "text"]), ("unseen", 8), ("text", 8)]
)
def test_tokens(home: Home, name: str, length: int | None) -> None:
    rows = ROWS.get(name, TEXTS)
    measured_rows, _ = measured(home, rows, "tokens", max_length=length)
    assert len(measured_rows) == len(rows)
    for row in measured_rows:
        assert 0 < row["trained_tokens"] <= row["tokens"]
        assert row["lost_tokens"] <= row["trained_tokens"]
        assert row["cut"] == (row["tokens"] > (length or 256))


@pytest.mark.parametrize("name", ROWS)
def test_difficulty(home: Home, name: str) -> None:
    measured_rows, figures = measured(home, ROWS[name], "difficulty")
    missing = [row["row_id"] for row in measured_rows if row["ifd"] is None]
    assert missing == ([0] if name == "long question" else [])
    assert figures["set.unmeasured"]["value"] == len(missing)
    assert all(0 < row["answer_loss"] < 20 for row in measured_rows if row["ifd"] is not None)


def test_difficulty_of_plain_texts_is_refused(home: Home) -> None:
    with pytest.raises(DataError, match="Plain texts have no prompt and no answer"):
        measured(home, TEXTS, "difficulty")
