"""Rows that judged earlier improvements judge the next one again, as long as no version knows them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.truths import observe
from bench.truths.monitoring import reuse
from engine.retraining import feedback_rows
from store.core.home import Home
from store.retraining import text as improvement_text
from store.retraining.config import MAX_JUDGED
from store.retraining.schemas import GatheredRows, ReusedJudgingRows
from store.training.split import Split
from tests.unit.improving.gathered import LABELS, answered, deal, gather, labelled, spoken, text
from tests.unit.recipe_samples import make

GIVEN = {**Split().fields(), "split_by": "given", "validation_size": 0.0, "test_size": 0.3}


def fresh(start: int, count: int = 40, **fields: Any) -> list[dict[str, Any]]:
    return [spoken(n, LABELS[n % 2], **fields) for n in range(start, start + count)]


def earlier(
    made: dict[str, Any], *, judged: bool = True, may_judge: bool = False, random: bool = False
) -> dict[str, Any]:
    """The rows of an earlier improvement, as an order names them."""
    about = {
        **{"improvement_id": made["result"]["fingerprint"], "judged": judged},
        **{"may_judge": may_judge, "at_random": random},
    }
    return {
        **{"why": "judge", "fingerprint": made["result"]["fingerprint"], "part": "test", "split": GIVEN},
        "earlier": about,
    }


def judging(made: dict[str, Any]) -> dict[str, Any]:
    """Source of each row that judges, by its text."""
    return {row["text"]: json.loads(row["source"]) for row in made["rows"] if row["part"] == "test"}


@pytest.fixture
def old(home: Home) -> dict[str, Any]:
    rows = labelled(home)
    deal(home, rows, "classification")
    return rows


def test_they_judge_with_the_new_ones_and_are_counted_each_time(home: Home, old: dict[str, Any]) -> None:
    first = gather(home, old, fresh(1_000))
    second = gather(home, old, fresh(2_000), beside=[earlier(first)])
    assert first["counted"].again is None
    again = ReusedJudgingRows(rows=12, times={"1": 12}, random=0, left_out={})
    assert second["counted"].again == again
    assert (second["counted"].asked, second["counted"].held_out, second["counted"].train) == (
        40,
        12,
        28,
    )
    assert set(judging(first)) < set(judging(second))
    assert len(judging(second)) == 24
    own = [judging(second)[row] for row in judging(first)]
    assert {(each["judged_before"], each["drawn_at_random"]) for each in own} == {(1, False)}
    third = gather(home, old, fresh(3_000), beside=[earlier(second), earlier(first)])
    assert third["counted"].again.times == {"1": 12, "2": 12}
    alone = gather(home, old, fresh(3_000), beside=[earlier(second)])  # the first one's rows were deleted
    assert alone["counted"] == third["counted"]
    assert improvement_text.describe_judging_rows(third["counted"]) == "12 new rows and 24 held out before"
    assert (
        "12 were used for 1 improvement, 12 were used for 2 improvements"
        in improvement_text.describe_rows(third["counted"])
    )


def test_those_of_an_improvement_without_an_answer_are_as_good_as_new(
    home: Home, old: dict[str, Any]
) -> None:
    failed = gather(home, old, fresh(1_000))
    made = gather(home, old, fresh(2_000), beside=[earlier(failed, judged=False)])
    assert made["counted"].again.times == {"0": 12}
    words = improvement_text.describe_judging_rows(made["counted"])
    assert words == "12 new rows and 12 that were held out earlier but not used"


def test_none_judges_that_a_version_was_trained_on(home: Home, old: dict[str, Any]) -> None:
    """By the run whose config is launched, or by that of the version in use; near repeats and the same
    question too."""
    first = gather(home, old, fresh(1_000))
    learned_texts = list(judging(first))[:4]
    rows = [{"text": row.partition("\n")[0], "label": LABELS[0]} for row in learned_texts]
    learned = make(home, rows, "Learned", format="text_label", columns={"text": "text", "label": "label"})
    beside = {"why": "train", "fingerprint": learned["fingerprint"], "part": "all", "split": Split().fields()}
    made = gather(home, old, fresh(2_000), beside=[earlier(first), beside])
    assert made["counted"].again.left_out == {feedback_rows.TRAINED_ON: 4}
    assert not set(learned_texts) & set(judging(made))
    assert made["result"]["skipped_count"] == 4
    unknown = "sums@3 was imported: nobody knows what it was trained on"
    made = gather(home, old, fresh(2_000), beside=[earlier(first)], in_use_unknown=unknown)
    none = ReusedJudgingRows(rows=0, times={}, random=0, left_out={unknown: 12})
    assert made["counted"].again == none
    assert improvement_text.describe_judging_rows(made["counted"]) == "12 new rows"


def test_a_row_judges_so_often_and_no_more(home: Home, old: dict[str, Any]) -> None:
    made = gather(home, old, fresh(1_000))
    for start in range(2_000, 2_000 + 1_000 * MAX_JUDGED, 1_000):
        made = gather(home, old, fresh(start), beside=[earlier(made)])
    assert made["counted"].again.left_out == {feedback_rows.JUDGED_TOO_OFTEN: 12}
    assert made["counted"].again.rows == 12 * (MAX_JUDGED - 1)


def test_one_that_may_judge_yet_counts_for_how_often(home: Home, old: dict[str, Any]) -> None:
    """Two under way beside each other would else take a row each that may judge once more."""
    made = gather(home, old, fresh(1_000))
    for start in range(2_000, 1_000 + 1_000 * MAX_JUDGED, 1_000):
        before, made = made, gather(home, old, fresh(start), beside=[earlier(made)])
    under_way = earlier(made, judged=False, may_judge=True)
    other = gather(home, old, fresh(9_000), beside=[under_way, earlier(before)])
    assert other["counted"].again.left_out == {feedback_rows.JUDGED_TOO_OFTEN: 12}
    ended = gather(home, old, fresh(9_000), beside=[earlier(made, judged=False), earlier(before)])
    assert ended["counted"].again.left_out == {}


def test_what_somebody_has_answered_otherwise_since_judges_no_more(home: Home, old: dict[str, Any]) -> None:
    first = gather(home, old, fresh(1_000, 40))
    by_question = {
        row["messages"][0]["content"]: row["label"] for row in first["rows"] if row["part"] == "test"
    }
    number = next(n for n in range(1_000, 1_040) if text(n) in by_question)
    otherwise = LABELS[LABELS.index(by_question[text(number)]) - 1]
    made = gather(home, old, [*fresh(2_000), spoken(number, otherwise)], beside=[earlier(first)])
    assert made["counted"].again.left_out == {feedback_rows.DISPUTED: 1}
    both = {"beside": [earlier(made), earlier(first)]}
    third = gather(home, old, fresh(3_000), disputed=made["result"]["disputed"], **both)
    assert third["counted"].again.left_out == {feedback_rows.DISPUTED: 1}
    assert third["result"]["disputed"] == made["result"]["disputed"]
    assert not any(text(number) in row for row in judging(third))
    # what judges no more for another reason is looked at all the same: it may be fit to judge again later
    unknown = {"in_use_unknown": "sums@3 was imported"}
    blind = gather(home, old, [*fresh(2_000), spoken(number, otherwise)], beside=[earlier(first)], **unknown)
    assert blind["result"]["disputed"] == made["result"]["disputed"]
    same = gather(home, old, [*fresh(2_000), *fresh(number, 1)], beside=[earlier(first)])
    assert same["counted"].again.left_out == {}


def test_rows_that_fit_the_run_no_more(home: Home, old: dict[str, Any]) -> None:
    first = gather(home, old, fresh(1_000))
    other = answered(home)
    deal(home, other)
    corrected = [spoken(n, f"Better {n}", "correction") for n in range(2_000, 2_040)]
    made = gather(home, other, corrected, beside=[earlier(first)])
    assert made["counted"].again.rows == 12  # a model that writes may be judged by a label
    deal(home, old, "classification")
    without = gather(home, old, fresh(3_000), beside=[earlier(made)])
    assert set(without["counted"].again.left_out) == {"a row without a label"}


def test_how_they_were_drawn_stays_with_them(home: Home, old: dict[str, Any]) -> None:
    drawn = gather(home, old, fresh(1_000, random=True))
    chosen = gather(home, old, fresh(2_000), beside=[earlier(drawn, random=True)])
    assert (chosen["counted"].held_out_random, chosen["counted"].again.random) == (False, 12)
    again = gather(home, old, fresh(3_000, random=True), beside=[earlier(chosen)])
    assert (again["counted"].held_out_random, again["counted"].again.random) == (True, 12)
    assert not improvement_text.is_all_random(again["counted"])
    assert "12 of the earlier ones were sampled at random" in improvement_text.describe_rows(again["counted"])
    only = gather(home, old, fresh(3_000, random=True), beside=[earlier(drawn, random=True)])
    assert improvement_text.is_all_random(only["counted"])


@pytest.mark.parametrize(
    ("new", "earlier", "draw", "of_earlier"),
    [
        (True, 24, "sampled at random from requests", ""),
        (True, 12, "sampled at random from requests", "12 of the earlier ones were sampled at random"),
        (True, 0, "sampled at random from requests", "None of the earlier ones was sampled at random"),
        (False, 24, "not a random sample", "All of the earlier ones were sampled at random"),
        (False, 0, "not a random sample", ""),
    ],
)
def test_new_rows_and_earlier_ones_are_each_said_to_be_drawn_as_they_were(
    new: bool, earlier: int, draw: str, of_earlier: str
) -> None:
    rows = GatheredRows(
        asked=40, train=28, held_out=12, left_out={}, held_out_random=new, only_train=0, corrects=0,
        again=ReusedJudgingRows(rows=24, times={"1": 24}, random=earlier, left_out={}),
    )  # fmt: skip
    sentence = improvement_text.describe_rows(rows)
    assert f"12 held out, {draw}" in sentence
    assert of_earlier in sentence
    assert ("of the earlier ones" in sentence) == bool(of_earlier)
    assert improvement_text.is_all_random(rows) == (new and earlier == 24)


@pytest.mark.parametrize("answer", ["passed", "failed"])
def test_ten_improvements_by_the_same_rows_keep_the_level(answer: str) -> None:
    wanted = f"anew, what won was promoted, rows judge {MAX_JUDGED} times"
    (rate,) = [own for own in reuse.RATES if wanted in own.name and own.name.endswith(answer)]
    assert observe(rate, 250).share <= 0.07
