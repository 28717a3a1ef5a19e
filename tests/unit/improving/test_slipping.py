"""What may have slipped through of repeats: how many, and what the card and the check make of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import special

from bench.truths import Rate, observe
from bench.truths.models.gates import as_gate_row
from bench.truths.monitoring import slipped
from engine.retraining import gate
from engine.retraining.job import RepeatCounts, bound_learned_rows, bound_missed_repeats
from store.core.documents import as_json, parse_document
from store.core.home import Home
from store.registry import gate_checks
from store.registry.schemas import CheckReport
from store.retraining import text as improvement_text
from store.retraining.config import MAX_LEAKAGE, MAX_LEAKAGE_SHORT
from store.retraining.schemas import GatheredRows, LeakageEstimate
from store.retraining.text import describe_leakage
from tests.unit.improving.gathered import answered, deal, gather, labelled, spoken
from tests.unit.improving.gathered import text as question
from tests.unit.recipe_samples import make
from tests.unit.store_samples import row_of

MARGIN = 0.02
GATHERED = {
    **{"asked": 40, "train": 20, "held_out": 5, "left_out": {}, "held_out_random": False},
    **{"only_train": 0, "corrects": 0},
}


@pytest.mark.parametrize("missed", [0.01, MAX_LEAKAGE, 0.5, MAX_LEAKAGE_SHORT])
def test_more_than_the_limit_slips_through_in_5_of_100_cases_at_most(missed: float) -> None:
    """However many repeats there were: by the whole distribution, and not by draws of it."""
    for every in range(1, 150):
        recognised = np.arange(every + 1)
        chance = np.diff(special.bdtr(recognised, every, 1 - missed), prepend=0.0)
        beyond = [every - count > bound_missed_repeats(count, missed) for count in recognised.tolist()]
        assert chance[beyond].sum() <= 0.05 + 1e-9


def test_the_limit_is_no_wider_than_it_has_to_be() -> None:
    assert [bound_missed_repeats(count, MAX_LEAKAGE) for count in (0, 1, 15)] == [1, 2, 8]
    assert bound_missed_repeats(0, MAX_LEAKAGE_SHORT) == 10
    assert bound_missed_repeats(40, 0.0) == 0


def test_no_more_rows_were_learned_than_judge_or_than_new_ones_train() -> None:
    kinds = [RepeatCounts(200, 15, MAX_LEAKAGE), RepeatCounts(0, 0, MAX_LEAKAGE_SHORT)]
    assert bound_learned_rows(kinds, 1_000) == bound_missed_repeats(15, MAX_LEAKAGE)
    assert bound_learned_rows(kinds, 3) == 3
    assert bound_learned_rows([RepeatCounts(4, 15, MAX_LEAKAGE)], 1_000) == 4
    both = [RepeatCounts(200, 15, MAX_LEAKAGE), RepeatCounts(200, 0, MAX_LEAKAGE_SHORT)]
    assert bound_learned_rows(both, 1_000) > bound_missed_repeats(15, MAX_LEAKAGE) + bound_missed_repeats(
        0, MAX_LEAKAGE_SHORT
    )


SURE = LeakageEstimate(judging=200, short=0, recognised=15, most=8, allowed=5)


def sure(**changes: Any) -> LeakageEstimate:
    return replace(SURE, **changes)


def gathered(slipping: LeakageEstimate | None, **more: Any) -> GatheredRows:
    return row_of(GatheredRows, repeats=15, slipping=slipping, left_out={}, **more)


def check(unit: str, **more: Any) -> CheckReport:
    return row_of(CheckReport, check="not_worse_than", unit=unit, answer="passed", **more)


@pytest.mark.parametrize(
    ("slipping", "sentence"),
    [
        (sure(), "Up to 20 in 100 of the rows that repeat a held-out old row may go undetected."),
        (
            sure(),
            "at most 8 of the 200 held-out old rows were learned from such rows, which may lift the share",
        ),
        (
            sure(),
            "by up to 4 points. The check on old rows passes only if it would also pass without 5 of these,",
        ),
        (sure(), "without 5 of these, which keeps its 5% significance level."),
        (sure(most=2), "by up to 1 point."),
        (sure(short=200), "Up to 75 in 100, as answers have under 12 words, of the rows"),
        (sure(short=20), "Up to 20 in 100, and 75 where the answer has under 12 words, of the rows"),
        (None, "The answers are labels"),
        (None, "on the old rows has no bound here, and the check does not account for it."),
    ],
)
def test_what_may_slip_through_is_said_with_its_effect_or_that_this_has_no_bound(
    slipping: LeakageEstimate | None, sentence: str
) -> None:
    text = describe_leakage(gathered(slipping), check("share"))
    assert text.startswith("15 new rows repeat a held-out row")
    assert sentence in text


@pytest.mark.parametrize(
    ("most", "allowed", "learned", "without"),
    [
        (
            0,
            0,
            "confidence, none of the 200 held-out old rows was learned from such rows.",
            "allows for none.",
        ),
        (1, 0, "at most 1 of the 200 held-out old rows was learned from such rows.", "allows for none."),
        (
            1,
            1,
            "at most 1 of the 200 held-out old rows was learned",
            "passes only if it would also pass without it.",
        ),
        (
            2,
            0,
            "at most 2 of the 200 held-out old rows were learned",
            "The check on old rows allows for none.",
        ),
        (
            2,
            1,
            "at most 2 of the 200 held-out old rows were learned",
            "it would also pass without 1 of these.",
        ),
        (
            3,
            2,
            "at most 3 of the 200 held-out old rows were learned",
            "it would also pass without 2 of these.",
        ),
    ],
)
def test_none_one_and_more_rows_are_said_as_they_are(
    most: int, allowed: int, learned: str, without: str
) -> None:
    text = describe_leakage(gathered(sure(most=most, allowed=allowed)))
    assert learned in text
    assert text.endswith(without)
    assert "without 0" not in text


def test_points_and_a_level_are_claimed_of_shares_alone() -> None:
    rows = gathered(sure())
    for text in (
        describe_leakage(rows),  # not measured yet
        describe_leakage(rows, check("bits per byte")),
        describe_leakage(rows, check("bits per byte", lifted=0.2571)),
    ):
        assert "point" not in text
        assert "level" not in text
        assert "at most 8 of the 200 held-out old rows were learned from such rows." in text
    assert text.endswith(
        "without 5 of these, counted as the rows most in favor of the new version, which may lift it by"
        " 0.257 bits per byte."
    )


def test_where_nobody_looked_nothing_is_said_and_where_nobody_counted_that() -> None:
    assert describe_leakage(row_of(GatheredRows, left_out={})) == ""
    assert describe_leakage(gathered(sure(judging=0))) == ""
    earlier = describe_leakage(parse_document(GatheredRows, GATHERED | {"repeats": 15}))
    assert earlier.startswith("15 new rows repeat a held-out row")
    assert earlier.endswith("Gathered before leaks were counted, so the check does not account for them.")


def test_a_stored_null_says_that_there_is_no_bound() -> None:
    labels = parse_document(GatheredRows, GATHERED | {"repeats": 15, "slipping": None})
    assert "has no bound here" in describe_leakage(labels)
    assert as_json(labels)["slipping"] is None


def new_rows(kind: str) -> list[dict[str, Any]]:
    answer = ("ANIMAL", "PLACE") if kind == "label" else ("Otherwise.", "It is another one altogether.")
    return [spoken(n, answer[n % 2], kind) for n in range(1_000, 1_040)]


def test_where_answers_are_labels_there_is_no_bound_whatever_the_model(home: Home) -> None:
    for task in ("classification", "sft"):
        old = labelled(home)
        deal(home, old, task)
        assert gather(home, old, new_rows("label"))["counted"].slipping is None


def test_short_answers_are_counted_among_those_that_judge(home: Home) -> None:
    old = answered(home)  # of three words each
    deal(home, old)
    slipping = gather(home, old, new_rows("correction"))["counted"].slipping
    assert slipping == LeakageEstimate(judging=10, short=10, recognised=0, most=10, allowed=4)
    again = [spoken(n, "It is so.", "correction") for n in range(50, 54)]  # asks what test rows ask
    more = gather(home, old, [*new_rows("correction"), *again])["counted"].slipping
    assert (more.recognised, more.most, more.allowed) == (4, 10, 10)


@pytest.mark.parametrize("parts", [("validation", "test"), ("test", "validation")])
@pytest.mark.parametrize("nearly", [False, True])
def test_a_repeat_of_equal_rows_counts_for_the_test_row_wherever_it_is(
    home: Home, parts: tuple[str, str], nearly: bool
) -> None:
    rows = [{"prompt": question(n if n < 50 else n - 10), "completion": "It is 1."} for n in range(60)]
    old = make(home, rows)
    deal(home, old, parts={n: "train" if n < 40 else parts[n >= 50] for n in range(60)})
    again = [spoken(n, "It is so.", "correction") for n in range(40, 44)]
    if nearly:
        again = [{**each, "prompt": [{"role": "user", "content": f"{question(40 + n)} Now?"}]}
                 for n, each in enumerate(again)]  # fmt: skip
    made = gather(home, old, [*new_rows("correction"), *again])["counted"]
    assert (made.repeats, made.slipping.recognised) == (4, 4)


def report(monkeypatch: pytest.MonkeyPatch, most: int | None) -> Any:
    """Of 500 old rows the new version has 25 right that were wrong and 5 wrong that were right, as of the
    new ones."""
    own, other = np.zeros(500), np.zeros(500)
    own[5:485], other[:460] = 1.0, 1.0
    evidence: Any = {"rows": as_gate_row(own), "other_rows": as_gate_row(other), "other": "m@1"}
    check = {"check": "not_worse_than", "metric": "m", "margin": MARGIN, "part": "test"}
    case = gate_checks.GateCase("m@2", "production", "m@1", [(check, "", evidence), (check, "", evidence)])
    monkeypatch.setattr(gate_checks, "build_case", lambda *_: case)
    for name in ("explain_leakage", "explain_leakage_on_new_rows"):
        monkeypatch.setattr(gate, name, lambda *_: "")
    rows = (
        {}
        if most is None
        else {"rows": gathered(None if most < 0 else sure(judging=500, most=500, allowed=most))}
    )
    config = SimpleNamespace(run="r")
    improvement: Any = SimpleNamespace(config=config, facts=rows)
    nothing: Any = None
    return gate.judge_candidate(nothing, improvement, nothing, nothing)


@pytest.mark.parametrize(
    ("most", "answer", "how"),
    [
        (None, "passed", "better"),  # nobody counted
        (-1, "passed", "better"),  # labels
        (5, "passed", "better"),
        (15, "passed", "within"),  # 3 points, of which fewer were surely gained
        (30, "cant_tell", "cant_tell"),  # 5 points: without all that is gained it is worse
    ],
)
def test_a_check_passes_only_where_it_would_without_what_may_have_slipped_through(
    monkeypatch: pytest.MonkeyPatch, most: int | None, answer: str, how: str
) -> None:
    made = report(monkeypatch, most)
    old, new = made.checks
    assert (made.answer, old.answer, new.answer) == (answer, answer, "passed")
    assert improvement_text.classify_outcome(made) == how
    allowed = max(most or 0, 0)
    without = (20 - min(allowed, 25)) / (500 - allowed)
    assert (old.lifted or 0.0) == pytest.approx(20 / 500 - without)
    assert new.lifted is None
    slips = "if not for repeats that may have leaked into training, which could explain the difference"
    sentence = (
        "Without 30 rows whose repeats may have leaked into training, the difference could be 0.051 less"
    )
    assert (slips in made.sentence) == improvement_text.can_be_leakage(old) == (most == 30)
    assert (sentence in old.sentence) == (most == 30)


def test_what_fails_or_can_not_be_told_anyhow_is_no_matter_of_slips(monkeypatch: pytest.MonkeyPatch) -> None:
    old = report(monkeypatch, 30).checks[0]
    assert improvement_text.can_be_leakage(old)
    assert not improvement_text.can_be_leakage(replace(old, answer="failed"))
    assert old.value is not None
    assert not improvement_text.can_be_leakage(replace(old, value=replace(old.value, low=-0.1)))


def test_what_is_lifted_by_nobody_knows_how_much_is_a_matter_of_slips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = replace(report(monkeypatch, 30).checks[0], lifted=None)
    assert improvement_text.can_be_leakage(old)
    rated = replace(old, check="human_ratings")  # too few raters, as it may be
    assert not improvement_text.can_be_leakage(rated)


FEW = [
    rate
    for rate in slipped.RATES
    if "200 rows, 20 of 100 slip" in rate.name
    or "200 rows, 72 of 100 slip, short" in rate.name
    or ("of 200 rows of lengths" in rate.name and rate.name.startswith(("bits_per_byte", "weighted mean")))
]


@pytest.mark.parametrize("rate", FEW, ids=lambda rate: rate.name)
def test_the_check_keeps_its_level_and_the_card_its_word(rate: Rate) -> None:
    share = observe(rate, 200).share
    assert rate.low - 0.05 <= share <= rate.high + 0.03  # 200 draws of 5% give 8 in 3 of 100
