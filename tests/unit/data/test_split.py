"""Splits: sizes, duplicates on one side, independence of order, and parts that would be empty."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.similarity.equality import group_equal, merge_groups
from engine.data.split.partition import (
    assign_splits,
    check_parts,
    compute_target_sizes,
    count_parts,
    describe_deviations,
    select_by_hash,
)
from store.core.errors import ConfigError, NotFoundError
from store.core.home import Home
from store.data.dataset_files import load_rows
from store.training.split import Split
from tests.unit.data_job import ask, import_file

TRAIN, VALIDATION, TEST = range(3)  # codes of the parts


def split(seed: int = 0, validation: float = 0.1, test: float = 0.1) -> Split:
    return Split(split_seed=seed, validation_size=validation, test_size=test)


def texts(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


@pytest.mark.parametrize(
    ("rows", "shares", "sizes"),
    [
        (2, (0.1, 0.1), (0, 0)),
        (3, (0.1, 0.1), (1, 1)),
        (20, (0.1, 0.1), (2, 2)),
        (40, (0.5, 0.5), (10, 10)),
        (50, (0.1, 0.1), (12, 12)),
        (100, (0.1, 0.0), (50, 0)),
        (600, (0.1, 0.1), (60, 60)),
        (600, (0.01, 0.1), (6, 60)),
        (200, (0.2, 0.2), (40, 40)),  # what somebody chose is kept
        (200, (0.1, 0.2), (50, 40)),
        (60, (0.1, 0.4), (6, 24)),  # also where the least of the other part would leave less
        (60, (0.2, 0.1), (12, 18)),
        (60, (0.1, 0.5), (5, 25)),
        (100, (0.1, 0.1), (25, 25)),
        (22_500, (0.1, 0.2), (2_250, 4_500)),
        (1_000_000, (0.1, 0.1), (100_000, 100_000)),
    ],
)
def test_sizes(rows: int, shares: tuple[float, float], sizes: tuple[int, int]) -> None:
    assert compute_target_sizes(rows, split(0, *shares)) == sizes
    if sizes != (0, 0):
        part_rows = count_parts(assign_splits(texts(rows), split(0, *shares)))
        assert (part_rows["validation"], part_rows["test"]) == sizes
        assert sum(part_rows.values()) == rows


SHARE = st.floats(0, 0.5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.integers(0, 2**31 - 1), SHARE, SHARE)
def test_equal_texts_share_a_side_in_any_order(groups: list[int], seed: int, low: float, high: float) -> None:
    digests = np.asarray(groups, dtype=np.uint64)
    how = split(seed, low, high)
    codes = assign_splits(digests, how)
    side = {}
    for digest, code in zip(groups, codes, strict=True):
        assert side.setdefault(digest, code) == code
    assert [side[digest] for digest in reversed(groups)] == assign_splits(digests[::-1], how).tolist()
    validation, test = compute_target_sizes(len(groups), how)
    assert np.count_nonzero(codes == 1) <= validation
    assert np.count_nonzero(codes == 2) <= test


def test_another_seed_deals_other_rows() -> None:
    digests = texts(1000)
    first, second = assign_splits(digests, split(0)), assign_splits(digests, split(1))
    both = np.count_nonzero((first == TEST) & (second == TEST))
    assert 0 < both < 40  # 100 of 1000 each: 10 by chance


def test_rows_that_are_added_leave_the_others_where_they_are() -> None:
    digests = texts(2000)
    before, after = assign_splits(digests[:1000], split()), assign_splits(digests, split())[:1000]
    assert not np.any((before == VALIDATION) & (after == TEST))
    assert not np.any((before == TEST) & (after == VALIDATION))
    stayed = np.count_nonzero((before == after) & (before != TRAIN))
    assert stayed >= 0.9 * np.count_nonzero(before != TRAIN)


@pytest.mark.parametrize(
    ("digests", "how", "field"),
    [
        (texts(2), split(), "validation_size"),
        (texts(2), split(validation=0), "test_size"),
        (np.zeros(100, dtype=np.uint64), split(), "validation_size"),
        (np.asarray([], dtype=np.uint64), split(validation=0, test=0), "validation_size"),
    ],
)
def test_a_part_without_rows_is_refused_by_name(digests: np.ndarray, how: Split, field: str) -> None:
    with pytest.raises(ConfigError, match=f"0 of {len(digests)} rows") as caught:
        check_parts(count_parts(assign_splits(digests, how)), how)
    assert caught.value.field == field
    assert caught.value.fix


def test_no_held_out_rows_where_none_are_asked_for() -> None:
    part_rows = count_parts(assign_splits(texts(10), split(validation=0, test=0)))
    assert part_rows == {"train": 10, "validation": 0, "test": 0}
    check_parts(part_rows, split(validation=0, test=0))


def test_the_ask_counts_rows_and_what_duplicates_pulled_along(home: Home, tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"Text {n % 90},x\n" for n in range(100)))
    fingerprint = import_file(home, path).result["fingerprint"]
    answer = ask(home, "split", fingerprint=fingerprint, split={"validation_size": 0.2, "test_size": 0})
    rows = {"train": 80, "validation": 20, "test": 0}
    nothing = {"leaking": [], "leaking_rows": 0, "problems": []}
    assert answer == {"rows": rows, "kept_together": 10, "kept": ["text"], **nothing}
    answer = ask(home, "split", fingerprint=fingerprint, split={"validation_size": 0.1, "test_size": 0})
    (problem,) = answer["problems"]
    assert problem["level"] == "info"
    assert problem["message"].startswith("10% of 100 rows would be 10; validation has 50")
    path.write_text("text,label\nText,x\nText,x\nText,x\n")
    fingerprint = import_file(home, path).result["fingerprint"]
    answer = ask(home, "split", fingerprint=fingerprint)
    assert answer["problems"][0]["field"] == "validation_size"
    assert answer["problems"][0]["level"] == "error"


def test_rows_are_loaded_in_the_order_that_is_asked_for(home: Home, tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"Text {n},x\n" for n in range(1000)))
    fingerprint = import_file(home, path).result["fingerprint"]
    rows = home.rows(fingerprint)
    pq.write_table(pq.read_table(rows), rows, row_group_size=64)  # so that groups are picked
    wanted = [999, 0, 64, 63, 500, 0]
    table = load_rows(home, fingerprint, columns=["row_id", "source"], row_ids=wanted)
    assert table["row_id"].to_pylist() == wanted
    assert table["source"][0].as_py() == '{"text": "Text 999", "label": "x"}'
    assert load_rows(home, fingerprint, row_ids=[]).num_rows == 0
    assert load_rows(home, fingerprint).num_rows == 1000
    with pytest.raises(NotFoundError, match="no row 1000"):
        load_rows(home, fingerprint, row_ids=[1000])
    with pytest.raises(NotFoundError, match="Import the file again"):
        load_rows(home, "0" * 32)


def by(way: str, seed: int = 0, validation: float = 0.1, test: float = 0.1) -> Split:
    column = None if way in ("random", "stratified") else "source.c"
    return Split(
        split_seed=seed, validation_size=validation, test_size=test, split_by=way, split_column=column
    )


def test_the_deal_of_a_seed_is_for_good() -> None:
    codes = assign_splits(np.random.default_rng(0).integers(0, 2**64, 400, dtype=np.uint64), split(5))
    assert np.flatnonzero(codes == 1)[:8].tolist() == [22, 30, 33, 35, 37, 49, 53, 57]
    assert np.flatnonzero(codes == 2)[:8].tolist() == [12, 14, 15, 44, 54, 56, 83, 100]


ROWS = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(0, 5)), min_size=1, max_size=200
)
WAYS = st.sampled_from(["random", "group", "time", "stratified"])


@settings(deadline=None)
@given(ROWS, WAYS, st.integers(0, 2**31 - 1), SHARE, SHARE)
def test_what_belongs_together_is_never_parted(
    rows: list[tuple[int, int, int]], way: str, seed: int, low: float, high: float
) -> None:
    texts, links, values = (np.asarray(column) for column in zip(*rows, strict=True))
    digests = texts.astype(np.uint64)
    groups = merge_groups(group_equal(digests), np.arange(len(rows)), group_equal(links))
    how = by(way, seed, low, high)
    codes = assign_splits(digests, how, groups, values)
    for column in (texts, links):
        assert all(len(set(codes[column == value])) == 1 for value in set(column.tolist()))
    back = np.arange(len(rows))[::-1]
    mirrored = assign_splits(digests[back], how, group_equal(groups[back]), values[back])
    assert np.array_equal(mirrored[back], codes)
    validation, test = compute_target_sizes(len(rows), how)
    if way in ("random", "stratified"):
        assert np.count_nonzero(codes == 1) <= validation
        assert np.count_nonzero(codes == 2) <= test
    if way == "time":
        oldest = {group: values[groups == group].min() for group in set(groups.tolist())}
        times = np.asarray([oldest[group] for group in groups])
        for older, newer in ((0, 1), (1, 2), (0, 2)):
            if (codes == older).any() and (codes == newer).any():
                assert times[codes == older].max() < times[codes == newer].min()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(20, 400), min_size=1, max_size=6), st.integers(0, 1000), st.sampled_from([0.1, 0.3])
)
def test_strata_keep_their_shares(sizes: list[int], seed: int, share: float) -> None:
    values = np.repeat(np.arange(len(sizes)), sizes)
    how = by("stratified", seed, share, share)
    codes = assign_splits(texts(len(values), seed), how, None, values)
    for code, wanted in (
        (1, compute_target_sizes(len(values), how)[0]),
        (2, compute_target_sizes(len(values), how)[1]),
    ):
        assert np.count_nonzero(codes == code) == wanted
        for value, size in enumerate(sizes):
            given_ = np.count_nonzero((codes == code) & (values == value))
            assert abs(given_ - wanted * size / len(values)) < 1


def test_few_large_groups_still_give_every_part_one() -> None:
    groups = np.repeat(np.arange(5), 1000)
    codes = assign_splits(texts(5000), by("group"), groups)
    assert count_parts(codes) == {"train": 3000, "validation": 1000, "test": 1000}
    single_group = assign_splits(texts(100), by("group"), np.zeros(100, dtype=np.int64))
    assert count_parts(single_group)["train"] == 100


def test_a_part_that_is_not_its_share_says_why() -> None:
    def reasons(rows: int, *shares: float) -> list[str]:
        how = split(0, *shares)
        return describe_deviations(count_parts(assign_splits(texts(rows), how)), how)

    assert reasons(22_500, 0.1, 0.2) == []
    assert reasons(600, 0.025, 0.2) == []
    assert reasons(60, 0.1, 0.0) == [
        "10% of 60 rows would be 6; validation has 30: a part of the usual 10% has 50 rows at least, where"
        " the other part's share and half of all for training leave them; another share is kept."
    ]
    how = split(0, 0.1, 0.1)
    assert "can't be parted" in describe_deviations({"train": 900, "validation": 100, "test": 0}, how)[0]
    as_given = Split(split_by="given", validation_size=0.1, test_size=0.1)
    assert not describe_deviations({"train": 200, "validation": 40, "test": 60}, as_given)


def test_what_is_drawn_hangs_on_the_rows_and_not_on_the_others() -> None:
    digests = texts(2_000)
    every = np.arange(2_000)
    small = np.sort(np.random.default_rng(3).choice(every, 700, replace=False))
    drawn = select_by_hash(digests, every, 400, 0)
    of_small = select_by_hash(digests, small, 150, 0)
    both = set(drawn.tolist()) & set(small.tolist())
    assert both <= set(of_small.tolist()) or set(of_small.tolist()) <= both
    assert set(select_by_hash(digests, every, 400, 1).tolist()) != set(drawn.tolist())
    parts = [np.flatnonzero(assign_splits(digests, split(test=size)) == 2) for size in (0.1, 0.2)]
    first = [select_by_hash(digests, part, 60, 0).tolist() for part in parts]
    assert first[0] == first[1]  # of parts of different sizes too


def test_copies_of_one_text_are_not_drawn_together() -> None:
    digests = np.concatenate([np.zeros(500, np.uint64), texts(500)])
    drawn = select_by_hash(digests, np.arange(1_000), 100, 0)
    assert 35 <= (drawn < 500).sum() <= 65
