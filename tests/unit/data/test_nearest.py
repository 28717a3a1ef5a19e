"""The nearest rows in meaning, against all cosines worked out at once."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data import neighbour_rows as module
from engine.data.neighbour_rows import find_nearest


def drawn(rows: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[5] = 0  # a row without a word
    return vectors


def test_the_nearest_of_all_rows_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    vectors = drawn(50)
    cosines = vectors @ vectors[3]
    expected = [row for row in np.argsort(-cosines, kind="stable") if row != 3][:6]
    rows = find_nearest(vectors, 3, 6)
    assert [row for row, _ in rows] == expected
    assert np.allclose([cosine for _, cosine in rows], cosines[expected], atol=1e-6)


def test_equal_rows_come_in_their_order_and_first() -> None:
    vectors = drawn(20)
    vectors[[4, 9, 15]] = vectors[2]
    assert [row for row, _ in find_nearest(vectors, 2, 3)] == [4, 9, 15]


def test_a_row_without_a_word_and_a_lone_row_have_none() -> None:
    assert find_nearest(drawn(20), 5, 4) == []
    assert find_nearest(drawn(20)[:1], 0, 4) == []
    assert len(find_nearest(drawn(20)[:3], 0, 40)) == 2
