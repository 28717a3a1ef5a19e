"""What people's labels come to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.diagnostics.rating.raters.alpha import alpha
from engine.diagnostics.rating.raters.label_figures import ServedLabel, label_figures
from engine.diagnostics.rating.words.label_words import label_sentences, version_line
from engine.diagnostics.statistics.statistics import wilson_interval


def task(item_id: int, label: str | None, person: str = "bob", **changed: Any) -> Any:
    return {
        "task_id": f"{person}-{item_id}", "item_id": item_id, "person_id": person, "person_name": person,
        "systems": [0], "purpose": "first", "repeat_of": None, "answer": {"label": label, "note": ""},
    } | changed  # fmt: skip


def test_a_version_is_judged_by_the_random_texts_alone() -> None:
    tasks = [task(n, "a" if n < 15 else "b") for n in range(40)]
    tasks.append(task(40, None))
    served = [ServedLabel(n, "m@1", "a", random=n < 20) for n in range(41)]
    figures = label_figures(tasks, served)
    (accuracy,) = figures.accuracy
    expected = wilson_interval(15, 20)
    assert (accuracy.random.value, accuracy.random.low, accuracy.random.n) == (0.75, expected.low, 20)
    assert (accuracy.telling, accuracy.telling_right) == (21, 0)
    assert version_line(accuracy) == (
        "m@1 gave people's label to 75% (53 to 89%) of 20 texts drawn at random, and to 0 of 21 chosen"
        " because they are hard: no figure of all requests."
    )
    assert figures.counts == [("b", 25), ("a", 15), ("none of the labels", 1)]


def test_without_a_random_text_nothing_is_judged() -> None:
    figures = label_figures([task(0, "a")], [ServedLabel(0, "m@1", "a", random=False)])
    assert math.isnan(figures.accuracy[0].random.value)
    assert "can't be judged" in version_line(figures.accuracy[0])


def test_a_request_that_came_often_counts_as_often() -> None:
    tasks = [task(n, "a" if n % 2 else "b") for n in range(30)]
    served = [ServedLabel(n, "m@1", "a", True, times=3 if n % 2 else 1) for n in range(30)]
    (accuracy,) = label_figures(tasks, served).accuracy
    assert accuracy.random.value == pytest.approx(0.75)
    assert accuracy.random.low is not None
    assert accuracy.random.low < 0.75 < (accuracy.random.high or 0)


def test_ties_have_no_label_and_repeats_tell_of_their_rater() -> None:
    tasks = [
        *(task(n, "a") for n in range(4)),
        *(task(n, "b" if n == 0 else "a", "cleo") for n in range(4)),
        task(1, "b", "cleo", task_id="again", purpose="repeat", repeat_of="cleo-1"),
        task(2, "a", "cleo", task_id="more", purpose="repeat", repeat_of="cleo-2"),
        task(3, "b", "dan"),
        task(4, None, "dan", answer={"skipped": True, "reason": ""}),
        task(5, None, "dan", answer=None),
    ]
    figures = label_figures(tasks, [], left_out={"dan"})
    assert figures.disputed == [0]
    assert dict(figures.majority) == {1: "a", 2: "a", 3: "a"}
    assert (figures.same_again.value, figures.same_again.n) == (0.5, 2)
    assert (figures.ratings, figures.skipped) == (8, 0)
    assert label_figures(tasks, []).skipped == 1
    assert (
        label_sentences(label_figures([], [])).verdict[0].startswith("Everything in this round was skipped")
    )


def test_nominal_alpha_of_many_labels_is_that_of_its_definition() -> None:
    random = np.random.default_rng(0)
    item, labels = np.repeat(np.arange(300), 2), random.integers(0, 200, 600)
    labels[1::2] = np.where(random.random(300) < 0.6, labels[::2], labels[1::2])
    observed = float(np.mean(labels[::2] != labels[1::2]))
    shares = np.bincount(labels) / 600
    expected = (1 - float(np.square(shares).sum())) * 600 / 599
    got = alpha([f"label {value}" for value in labels], item).interval
    assert got.value == pytest.approx(1 - observed / expected, abs=1e-9)
    assert got.low is not None
    assert 0.5 < got.low < got.value < (got.high or 0) < 0.7
