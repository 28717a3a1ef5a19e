"""The ledger of looks: each set of runs counts once, whoever reads its comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.evaluation.comparison.evaluation_text import FALSE_RATE, describe_looks
from store.core.errors import ConfigError, ForbiddenError, NotFoundError
from store.core.figure_schemas import Gain, JudgingSplit
from store.core.schemas import Person
from store.evaluation.schemas import ComparisonLooks
from store.evaluation.verdict_schemas import Verdict
from store.people import activity
from store.people.activity import ActivityFilter
from store.runs import runs
from tests.unit.desk import Desk
from tests.unit.store_samples import row_of

VIEWER = Person(person_id="p-v", name="V", role="viewer")
RATER = Person(person_id="p-r", name="R", role="rater")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.add_dataset()
    yield desk
    desk.database.close()


def add_run(desk: Desk, name: str, split: JudgingSplit = "validation", judged: bool = True) -> str:
    """Launch a run and give it a verdict with a gain on the rows of `split`."""
    run_id = str(desk("launch", dataset="D", name=name)["run_id"])
    if judged:
        with desk.database.transaction() as tx:
            runs.update(tx, run_id, verdict=row_of(Verdict, gain=row_of(Gain, split=split)))
    return run_id


def look(desk: Desk, *run_ids: str, by: Person = VIEWER) -> list[ComparisonLooks]:
    return list(desk("record_comparison", by=by, runs=list(run_ids))["looks"])


def test_a_set_of_runs_counts_once_and_one_that_leaves_runs_out_is_marked(desk: Desk) -> None:
    a, b, c, d = (add_run(desk, name) for name in "ABCD")
    (first,) = look(desk, a, b, c)
    assert first == {"split": "validation", "comparisons": 1, "narrowed": 0, "runs": 3, "repeated": 0}
    assert look(desk, c, a, b, b) == [first]  # the same set in another order
    (narrowed,) = look(desk, a, b)
    assert (narrowed["comparisons"], narrowed["narrowed"], narrowed["runs"]) == (2, 1, 3)
    (other,) = look(desk, a, d)
    assert (other["comparisons"], other["narrowed"], other["runs"]) == (3, 1, 4)
    count, _ = activity.listed(desk.database, ActivityFilter(commands=("record_comparison",)))
    assert count == 0


def test_runs_on_other_rows_and_runs_without_a_gain_are_no_part_of_it(desk: Desk) -> None:
    a, b, bare = add_run(desk, "A"), add_run(desk, "B"), add_run(desk, "Bare", judged=False)
    tested, again = add_run(desk, "T", "test"), add_run(desk, "U", "test")
    assert look(desk, a, bare, tested) == []
    looks = look(desk, a, b, bare, tested, again)
    assert [each["split"] for each in looks] == ["validation", "test"]
    assert [(each["comparisons"], each["runs"]) for each in looks] == [(1, 2), (1, 2)]


def test_evaluations_of_a_model_on_the_same_rows_again_are_counted(desk: Desk) -> None:
    a, b = add_run(desk, "A"), add_run(desk, "B")
    insert = (
        "INSERT INTO evaluation BY NAME SELECT ? AS evaluation_id, 'E' AS name, '' AS notes, 'm' AS model,"
        " ? AS run_id, 'tuned' AS checkpoint, 'data-D' AS dataset_id, 'D' AS dataset_name,"
        " (SELECT data_fingerprint FROM run LIMIT 1) AS data_fingerprint, ? AS part, 9 AS n, '{}' AS config,"
        " '[]' AS figures, '{}' AS details, TIMESTAMP '2026-01-01' AS created_at, NULL AS created_by"
    )
    kinds = [("1", a, "validation"), ("2", a, "validation"), ("3", b, "validation"), ("4", a, "test")]
    with desk.database.transaction() as tx:
        for evaluation_id, run_id, part in kinds:
            tx.execute(insert, [evaluation_id, run_id, part])
    assert look(desk, a, b)[0]["repeated"] == 1


def test_a_deleted_run_stays_on_record_and_a_run_that_is_not_there_is_refused(desk: Desk) -> None:
    a, b, c = (add_run(desk, name) for name in "ABC")
    look(desk, a, b)
    with desk.database.transaction() as tx:
        tx.execute("DELETE FROM run WHERE run_id = ?", [b])
    assert look(desk, a, c)[0]["comparisons"] == 2
    with pytest.raises(NotFoundError):
        look(desk, a, b)
    with pytest.raises(ConfigError, match="runs"):
        desk("record_comparison", runs=[])
    with pytest.raises(ForbiddenError):
        look(desk, a, c, by=RATER)


def looks_of(comparisons: int, narrowed: int = 0, repeated: int = 0) -> ComparisonLooks:
    return ComparisonLooks(
        split="test", comparisons=comparisons, narrowed=narrowed, runs=5, repeated=repeated
    )


@pytest.mark.parametrize("comparisons", [0, 1])
def test_one_look_is_no_cause_for_a_sentence(comparisons: int) -> None:
    assert describe_looks(looks_of(comparisons)) == ""


def test_the_sentence_says_how_many_false_results_are_to_be_expected() -> None:
    few = describe_looks(looks_of(6, narrowed=1, repeated=2))
    assert few.startswith("6 different sets of runs, of 5 runs in all, have been compared on these test rows")
    assert "(1 without some runs of an earlier set, 2 repeated evaluations)" in few
    assert "up to 0.30 of these comparisons" in few
    assert "is up to 30%" in few
    many = describe_looks(looks_of(50))
    assert "up to 2.5 of these comparisons" in many
    assert "at least one is likely to have" in many


def test_the_bounds_hold_for_comparisons_that_share_their_rows() -> None:
    """10 models without any difference on 200 shared rows, each against the first: the tests depend on one
    another, and neither bound is passed."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(2_000, 10, 200))
    gaps = scores[:, 1:] - scores[:, :1]
    z = gaps.mean(axis=2) / gaps.std(axis=2, ddof=1) * np.sqrt(200)
    false = np.abs(z) > 1.972  # Student's t of 199 degrees of freedom at 95%
    bound = 9 * FALSE_RATE
    assert false.sum(axis=1).mean() <= bound * 1.1
    assert false.any(axis=1).mean() <= bound
