"""What of a gain is the question: the parts add up, rows count in both roles, and the verdict goes by it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bench.truths.runs import question
from engine.evaluation.verdicts.paired_measurements import SwappedLosses, SwappedPromptLosses
from engine.evaluation.verdicts.question_part import ROUNDS, assign_prompts, measure_parts
from store.core.documents import as_json, parse_document
from store.db.records import to_json
from store.evaluation.verdict_schemas import Verdict
from store.training.train_config import TrainConfig
from tests.unit.verdict_inputs import judge, judge_pairs
from tests.unit.verdicts.test_preference_verdict import evidence as pairs
from tests.unit.verdicts.test_verdict import CONFIG, evidence
from tests.unit.verdicts.test_verdict_rates import holds, rate


def dealt_of(answers: Any, groups: Any = None, seed: int = 0) -> Any:
    keys = np.asarray(answers)
    return assign_prompts(keys, np.zeros(len(keys)) if groups is None else groups, np.zeros(len(keys)), seed)


@pytest.mark.parametrize(("first", "others"), [(35, 35), (30, 10), (19, 1), (20, 0)])
def test_a_prompt_with_the_same_answer_is_dealt_only_where_it_must_be(first: int, others: int) -> None:
    answers = np.r_[np.zeros(first, int), np.ones(others, int)]
    dealt = dealt_of(answers)
    assert dealt.same == ROUNDS * max(0, first - others)
    assert (dealt.answers != dealt.prompts).all()
    asked = set(zip(dealt.answers.tolist(), dealt.prompts.tolist(), strict=True))
    assert len(asked) == len(dealt)  # no prompt twice before one answer
    assert np.bincount(dealt.prompts).max() <= ROUNDS  # nor more than once in a round


def test_prompts_stay_among_like_rows_and_like_lengths() -> None:
    groups, lengths = np.repeat([0, 1, 2], [200, 2, 30]), np.r_[np.arange(200), 0, 0, np.zeros(30)]
    dealt = assign_prompts(np.arange(232), groups, lengths, 0)
    assert (groups[dealt.answers] == groups[dealt.prompts]).all()
    assert dealt.left_out == 2  # two rows can't give two prompts to each other
    apart = np.abs(lengths[dealt.answers] - lengths[dealt.prompts])
    assert apart.max() < 40


def test_what_does_not_fit_is_left_out_in_both_roles() -> None:
    dealt = assign_prompts(np.arange(20), np.zeros(20), np.zeros(20), 0, lambda answer, prompt: answer != 3)
    assert dealt.left_out == 1
    assert 3 not in dealt.answers
    assert 3 not in dealt.prompts


def losses(n: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 30, n).astype(float)
    base, tuned = (tokens[:, None] * rng.gamma(4, scale, (n, n)) for scale in (1.0, 0.5))
    dealt = dealt_of(rng.integers(0, 4, n))
    at = dealt.answers, dealt.prompts
    return tokens, base, tuned, SwappedPromptLosses(dealt, SwappedLosses(base[at], tuned[at]))


def test_the_parts_add_up_to_the_gain() -> None:
    tokens, base, tuned, others = losses(40, 0)
    parts = measure_parts(tokens, base.diagonal(), tuned.diagonal(), others)
    assert parts
    assert parts.total.value == pytest.approx(
        (base.diagonal() - tuned.diagonal()).sum() / tokens.sum(), rel=1e-12
    )
    assert parts.total.value == pytest.approx(parts.shape.value + parts.question.value, rel=1e-12)


def test_rows_that_were_not_asked_are_in_none_of_the_parts() -> None:
    tokens, base, tuned, _ = losses(40, 0)
    dealt = dealt_of(np.arange(40) % 4, groups=np.repeat([0, 1], [38, 2]))  # two rows are too few to exchange
    assert dealt.left_out == 2
    at = dealt.answers, dealt.prompts
    others = SwappedPromptLosses(dealt, SwappedLosses(base[at], tuned[at]))
    of_all, of_asked = (
        measure_parts(tokens[:rows], base.diagonal()[:rows], tuned.diagonal()[:rows], others)
        for rows in (40, 38)
    )
    assert of_all == of_asked
    assert of_all is not None
    assert of_all.total.n == 38


def test_the_error_is_that_of_leaving_a_row_out_as_answer_and_as_prompt() -> None:
    tokens, base, tuned, others = losses(25, 1)
    answers, prompts = others.dealt.answers, others.dealt.prompts
    under = (base - tuned)[answers, prompts]

    def estimate(out: int) -> float:
        top = bottom = 0.0
        for row in range(25):
            if row != out:
                kept = (answers == row) & (prompts != out)
                top += (base - tuned)[row, row] - under[kept].mean()
                bottom += tokens[row]
        return top / bottom

    left_out = np.array([estimate(row) for row in range(25)])
    error = np.sqrt(24 / 25 * np.square(left_out - left_out.mean()).sum())
    parts = measure_parts(tokens, base.diagonal(), tuned.diagonal(), others)
    assert parts
    assert parts.question.se == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "nothing is the question's, called, 8 labels, all rows, n 10",
        "nothing is the question's, called, 2 labels, 5% of rows lose, n 30",
        "interval covers 0, free text, all rows, log-normal lengths, n 30",
        "interval covers 0.5 nats a token, 8 labels, long tail, n 30",
    ],
)
def test_the_question_is_called_as_seldom_as_it_should_be(name: str) -> None:
    holds(rate(question.RATES, name), 400)


def swapped(given: dict[str, Any], own: float) -> dict[str, Any]:
    """The rows with answers after other prompts, after which they gain all but `own` nats a token."""
    tokens, rng = given["tokens"], np.random.default_rng(5)
    dealt = dealt_of(np.arange(len(tokens)) % 8)
    base = given["base_loss_sum"][dealt.answers]
    noise = rng.normal(0, 0.1, len(dealt))
    tuned = given["tuned_loss_sum"][dealt.answers] + tokens[dealt.answers] * (own + noise)
    return given | {"other_prompts": SwappedPromptLosses(dealt, SwappedLosses(base, tuned))}


def test_a_gain_that_any_prompt_gives_is_the_shape_of_the_answers() -> None:
    verdict = judge(**swapped(evidence(0.83), 0.0))
    assert verdict.state == "shape"
    assert verdict.headline.startswith(
        "Learned the shape of the answers, not what the question asks: on 200 held-out rows"
    )
    assert "; question-dependent: " in verdict.headline
    parts = verdict.parts
    assert parts.question.low < 0 < parts.question.high
    assert parts.shape.value == pytest.approx(verdict.gain.value, abs=0.03)
    assert (parts.pairs, parts.same, parts.left_out) == (600, 0, 0)
    assert verdict.sentences[0].startswith("Of the gain of 0.8")
    assert "check that every answer belongs to its prompt" in verdict.advice[0].text
    json.dumps(verdict, default=as_json, allow_nan=False)


def test_so_few_rows_that_a_rare_one_may_be_missing_do_not_rule_the_question_out() -> None:
    few = judge(**swapped(evidence(0.83, n=40), 0.0))
    assert few.state == "better"
    assert few.headline.startswith(
        "Better; whether it learned what the question asks or just the shape of the answers is unclear: on"
    )
    assert "applies to these 40 rows: kinds of rows whose answer depends on the prompt" in few.sentences[1]
    assert "applies to these" not in " ".join(judge(**swapped(evidence(0.83, n=40), 0.6)).sentences)
    assert "applies to these" not in " ".join(judge(**swapped(evidence(-0.83, n=40), 0.0)).sentences)
    assert few.advice[1].change["test_size"] > 0.1


def test_one_frequent_answer_does_not_rule_the_question_out() -> None:
    """Nine in ten prompts come from rows with the same answer, so that a tenth of the question is seen."""
    given = evidence(0.83)
    rare = (np.arange(200) % 20 == 0).astype(int)
    dealt = dealt_of(rare)
    assert dealt.same > 0.8 * len(dealt)
    tokens, noise = given["tokens"][dealt.answers], np.random.default_rng(5).normal(0, 0.3, len(dealt))
    tuned = given["tuned_loss_sum"][dealt.answers] + tokens * noise
    losses = SwappedLosses(given["base_loss_sum"][dealt.answers], tuned)
    verdict = judge(**given, other_prompts=SwappedPromptLosses(dealt, losses))
    assert verdict.parts.question.high < 0.083
    assert verdict.state == "better"
    assert "could only come from a row with the same answer" in verdict.sentences[1]


def test_a_gain_of_the_question_is_learned() -> None:
    verdict = judge(**swapped(evidence(0.83), 0.6))
    assert verdict.state == "learned"
    assert verdict.headline.startswith("Learned: on 200 held-out rows")
    assert verdict.parts.question.low > 0.5
    assert verdict.advice == []


def test_a_question_that_can_not_be_told_asks_for_rows() -> None:
    given = evidence(2.0, n=12)
    given = swapped(given, 0.3)
    base, tuned = given["other_prompts"].losses
    noise = np.random.default_rng(1).standard_t(3, len(tuned)) * 40
    given["other_prompts"] = SwappedPromptLosses(
        given["other_prompts"].dealt, SwappedLosses(base, tuned + noise)
    )
    verdict = judge(**given)
    assert verdict.state == "better"
    assert "or just the shape of the answers is unclear" in verdict.headline
    assert verdict.advice[1].change["test_size"] > 0.1
    TrainConfig.parse(CONFIG | verdict.advice[1].change)


def test_what_the_own_prompt_adds_to_one_answer_for_all_is_the_questions() -> None:
    """Every prompt comes from a row with the same answer, and its own still is surely better."""
    given = evidence(0.83)
    dealt = dealt_of(np.zeros(200))
    assert dealt.same == len(dealt)
    tokens = given["tokens"][dealt.answers]
    less = tokens * np.random.default_rng(5).normal(0.6, 0.1, len(dealt))
    losses = SwappedLosses(
        given["base_loss_sum"][dealt.answers], given["tuned_loss_sum"][dealt.answers] + less
    )
    assert judge(**given, other_prompts=SwappedPromptLosses(dealt, losses)).state == "learned"


def test_a_part_that_does_not_matter_is_not_learned() -> None:
    """On each row, and under 1% of the base model's loss."""
    given = evidence(0.83)
    dealt = dealt_of(np.arange(200))
    tokens = given["tokens"][dealt.answers]
    losses = SwappedLosses(
        given["base_loss_sum"][dealt.answers], given["tuned_loss_sum"][dealt.answers] + 0.004 * tokens
    )
    exact = given | {"other_prompts": SwappedPromptLosses(dealt, losses)}
    exact["base_loss_sum"] = np.full(200, 2.0) * given["tokens"]
    exact["tuned_loss_sum"] = exact["base_loss_sum"] - 0.8 * given["tokens"] * (1 + np.arange(200) % 3)
    exact["other_prompts"] = SwappedPromptLosses(
        dealt,
        SwappedLosses(
            exact["base_loss_sum"][dealt.answers],
            exact["tuned_loss_sum"][dealt.answers] + (0.004 + 0.001 * (dealt.prompts % 2)) * tokens,
        ),
    )
    verdict = judge(**exact)
    assert 0.003 < verdict.parts.question.value < 0.006
    assert verdict.state == "shape"
    assert "not what the question asks" in verdict.headline


@pytest.mark.parametrize("gain", [-0.83, -0.01])
def test_what_is_not_surely_better_is_a_change_and_no_gain(gain: float) -> None:
    verdict = judge(**swapped(evidence(gain), -0.6))
    lead, _, rest = verdict.sentences[0].partition(" also appear after 600 prompts of other rows. ")
    assert lead.startswith("Of the change of −0.")
    assert " nats a token (minus is worse, n 200), " in lead
    assert rest.startswith("Question-dependent: −0.6")
    assert "gain" not in verdict.sentences[0]


def test_rows_that_rule_the_question_out_are_as_many_as_that_takes() -> None:
    """Forty rows show nothing of the question, and sixty could say so: not the thousands that a part so
    small would need to be told from 0."""
    piece = judge(**swapped(evidence(0.83, n=40), 0.0)).advice[1]
    assert piece.text.startswith("Evaluate on more held-out rows: 60 may show that the question adds nothing")
    assert piece.change["test_size"] == pytest.approx(0.1 * 60 / 40)
    wide = swapped(evidence(2.0, n=12), 0.3)
    base, tuned = wide["other_prompts"].losses
    noise = np.random.default_rng(1).standard_t(3, len(tuned)) * 40
    wide["other_prompts"] = SwappedPromptLosses(
        wide["other_prompts"].dealt, SwappedLosses(base, tuned + noise)
    )
    piece = judge(**wide).advice[1]
    assert piece.change["max_eval_rows"] <= 500
    assert "200 is the most that are asked" in piece.text
    enough = swapped(evidence(0.83), 0.02)
    base, tuned = enough["other_prompts"].losses
    noise = np.random.default_rng(1).normal(0, 60, len(tuned))
    enough["other_prompts"] = SwappedPromptLosses(
        enough["other_prompts"].dealt, SwappedLosses(base, tuned + noise)
    )
    verdict = judge(**enough)
    assert verdict.state == "better"
    assert len(verdict.advice) == 1  # of 200 rows all are asked


def test_a_gain_whose_question_was_not_measured_is_not_called_learned() -> None:
    verdict = judge(**evidence(0.83), other_prompts="too few like rows")
    assert verdict.state == "better"
    assert verdict.headline.startswith(
        "Better; whether it learned what the question asks was not measured: on 200 held-out rows the tuned"
    )
    assert (
        verdict.sentences[0]
        == "The part of the gain that depends on the question was not measured: too few like rows."
    )
    assert (verdict.parts, verdict.advice) == (None, [])
    worse = judge(**evidence(-0.83), other_prompts="too few like rows")
    assert worse.state == "worse"


def test_a_gain_with_a_loss_under_other_prompts_that_is_no_number_is_not_called_learned() -> None:
    given = swapped(evidence(0.83), 0.6)
    others = given["other_prompts"]
    base, tuned = others.losses
    broken = SwappedPromptLosses(others.dealt, SwappedLosses(base, np.full_like(tuned, np.nan)))
    verdict = judge(**(given | {"other_prompts": broken}))
    assert verdict.state == "better"
    assert "not measured: a loss is not a number" in verdict.sentences[0]


def test_rows_without_prompts_have_no_question() -> None:
    verdict = judge(**evidence(0.83))
    assert (verdict.state, verdict.parts) == ("learned", None)
    assert not any("question" in sentence for sentence in [verdict.headline, *verdict.sentences])


def test_a_verdict_from_before_has_no_parts() -> None:
    judged = to_json(judge(**evidence(0.83)))
    assert '"parts"' not in judged
    assert parse_document(Verdict, json.loads(judged)).parts is None


@pytest.mark.parametrize(("style", "state"), [(1.0, "shape"), (0.3, "learned")])
def test_pairs_that_are_preferred_after_any_prompt_are_style(style: float, state: str) -> None:
    given = pairs(1.0, 0.8)
    base, tuned = (
        given[model]["rejected_logps"] - given[model]["chosen_logps"] for model in ("base", "tuned")
    )
    dealt = dealt_of(np.arange(len(base)))
    rng = np.random.default_rng(2)
    moved = style * (base - tuned)[dealt.answers] + rng.normal(0, 0.05, len(dealt))
    others = SwappedPromptLosses(dealt, SwappedLosses(base[dealt.answers], base[dealt.answers] - moved))
    verdict = judge_pairs(**given, other_prompts=others)
    assert verdict.state == state
    assert verdict.parts.total.value == pytest.approx((base - tuned).mean())
    if state == "shape":
        assert verdict.headline.startswith(
            "Learned the style of the preferred answers, not which answer fits the question: the tuned model"
        )
