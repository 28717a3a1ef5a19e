"""Figures of diversity against values worked out by hand."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest

from engine.data.signals import map_signals
from engine.data.signals.map_signals import compute_half_loss, self_bleu


def test_vendi_counts_identical_rows_as_one_and_orthogonal_rows_each() -> None:
    same = np.tile(np.eye(256, dtype=np.float32)[0], (50, 1))
    assert map_signals.vendi_score(same) == pytest.approx(1)
    assert map_signals.vendi_score(np.eye(256, dtype=np.float32)[:40] * 3) == pytest.approx(40)
    assert map_signals.vendi_score(np.eye(8, dtype=np.float32)[[0, 0, 1, 1] * 10]) == pytest.approx(2)
    assert map_signals.vendi_score(np.zeros((3, 8), np.float32)) == 0


def test_the_vendi_interval_holds_its_value_and_narrows_with_rows() -> None:
    random = np.random.default_rng(0)
    few, many = (map_signals.estimate_vendi(random.normal(size=(n, 16))) for n in (20, 1000))
    for figure in (few, many):
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]
    assert map_signals.estimate_vendi(random.normal(size=(3, 16)))["low"] is None


def test_distinct_n_by_hand() -> None:
    figures = map_signals.distinct_shares([["a", "b", "a", "b"], ["a", "b"]])
    assert figures["distinct_1"] == {"value": 2 / 6, "n": 6, "unit": "words"}
    assert figures["distinct_2"] == {"value": 2 / 4, "n": 4, "unit": "pairs"}  # ab ba ab, ab
    assert map_signals.distinct_shares([[]])["distinct_1"]["value"] is None


def test_distinct_n_is_taken_from_as_many_words_in_sets_of_any_size() -> None:
    random = np.random.default_rng(0)
    rows = [[f"w{i}" for i in random.integers(0, 3_000, 50)] for _ in range(4_000)]
    small, large = map_signals.distinct_shares(rows[:500]), map_signals.distinct_shares(rows)
    assert small["distinct_1"] == large["distinct_1"]
    assert large["distinct_1"]["n"] == map_signals.COUNTED_WORDS


def test_compression_is_that_of_gzip() -> None:
    texts = ["the same words again"] * 100
    raw = ("\n".join(texts) + "\n").encode()
    figure = map_signals.compression_ratio(texts)
    assert figure["value"] == len(gzip.compress(raw, 6)) / len(raw)
    assert (figure["n"], figure["bytes"]) == (100, len(raw))


def test_cluster_entropy_is_one_where_topics_are_even() -> None:
    assert map_signals.cluster_entropy(np.array([0, 1, 2, 3] * 5))["value"] == pytest.approx(1)
    by_hand = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert map_signals.cluster_entropy(np.array([0, 0, 0, 1]))["value"] == pytest.approx(by_hand)
    assert map_signals.cluster_entropy(np.zeros(4, int))["value"] is None


def test_top_template_is_a_share_of_all_rows() -> None:
    figure = map_signals.find_top_template(["a b c", "a b c", None, "x y z"])
    assert (figure["value"], figure["template"], figure["templates"]) == (0.5, "a b c", 2)
    assert map_signals.find_top_template([None])["value"] == 0


def test_self_bleu_of_equal_rows_is_one_and_of_unlike_rows_near_none() -> None:
    row = ["the", "cat", "sat", "on", "the", "mat"]
    assert self_bleu([row, row]) == pytest.approx(1)
    unlike = [[f"{letter}{i}" for i in range(8)] for letter in "abcdef"]
    value = self_bleu(unlike)
    assert value is not None
    assert value < 0.1
    assert self_bleu([row]) is None


def test_self_bleu_by_hand() -> None:
    """Five words against four of them: precisions 4/5, 3/4, 2/3, 1/2; and 1 with a brevity penalty."""
    first, second = ["a", "b", "c", "d", "e"], ["a", "b", "c", "d"]
    first_bleu = math.exp(sum(math.log(p) for p in (4 / 5, 3 / 4, 2 / 3, 1 / 2)) / 4)
    second_bleu = math.exp(1 - 5 / 4)
    assert self_bleu([first, second]) == pytest.approx((first_bleu + second_bleu) / 2)


def test_half_of_doubled_rows_loses_less_than_half_of_single_ones() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(100, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = [[f"w{i}", f"v{i}", f"u{i}"] for i in range(100)]
    topics = np.arange(100)
    single = compute_half_loss(vectors, topics, words)
    fourfold = compute_half_loss(np.repeat(vectors, 4, axis=0), np.repeat(topics, 4), words * 4)
    assert single["half_loss_topics"]["value"] == 0.5
    assert single["half_loss_pairs"]["value"] == pytest.approx(0.5)
    assert fourfold["half_loss_topics"]["value"] < 0.15  # 1/16 on average, without replacement
    assert fourfold["half_loss_pairs"]["value"] < 0.15
    assert 0 < single["half_loss"]["value"] < 0.5
    assert single["half_loss"]["low"] <= single["half_loss"]["value"] <= single["half_loss"]["high"]
    assert single["half_loss"]["repeats"] == 8
    assert compute_half_loss(vectors[:3], topics[:3], words[:3])["half_loss"]["value"] is None
