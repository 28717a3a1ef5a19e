"""Check items: whose answer is right, who is qualified, and how gold pairs of older stores are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.rating.analysis.rater_checks import is_right
from engine.rating.task_selection import build_check_unit, has_qualified
from store.core.rating_schemas import AssignedTask, CheckKind, RatingAnswer, RoundDetails, RoundItem
from store.db import database as database_module
from store.db.records import to_json
from store.db.schema import MIGRATIONS
from store.rating import ratings, rounds
from store.rating.config import RoundConfig
from tests.unit.store_samples import open_store, row_of

BEFORE_CHECKS = "0024 removals"


def task(answer: Any, systems: tuple[int, ...] = (0, 1), item_id: int = 0) -> AssignedTask:
    return row_of(AssignedTask, item_id=item_id, systems=list(systems), answer=answer)


def known_item(item_id: int, check: CheckKind = "qualification") -> RoundItem:
    return row_of(RoundItem, item_id=item_id, check=check, expected={"choice": "A"})


RIGHT: dict[str, tuple[RatingAnswer, Any, tuple[int, ...], bool | None]] = {
    "the first, as it lies": ({"choice": "A"}, {"choice": "A"}, (0, 1), True),
    "the first, shown second": ({"choice": "A"}, {"choice": "B"}, (1, 0), True),
    "the second, shown first": ({"choice": "A"}, {"choice": "A"}, (1, 0), False),
    "a tie": ({"choice": "A"}, {"choice": "tie"}, (0, 1), False),
    "a tie that is right": ({"choice": "tie"}, {"choice": "tie"}, (1, 0), True),
    "skipped": ({"choice": "A"}, {"skipped": True, "reason": ""}, (0, 1), None),
    "not rated": ({"choice": "A"}, None, (0, 1), None),
    "ranks as shown": ({"ranks": [1, 2, 3]}, {"ranks": [3, 1, 2]}, (2, 0, 1), True),
    "ranks turned round": ({"ranks": [1, 2, 3]}, {"ranks": [1, 2, 3]}, (2, 1, 0), False),
    "a tie where order is known": ({"ranks": [1, 2, 2]}, {"ranks": [1, 1, 2]}, (0, 1, 2), False),
    "order where a tie is known": ({"ranks": [1, 2, 2]}, {"ranks": [1, 3, 2]}, (0, 1, 2), True),
    "a score within": ({"scores": {"Tone": 4}}, {"scores": {"Tone": 5, "Facts": 1}}, (0,), True),
    "a score beyond": ({"scores": {"Tone": 4}}, {"scores": {"Tone": 2, "Facts": 1}}, (0,), False),
    "a pass": ({"passed": True, "reasons": []}, {"passed": True, "reasons": ["Short"]}, (0,), True),
    "a fail": ({"passed": True, "reasons": []}, {"passed": False, "reasons": []}, (0,), False),
    "a label": ({"label": "card", "note": ""}, {"label": "card", "note": "x"}, (0, 1), True),
    "none of the labels": ({"label": "card", "note": ""}, {"label": None, "note": ""}, (0, 1), False),
    "a text that contains it": ({"text": "At  nine"}, {"text": "It opens at\nNine."}, (0,), True),
    "a text without it": ({"text": "at nine"}, {"text": "It opens at ten."}, (0,), False),
}


@pytest.mark.parametrize("case", RIGHT)
def test_an_answer_is_right_whatever_the_sides(case: str) -> None:
    expected, given, systems, right = RIGHT[case]
    assert is_right(task(given, systems), expected) is right


def test_a_rater_is_qualified_once_enough_of_all_qualification_items_are_right() -> None:
    config = RoundConfig.parse(
        {
            **{"name": "R", "models": [{"model": "a"}, {"model": "b"}]},
            **{"gold_dataset": "Known", "qualification_items": 4, "qualification_pass": 0.75},
        }
    )
    items = [*(known_item(n) for n in range(4)), known_item(9, "gold")]
    right, wrong, skipped = {"choice": "A"}, {"choice": "B"}, {"skipped": True, "reason": ""}
    verdicts = [
        has_qualified(config, [task(answer, item_id=n) for n, answer in enumerate(answers)], items)
        for answers in ([], [right] * 3, [right, right, right, wrong], [right, right, wrong, wrong])
    ]
    assert verdicts == [None, None, True, False]
    assert has_qualified(config, [task(skipped, item_id=n) for n in range(4)], items) is False
    assert has_qualified(config, [task(wrong, item_id=n) for n in range(4)], items, let_in=True) is True
    assert has_qualified(config, [], items[4:]) is True


def test_a_check_shows_as_many_answers_as_an_item_of_the_round() -> None:
    assert build_check_unit(7, 3, "pairwise") == (7, (0, 1))
    assert build_check_unit(7, 3, "rank") == (7, (0, 1, 2))
    assert build_check_unit(7, 3, "rubric") == (7, (0,))


def test_gold_pairs_of_an_older_store_are_checks_with_an_expected_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tuple(each for each in MIGRATIONS if each[0] <= BEFORE_CHECKS)
    monkeypatch.setattr(database_module, "MIGRATIONS", older)
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        for item_id, better in enumerate((None, 0, 1)):
            tx.execute(
                "INSERT INTO rating_item VALUES ('r', ?, NULL, '[]', NULL, ['x', 'y'], false, ?, 1.0)",
                [item_id, better],
            )
    database.close()
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS)
    _, database = open_store(tmp_path)
    kept = [(item.check, item.expected) for item in rounds.items(database, "r")]
    assert kept == [(None, None), ("gold", {"choice": "A"}), ("gold", {"choice": "B"})]
    assert rounds.list_check_ids(database, "r") == {"gold": [1, 2], "attention": [], "qualification": []}
    database.close()


@pytest.mark.parametrize("kind", ["gold", "attention", "qualification"])
def test_checks_are_no_votes_of_what_statistics_read(tmp_path: Path, kind: str) -> None:
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        tx.execute(
            "INSERT INTO rating_round BY NAME SELECT 'r' AS round_id, 'R' AS name, '' AS notes,"
            " 'pairwise' AS protocol, '{}' AS config, '[]' AS systems, 'open' AS state, 1 AS item_count,"
            " ? AS details, 'a' AS created_by, 'Ada' AS created_by_name, now()::TIMESTAMP AS created_at",
            [to_json(row_of(RoundDetails))],
        )
        for item_id, check in enumerate((None, kind, kind)):
            tx.execute(
                "INSERT INTO rating_item BY NAME SELECT 'r' AS round_id, ? AS item_id, '[]' AS prompt,"
                " ['x', 'y'] AS answers, false AS named, ? AS \"check\", 1.0 AS weight",
                [item_id, check],
            )
            tx.execute(
                "INSERT INTO rating_task BY NAME SELECT ? AS task_id, 'r' AS round_id, ? AS item_id,"
                " 'bob' AS person_id, 'Bob' AS person_name, [0, 1] AS systems, ? AS purpose, ? AS place,"
                " now()::TIMESTAMP AS given_at",
                [f"t{item_id}", item_id, check or "first", item_id],
            )
            answer = '{"skipped": true}' if item_id == 2 else '{"choice": "A"}'
            tx.execute(
                "INSERT INTO rating VALUES (?, 1, 'r', ?, '', 3.0, now()::TIMESTAMP)", [f"t{item_id}", answer]
            )
    assert len(ratings.rated(database, "r")) == 1
    database.close()
