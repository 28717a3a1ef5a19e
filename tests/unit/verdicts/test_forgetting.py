"""Forgetting is called by its interval against named thresholds, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from engine.evaluation.verdicts.forgetting import (
    THRESHOLDS,
    assess_forgetting,
    combine_states,
    determine_state,
)
from engine.evaluation.verdicts.forgetting_text import advise_against_forgetting
from engine.evaluation.verdicts.forgetting_tradeoff import build_category_matrix, compute_forgetting_curves
from engine.evaluation.verdicts.paired_measurements import OPEN_ENDED, pair_probes
from store.core.documents import as_json
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import Forgetting, ForgettingPoint
from tests.unit.probe_rows import choices, table, texts

CONFIG = {"learning_rate": 3e-4, "num_train_epochs": 4.0, "replay_share": 0.0}
BASE = table(texts(0, noise=0), choices(), texts(0, noise=0, probe="own_samples", n=40))


def judged(rise: float, lost: int = 0, won: int = 0, *, noise: float = 0.05, **more: Any) -> Forgetting:
    tuned = table(texts(rise, noise=noise), choices(lost, won), texts(0.3, probe="own_samples", n=40, seed=3))
    return assess_forgetting(BASE, tuned, config=CONFIG, **more)


def test_the_same_model_forgot_nothing() -> None:
    assessment = assess_forgetting(BASE, BASE, config=CONFIG)
    assert assessment.state == "none"
    assert assessment.advice == []
    assert assessment.texts[0].change == Estimate(value=0, low=0, high=0, n=120)
    assert assessment.divergence[0].kl.value == 0
    part = assessment.choices[0]
    assert (part.lost, part.won, part.p) == (0, 0, 1)
    assert "exactly as before (120 passages)" in assessment.headline
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_a_large_rise_is_much_and_says_what_to_try() -> None:
    assessment = judged(0.31, lost=80, won=10)
    assert assessment.state == "much"
    prose = assessment.texts[0]
    assert prose.change.low < 0.31 < prose.change.high
    assert prose.after - prose.before == pytest.approx(prose.change.value)
    assert prose.detectable < 0.03
    assert assessment.headline.startswith("It forgot much: the loss on plain prose rose by 0.3")
    assert "perplexity times 1.3" in assessment.headline
    assert "of 640 questions 80 went from right to wrong" in assessment.sentences[0].lower()
    assert not any("guesses" in s for s in assessment.sentences)  # accuracy surely fell: that is no luck
    assert [a.kind for a in assessment.advice] == ["learning_rate", "replay", "epochs", "interpolation"]
    assert [a.change for a in assessment.advice] == [
        {"learning_rate": 1e-4}, {"replay_share": 0.05}, {"num_train_epochs": 2.0}, {},
    ]  # fmt: skip
    json.dumps(assessment, default=as_json, allow_nan=False)


def of_task(name: str, lost: int, *, n: int = 640, **more: Any) -> list[dict[str, Any]]:
    return [row | {"probe": f"task/{name}", **more} for row in choices(lost, n=n)]


def test_tasks_stand_beside_the_suite_and_those_not_asked_are_counted() -> None:
    written = {"options": OPEN_ENDED, "loss_sum": 0.0, "category": ""}
    base = table(choices(), of_task("facts", 0), of_task("sums", 0, n=40, **written))
    tuned = table(choices(3), of_task("facts", 160), of_task("sums", 2, n=40, **written))
    config = {"probe_tasks": ["facts", "sums", "hub"]}
    assessment = assess_forgetting(
        base, tuned, config=config, unasked={"hub": "The task hub can't be run: it is away."}
    )
    assert assessment.state == "much"
    assert assessment.headline.startswith(
        "It forgot much: of 640 items of facts 160 went from right to wrong"
    )
    facts, sums = assessment.choices[1:]
    assert facts.p < 1e-9
    assert (sums.open, sums.answer_loss, sums.state) == (True, None, "unclear")
    assert sums.adjusted.lost.value == pytest.approx(2 / 40)  # nothing is right by luck
    text = " ".join(assessment.sentences)
    assert "Of 4 tasks of facts it significantly lost in" in text
    assert "lost answers of sums" not in text  # which says that guesses may have fallen out otherwise
    assert assessment.sentences[-1] == "Of 3 tasks 1 was not asked. The task hub can't be run: it is away."
    small = assess_forgetting(
        table(choices(), of_task("facts", 0, n=40)), table(choices(), of_task("facts", 2, n=40))
    )
    assert [part.state for part in small.choices] == ["none", "unclear"]
    assert small.state == "none"  # a small task that can't tell leaves the word to what can
    assert small.unasked == {}


def test_what_the_base_model_never_knew_cannot_be_lost() -> None:
    wrong = [row | {"correct": 0} for row in of_task("sums", 0)]
    assessment = assess_forgetting(
        table(choices(), wrong), table(choices(), [row | {"correct": 0} for row in wrong])
    )
    assert [part.state for part in assessment.choices] == [
        "none",
        "unclear",
    ]  # though both intervals are narrow
    assert "of 640 items of sums the base model answered none correctly" in assessment.sentences[0].lower()


def test_choices_in_numbers() -> None:
    part = judged(0.0, lost=80, won=10).choices[0]
    assert part.before.value == pytest.approx(0.6)
    assert part.change.value == pytest.approx(-70 / 640)
    assert part.change.high < -THRESHOLDS.share.amber
    assert part.state == "some"
    assert part.p < 1e-6
    assert sum(c.n for c in part.categories) == 640
    assert sum(c.lost for c in part.categories) == 80
    assert part.answer_loss.value == pytest.approx(70 * 1.4 / 640)


def test_one_category_is_enough() -> None:
    tuned = table(texts(0, noise=0.01), choices(24, only="capitals"))
    assessment = assess_forgetting(table(texts(0, noise=0), choices()), tuned)
    part = assessment.choices[0]
    assert part.state == "some"
    assert determine_state(-part.change.high, -part.change.low, "share") != "none"
    sure = [c.category for c in part.categories if c.p_holm < 0.05]
    assert sure == ["capitals"]
    assert any("significantly lost in capitals (24 lost, 0 won of 160)" in s for s in assessment.sentences)


def test_one_category_is_enough_where_the_whole_looks_fine() -> None:
    part = assess_forgetting(table(choices()), table(choices(12, only="capitals"))).choices[0]
    assert determine_state(-part.change.high, -part.change.low, "share") == "none"
    assert part.state == "some"


def test_a_gain_is_no_loss() -> None:
    part = judged(-0.3, won=100).choices[0]
    assert (part.state, part.change.low > 0.1) == ("none", True)
    assert judged(-0.3, won=100).state == "none"


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [
        (0.21, 0.3, "much"), (0.19, 0.3, "some"), (0.001, 0.06, "some"), (0.01, 0.04, "none"),
        (-0.01, 0.06, "unclear"), (-0.2, -0.1, "none"), (None, None, "unclear"),
    ],
)  # fmt: skip
def test_state_rules(low: float | None, high: float | None, state: str) -> None:
    assert determine_state(low, high, "nats") == state


def test_states_together() -> None:
    assert combine_states(["none", "unclear"]) == "unclear"
    assert combine_states(["unclear", "some", "none"]) == "some"
    assert combine_states(["some", "much"]) == "much"
    assert combine_states([]) == "unclear"


def test_too_few_passages_say_what_they_could_not_see() -> None:
    base, tuned = table(texts(0, n=6, noise=0)), table(texts(0, n=6, noise=0.3))
    assessment = assess_forgetting(base, tuned)
    assert assessment.state == "unclear"
    assert "can't be seen with 6 passages" in assessment.headline
    single = assess_forgetting(table(texts(0, n=1, noise=0)), table(texts(0.4, n=1)))
    assert single.state == "unclear"
    assert "plain prose has no interval: there is only one passage" in single.headline
    json.dumps([assessment, single], default=as_json, allow_nan=False)


def test_losses_that_are_not_numbers_are_counted() -> None:
    rows = texts(0, noise=0.001)
    for row in rows[:3]:
        row["loss_sum"] = math.nan
    assessment = assess_forgetting(table(texts(0, noise=0)), table(rows))
    part = assessment.texts[0]
    assert (assessment.state, part.n, part.broken) == ("some", 117, 3)
    assert assessment.unscored == {"prose": 3}
    for row in rows:
        row["loss_sum"] = math.inf
    broken = assess_forgetting(table(texts(0, noise=0)), table(rows))
    assert (broken.state, broken.texts[0].change) == ("much", None)
    assert "no longer a number, on 120 passages" in broken.headline
    json.dumps([assessment, broken], default=as_json, allow_nan=False)


def test_items_are_paired_by_name_and_not_by_place() -> None:
    rows = choices(30, 5)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    ordered, mixed = (assess_forgetting(table(choices()), table(r)) for r in (rows, shuffled))
    assert ordered == mixed
    fewer = assess_forgetting(table(choices()), table(rows[:-40]))
    assert fewer.unscored == {"choices": 40}
    assert fewer.choices[0].n == 600
    with pytest.raises(ValueError, match="other tokens"):
        pair_probes(table(texts(0)), table([{**row, "tokens": row["tokens"] + 1} for row in texts(0)]))


def test_a_question_of_one_option_is_left_out_and_counted() -> None:
    before, after = choices(), choices(3)
    for rows in (before, after):
        rows[0]["options"] = 1
    assessment = assess_forgetting(table(before), table(after))
    assert (assessment.choices[0].n, assessment.unscored) == (639, {"choices": 1})
    assert assessment.choices[0].broken == 0


def test_no_probe_at_all() -> None:
    assessment = assess_forgetting(table(texts(0)), table(choices()))
    assert assessment.state == "unclear"
    assert "no probe was measured on both" in assessment.headline


def test_equal_models_are_not_said_to_forget() -> None:
    called = 0
    for seed in range(120):
        base = table(texts(0, n=40, noise=0))
        called += assess_forgetting(base, table(texts(0, n=40, noise=0.3, seed=seed))).state in (
            "some",
            "much",
        )
    assert called / 120 <= 0.05  # a loss is one of the two sides


def test_divergence_is_the_rise_on_own_samples() -> None:
    divergence = judged(0.0).divergence[0]
    assert divergence.kl.low < 0.3 < divergence.kl.high
    assert (divergence.prompts, divergence.kl.n) == ("general", 40)
    assert any("nats a token away (KL" in s for s in judged(0.0).sentences)


def test_flips_that_luck_explains_are_said_to_be_so() -> None:
    assert any("guesses with another outcome" in s for s in judged(0.0, 30, 30).sentences)


def test_course_says_since_when() -> None:
    rises = {10: 0.01, 20: 0.30, 30: 0.02, 40: 0.12, 50: 0.3}
    seen = {s: table(texts(r, seed=s), choices(s, 2)) for s, r in rises.items()}
    prose, asked = compute_forgetting_curves(table(texts(0, noise=0), choices()), seen)
    assert [p.step for p in prose.points] == [10, 20, 30, 40, 50]
    assert all(p.low < rises[p.step] < p.high for p in prose.points)
    assert (prose.amber_since, prose.red_since) == (40, 50)  # that of step 20 did not last
    assert asked.points[-1].value == pytest.approx(48 / 640)
    assert (asked.kind, asked.red_since) == ("choices", None)


def test_a_threshold_is_passed_at_a_level_for_all_checkpoints() -> None:
    base = table(texts(0, noise=0))
    low = compute_forgetting_curves(base, {1: table(texts(0, seed=4))})[0].points[0].low
    rows = table(texts(0.0505 - low, seed=4))  # at 95% just above amber
    assert compute_forgetting_curves(base, {1: rows})[0].amber_since == 1
    several = compute_forgetting_curves(base, dict.fromkeys(range(1, 6), rows))[0]
    assert all(point.low > 0.05 for point in several.points)
    assert several.amber_since is None


def test_course_through_a_break() -> None:
    rows = texts(0.3)
    for row in rows:
        row["loss_sum"] = math.nan
    probe_course = compute_forgetting_curves(
        table(texts(0, noise=0)), {5: table(texts(0.0)), 10: table(rows)}
    )[0]
    assert probe_course.red_since == 10
    assert probe_course.points[1] == ForgettingPoint(
        step=10, value=None, low=None, high=None, n=0, broken=120
    )
    json.dumps(probe_course, default=as_json, allow_nan=False)


def test_matrix_of_categories() -> None:
    seen = {10: table(choices(0)), 20: table(choices(24, only="capitals"))}
    document = build_category_matrix(table(choices()), seen)
    assert (document.steps, len(document.cells)) == ([10, 20], 8)
    cells = {(c.category, c.step): c for c in document.cells}
    assert cells["capitals", 20].change.value == pytest.approx(-24 / 160)
    assert cells["capitals", 20].p_holm == pytest.approx(8 * 2 * 0.5**24)  # exact: under 25 flips
    assert cells["elements", 20].p_holm == 1
    assert cells["capitals", 10].n == 160
    nothing, fallen = document.totals
    assert (nothing.n, nothing.lost, nothing.p_holm) == (640, 0, 1)
    assert (fallen.lost, fallen.p_holm) == (24, pytest.approx(2 * 2 * 0.5**24))
    with pytest.raises(ValueError, match="no probe prose"):
        build_category_matrix(table(texts(0)), {1: table(texts(0))}, "prose")


def test_replay_is_advised_where_it_can_be_set_and_not_twice() -> None:
    def replay(config: dict[str, Any]) -> list[dict[str, Any]]:
        return [a.change for a in advise_against_forgetting("much", CONFIG | config) if a.kind == "replay"]

    assert replay({}) == [{"replay_share": 0.05}]
    assert replay({"replay_share": 0.05}) == [{"replay_share": 0.25}]
    assert replay({"replay_share": 0.3}) == []
    assert replay({"task": "dpo"}) == [{}]


def test_the_distance_to_the_base_is_advised_with_rows_to_measure_it_on() -> None:
    def held(config: dict[str, Any]) -> list[dict[str, Any]]:
        return [a.change for a in advise_against_forgetting("some", CONFIG | config) if a.kind == "kl"]

    assert held({}) == []  # a config of before there was such a field
    assert held({"kl_beta": 0.0}) == [{"replay_share": 0.05, "kl_beta": 1.0}]
    assert held({"kl_beta": 0.5, "replay_share": 0.2}) == [{"replay_share": 0.2, "kl_beta": 5.0}]
    assert held({"kl_beta": 10.0, "replay_share": 0.2}) == []
    assert held({"kl_beta": 0.0, "task": "dpo"}) == []


def test_a_small_data_set_of_the_users_can_find_a_loss_and_never_hides_what_is_known() -> None:
    few = {"probe": "data/Mine", "n": 12}
    base = table(texts(0, noise=0), choices(), texts(0, noise=0, **few))
    unsure = assess_forgetting(base, table(texts(0.001), choices(), texts(0.02, noise=0.3, **few)))
    assert (unsure.texts[1].state, unsure.state) == ("unclear", "none")
    assert unsure.headline.startswith("It forgot nothing that matters: ")
    assert "Mine" not in unsure.headline
    assert any("on Mine" in sentence and "12 rows" in sentence for sentence in unsure.sentences)
    lost = assess_forgetting(base, table(texts(0.001), choices(), texts(0.9, noise=0.1, **few)))
    assert lost.state == "much"
    assert "the loss on Mine rose by 0.9" in lost.headline
    alone = assess_forgetting(table(texts(0, noise=0, **few)), table(texts(0.02, noise=0.3, **few)))
    assert alone.state == "unclear"
