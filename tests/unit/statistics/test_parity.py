"""The divergence of two models, and what is said of an export by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import special

from bench.made.shapes.paired_scores import draw_parity
from engine.export.parity import parity_report
from engine.export.parity.__main__ import find_answer_prefix
from engine.export.parity.exchange import (
    ALPHA,
    LossTest,
    ParityAnswers,
    ParityQuestions,
    ParityTexts,
    compare_argmax,
    compute_kl,
    find_top_tokens,
    log_softmax,
)
from engine.export.parity.inspection import FileInspection
from engine.export.parity.reference import ReferenceAnswers
from store.core.export_schemas import ParityReport, RenderingParity
from store.export.forms import FORMS, NEAR, ParityLimits, count_rows_to_pass
from tests.unit.store_samples import row_of


def test_the_rest_counts_as_one_token_and_hardly_matters() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, (200, 5_000)).astype(np.float32)
    other = logits + draw.normal(0, 0.2, logits.shape).astype(np.float32)
    first, second = log_softmax(logits), log_softmax(other)
    np.testing.assert_allclose(first, special.log_softmax(logits, axis=1), atol=1e-4)
    p = np.exp(first.astype(np.float64))
    exact = (p * (first.astype(np.float64) - second)).sum(axis=1)
    own = find_top_tokens(first, 1_024)
    coarse = compute_kl(own, second)
    assert (coarse <= exact + 1e-6).all()
    whole = compute_kl(find_top_tokens(first, 5_000), second)
    np.testing.assert_allclose(whole, exact, atol=2e-6)
    assert coarse.mean() > 0.9 * exact.mean()  # noise everywhere is the worst case
    np.testing.assert_array_equal(compare_argmax(own, second), first.argmax(1) == second.argmax(1))
    assert compute_kl(own, first).max() < 1e-6
    peaked = log_softmax((logits * 3).astype(np.float32))
    near = log_softmax((other * 3).astype(np.float32))
    true = (np.exp(peaked.astype(np.float64)) * (peaked.astype(np.float64) - near)).sum(axis=1)
    assert compute_kl(find_top_tokens(peaked, 1_024), near).mean() == pytest.approx(true.mean(), rel=1e-3)


def test_what_another_model_holds_for_impossible_is_far_away() -> None:
    first = log_softmax(np.array([[9.0, 0, 0, 0]], np.float32))
    other = log_softmax(np.array([[-90.0, 0, 0, 0]], np.float32))
    assert compute_kl(find_top_tokens(first, 2), other)[0] > 50


def report(
    kl: float,
    right: float,
    *,
    rows: int = 200,
    seed: int = 0,
    limits: ParityLimits = NEAR,
    gaps: Any = None,
    causes: list[str] | None = None,
    exact: bool = False,
    **other: Any,
) -> ParityReport:
    """Of a made-up export: gamma divergences of rows that differ (or these gaps), favourites that agree by
    chance."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(10, 60, rows)
    of_row = gaps if gaps is not None else draw.gamma(1.5, kl / 1.5, rows)
    export = ParityAnswers(
        engine="made up",
        rendering=RenderingParity(
            prompts=rows, other_bytes=0, other_ids=0, doubled_bos=0, cut=0, example=None
        ),
        kl=[(of_row[i] * draw.exponential(1, n)).tolist() for i, n in enumerate(lengths)],
        same_best=[(draw.random(n) < right).tolist() for n in lengths],
        joined_kl=[], loss_sum=[], answers=[[1]] * rows, classes=[],
        tokens_per_second=1.0, rope_base=10_000.0, context=2_048, zeroed=[], not_finite=0, sure_after=None,
    )  # fmt: skip
    nothing = ParityTexts(ids=[], places=[])
    asked = row_of(ParityQuestions, drawn=rows, rope_base=10_000.0, answers=nothing, joined=nothing)
    own = row_of(ReferenceAnswers, asked=asked, answers=[[1]] * rows)
    seen = FileInspection(causes or [], exact=exact)
    return parity_report.build_report(
        own, replace(export, **other), limits, seen=seen, figures=[], held="", seconds=0.0
    )


def test_within_between_and_beyond_the_limits() -> None:
    assert report(0.01, 0.98).status == "passed"
    assert report(0.01, 0.98).reasons == []
    between = report(0.06, 0.98)
    assert between.status == "warned"
    assert "usual for this format: 0.03 nats a token" in between.reasons[0]
    beyond = report(0.3, 0.7)
    assert beyond.status == "failed"
    assert len(beyond.reasons) == 3
    assert "of 200 prompts with a very different response (KL above 1.00 nats" in beyond.reasons[2]
    assert "the limit of the format is 0.12 nats a token" in beyond.reasons[0]


def test_few_rows_are_never_a_pass() -> None:
    few = report(0.01, 1.0, rows=8)
    assert few.status == "untold"
    assert "inconclusive against the limit" in few.reasons[-2]
    assert few.reasons[-1].startswith("None of 8 prompts has a very different response, but up to 31.2%")
    assert count_rows_to_pass() == 149
    assert report(0.001, 1.0, rows=148).status == "untold"
    assert report(0.001, 1.0, rows=149).status == "passed"
    fewer = report(0.01, 0.98, rows=3)
    assert fewer.status == "untold"
    assert "3 rows are too few" in fewer.reasons[0]
    assert report(0.0, 1.0, rows=400, limits=FORMS["merged"].limits).status == "passed"


def test_a_prompt_of_which_no_divergence_can_be_told_is_answered_otherwise() -> None:
    for gap in (np.nan, np.inf):
        broken = report(0.0, 1.0, gaps=np.r_[gap, np.zeros(199)])
        assert broken.status != "passed"
        assert broken.reasons[-1].startswith("1 of 200 prompts with a very different response"), gap


@pytest.mark.parametrize(("broken", "status"), [(0, "untold"), (3, "warned"), (10, "failed")])
def test_more_prompts_answered_otherwise_than_few_are_a_failure_where_that_is_sure(
    broken: int, status: str
) -> None:
    """Of 100: that 3 are is no proof that more than 2% of all are. The mean can't be told from its limits."""
    lenient = ParityLimits((1.0, 2.0), NEAR.argmax, "")
    gaps = np.r_[np.full(broken, 20.0), np.zeros(100 - broken)]
    assert report(0.0, 1.0, rows=100, gaps=gaps, limits=lenient).status == status


@pytest.mark.parametrize("prompts", [16, 64, 200])
def test_an_export_that_destroys_some_prompts_hardly_ever_passes(prompts: int) -> None:
    """Of all prompts 2% are answered by 3 nats a token otherwise, and the others the same."""
    statuses = []
    for seed in range(100):
        drawn = draw_parity(np.random.default_rng(seed), prompts, 0.02)
        made = report(0.0, 1.0, rows=prompts, gaps=drawn.gaps)
        statuses.append(made.status)
    assert statuses.count("passed") <= 5


@pytest.mark.parametrize("form", ["merged", "gguf-q8_0", "gguf-q4_k_m"])
def test_an_export_at_its_limit_rarely_passes_or_fails(form: str) -> None:
    """At the very limit the whole interval lies on the good side in at most one of forty checks."""
    passes, fails = FORMS[form].limits.kl
    limits = ParityLimits((passes, fails), (0.0, -1.0), "")
    at_pass = [report(passes, 1.0, rows=60, seed=i, limits=limits).status for i in range(60)]
    at_fail = [report(fails, 1.0, rows=60, seed=i, limits=limits).status for i in range(60)]
    assert at_pass.count("passed") <= 6
    assert at_fail.count("failed") <= 6


def test_a_cause_in_the_files_fails_what_answers_the_same() -> None:
    judged_report = report(
        0.001, 1.0, causes=["config.json: rms_norm_eps is 0.001 in the export, 1e-06 in the model."]
    )
    assert (judged_report.status, len(judged_report.reasons)) == ("failed", 1)


def test_what_is_the_model_byte_by_byte_passes_by_few_rows_that_say_the_same() -> None:
    assert report(0.0, 1.0, rows=20, exact=True).status == "passed"
    assert report(0.0, 1.0, rows=20).status == "untold"
    assert report(0.01, 0.98, rows=20, exact=True).status == "untold"  # sums alone don't differ by that
    assert report(0.0, 1.0, rows=20, exact=True, rope_base=500.0).status == "failed"


def draws(kl: float, rng: np.random.Generator) -> list[list[float]]:
    """Rows of an export, of which some lose much and most little."""
    gaps = rng.gamma(0.3, kl / 0.3, 200)
    return [(gap * rng.exponential(1, rng.integers(1, 65))).tolist() for gap in gaps]


@pytest.mark.parametrize("limit", [0.02, 0.12, 0.6])
def test_a_form_at_its_limit_is_hardly_ever_stopped_as_one_that_failed(limit: float) -> None:
    """However often it is looked at: after each of 200 rows."""
    stopped = 0
    for seed in range(400):
        bet = LossTest(limit, 64)
        stopped += any(bet.bet(row) for row in draws(limit, np.random.default_rng(seed)))
    assert stopped <= 400 * ALPHA * 3


def test_what_has_surely_failed_is_asked_few_rows() -> None:
    for seed in range(50):
        bet = LossTest(0.02, 64)
        asked = next(i for i, row in enumerate(draws(0.4, np.random.default_rng(seed))) if bet.bet(row))
        assert asked < 60
    few = report(0.3, 0.7, rows=40, sure_after=20)
    assert (few.status, few.prompts) == ("failed", 20)
    assert few.reasons[0].startswith("Stopped after 20 rows: the mean KL divergence exceeds")


def test_an_answer_is_told_by_likeliest_tokens_up_to_where_the_two_part() -> None:
    answers = ParityTexts(ids=[[1, 2, 5, 6, 7, 0]], places=[[2, 3, 4, 5]])
    asked = row_of(ParityQuestions, prompt_ids=[[1, 2]], answers=answers, max_new_tokens=4)

    def answer(favourites: list[int] | None, end: int = 0) -> tuple[list[int], bool]:
        tokens, is_open = find_answer_prefix(asked, 0, favourites, lambda token: token == end)
        return tokens, is_open

    assert answer([5, 6, 7, 0]) == ([5, 6, 7, 0], False)
    assert answer([5, 8, 7, 0]) == ([5, 8], True)  # what stood behind it is not what it would say
    assert answer([5, 6, 7, 9]) == ([5, 6, 7, 9], False)  # as many as are asked for
    assert answer([5, 0, 7, 0]) == ([5, 0], False)
    assert answer([5, 6, 7, 0], end=6) == ([5, 6], False)  # the export ends elsewhere
    assert answer(None) == ([], True)
    answers.ids = [[2, 5, 6, 7, 0]]  # a prompt that was cut
    assert answer([5, 6, 7, 0]) == ([], True)
    answers.ids, asked.positions = [[1, 2, 5, 6, 7, 0]], 8
    assert answer([5, 8, 7, 0]) == ([], True)  # it would be cut once tokens are put behind it


def test_what_is_plainly_wrong_is_named() -> None:
    assert "500 in the export" in report(0.01, 0.98, rope_base=500.0).reasons[0]
    assert report(0.01, 0.98, zeroed=["a.weight", "b.weight"]).reasons[0] == (
        "The weight matrix a.weight and 1 more is all zero."
    )
    nothing = report(0.01, 0.98, not_finite=3)
    assert (nothing.status, nothing.reasons[0]) == (
        "failed",
        "The export returns non-finite values at 3 positions.",
    )
