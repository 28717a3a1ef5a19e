"""What statistics take of a round: columns of the store, as comparisons, ranks, scores and passes."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.rating.analysis.comparisons import PairOutcome, compute_length_difference
from engine.rating.analysis.labels import compute_label_statistics, compute_sampling_weights
from engine.rating.analysis.rater_checks import compute_checks_from_table, compute_rater_checks
from engine.rating.analysis.rater_reliability import profile_raters
from engine.rating.analysis.rates import Ranks, derive_comparisons
from engine.rating.analysis.round_ratings import RoundRatings, build_round_ratings, list_label_tasks
from store.core.home import Home
from store.core.rating_schemas import RatingProtocol, Round, RoundDetails, RoundSystem
from store.core.schemas import Person
from store.db.database import Database
from store.rating import ratings, rounds
from tests.unit.store_samples import row_of

ANN = Person(person_id="ann", name="Ann", role="rater")
OTHER_ANN = Person(person_id="anne", name="Ann", role="rater")
AT = datetime.datetime(2026, 1, 5, 9)
TEXTS = [["**one**\n- a\n- b", "two", None], [None, "| x | y |\n```\nz\n```", "üöß"], ["", "1.\n1. a", "b"]]
Rating = tuple[Person, int, tuple[int, ...], str, dict[str, Any]]  # who, item, systems, purpose, answer


@pytest.fixture
def database(tmp_path: Any) -> Iterator[Database]:
    home = Home(tmp_path / "home").create()
    opened = Database(home.database, [home.datasets])
    yield opened
    opened.close()


def keep(database: Database, protocol: RatingProtocol, given: list[Rating]) -> Round:
    """A round of three models and three items, rated so, a second apart."""
    round = row_of(
        Round, round_id="r", name="R", notes="", protocol=protocol, config={}, state="closed",
        systems=[row_of(RoundSystem, name=name) for name in ("a", "b", "a")], item_count=3,
        details=row_of(RoundDetails), created_by="x",
        created_by_name="X", created_at=AT, closed_at=AT, closed_by_name="X",
    )  # fmt: skip
    items = pa.table({
        "item_id": [4, 5, 6], "row_id": pa.nulls(3, pa.int64()), "prompt": ["[]"] * 3,
        "reference": pa.nulls(3, pa.string()), "answers": TEXTS, "named": [False] * 3,
        "check": pa.nulls(3, pa.string()), "expected": pa.nulls(3, pa.string()), "weight": [1.0, 2.0, 1.0],
    })  # fmt: skip
    with database.transaction() as tx:
        rounds.insert(tx, round, items)
        for place, (person, item, systems, purpose, answer) in enumerate(given):
            row = ratings.NewRow(f"t{place}", item, systems, purpose, None, place)  # type: ignore[arg-type]
            ratings.insert_tasks(tx, "r", person, [row], AT)
            at = AT + datetime.timedelta(seconds=place)
            ratings.insert(tx, "r", f"t{place}", 1, answer, comment="", seconds=1.0 + place, at=at)  # type: ignore[arg-type]
    return round


def read_ratings(database: Database, round: Round, *left_out: str) -> RoundRatings:
    return build_round_ratings(round, ratings.rated(database, "r"), left_out)


def test_pairs_come_with_sides_lengths_and_marks(database: Database) -> None:
    given = [
        (ANN, 4, (1, 0), "first", {"choice": "A"}),
        (OTHER_ANN, 4, (0, 1), "first", {"choice": "B"}),
        (ANN, 5, (1, 2), "repeat", {"choice": "tie"}),
        (ANN, 6, (0, 1), "adjudication", {"choice": "both_bad"}),
        (ANN, 6, (1, 2), "first", {"skipped": True, "reason": ""}),
        (ANN, 6, (1, 2), "gold", {"choice": "A"}),
    ]
    ratings_of = read_ratings(database, keep(database, "pairwise", given))
    pairs = ratings_of.comparisons
    assert pairs is not None
    assert pairs.systems == ("a", "b", "a (2)")
    assert (pairs.left.tolist(), pairs.right.tolist()) == ([1, 0, 1, 0], [0, 1, 2, 1])
    named = [PairOutcome.LEFT, PairOutcome.RIGHT, PairOutcome.TIE, PairOutcome.BOTH_BAD]
    assert pairs.outcome.tolist() == named
    assert (pairs.items, pairs.item.tolist()) == (("4", "5", "6"), [0, 0, 1, 2])
    assert (pairs.raters, pairs.rater.tolist()) == (("Ann", "Ann (2)"), [0, 1, 0, 0])
    assert ratings_of.people == {"Ann": "ann", "Ann (2)": "anne"}
    assert pairs.repeat.tolist() == [False, False, True, False]
    assert pairs.adjudication.tolist() == [False, False, False, True]
    assert pairs.weights.tolist() == [1.0, 1.0, 2.0, 1.0]
    assert pairs.seconds.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert ratings_of.skipped == 1
    texts = [("two", TEXTS[0][0]), (TEXTS[0][0], "two"), (TEXTS[1][1], "üöß"), ("", TEXTS[2][1])]
    lengths = compute_length_difference(*np.array([[len(text) for text in pair] for pair in texts]).T)
    assert pairs.differences[:, pairs.covariates.index("length")] == pytest.approx(lengths)
    marks = {"two": 0, TEXTS[0][0]: 4, TEXTS[1][1]: 5, "üöß": 0, "": 0, TEXTS[2][1]: 1}
    logs = [np.log1p(marks[left]) - np.log1p(marks[right]) for left, right in texts]
    assert pairs.differences[:, pairs.covariates.index("formatting")] == pytest.approx(logs)


def test_votes_from_elsewhere_count_each_and_ours_by_prompt(database: Database) -> None:
    """Leaderboards are of votes; of our prompts some are rated by everybody, which weighs no more."""
    votes: list[Rating] = [(ANN, 4, (0, 1), "first", {"choice": "A"})]
    votes += [(OTHER_ANN, 5, (0, 1), "first", {"choice": choice}) for choice in ("B", "B", "tie")]
    round = keep(database, "pairwise", votes)
    chances = {4: 1.0, 5: 2.0}  # 1 / the chance of each prompt
    elsewhere = read_ratings(database, round).comparisons
    ours = read_ratings(database, replace(round, config={"protocol": "pairwise"})).comparisons
    assert elsewhere is not None
    assert ours is not None
    assert elsewhere.vote_weights.tolist() == [chances[4], *[chances[5]] * 3]
    assert ours.vote_weights.tolist() == [chances[4], *[pytest.approx(chances[5] / 3)] * 3]


def test_the_last_revision_counts_and_who_is_left_out_does_not(database: Database) -> None:
    given = [(ANN, 4, (0, 1), "first", {"choice": "A"}), (OTHER_ANN, 4, (0, 1), "first", {"choice": "A"})]
    round = keep(database, "pairwise", given)
    before = ratings.last_change(database, "r")
    with database.transaction() as tx:
        at = AT + datetime.timedelta(minutes=1)
        ratings.insert(tx, "r", "t0", 2, {"choice": "tie"}, comment="", seconds=3.0, at=at)
    revised = ratings.last_change(database, "r")
    assert read_ratings(database, round).comparisons.outcome.tolist() == [PairOutcome.LEFT, PairOutcome.TIE]
    with database.transaction() as tx:
        ratings.exclude_rater(tx, "r", "anne", ANN, AT)  # type: ignore[arg-type]
    assert len({before, revised, ratings.last_change(database, "r")}) == 3
    alone = read_ratings(database, round, "anne").comparisons
    assert (alone.outcome.tolist(), alone.raters) == ([PairOutcome.TIE], ("Ann",))
    assert [each.rated for each in ratings.rater_counts(database, "r")] == [1, 1]


def test_votes_say_how_sure_they_are_and_lengths_count_where_all_texts_are_there(database: Database) -> None:
    given = [
        (ANN, 5, (0, 1), "first", {"choice": "A", "preference": 0.75}),  # of the first no text is there
        (ANN, 4, (0, 1), "first", {"choice": "B"}),
        (ANN, 6, (0, 1), "first", {"choice": "tie", "preference": 0.5}),
    ]
    pairs = read_ratings(database, keep(database, "pairwise", given)).comparisons
    assert pairs.soft.tolist() == [True, False, False]
    assert pairs.signs.tolist() == [0.5, -1.0, 0.0]
    assert pairs.covariates == ()  # of some texts alone length and formatting can't be held equal


def test_ranks_scores_and_passes_are_taken_apart(database: Database, tmp_path: Any) -> None:
    ranked = read_ratings(
        database, keep(database, "rank", [(ANN, 6, (2, 0, 1), "first", {"ranks": [1, 2, 2]})])
    )
    assert (ranked.ranks.system.tolist(), ranked.ranks.rank.tolist()) == ([2, 0, 1], [1, 2, 2])
    assert len(ranked.comparisons) == 3
    for protocol, answer in (("rubric", {"scores": {"Use": 4, "Tone": 2}}), ("pass_fail", {"passed": True})):
        home = Home(tmp_path / protocol).create()
        other = Database(home.database, [home.datasets])
        first = [(ANN, 5, (1,), "first", answer | ({"reasons": []} if protocol == "pass_fail" else {}))]
        given_back = read_ratings(other, keep(other, protocol, [*first, (ANN, 6, (2,), "repeat", answer)]))  # type: ignore[arg-type]
        other.close()
        if given_back.scores is not None:
            names = [given_back.scores.criteria[place] for place in given_back.scores.criterion]
            assert dict(zip(names, given_back.scores.score, strict=True)) == {"Use": 4.0, "Tone": 2.0}
        else:
            assert (given_back.passes.passed.tolist(), given_back.passes.weights.tolist()) == ([True], [2.0])


def test_a_round_of_which_nothing_was_said_has_no_rows(database: Database) -> None:
    given_back = read_ratings(database, keep(database, "pairwise", []))
    assert len(given_back.comparisons) == 0
    assert profile_raters(given_back.comparisons) == []
    assert json.dumps(given_back.people) == "{}"


def test_columns_say_of_raters_and_labels_what_documents_do(database: Database) -> None:
    """Figures of large rounds rest on columns: they are those of the ratings one by one."""
    given: list[Rating] = [
        *((ANN, 4 + n % 3, (0, 1, 2), "first", {"label": "ab"[n % 2], "note": ""}) for n in range(9)),
        (OTHER_ANN, 4, (0, 1, 2), "first", {"label": None, "note": ""}),
        (OTHER_ANN, 5, (0, 1, 2), "adjudication", {"label": "b", "note": "why"}),
        (OTHER_ANN, 6, (0, 1, 2), "first", {"skipped": True, "reason": "unclear"}),
        (replace(ANN, person_id="cid", name="Cid"), 6, (0, 1, 2), "gold", {"label": "a", "note": ""}),
    ]
    round = keep(database, "label", given)
    rated, tasks = ratings.rated(database, "r"), ratings.dealt(database, "r")
    checks = ratings.check_tasks(database, "r")
    assert len(checks) == 1
    items = rounds.items(database, "r")
    assert compute_checks_from_table(round, rated, checks, items) == compute_rater_checks(round, tasks, items)
    weights = compute_sampling_weights(round, items, [])
    for left_out in ((), ("ann",)):
        figures = compute_label_statistics(list_label_tasks(rated), [], weights, left_out)
        # an alpha that is not defined is NaN, which equals nothing
        assert repr(figures) == repr(compute_label_statistics(tasks, [], weights, left_out))
    bare = rounds.items(database, "r", prompts=False)
    assert bare == [replace(item, prompt=[]) for item in items]


def test_rankings_of_unequal_length_imply_their_pairs_in_order() -> None:
    """Rankings whose entries lie apart, as of a file that was imported."""
    who = ["x", "y", "x", "y", "x", "z", "y", "y"]
    ranks = Ranks.of(list("abbcacda"), ["1"] * 4 + ["2"] + ["1"] * 3, who, [1, 2, 2, 1, 1, 1, 3, 1])
    entries: dict[tuple[int, int], list[int]] = {}
    for entry, key in enumerate(zip(ranks.item.tolist(), ranks.rater.tolist(), strict=True)):
        entries.setdefault(key, []).append(entry)
    expected = [pair for some in entries.values() for pair in itertools.combinations(some, 2)]
    implied = derive_comparisons(ranks)
    assert len(implied) == len(expected) == 7
    assert implied.left.tolist() == [int(ranks.system[first]) for first, _ in expected]
    assert implied.right.tolist() == [int(ranks.system[second]) for _, second in expected]
    assert [implied.raters[place] for place in implied.rater] == ["x"] + ["y"] * 6
