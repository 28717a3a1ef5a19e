"""Pairs of answers as rows: which tokens count, what is cut, which pairs are left out with what reason."""

from __future__ import annotations

import numpy as np

from engine.models.tokenization.rendering import REASONS, render
from engine.models.tokenization.tokenized_rows import TokenPairs, join_pairs
from tests.tiny import make_tokenizer

TOKENIZER = make_tokenizer()


def pairs(*examples: tuple[list[str], str]) -> TokenPairs:
    """Each pair given as turns (user first) that end in the chosen answer, and the rejected one."""
    roles = ("user", "assistant")
    rows = [
        [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)] for turns, _ in examples
    ]
    worse = [
        [*row[:-1], {"role": "assistant", "content": answer}]
        for row, (_, answer) in zip(rows, examples, strict=True)
    ]
    ids = range(len(rows))
    return join_pairs(render(TOKENIZER, ids, rows), render(TOKENIZER, ids, worse))


def trained(pairs: TokenPairs, index: int) -> list[str]:
    """The trained text of both sequences of a pair."""
    texts = []
    for rows in (pairs.chosen, pairs.rejected):
        ids, flags = rows.row(index)
        texts.append(TOKENIZER.decode(ids[flags]))
    return texts


def test_only_the_last_answers_are_trained() -> None:
    made = pairs((["q", "first", "again", "good"], "bad one"), (["q", "yes"], "no"))
    assert trained(made, 0) == ["good<|im_end|>", "bad one<|im_end|>"]
    assert trained(made, 1) == ["yes<|im_end|>", "no<|im_end|>"]
    assert made.lengths.tolist() == (made.chosen.lengths + made.rejected.lengths).tolist()


def test_taking_keeps_both_answers_together() -> None:
    made = pairs((["a", "yes"], "no"), (["bb", "left"], "right"), (["c", "up"], "down"))
    some = made.take(np.array([2, 1]))
    assert some.row_ids.tolist() == [2, 1]
    assert [trained(some, i)[1] for i in range(2)] == ["down<|im_end|>", "right<|im_end|>"]
    assert made.select([1]).chosen.row(0)[0].tolist() == made.chosen.row(1)[0].tolist()


def test_equal_and_unanswered_pairs_are_left_out_with_their_reason() -> None:
    made = pairs((["a", "yes"], "yes"), (["b", "yes"], "no"))
    assert made.reason_counts == {"the chosen and the rejected answer are the same": 1}
    assert (made.trained_counts > 0).tolist() == [False, True]
    lonely = [[{"role": "user", "content": "a"}]]
    answered = [[*lonely[0], {"role": "assistant", "content": "b"}]]
    for chosen, rejected in ((lonely, answered), (answered, lonely)):
        made = join_pairs(render(TOKENIZER, [0], chosen), render(TOKENIZER, [0], rejected))
        assert made.reason_counts == {"the row has no assistant turn": 1}
        assert not made.trained.any()


def test_cutting_counts_pairs_and_leaves_out_those_that_lose_an_answer_or_their_difference() -> None:
    made = pairs(
        (["q", "same start, good"], "same start, bad"), (["q", "y"], "n" * 60), (["q" * 50, "y"], "n")
    )
    prompt = int(np.flatnonzero(made.chosen.row(0)[1])[0])
    cut, count, lost = made.truncated(prompt + 10)
    assert count == 3
    assert cut.sequence_lengths.max() == prompt + 10
    assert cut.reason_counts == {REASONS[5]: 1, REASONS[6]: 1}
    assert trained(cut, 1) == ["y<|im_end|>", "n" * 10]
    assert lost == int(made.trained.sum()) - int(cut.trained.sum())
    whole, count, lost = made.truncated(1_000)
    assert (count, lost) == (0, 0)
    assert whole.splits.tolist() == made.splits.tolist()


def test_a_part_without_pairs() -> None:
    none = pairs((["q", "yes"], "no")).take(np.zeros(0, np.int64))
    cut, count, lost = none.truncated(8)
    assert (len(cut), count, lost, cut.reason_counts) == (0, 0, 0, {})
