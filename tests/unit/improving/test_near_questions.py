"""Questions compared by blocks: the same pairs as by whole products, in a fixed part of the memory."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from bench.detection import reworded as bench
from engine.data.similarity.text_overlap import TrigramProducts, TrigramWeights
from engine.retraining import paraphrases as blocks
from engine.retraining.paraphrases import (
    SAME_ANSWER,
    AnsweredQuestions,
    QuestionPairs,
    find_repeated,
    find_similar_questions,
)
from tests.unit.data_job import silent
from tests.unit.measured import WORDS

MONTHS = ("January", "March", "May", "July")


class Stop(Exception):
    """Somebody asked for it."""


def made_up(count: int, seed: int) -> list[str]:
    """Questions of rare words in a template that all share, with copies and slips of the keys among them, an
    empty one, and some of a template of which hundreds are alike."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        words = [f"{draw.choice(WORDS)}{draw.choice(WORDS)}" for _ in range(draw.randint(2, 9))]
        texts.append(f"Tell me please, what is the {' of the '.join(words)}?")
        if number % 7 == 0:
            texts.append(draw.choice(texts))
        if number % 5 == 0:
            texts.append(texts[-1].replace("a", "e", 2))
    texts += [f"On which weekday was {day} {month} 1984?" for day in range(28) for month in MONTHS]
    draw.shuffle(texts)
    return ["", *texts]


def of_documentation(count: int, seed: int) -> list[str]:
    """What real questions look like, a third of them copied and changed."""
    rows = [row.question for row in bench.made(2 * count)]
    return rows[:count] if seed % 2 else rows[count:]


def as_pairs(pairs: QuestionPairs) -> dict[tuple[int, int], tuple[float, float]]:
    places = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    cosines = zip(pairs.trigrams.tolist(), pairs.meaning.tolist(), strict=True)
    return dict(zip(places, cosines, strict=True))


@pytest.mark.parametrize("texts", [made_up, of_documentation])
@pytest.mark.parametrize("size", [2**12, 2**16, 2**23])
def test_blocks_give_the_pairs_of_whole_products(
    monkeypatch: pytest.MonkeyPatch, texts: Any, size: int
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    new, held = texts(300, 1), texts(400, 2)
    plain = as_pairs(bench.straightforward(new, held))
    ours = as_pairs(find_similar_questions(new, held, SAME_ANSWER, silent))
    assert len(plain) > 50
    assert ours.keys() == plain.keys()
    assert np.allclose([ours[pair] for pair in plain], list(plain.values()), atol=1e-5)


def test_of_many_that_are_alike_the_nearest_are_taken() -> None:
    """More than `NEAREST` of a row reach what is asked: and the largest are chosen, by either."""
    new, held = made_up(20, 1), made_up(20, 2)
    pairs = find_similar_questions(new, held, SAME_ANSWER, silent)
    crowded = np.bincount(pairs.first, minlength=len(new))
    assert crowded.max() > blocks.NEAREST
    assert crowded.max() < len(MONTHS) * 28
    assert as_pairs(pairs).keys() == as_pairs(bench.straightforward(new, held)).keys()


def test_none_is_its_own_pair_and_each_has_the_others() -> None:
    texts = made_up(80, 3)
    pairs = find_similar_questions(texts, texts, SAME_ANSWER, silent, itself=True)
    plain = as_pairs(bench.straightforward(texts, texts))
    assert as_pairs(pairs).keys() == {pair for pair in plain if pair[0] != pair[1]}
    assert len(pairs.first)


@pytest.mark.parametrize("count", [1, 3])
def test_few_held_out_rows_are_all_looked_at(count: int) -> None:
    held = ["Where does the heron of lake Oro nest?", "How is steel made?", ""][:count]
    pairs = find_similar_questions(["Where nests the heron of lake Oro?"], held, SAME_ANSWER, silent)
    assert as_pairs(pairs).keys() == {(0, 0)}


def test_products_are_those_of_all_trigrams_whichever_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = TrigramWeights([*made_up(60, 4), *of_documentation(60, 5)]).rows
    first, second = weights[:70], weights[70:]
    whole = (first @ second.T).toarray()
    for share, most in ((1 / 256, 512), (0.0, 40), (2.0, 512)):
        monkeypatch.setattr("engine.data.similarity.text_overlap.DENSE_SHARE", share)
        monkeypatch.setattr("engine.data.similarity.text_overlap.MAX_DENSE", most)
        products = TrigramProducts(first, second)
        parts = [products.block(begin, begin + 32) for begin in range(0, 70, 32)]
        assert np.allclose(np.concatenate(parts), whole, atol=1e-6)


def test_a_block_takes_a_fixed_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    block = TrigramProducts.block

    def watched(self: TrigramProducts, begin: int, end: int) -> np.ndarray:
        cosines = block(self, begin, end)
        sizes.append(cosines.nbytes)
        return cosines

    monkeypatch.setattr(TrigramProducts, "block", watched)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**16)
    texts = made_up(400, 6)
    find_similar_questions(texts, texts[:200], SAME_ANSWER, silent)
    assert max(sizes) <= 2**16
    assert len(sizes) > 5


@pytest.mark.parametrize("unit", ["answers", "questions"])
def test_it_tells_how_far_it_is_and_stops_when_asked(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    monkeypatch.setattr(blocks, "MAX_ROWS", 20)
    monkeypatch.setattr("engine.retraining.paraphrases.STEP", 20)
    texts = made_up(60, 7)
    rows = AnsweredQuestions(texts, [f"it is {text}" for text in texts], np.zeros(len(texts), bool))
    steps_of: list[tuple[float, float, str]] = []

    def progress(done: float, total: float, unit: str = "rows", message: str = "") -> None:
        steps_of.append((done, total, unit))

    find_repeated(rows, rows, (), progress)
    steps = [(done, total) for done, total, of in steps_of if of == unit]
    assert len({total for _, total in steps}) == 1
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert len(steps) > 5

    def stopping(done: float, total: float, unit_now: str = "rows", message: str = "") -> None:
        steps_of.append((done, total, unit_now))
        if unit_now == unit and done >= 40:
            raise Stop

    steps_of.clear()
    with pytest.raises(Stop):
        find_repeated(rows, rows, (), stopping)
    assert steps_of[-1] == (40, steps[0][1], unit)
