"""What people said becomes rows: each reason why one is none, no leak, and rows that judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.retraining import duplicates, feedback_rows, job
from store.core.errors import ConfigError
from store.core.home import Home
from tests.unit.improving.gathered import LABELS, answered, deal, gather, labelled, lacking, spoken, text
from tests.unit.recipe_samples import make


def fresh(count: int = 40, start: int = 1_000, **fields: Any) -> list[dict[str, Any]]:
    return [spoken(n, LABELS[n % 2], **fields) for n in range(start, start + count)]


def test_every_reason_is_counted_and_rows_and_skipped_rows_are_all_there_were(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    others = [
        spoken(2_000, "A NEW CLASS"),
        spoken(2_001, LABELS[0], prompt=None),
        spoken(2_002, None),
        spoken(2_003, LABELS[0]),
        spoken(2_003, LABELS[1], person="p-bob"),
        spoken(2_004, LABELS[0]),
        spoken(2_004, LABELS[0], person="p-bob"),  # of one mind: one row
        spoken(45, LABELS[1]),  # validates
        spoken(55, LABELS[0]),  # tests, with another label
        spoken(2_005, LABELS[0], prompt=[{"role": "user", "content": text(56).upper() + " please"}]),
        spoken(3, LABELS[1]),  # trains already
        spoken(2_006, LABELS[0]),
        spoken(2_007, LABELS[0], prompt=[{"role": "user", "content": text(2_006).upper()}]),
        spoken(2_008, LABELS[0], prompt=[{"role": "user", "content": text(2_009)}]),
        spoken(2_009, LABELS[1]),
        spoken(2_010, LABELS[0], prompt=[{"role": "user", "content": ""}]),
        spoken(2_011, LABELS[0], prompt=[{"role": "user", "content": "half \ud800"}]),
    ]
    made = gather(home, old, [*fresh(), *others])
    counted = made["counted"]
    assert counted.left_out == {
        duplicates.DISAGREE: 2,
        feedback_rows.UNKNOWN: 1,
        feedback_rows.TEXT_GONE: 1,
        feedback_rows.FEEDBACK_GONE: 1,
        feedback_rows.DISAGREE: 1,
        duplicates.HELD_TEXT: 1,
        duplicates.HELD_PROMPT: 1,
        duplicates.HELD_SIMILAR: 1,
        duplicates.TRAINED: 1,
        duplicates.REPEATED: 1,
        "a question is empty": 1,
        "contains an unpaired surrogate, which is not a valid character": 1,
    }
    assert counted.asked == 40 + 15
    assert counted.train + counted.held_out + len(made["skipped"]) == counted.asked
    assert made["result"]["stats"]["parts"] == {"train": counted.train, "test": counted.held_out}
    assert {row["label"] for row in made["rows"]} == set(LABELS)


def test_a_correction_trains_and_never_judges(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    corrected = [spoken(n, LABELS[(n + 1) % 2]) for n in range(20)]
    made = gather(home, old, [*fresh(20), *corrected], held_out=0.5)
    assert made["counted"].corrects == made["counted"].only_train == 20
    judging = {row["messages"][0]["content"] for row in made["rows"] if row["part"] == "test"}
    assert len(judging) == 20
    assert not judging & {text(n) for n in range(60)}


def test_where_all_correct_old_rows_nothing_could_judge(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    corrected = [spoken(n, LABELS[(n + 1) % 2]) for n in range(25)]
    assert "None of the 25 new rows can be held out" in lacking(home, old, corrected)["too_few"]


def test_fewer_than_20_rows_are_waited_for_with_why(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    before = sorted(home.datasets.iterdir())
    few = lacking(home, old, [*fresh(19), *(spoken(n, "OTHER") for n in range(3_000, 3_005))])
    assert "19 of 24 new rows are usable; at least 20 are needed. Left out: 5 a label" in few["too_few"]
    assert few["rows"].train + few["rows"].held_out == 19
    assert "0 of 0 new rows are usable" in lacking(home, old, [])["too_few"]
    assert sorted(home.datasets.iterdir()) == before


def test_answers_of_a_model_that_writes(home: Home) -> None:
    old = answered(home)
    deal(home, old)
    corrected = [spoken(n, f"A better answer {n}", "correction") for n in range(1_000, 1_040)]
    made = gather(home, old, [*corrected, spoken(5_000, "LABEL"), spoken(4, "It is 9.", "correction")])
    assert made["counted"].left_out == {"a label, but the run was not trained on labels": 1}
    assert made["counted"].corrects == 1
    assert made["rows"][0]["messages"][-1]["content"] == "It is 9."
    assert made["rows"][1]["messages"][-1]["content"].startswith("A better answer")
    assert made["rows"][0]["label"] is None


def test_a_correction_becomes_a_pair_where_the_run_is_of_pairs(home: Home) -> None:
    pairs = [{"prompt": text(n), "chosen": f"Good {n}", "rejected": f"Bad {n}"} for n in range(60)]
    old = make(home, pairs)
    deal(home, old, "dpo")
    corrected = [spoken(n, f"A better answer {n}", "correction") for n in range(1_000, 1_030)]
    made = gather(home, old, [*corrected, spoken(6_000, "No.", "correction")])
    assert list(made["counted"].left_out.values()) == [1]
    assert all(row["rejected"] == "No." for row in made["rows"])


def test_rows_of_a_slice_and_their_labels(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    rows = [{"text": text(7_000 + n), "label": (*LABELS, "OTHER")[n % 3], "kept": n < 45} for n in range(60)]
    columns = {"text": "text", "label": "label"}
    more = make(home, rows, "More", format="text_label", columns=columns, ignore=["kept"])
    asked = {"source": "dataset", "dataset": "data-More", "where": {"expression": "\"source.kept\" = 'true'"}}
    made = gather(home, old, [], rows=[asked], mixed={"data-More": more})
    assert made["counted"].asked == 45
    assert made["counted"].left_out == {feedback_rows.UNKNOWN: 11, job.TEST_ROW: 10}
    other = answered(home)
    with pytest.raises(ConfigError, match="of the kind text"):
        gather(home, old, [], rows=[asked], mixed={"data-More": other | {"kind": "text"}})


def test_rows_drawn_at_random_judge_first_and_it_is_said(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    drawn = fresh(20, 2_000, random=True)
    made = gather(home, old, [*fresh(40), *drawn])
    assert made["counted"].held_out == 18
    assert made["counted"].held_out_random
    judging = {row["messages"][0]["content"] for row in made["rows"] if row["part"] == "test"}
    assert judging <= {text(n) for n in range(2_000, 2_020)}
    assert not gather(home, old, [*fresh(80), *fresh(2, 2_000, random=True)])["counted"].held_out_random


@pytest.mark.parametrize(
    ("count", "share", "held"), [(20, 0.3, 6), (39, 0.1, 4), (40, 0.1, 10), (100, 0.3, 30), (20, 0.5, 10)]
)
def test_how_many_judge(count: int, share: float, held: int) -> None:
    assert feedback_rows.count_judging_rows(count, share) == held


def test_groups_are_never_parted_and_never_more_than_half_judge() -> None:
    rng = np.random.default_rng(0)
    for trial in range(50):
        count = int(rng.integers(20, 120))
        groups = rng.integers(0, max(2, count // int(rng.integers(1, 8))), count)
        digests = rng.integers(0, 2**63, count).astype(np.uint64)
        may, random = rng.random(count) < 0.8, rng.random(count) < 0.3
        made = feedback_rows.choose_judging_rows(digests, groups, may, random, 0.5, trial)
        assert made.judges.sum() <= count // 2
        assert not (made.judges & ~may).any()
        for group in np.unique(groups[made.judges]):
            assert made.judges[groups == group].all()
        order = rng.permutation(count)
        again = feedback_rows.choose_judging_rows(
            digests[order], groups[order], may[order], random[order], 0.5, trial
        )
        assert (again.judges == made.judges[order]).all()
