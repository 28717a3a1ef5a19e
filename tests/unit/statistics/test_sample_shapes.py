"""The samples of `bench.made.shapes` have the truth that they state: many draws come out at it, within what
chance explains, and chance explains little."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from bench.made.shapes import courses, memorised, paired_rows, paired_scores, streams, votes
from bench.made.shapes.draws import Floats, choose_by_weight

ROWS = 160_000
CHANCE = 4.0  # standard errors


def seeded(name: str) -> np.random.Generator:
    """A generator of the shape's own, so that a new shape changes no other's draws."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def hold_to_zero(errors: Floats, noticeable: float, weight: float = 1.0) -> None:
    """The mean error is one of chance, and one of `noticeable` would not be."""
    mean, off = errors.mean() / weight, CHANCE * errors.std() / np.sqrt(len(errors)) / weight
    assert 2 * off < noticeable, f"With an error of chance of {off:.4f} this shows nothing."
    assert abs(mean) <= off + 1e-12, f"Off by {mean:.5f}, of which chance explains {off:.5f}."


def is_seen(check: Callable[[], None]) -> None:
    """A wrong truth fails the check."""
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("name", paired_rows.PAIRED)
@pytest.mark.parametrize("gain", [0.0, 0.05])
def test_paired_rows_gain_what_they_say_a_token(name: str, gain: float) -> None:
    rows = paired_rows.PAIRED[name](seeded(name), ROWS, gain)
    assert rows.truth == gain
    assert min(rows.base.min(), rows.tuned.min()) > 0
    assert rows.tokens.min() >= 1
    errors = rows.base - rows.tuned - rows.tokens * rows.truth
    hold_to_zero(errors, 0.03, rows.tokens.mean())
    is_seen(lambda: hold_to_zero(errors + 0.03 * rows.tokens, 0.03, rows.tokens.mean()))


@pytest.mark.parametrize("name", paired_rows.REPRODUCED)
@pytest.mark.parametrize("shift", [-0.02, 0.0, 0.02])
def test_a_reproduction_is_off_by_its_shift_over_seeds(name: str, shift: float) -> None:
    rng = seeded(name)
    runs = [paired_rows.REPRODUCED[name](rng, 100, 3, 0.01, shift) for _ in range(1_000)]
    means = np.array([np.mean(run.again / run.tokens - run.original / run.tokens) for run in runs])
    of_these = np.array([run.of_these_runs for run in runs])
    assert min(min(run.original.min(), run.again.min()) for run in runs) > 0
    hold_to_zero(means - shift, 0.04 if "2%" in name else 0.02)
    hold_to_zero(of_these - shift, 0.005)
    assert np.std(of_these) == pytest.approx(0.01 * np.sqrt(1 + 1 / 3), rel=0.1)


@pytest.mark.parametrize("name", paired_scores.SCORED)
@pytest.mark.parametrize("difference", [-0.04, 0.0, 0.04])
def test_scores_differ_by_what_they_say(name: str, difference: float) -> None:
    rows = paired_scores.SCORED[name](seeded(name), ROWS, difference)
    assert min(rows.base.min(), rows.tuned.min()) >= 0
    assert max(rows.base.max(), rows.tuned.max()) <= 1
    hold_to_zero(rows.tuned - rows.base - rows.truth, 0.01)


def test_no_shape_cuts_off_what_it_cannot_hold() -> None:
    for held in (
        lambda rng: paired_scores.SCORED["graded"](rng, 100, 0.3),
        lambda rng: paired_scores.SCORED["grades of five steps"](rng, 100, 0.3),
        lambda rng: votes.VOTED["one rater"](rng, 100, 0.9),
        lambda rng: votes.draw_labelled(rng, 10, 2, 0.5),
        lambda rng: courses.LIVE["steps AR(0.7)"](rng, 20, 100, 0.3),
        lambda rng: streams.STREAMS["10% flagged"](rng, 100, 14, 20.0, 7),
    ):
        with pytest.raises(ValueError, match="can't hold it"):
            held(seeded("too much"))


def test_ties_and_ruined_rows_are_as_rare_as_named() -> None:
    tied = paired_scores.SCORED["graded, 80% tie"](seeded("tie"), ROWS, 0.0)
    ruined = paired_scores.SCORED["2% fall from near 1 to 0"](seeded("ruin"), ROWS, 0.0)
    hold_to_zero((tied.base == tied.tuned) - 0.8, 0.01)
    hold_to_zero((ruined.tuned == 0) - 0.02, 0.003)


def test_parity_prompts_are_destroyed_as_often_as_said() -> None:
    prompts = paired_scores.draw_parity(seeded("parity"), ROWS, 0.03)
    hold_to_zero(prompts.destroyed - prompts.truth, 0.005)
    hold_to_zero(prompts.gaps - prompts.mean_gap, 0.02)
    hold_to_zero(prompts.similarities - prompts.mean_similarity, 0.005)


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """By counting, class by class."""
    scores = [
        2
        * np.sum((labels == kind) & (predicted == kind))
        / (np.sum(labels == kind) + np.sum(predicted == kind))
        for kind in np.unique(labels)
    ]
    return float(np.mean(scores))


@pytest.mark.parametrize("name", paired_scores.CLASSIFIED)
def test_classifiers_are_as_good_as_their_confusion(name: str) -> None:
    rows = paired_scores.CLASSIFIED[name](seeded(name), ROWS)
    hold_to_zero((rows.base == rows.labels) - rows.base_accuracy, 0.012)
    hold_to_zero((rows.tuned == rows.labels) - rows.tuned_accuracy, 0.012)
    assert macro_f1(rows.labels, rows.base) == pytest.approx(rows.base_macro_f1, abs=0.012)
    assert macro_f1(rows.labels, rows.tuned) == pytest.approx(rows.tuned_macro_f1, abs=0.012)


def test_equal_accuracy_hides_classes_given_up() -> None:
    rows = paired_scores.CLASSIFIED["six classes, equal accuracy, rare ones given up"](seeded("f1"), 10)
    assert rows.base_accuracy == pytest.approx(rows.tuned_accuracy)
    assert rows.base_macro_f1 > rows.tuned_macro_f1 + 0.05


@pytest.mark.parametrize("name", streams.STREAMS)
def test_streams_keep_their_level_until_it_shifts(name: str) -> None:
    rng = seeded(name)
    drawn = [streams.STREAMS[name](rng, 100, 14, 0.5, 7) for _ in range(150)]
    for at_shift, sign in ((0.0, -1), (1.0, 1)):
        sums = []
        for stream in drawn:
            assert np.all(np.diff(stream.at) >= 0)
            part = sign * (stream.at - 7 * streams.DAY) >= 0
            sums.append(np.sum(stream.values[part] - stream.level - at_shift * stream.truth))
        hold_to_zero(np.array(sums), 0.4, 700 * drawn[0].level)
    hold_to_zero(np.array([len(stream.at) - 1_400.0 for stream in drawn]), 0.2, 1_400)


def test_a_day_of_the_cycle_is_forty_percent_higher_at_noon() -> None:
    stream = streams.STREAMS["daily cycle"](seeded("noon"), 5_000, 28, 0.0, 28)
    hour = stream.at % streams.DAY / 3600
    noon, night = np.abs(hour - 12) < 1, (hour < 1) | (hour > 23)
    assert stream.values[noon].mean() / stream.values[night].mean() == pytest.approx(1.4, abs=0.03)
    assert np.sum(noon) > 5 * np.sum(night)


@pytest.mark.parametrize("name", streams.TIMED)
def test_timings_have_their_mean_and_median(name: str) -> None:
    timings = streams.TIMED[name](seeded(name), ROWS)
    hold_to_zero(timings.seconds - timings.truth, 0.05)
    hold_to_zero((timings.seconds < timings.median) - 0.5, 0.015)


@pytest.mark.parametrize("name", votes.VOTED)
@pytest.mark.parametrize("preference", [-0.3, 0.0, 0.3])
def test_votes_have_the_preference_that_they_say(name: str, preference: float) -> None:
    rng = seeded(name)
    sums = []
    for _ in range(1_000):
        drawn = votes.VOTED[name](rng, 67, preference)
        assert np.all(np.diff(drawn.at) > 0)
        counted = drawn.raters < 2 if "disputed" in name else np.full(len(drawn.items), True)
        each = 1 if "telling" not in name else 4  # prompts for one that is shown
        outcome = np.sum((drawn.outcomes / drawn.inclusion)[counted])
        sums.append(outcome / np.sum(counted) / each - drawn.truth)
    hold_to_zero(np.array(sums), 0.1)


def test_telling_prompts_mislead_who_does_not_weigh() -> None:
    drawn = votes.VOTED["telling prompts shown"](seeded("telling"), 20_000, 0.0)
    assert drawn.outcomes.mean() > 0.05


@pytest.mark.parametrize("name", votes.ROUNDS)
@pytest.mark.parametrize("models", [2, 3, 8])
def test_no_model_of_a_round_is_better(name: str, models: int) -> None:
    drawn = votes.ROUNDS[name](seeded(name), 3_000, models)
    lean = drawn.outcomes.mean() if "shown first" in name else 0.0
    hold_to_zero(drawn.outcomes - lean, 0.2)
    for model in range(models):
        signs = (drawn.first == model).astype(float) - (drawn.second == model)
        by_item = np.bincount(drawn.items, drawn.outcomes * signs, minlength=3_000)
        hold_to_zero(by_item, 0.4, models - 1)


def test_requests_are_chosen_as_probably_as_said() -> None:
    rng = seeded("labelled")
    errors, plain = [], []
    for _ in range(400):
        drawn = votes.draw_labelled(rng, 100, 3, 0.85, requests=2_000)
        assert len(set(drawn.chosen.tolist())) == 300
        first = drawn.rounds == 0
        right = drawn.right[drawn.chosen[first]]
        errors.append(np.sum(right / drawn.probabilities[first]) / 2_000 - drawn.truth)
        plain.append(drawn.right[drawn.chosen].mean() - drawn.truth)
    hold_to_zero(np.array(errors), 0.05)
    assert np.mean(plain) < -0.04
    wrong = ~drawn.right[drawn.chosen]
    assert drawn.disputed[wrong].mean() > drawn.disputed[~wrong].mean()


def test_each_is_chosen_with_its_own_probability() -> None:
    rng, weights = seeded("choose"), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    chosen = np.zeros((6_000, 5))
    for line in chosen:
        picked, probabilities = choose_by_weight(rng, weights, 3)
        assert probabilities == pytest.approx(3 * weights[picked] / 15)
        line[picked] = 1
    for place in range(4):
        hold_to_zero(chosen[:, place] - 3 * weights[place] / 15, 0.06)
    assert np.all(chosen[:, 4] == 1)
    with pytest.raises(ValueError, match="choose fewer"):
        choose_by_weight(rng, weights, 4)


@pytest.mark.parametrize("name", courses.COURSES)
def test_courses_change_by_what_they_say(name: str) -> None:
    rng = seeded(name)
    drawn = [courses.COURSES[name](rng, 20, 60) for _ in range(300)]
    losses = np.array([course.losses.mean(1) for course in drawn])
    assert drawn[0].losses.min() > 0
    hold_to_zero(losses[:, -1] - losses[:, 10] - drawn[0].truth, 0.05)
    for evaluation in range(20):
        hold_to_zero(losses[:, evaluation] - drawn[0].expected[evaluation], 0.1)


def test_what_has_settled_changes_no_more() -> None:
    for name, course in courses.COURSES.items():
        truth = course(seeded(name), 20, 1).truth
        trend = name.split(",")[0]
        assert (truth == 0) == (trend in ("flat", "settled"))
        assert (truth > 0) == trend.startswith("rising")


@pytest.mark.parametrize("name", courses.LIVE)
@pytest.mark.parametrize("difference", [0.0, 0.02])
def test_live_metrics_differ_by_what_they_say(name: str, difference: float) -> None:
    rng = seeded(name)
    drawn = [courses.LIVE[name](rng, 20, 100, difference) for _ in range(1_000)]
    hold_to_zero(np.array([np.mean(live.second - live.first) - live.truth for live in drawn]), 0.006)


@pytest.mark.parametrize("name", courses.DIVERGING)
def test_training_diverges_where_it_says_so(name: str) -> None:
    course = courses.DIVERGING[name](seeded(name), 2_000)
    hold_to_zero(course.losses / course.expected - 1, 0.03)
    assert course.truth == (course.expected[-1] > 10)


@pytest.mark.parametrize("name", memorised.CANARIES)
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_canaries_are_lower_by_their_shift(name: str, shift: float) -> None:
    drawn = memorised.CANARIES[name](seeded(name), 6_000, shift)
    spread = np.sqrt(np.mean(drawn.others.var(1, ddof=1)))
    lower = (drawn.others.mean(1) - drawn.planted) / spread
    hold_to_zero(lower - shift, 0.2)
    if not shift:
        hold_to_zero((drawn.ranks - 1) / 255 - 0.5, 0.05)
        hold_to_zero((drawn.ranks <= 12) - 12 / 256, 0.05)


@pytest.mark.parametrize("name", memorised.QUESTIONS)
@pytest.mark.parametrize("question", [0.0, 0.2])
def test_the_question_gives_what_it_says(name: str, question: float) -> None:
    rng = seeded(name)
    of_others, of_any = [], []
    for _ in range(400):
        drawn = memorised.QUESTIONS[name](rng, 60, question)
        gains = drawn.base - drawn.tuned
        other = drawn.answers[:, None] != drawn.answers
        free = other.any(1)
        own = np.diag(gains)
        if free.all():
            of_others.append(np.mean(own - (gains * other).sum(1) / other.sum(1)) - drawn.truth)
        of_any.append(np.mean(own - (gains.sum(1) - own) / 59) - drawn.of_any_prompt)
    hold_to_zero(np.array(of_others), 0.15)
    hold_to_zero(np.array(of_any), 0.15)
