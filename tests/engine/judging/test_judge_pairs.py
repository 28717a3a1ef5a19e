"""The judge job on answers that are there: both orders asked, ties and disagreements counted, and a judge
that is down or talks nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.evaluation import judge_job
from engine.worker.job import WorkerJob
from store.core.errors import DataError
from store.core.home import Home
from store.core.job_folder import write_json
from store.evaluation.schemas import JudgingResult, PairCounts
from tests.shapes import held_to
from tests.unit.judge_server import completion, judging

ROWS = 12


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_answers(home, "one", [f"good {i}" for i in range(ROWS)])
    write_answers(home, "two", [f"bad {i}" for i in range(ROWS)])
    return home


def write_answers(home: Home, name: str, answers: list[str | None], first: int = 0) -> None:
    folder = home.jobs / name
    folder.mkdir()
    count = len(answers)
    table = {
        "row_id": pa.array(range(first, first + count), pa.int64()),
        "prompt": [f"Question {i}" for i in range(count)],
        "prediction": pa.array(answers, pa.string()),
        "reference": pa.array(["good"] * count, pa.string()),
    }
    pq.write_table(pa.table(table), folder / "predictions.parquet")


def judged(home: Home, base_url: str, **fields: Any) -> tuple[WorkerJob, JudgingResult]:
    judge = {"metric": "judge", "base_url": base_url, "model": "m", "retries": 0, "timeout": 2}
    config = {"first": "one", "second": "two", "judge": judge} | fields
    folder = home.jobs / "judging"
    folder.mkdir(exist_ok=True)
    order = {"job_id": "judging", "kind": "judge", "home": str(home.path), "device": "cpu", "attempt": 1,
             "resume": False, "config": config}  # fmt: skip
    write_json(folder / "config.json", order)
    job = WorkerJob(folder)
    return job, held_to(JudgingResult, judge_job.run(job))


def better(question: str) -> str:
    """The good one wherever it stands, but number 3 is a tie and number 5 whichever is shown first."""
    if "Question 3\n" in question:
        return "tie"
    if "Question 5\n" in question:
        return "first"
    return "first" if question.index("good ") < question.index("bad ") else "second"


def test_both_orders_are_asked_and_what_the_order_decides_is_counted(home: Home) -> None:
    with judging(lambda question, number: completion(json.dumps({"better": better(question)}))) as server:
        job, result = judged(home, server.base_url, judge={
            "metric": "judge", "base_url": server.base_url, "model": "m", "with_reference": False,
        })  # fmt: skip
    assert len(server.requests) == 2 * ROWS
    assert result.pairs == PairCounts(first=ROWS - 2, second=0, ties=1, split=1, unjudged=0)
    assert result.figure.value == pytest.approx((ROWS - 1) / ROWS)
    assert result.figure.low < result.figure.value
    assert result.figure.details["position"]["agree"]["n"] == ROWS
    assert result.figure.details["position"]["first_shown"]["value"] == 1
    rows = pq.read_table(job.dir.path / "judgements.parquet").to_pylist()
    assert (rows[5]["forth"], rows[5]["back"], rows[5]["score"]) == (1, 0, 0.5)


def test_nonsense_and_answers_that_are_not_there_are_counted(home: Home) -> None:
    write_answers(home, "three", ["bad 0", None, *[f"bad {i}" for i in range(2, ROWS)]])

    def reply(question: str, number: int) -> Any:
        return completion("I like both!" if "Question 7\n" in question else '{"better": "first"}')

    with judging(reply) as server:
        _, result = judged(home, server.base_url, second="three")
    assert result.pairs.unjudged == 2
    assert result.pairs.split == ROWS - 2
    assert result.reasons == {
        "no answer was generated": 1, "the judge's answer has no verdict in JSON": 1,
    }  # fmt: skip
    assert result.figure.n == ROWS - 2


def test_a_judge_that_is_down_or_talks_nonsense_fails_and_says_of_how_many_pairs(home: Home) -> None:
    with judging(lambda *_: completion("I like both!")) as server:
        gone = server.base_url
        with pytest.raises(DataError) as nonsense:
            judged(home, server.base_url)
    every = f"None of {ROWS} pairs could be judged: "
    assert nonsense.value.message == f"{every}the judge's answer has no verdict in JSON ({ROWS})"
    with pytest.raises(DataError) as down:
        judged(home, gone)
    assert down.value.message.startswith(f"{every}the judge: ")
    assert "no connection" in down.value.message


def test_the_longer_answers_are_told_beside_the_judgement(home: Home) -> None:
    write_answers(home, "longer", [f"good {i} and {'more ' * (i + 1)}" for i in range(ROWS)])

    def longest(question: str, _: int) -> Any:
        places = [question.index("[First answer"), question.index("[Second answer")]
        first, second = question[places[0] : places[1]], question[places[1] :]
        return completion(json.dumps({"better": "first" if len(first) > len(second) else "second"}))

    with judging(longest) as server:
        _, result = judged(home, server.base_url, second="longer")
    length = result.figure.details["length"]
    assert (length["longer"]["value"], length["longer"]["n"], length["first_longer"]) == (1, ROWS, 0)
    assert (length["equal"], length["problem"]) == (None, "under 30 decided pairs")


def test_a_sample_of_pairs_is_told_and_rows_that_only_one_has_are_left_out(home: Home) -> None:
    write_answers(home, "later", ["bad"] * 8, first=8)
    with judging(lambda *_: completion('{"better": "tie"}')) as server:
        _, result = judged(home, server.base_url, max_rows=5)
        assert result.n == 5
        assert result.notices == ["A random 5 of 12 pairs."]
        assert judged(home, server.base_url, second="later")[1].n == 4
        write_answers(home, "other", ["bad"] * 3, first=50)
        with pytest.raises(DataError, match="no rows in common"):
            judged(home, server.base_url, second="other")
