"""Label errors that were planted are found, and what can't be judged says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.data.signals import label_signals
from engine.data.signals.label_signals import FOLDS, assign_folds
from store.core.errors import DataError
from store.core.home import Home
from store.data.config import ProfileConfig
from tests.unit.data_job import import_file, make_job, silent
from tests.unit.measured import themed


def measured(tmp_path: Path, rows: list[tuple[str, str]]) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    tmp_path.mkdir(exist_ok=True)
    home = Home(tmp_path / "home").create()
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    columns = {"text": "text", "label": "label"}
    result = import_file(home, file, format="text_label", columns=columns).result
    config = ProfileConfig(dataset="rows", group="labels")
    return label_signals.compute(
        make_job(home, "profile", {}), config, home.rows(result["fingerprint"]), silent
    )


def test_planted_errors_rank_above_the_rest(tmp_path: Path) -> None:
    texts, theme = themed(240)
    given = theme.copy()
    wrong = np.random.default_rng(1).choice(240, 12, replace=False)
    given[wrong] = (given[wrong] + 1) % 3
    names = ["cooking", "space", "banking"]
    table, figures = measured(tmp_path, [(t, names[g]) for t, g in zip(texts, given, strict=True)])
    first = np.argsort(table["label_rank"].to_numpy())[:12]
    assert set(first) == set(wrong)
    suspects = np.flatnonzero(table["label_suspect"].to_numpy(zero_copy_only=False))
    assert set(suspects) == set(wrong)
    assert [table["label_suggested"][int(i)].as_py() for i in wrong] == [names[t] for t in theme[wrong]]
    assert figures["confused"]["n"] == figures["confused"]["value"] == 12
    assert sum(count for *_, count in figures["confused"]["pairs"]) == 12
    assert figures["accuracy"]["n"] == 240
    assert figures["accuracy"]["value"] == pytest.approx(1 - 12 / 240, abs=0.02)


def test_rare_labels_are_null_and_counted(tmp_path: Path) -> None:
    texts, theme = themed(90)
    rows = [(text, f"theme {t}") for text, t in zip(texts, theme, strict=True)]
    rows += [("bake a cake", "rare")] * 7 + [("an orbit", "rarer")]  # seven rows, but one text
    table, figures = measured(tmp_path, rows)
    for column in ("label_confidence", "label_suggested", "label_suspect", "label_rank"):
        assert table[column].null_count == 8
        assert table[column].slice(90).null_count == 8
    assert figures["unjudged"]["value"] == 8
    assert figures["unjudged"]["rare_labels"] == 2
    assert sorted(figures["unjudged"]["examples"]) == ["rare", "rarer"]
    assert sorted(table["label_rank"].drop_null().to_pylist()) == list(range(1, 91))


def test_equal_texts_lie_in_one_fold_and_every_label_in_all() -> None:
    texts = np.repeat(np.arange(100), 3)
    given = np.repeat(np.arange(100) % 4, 3)
    fold = assign_folds(texts, given)
    assert all(len(set(fold[texts == text])) == 1 for text in range(100))
    for label in range(4):
        assert np.bincount(fold[given == label], minlength=FOLDS).tolist() == [15] * 5


def test_one_label_none_or_only_rare_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="same label 'a'"):
        measured(tmp_path / "1", [(f"text {i}", "a") for i in range(20)])
    with pytest.raises(DataError, match="Of 10 labels 0 have the 5 different texts"):
        measured(tmp_path / "2", [(f"text {i}", f"label {i}") for i in range(10)])
    home = Home(tmp_path / "home").create()
    file = tmp_path / "rows.txt"
    file.write_text("one\ntwo\n")
    path = home.rows(import_file(home, file).result["fingerprint"])
    with pytest.raises(DataError, match="no labels"):
        label_signals.compute(
            make_job(home, "profile", {}), ProfileConfig(dataset="rows", group="labels"), path, silent
        )
