"""The bench of cut-off answers: it cuts what it says, and counts what the signal finds."""

from __future__ import annotations

import random

import pytest

from bench.detection.cut_off import Counts, count, cut_off, line

SENTENCES = [f"The {n}th of the trains leaves at {n % 24} and is there by noon or {n}." for n in range(400)]


def test_a_cut_text_is_a_beginning_and_never_all_of_it() -> None:
    draw = random.Random(3)
    for text in [*SENTENCES, "a b", "abcdef", "one  two\nthree four"]:
        for _ in range(5):
            cut = cut_off(text, draw)
            assert text.startswith(cut)
            assert 0 < len(cut) < len(text)


@pytest.mark.parametrize("seed", [7, 8])
def test_most_are_found_where_sentences_close_and_no_whole_one_is(seed: int) -> None:
    counts = count([*SENTENCES, "too short", ""], 0.2, seed)
    assert counts.cut + counts.whole == len(SENTENCES)
    assert 50 < counts.cut < 110
    assert counts.detected > 0.7 * counts.cut
    assert counts.alarms == 0
    assert counts.habit.startswith("closed")


def test_few_are_found_where_they_do_not() -> None:
    counts = count([text.rstrip(".") for text in SENTENCES], 0.2, 7)
    assert counts.detected < 0.5 * counts.cut
    assert counts.alarms == 0


def test_a_line_carries_intervals_and_n() -> None:
    assert line("set", Counts(50, 40, 0, 0, "open")) == "| set | 50 | 80% (67% to 89%) | 0 | none | open |"
