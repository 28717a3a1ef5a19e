"""A home folder with rating rounds: an open one, closed ones of every protocol, one from elsewhere.

What people said is made up by a rule with chance in it and goes in by the real commands, so that what a page
shows follows from ratings that are really there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from store.core.home import Home
from store.jobs import job_queue
from store.rating import ratings, rounds
from tests.pages.seeds.made_once import made_once
from tests.unit.rating.round_desk import RoundDesk, person

RATERS = tuple(person(name, "rater") for name in ("Bea", "Carl <b>", "Dora"))
PROMPTS = 40
SCALE = {"name": "Helpfulness", "question": "Of use?", "anchors": ["none", "little", "some", "much", "all"]}
TOPICS = ["price", "tone", "<b>delivery</b>"]
Answer = Callable[[dict[str, Any], Random], dict[str, Any]]


@made_once
def seed_rounds(path: Path) -> Home:
    """The home folder."""
    desk = RoundDesk(path.parent, prompts=PROMPTS, home=path)
    random = Random(3)
    try:
        models = [{"evaluation": each} for each in desk.both()]
        rounds: list[tuple[str, dict[str, Any], Answer]] = [
            ("Pairs", {"overlap": 3, "repeat_share": 0.1}, _pair),
            ("Ranks", {"protocol": "rank", "items": 10}, lambda task, chance: {"ranks": [1, 2]}),
            ("Scores", {"protocol": "rubric", "criteria": [SCALE], "items": 10}, _score),
            ("Passes", {"protocol": "pass_fail", "reasons": ["Wrong"], "items": 10}, _pass),
            ("Better texts", {"protocol": "correction", "items": 4, "models": models[:1]}, _better),
            ("Topics", {"protocol": "label", "labels": TOPICS, "several_labels": True, "items": 6}, _topics),
            ("Marks", {"protocol": "spans", "labels": ["word"], "items": 6, "models": models[:1]}, _marks),
            ("Words", {"protocol": "free_text", "instruction": "What lacks?", "items": 6}, _words),
        ]
        for name, config, answer in rounds:
            round_id = desk.round(name=name, **({"models": models} | config))
            for rater in RATERS:
                _rate(desk, round_id, rater, answer, random)
            desk("close_round", round=round_id)
        desk.round(name="Nobody rated", models=models)
        round_id = desk.round(name="Open one", models=models, instruction="Which helps more?")
        _rate(desk, round_id, RATERS[0], _pair, random, most=15)
        _elsewhere(desk)
        _of_slice(desk, models, random)
        _of_file(desk, random)
        _checked(desk, models, random)
    finally:
        desk.database.close()
    return desk.home


def _rate(
    desk: RoundDesk,
    round_id: str,
    rater: Any,
    answer: Answer,
    random: Random,
    most: int = 1_000,
    pace: float | None = None,
) -> None:
    while most and (waiting := desk("next_rating_tasks", rater, round=round_id, want=min(4, most))["tasks"]):
        for task in waiting[:most]:
            seconds = pace or random.uniform(3, 12)
            body = {"round": round_id, "task": task["task_id"], "seconds": seconds, "want": 1}
            comment = "Says <i>more</i>." if random.random() < 0.05 else ""
            desk("rate", rater, **body, answer=answer(task, random), comment=comment)
            most -= 1


def _pair(task: dict[str, Any], random: Random) -> dict[str, Any]:
    """The longer answer in seven of ten; some ties, and some that both are bad."""
    longer = "A" if len(task["answers"][0]) > len(task["answers"][1]) else "B"
    other = "B" if longer == "A" else "A"
    return {"choice": random.choices([longer, other, "tie", "both_bad"], [0.6, 0.25, 0.1, 0.05])[0]}


def _score(task: dict[str, Any], random: Random) -> dict[str, Any]:
    return {
        "scores": {"Helpfulness": random.choice([3, 4, 5] if len(task["answers"][0]) > 20 else [1, 2, 3])}
    }


def _pass(task: dict[str, Any], random: Random) -> dict[str, Any]:
    passed = random.random() < 0.7
    return {"passed": passed, "reasons": [] if passed else ["Wrong"]}


def _better(task: dict[str, Any], random: Random) -> dict[str, Any]:
    return {"text": f"{task['answers'][0]} And <why>."}


def _topics(task: dict[str, Any], random: Random) -> dict[str, Any]:
    """Of every second prompt the same by all raters, else by chance."""
    if sum(map(ord, task["prompt"][-1]["content"])) % 2:
        return {"labels": TOPICS[:2], "note": ""}
    return {"labels": [label for label in TOPICS if random.random() < 0.6], "note": ""}


def _marks(task: dict[str, Any], random: Random) -> dict[str, Any]:
    return {"spans": [{"start": 0, "end": random.choice([5, 5, 6]), "label": "word"}]}


def _words(task: dict[str, Any], random: Random) -> dict[str, Any]:
    return {"written": random.choice(["=1+1 is a formula", "An <b>example</b> lacks.", "Nothing lacks."])}


def _of_slice(desk: RoundDesk, models: list[dict[str, Any]], random: Random) -> None:
    where = {"conditions": [{"column": "row_id", "op": "<", "value": 10}]}
    desk("save_slice", dataset=desk.dataset_id, name="First ten", where=where, shared=True)
    round_id = desk.round(name="Of a slice", models=models, where=where)
    _rate(desk, round_id, RATERS[0], _pair, random)
    desk("close_round", round=round_id)


def _of_file(desk: RoundDesk, random: Random) -> None:
    (desk.home.uploads / "asked <b>.jsonl").write_text(prompt_lines(12))
    models = [{"answers": "gpt-4o"}, {"answers": "llama"}]
    round_id = desk.round(name="Of a file", models=models, prompts_file={"upload": "asked <b>.jsonl"})
    _rate(desk, round_id, RATERS[0], _pair, random)
    desk("close_round", round=round_id)


def _checked(desk: RoundDesk, models: list[dict[str, Any]], random: Random) -> None:
    """A round with known answers: the second rater is too fast, the third fails the qualification."""
    rows = [
        {"prompt": f"Known {n}?", "answers": ["Right, and why.", "Wrong."], "expected": "A"} for n in range(6)
    ]
    (desk.home.uploads / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = {"gold_items": 2, "qualification_items": 4, "repeat_share": 0.0, "overlap": 2, "items": 20}
    source = {"gold_file": {"upload": "known.jsonl"}}
    round_id = desk.round(name="Checked", models=models, **source, **counts)
    with desk.database.transaction() as tx:
        first = rounds.list_check_ids(tx, round_id)["qualification"]
        tasks = [ratings.NewRow(f"q{n}", n, (0, 1), "qualification", None, n) for n in first]
        ratings.insert_tasks(tx, round_id, RATERS[2], tasks, job_queue.to_utc(desk.now))
        for task in tasks:
            about = {"comment": "", "seconds": 4.0, "at": job_queue.to_utc(desk.now)}
            ratings.insert(tx, round_id, task.task_id, 1, {"choice": "B"}, **about)
    for rater, pace in zip(RATERS[:2], (6.0, 0.5), strict=True):
        _rate(desk, round_id, rater, _longer, random, pace=pace)
    desk("close_round", round=round_id)
    desk.now -= 1_000_000  # older than the questions, which forms begin with
    desk.do(desk("rows_from_round", round=round_id, name="Checked rows")["job_id"])
    desk.now += 1_000_000


def _longer(task: dict[str, Any], random: Random) -> dict[str, Any]:
    if "Right." in task["answers"]:
        return {"choice": "AB"[task["answers"].index("Right.")]}
    return {"choice": "A" if len(task["answers"][0]) > len(task["answers"][1]) else "B"}


def prompt_lines(count: int) -> str:
    """A file of prompts with answers, and a row that is none."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"Asked {n}?", "answers": {"gpt-4o": f"Long answer number {n}", "llama": f"Short {n}"}}
        for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in [*rows, {"nothing": 1}])


def _elsewhere(desk: RoundDesk) -> None:
    file = desk.home.uploads / "elsewhere.jsonl"
    rows = [
        {"prompt": f"P{n}", "response_a": "x", "response_b": "y", "annotator1": 1 + n % 2, "annotator2": 1}
        for n in range(12)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    desk.do(desk("import_round", path=str(file))["job_id"])
