"""The order of rows and the tensors of a batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.models.batching import (
    batch_by_length,
    build_epoch_steps,
    collate,
    count_steps_per_epoch,
    find_largest_micro_batch,
    split_into_micro_batches,
)
from engine.models.tokenization.rendering import render
from engine.training.training_loop import TrainingState, choose_evaluation_steps
from store.training.train_config import TrainConfig
from tests.tiny import conversations, make_tokenizer

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 9), st.integers(1, 4))


@given(SIZES)
def test_every_row_is_in_exactly_one_micro_batch(sizes: tuple[int, int, int]) -> None:
    rows, batch_size, accumulation = sizes
    lengths = np.random.default_rng(0).integers(1, 50, rows)
    steps = build_epoch_steps(lengths, seed=1, epoch=0, batch_size=batch_size, accumulation=accumulation)
    assert sorted(np.concatenate([part for step in steps for part in step])) == list(range(rows))
    assert len(steps) == count_steps_per_epoch(rows, batch_size, accumulation)
    effective = batch_size * accumulation
    assert all(sum(map(len, step)) == effective for step in steps[:-1])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 100)

    def order(seed: int, epoch: int) -> list[int]:
        steps = build_epoch_steps(lengths, seed=seed, epoch=epoch, batch_size=4, accumulation=2)
        return [int(i) for step in steps for part in step for i in part]

    assert order(3, 1) == order(3, 1)
    assert order(3, 1) != order(3, 2)
    assert order(3, 1) != order(4, 1)


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1000)
    steps = build_epoch_steps(lengths, seed=0, epoch=0, batch_size=8, accumulation=2)
    padded = sum(lengths[part].max() * len(part) for step in steps for part in step)
    assert padded / lengths.sum() < 1.1
    means = [lengths[np.concatenate(step)].mean() for step in steps]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3  # no curriculum by length


def test_a_batch_holds_inputs_and_the_tokens_that_follow() -> None:
    rows = render(make_tokenizer(), [0, 1], conversations(2))
    batch = collate(rows, np.asarray([1, 0]))
    ids, trained = rows.row(1)
    last = int(np.flatnonzero(trained)[-1])
    assert batch.inputs[0, :last].tolist() == ids[:last].tolist()
    first = int(batch.picked[0].sum())
    assert batch.targets[:first].tolist() == ids[trained].tolist()
    assert len(batch.targets) == int(batch.picked.sum()) == rows.trained_counts.sum()
    assert batch.tokens == rows.lengths.sum()
    assert batch.inputs.dtype == torch.int64


def test_the_longest_rows_come_first_in_an_evaluation() -> None:
    assert [list(part) for part in batch_by_length(np.asarray([3, 9, 5]), 2)] == [[1, 2], [0]]


@pytest.mark.parametrize(
    ("steps", "evaluations", "expected"),
    [(100, 4, [25, 50, 75, 100]), (3, 10, [1, 2, 3]), (1, 1, [1]), (7, 2, [4, 7])],
)
def test_validations_are_evenly_spaced_and_end_the_run(
    steps: int, evaluations: int, expected: list[int]
) -> None:
    assert sorted(choose_evaluation_steps(steps, evaluations)) == expected


def test_patience_counts_validations_that_gain_too_little() -> None:
    config = TrainConfig(dataset="d", early_stopping_patience=2, early_stopping_threshold=0.01)
    state = TrainingState()
    losses = [(0, 5.0), (1, 4.0), (2, 3.98), (3, 3.9), (4, 3.89), (5, 3.88)]
    best = [state.record(step, loss, config) for step, loss in losses]
    assert best == [False, True, True, True, True, True]
    assert state.reason == "early_stopping"
    assert (state.best_step, state.reference_loss) == (5, 3.9)
    assert TrainingState.from_dict(state.to_dict()) == state


def test_of_equal_losses_the_first_step_is_the_best() -> None:
    state, config = TrainingState(), TrainConfig(dataset="d")
    stops = [state.record(step, 4.0 if step else 3.0, config) for step in range(4)]
    assert stops == [False, True, False, False]
    assert (state.best_step, state.best_loss) == (1, 4.0)


def test_without_early_stopping_the_run_goes_on() -> None:
    config = TrainConfig(dataset="d", early_stopping=False)
    state = TrainingState()
    for step in range(20):
        state.record(step, 1.0, config)
    assert state.reason == ""


@given(SIZES)
def test_pieces_hold_every_row_in_its_order_and_no_more_tokens_than_they_may(
    sizes: tuple[int, int, int],
) -> None:
    rows, most, parts = sizes[0], 30 * sizes[1], sizes[2]
    lengths = np.random.default_rng(rows).integers(1, 80, rows)
    step = [part for part in np.array_split(np.random.default_rng(0).permutation(rows), parts) if len(part)]
    micro_batches = split_into_micro_batches(step, lengths, most)
    assert np.concatenate(micro_batches).tolist() == np.concatenate(step).tolist()
    assert all(len(part) == 1 or lengths[part].sum() <= most for part in micro_batches)
    for part, after in itertools.pairwise(micro_batches):
        assert lengths[part].sum() + lengths[after[0]] > most  # none is cut without need


@pytest.mark.parametrize(
    ("lengths", "largest"),
    [
        ([100] * 20, [100] * 10),  # as many as fit
        ([3000, 10, 20], [3000]),  # a longer row is one alone
        ([600, 500, 300, 100], [600, 300, 100]),  # the next that still fits
        ([10] * 200, [10] * 16),  # a step has no more rows
    ],
)
def test_the_largest_piece_is_no_smaller_than_any_that_is_dealt(
    lengths: list[int], largest: list[int]
) -> None:
    config = TrainConfig(dataset="d", per_device_train_batch_size=4, gradient_accumulation_steps=4).resolved(
        100
    )
    given = np.asarray(lengths)
    assert given[find_largest_micro_batch(given, config, packed=True)].tolist() == largest
    assert (
        given[find_largest_micro_batch(given, config, packed=False)].tolist()
        == sorted(lengths, reverse=True)[:4]
    )
