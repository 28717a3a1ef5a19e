"""Who is given which tasks of a round, and for how long they lie with them; over a real store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from store.core.errors import ConfigError, ForbiddenError, StateError
from store.core.schemas import Person
from store.db.records import read_scalar
from store.jobs import job_queue
from store.people import accounts
from store.rating import ratings, rounds, workload
from tests.unit.rating.round_desk import RoundDesk, person

BOB, CLEO, DAN = (person(name, "rater") for name in ("Bob", "Cleo", "Dan"))
MINUTES = 60.0
PAIRWISE = {"choice": "A"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path)
    yield desk
    desk.database.close()


def asked(desk: RoundDesk, round_id: str, by: Person = BOB, **body: Any) -> list[str]:
    """Ids of the tasks that a page gets."""
    return [task["task_id"] for task in desk("next_rating_tasks", by, round=round_id, **body)["tasks"]]


def rate(desk: RoundDesk, round_id: str, task: str, by: Person = BOB, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = desk(
        "rate", by, **{"round": round_id, "task": task, "answer": PAIRWISE, "seconds": 2.0} | body
    )
    return answer


def rate_all(desk: RoundDesk, round_id: str, by: Person, most: int = 10_000) -> int:
    """How many a person rates until nothing is left, or so many, and then leaves."""
    count, page = 0, asked(desk, round_id, by)
    while page and count < most:
        task = page.pop(0)
        page += [new["task_id"] for new in rate(desk, round_id, task, by, have=page)["tasks"]]
        page = page or asked(desk, round_id, by)
        count += 1
    desk("release_rating_tasks", by, round=round_id)
    return count


def units_of(desk: RoundDesk, round_id: str, by: Person | None = None, *, rated: bool = True) -> Counter[Any]:
    """How often each unit was given (or rated) as the first of its kind."""
    tasks = ratings.dealt(desk.database, round_id, by.person_id if by else None)
    return Counter(
        (task.item_id, tuple(sorted(task.systems)))
        for task in tasks
        if task.purpose == "first" and (task.answer is not None or not rated)
    )


def holds_of(desk: RoundDesk) -> int:
    return int(read_scalar(desk.database.query("SELECT count(*) FROM rating_hold")))


def test_who_only_looks_holds_four_of_twelve(desk: RoundDesk) -> None:
    round_id = desk.round(items=12, overlap=1)
    held = {task for _ in range(10) for task in asked(desk, round_id)}  # opened again and again
    assert len(held) == holds_of(desk) == 4
    assert rate_all(desk, round_id, CLEO) == 8
    assert len(ratings.dealt(desk.database, round_id, "bob")) == 4


def test_a_page_that_is_left_gives_back_what_it_held(desk: RoundDesk) -> None:
    round_id = desk.round(items=4, overlap=1)
    mine = asked(desk, round_id)
    assert asked(desk, round_id, CLEO) == []
    assert desk("release_rating_tasks", BOB, round=round_id, keep=mine[:1]) == {"released": 3}
    assert desk("release_rating_tasks", CLEO, round=round_id) == {"released": 0}  # not hers to give back
    assert len(asked(desk, round_id, CLEO)) == 3
    assert asked(desk, round_id) == mine[:1]


def test_opened_and_left_again_and_again_it_is_the_same_four(desk: RoundDesk) -> None:
    round_id = desk.round(items=12, overlap=1)
    first = asked(desk, round_id)
    for _ in range(10):
        desk("release_rating_tasks", BOB, round=round_id)
        assert asked(desk, round_id) == first
    assert len(ratings.dealt(desk.database, round_id)) == 4


def test_five_minutes_of_silence_end_a_hold_and_any_request_renews_it(desk: RoundDesk) -> None:
    round_id = desk.round(items=4, overlap=1)
    mine = asked(desk, round_id)
    for _ in range(6):
        desk.now += 4 * MINUTES
        assert asked(desk, round_id, have=mine) == []
    assert asked(desk, round_id, CLEO) == []
    desk.now += 5 * MINUTES
    assert len(asked(desk, round_id, CLEO)) == 4


def test_a_rating_renews_what_its_page_has(desk: RoundDesk) -> None:
    round_id = desk.round(items=4, overlap=1)
    mine = asked(desk, round_id)
    desk.now += 4 * MINUTES
    rate(desk, round_id, mine[0], have=mine[1:])
    desk.now += 4 * MINUTES
    assert asked(desk, round_id, CLEO) == []


def test_a_clock_that_is_set_back_ends_holds_and_loses_no_rating(desk: RoundDesk) -> None:
    round_id = desk.round(items=4, overlap=1)
    mine = asked(desk, round_id)
    desk.now -= 3_600
    theirs = asked(desk, round_id, CLEO)
    assert len(theirs) == 4  # not locked for an hour
    assert rate(desk, round_id, mine[0])["stored"]
    assert asked(desk, round_id, CLEO, have=theirs) == []
    assert sum(rate(desk, round_id, task, CLEO)["stored"] for task in theirs) == 4


def test_a_rating_of_what_was_let_go_is_taken_until_others_have_rated_it(desk: RoundDesk) -> None:
    round_id = desk.round(items=2, overlap=1)
    first, second = asked(desk, round_id)
    desk("release_rating_tasks", BOB, round=round_id)
    theirs = asked(desk, round_id, CLEO)
    assert rate(desk, round_id, first)["stored"]  # it lies with Cleo, who has not rated it
    for task in theirs:
        rate(desk, round_id, task, CLEO)
    with pytest.raises(StateError, match="Other raters completed"):
        rate(desk, round_id, second)
    assert rate(desk, round_id, first, revision=2, answer={"choice": "B"})["revision"] == 2


def test_of_two_tabs_the_one_that_stays_holds_its_tasks_again(desk: RoundDesk) -> None:
    round_id = desk.round(items=6, overlap=1)
    tab = asked(desk, round_id)
    assert asked(desk, round_id) == tab
    desk("release_rating_tasks", BOB, round=round_id)  # the other is closed
    assert holds_of(desk) == 0
    assert asked(desk, round_id, have=tab) == []
    assert holds_of(desk) == 4
    receipt = rate(desk, round_id, tab[0], have=tab[1:])
    again = rate(desk, round_id, tab[0], have=tab[1:])
    assert (receipt["already"], again["already"]) == (False, True)
    assert ratings.count_revisions(desk.database, round_id) == 1


def test_twenty_at_once_on_twelve_never_rate_more_than_is_wanted(desk: RoundDesk) -> None:
    round_id = desk.round(items=12, overlap=2)
    people = [person(f"P{number}", "rater") for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda each: rate_all(desk, round_id, each), people))
    assert sum(counts) == 24
    assert set(units_of(desk, round_id).values()) == {2}
    assert holds_of(desk) == 0


def test_everybody_rates_the_same_prompts_first(desk: RoundDesk) -> None:
    round_id = desk.round(items=20, overlap=1, calibration_share=0.1)
    people = [BOB, CLEO, DAN]
    for each in people:
        assert rate_all(desk, round_id, each, most=5) == 5
    everybodys = {frozenset(units_of(desk, round_id, each)) for each in people}
    assert len(everybodys) == 1
    assert len(next(iter(everybodys))) == 5
    line = rounds.line(desk.database, round_id)
    assert (line.rated, line.extra, line.wanted) == (15, 10, 20)
    assert rate_all(desk, round_id, BOB) == 15
    desk("close_round", round=round_id)
    line = rounds.line(desk.database, round_id)
    assert (line.rated - line.extra, line.wanted) == (20, 20)


def test_a_quota_goes_to_what_everybody_rates_by_half_at_most(desk: RoundDesk) -> None:
    round_id = desk.round(items=20, overlap=1, calibration_share=0.5, per_rater=6)
    for each in (BOB, CLEO):
        assert rate_all(desk, round_id, each) == 6
    assert sorted(units_of(desk, round_id).values()) == [1] * 6 + [2] * 3


def test_pairs_of_models_come_evenly_to_each_rater(desk: RoundDesk) -> None:
    ids = [desk.evaluated(name, [f"{name} {n}" for n in range(20)]) for name in ("One", "Two", "Three")]
    round_id = desk.round(models=[{"evaluation": each} for each in ids], overlap=2, calibration_share=0.1)
    rate_all(desk, round_id, CLEO, most=10)
    assert rate_all(desk, round_id, BOB, most=54) == 54
    by_pair = Counter(systems for _, systems in units_of(desk, round_id, BOB))
    assert set(by_pair.values()) == {18}


def test_what_comes_again_lies_back_and_has_its_sides_turned(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=1, repeat_share=0.2)
    rate_all(desk, round_id, BOB)
    own = ratings.dealt(desk.database, round_id, "bob")
    places = {task.task_id: (place, task) for place, task in enumerate(own)}
    repeats = [(place, task) for place, task in enumerate(own) if task.purpose == "repeat"]
    assert len(repeats) == 5
    for place, task in repeats:
        earlier, original = places[str(task.repeat_of)]
        assert place - earlier >= 6
        assert task.systems == original.systems[::-1]


def test_counts_are_made_anew_from_the_ratings(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=2, calibration_share=0.1)
    for each in (BOB, CLEO):
        rate_all(desk, round_id, each, most=12)
    rate(desk, round_id, asked(desk, round_id)[0], answer={"skipped": True, "reason": ""})
    before = desk.database.query("SELECT * FROM rating_unit ORDER BY item_id, systems").to_pylist()
    with desk.database.transaction() as tx:
        tx.execute("DELETE FROM rating_unit")
    asked(desk, round_id)
    assert desk.database.query("SELECT * FROM rating_unit ORDER BY item_id, systems").to_pylist() == before
    assert len(before) == 20


def test_a_skip_that_is_thought_over_counts_once(desk: RoundDesk) -> None:
    round_id = desk.round(items=1, overlap=1)
    (task,) = asked(desk, round_id)
    rate(desk, round_id, task, answer={"skipped": True, "reason": ""})
    assert len(asked(desk, round_id, CLEO)) == 1
    desk("release_rating_tasks", CLEO, round=round_id)
    rate(desk, round_id, task, revision=2)
    assert asked(desk, round_id, CLEO) == []
    rate(desk, round_id, task, revision=3, answer={"skipped": True, "reason": ""})
    assert len(asked(desk, round_id, CLEO)) == 1


@pytest.mark.parametrize("seed", range(2))
def test_whoever_comes_and_goes_every_unit_gets_its_ratings(desk: RoundDesk, seed: int) -> None:
    """Raters come, leave with or without a word, fall silent, skip, and come back to old pages."""
    random = Random(seed)
    round_id = desk.round(items=10, overlap=2, calibration_share=0.1, repeat_share=0.1)
    people = [person(f"P{number}", "rater") for number in range(5)]
    pages: dict[str, list[str]] = {each.person_id: [] for each in people}
    for _ in range(150):
        each = random.choice(people)
        page = pages[each.person_id]
        act = random.random()
        if act < 0.1:
            desk("release_rating_tasks", each, round=round_id)
        elif act < 0.15:
            page.clear()  # the browser is gone without a word
        elif act < 0.2:
            desk.now += random.uniform(0, 600)
        elif act < 0.3 or not page:
            page += asked(desk, round_id, each, have=page)
        else:
            task = page.pop(0)
            answer = {"skipped": True, "reason": ""} if random.random() < 0.1 else PAIRWISE
            try:
                page += [
                    new["task_id"]
                    for new in rate(desk, round_id, task, each, answer=answer, have=page)["tasks"]
                ]
            except StateError:
                assert units_of(desk, round_id)  # others were quicker
    rated = ratings.dealt(desk.database, round_id)
    assert len({task.item_id for task in rated if task.answer}) == 10  # nothing starves, closed early
    late = [person(f"L{number}", "rater") for number in range(3)]
    desk.now += 6 * MINUTES
    for each in late:
        rate_all(desk, round_id, each)
    counts = Counter(
        task.item_id
        for task in ratings.dealt(desk.database, round_id)
        if task.purpose == "first" and task.answer and "skipped" not in task.answer
    )
    assert set(counts) == set(range(10))
    assert min(counts.values()) >= 2
    for each in [*people, *late]:
        assert max(units_of(desk, round_id, each, rated=False).values(), default=0) <= 1
    assert rate_all(desk, round_id, person("Last", "rater")) == 5  # what everybody rates, and no more
    assert holds_of(desk) == 0


def test_the_qualification_comes_first_and_who_fails_it_gets_nothing_more(desk: RoundDesk) -> None:
    pairs = [{"prompt": f"P{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(9)]
    desk.imported("Known", pairs)
    round_id = desk.round(overlap=1, gold_dataset="Known", qualification_items=3, per_rater=2)
    for by, right in ((BOB, True), (CLEO, False)):
        for _ in range(3):
            (task, *_) = desk("next_rating_tasks", by, round=round_id)["tasks"]
            better = "A" if task["answers"][0].startswith("good") else "B"
            assert task["prompt"][-1]["content"].startswith("P")  # nothing else until all are answered
            answer = better if right else {"A": "B", "B": "A"}[better]
            rate(desk, round_id, task["task_id"], by, answer={"choice": answer})
    passed, failed = (desk("next_rating_tasks", by, round=round_id) for by in (BOB, CLEO))
    assert (len(passed["tasks"]), passed["notice"]) == (2, None)  # they count towards no quota
    assert failed["tasks"] == []
    assert failed["notice"].startswith("Thank you")
    assert failed["progress"]["done"] == failed["progress"]["total"] == 3
    with pytest.raises(StateError, match="graded"):  # or one would try until it passes
        rate(desk, round_id, task["task_id"], CLEO, revision=2, answer={"choice": better})
    desk("let_rater_in", round=round_id, person="cleo")
    assert len(asked(desk, round_id, CLEO)) == 2


# -- assigned raters -----------------------------------------------------------------------------------


def with_accounts(desk: RoundDesk, *people: Person) -> None:
    with desk.database.transaction() as tx:
        for each in people:
            email = f"{each.person_id}@example.org"
            row = accounts.Account(
                person_id=each.person_id,
                name=each.name,
                role=each.role,
                active=True,
                email=email,
                password=None,
                verified=True,
            )
            accounts.add_account(tx, row, job_queue.to_utc(desk.now))


def test_a_round_of_named_people_is_theirs_alone(desk: RoundDesk) -> None:
    with_accounts(desk, BOB, CLEO)
    raters = [{"person": "bob@example.org", "quota": 3}, {"person": "Cleo"}]
    round_id = desk.round(items=12, overlap=1, raters=raters)
    for each in (BOB, CLEO):
        assert [round.round_id for round in desk("rounds_to_rate", each)["rounds"]] == [round_id]
    assert desk("rounds_to_rate", DAN)["rounds"] == []
    # the desk shows this and asks no more
    with pytest.raises(StateError, match="restricted to assigned raters"):
        asked(desk, round_id, DAN)
    assert (rate_all(desk, round_id, BOB), rate_all(desk, round_id, CLEO)) == (3, 9)


def test_who_is_taken_off_rates_no_more_and_gives_back_what_they_held(desk: RoundDesk) -> None:
    with_accounts(desk, BOB, CLEO)
    round_id = desk.round(items=4, overlap=1)
    mine = asked(desk, round_id)
    rate(desk, round_id, mine[0])
    released = desk("assign_round", round=round_id, raters=[{"person": "Cleo"}])
    assert released == {"released": 3}
    with pytest.raises(StateError, match="restricted to assigned raters"):
        rate(desk, round_id, mine[1])
    assert ratings.count_revisions(desk.database, round_id) == 1  # and what Bob rated stays
    assert rate_all(desk, round_id, CLEO) == 3
    desk("assign_round", round=round_id, everybody=True)
    assert [round.round_id for round in desk("rounds_to_rate", BOB)["rounds"]] == [round_id]


@pytest.mark.parametrize(
    ("raters", "field"),
    [
        ([{"person": "nobody"}], "raters.0.person"),
        ([{"person": "Bob"}, {"person": "bob@example.org"}], "raters.1.person"),
        ([{"person": "Vic"}], "raters.0.person"),
        ([{"person": "Bob", "quota": 0}], "raters.0.quota"),
        ([], "config"),
    ],
)
def test_who_can_not_be_named_is_said(desk: RoundDesk, raters: list[dict[str, Any]], field: str) -> None:
    with_accounts(desk, BOB, person("Vic", "viewer"))
    round_id = desk.round()
    with pytest.raises(ConfigError) as refused:
        desk("assign_round", round=round_id, raters=raters)
    assert refused.value.field == field
    assert [round.round_id for round in desk("rounds_to_rate", DAN)["rounds"]] == [round_id]


def test_raters_may_not_name_or_release(desk: RoundDesk) -> None:
    round_id = desk.round()
    for command, body in (("assign_round", {"everybody": True}), ("release_round", {})):
        with pytest.raises(ForbiddenError):
            desk(command, BOB, round=round_id, **body)


def test_the_lead_sees_who_is_at_it_and_gives_back_what_lies_with_them(desk: RoundDesk) -> None:
    with_accounts(desk, BOB, CLEO)
    raters = [{"person": "Bob", "quota": 8}, {"person": "Cleo"}]
    round_id = desk.round(items=12, overlap=1, raters=raters)
    for _ in range(6):
        rate(desk, round_id, asked(desk, round_id)[0], seconds=10.0)
    seen = workload.workload(desk.database, round_id, now_of(desk))
    bob, cleo = seen.raters
    assert (bob.rated, bob.held, bob.left, bob.median_seconds) == (6, 2, 2, 10.0)
    assert (cleo.rated, cleo.held, cleo.left, cleo.last_active) == (0, 0, None, None)
    assert (seen.ratings_left, seen.wanted, seen.for_everybody) == (6, 12, False)
    assert seen.seconds_of_work_left == 60.0
    assert seen.days_left == pytest.approx(11 / 86_400, rel=0.3)  # six took some ten seconds
    assert desk("release_round", round=round_id, person="bob") == {"released": 2}
    assert workload.workload(desk.database, round_id, now_of(desk)).raters[0].held == 0


def now_of(desk: RoundDesk) -> Any:
    return job_queue.to_utc(desk.now)
