"""Engine and worker killed with -9 in each step of an improvement.

A model in use is improved with people's corrections. In every state of the improvement the engine, the
worker of its job, or both are killed at a random moment; an improvement that failed by this is resumed. In
the end everything it creates exists once, and a person promotes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import yaml

from bench.hostility import Attempt
from bench.killed import VICTIMS, KilledHome, moment, seen
from bench.served import wait_until
from store.core.job_kinds import ALIVE
from store.db.database import Database
from store.jobs import job_queue
from store.registry import model_versions
from store.retraining import improvements
from store.retraining.schemas import Improvement
from tests.engine.houses import RUN, write_corrections, write_sums
from tests.tiny import write_model

CORRECTED = 44
MOMENT_SECONDS = 1.0
KINDS = {  # kind of job that each state waits for
    "gathering": "gather_rows",
    "joining": "clean",
    "training": "train",
    "registering": "register",
    "measuring": "evaluate",
}
MADE = {  # counts at the end; the first of each exists before the improvement
    "data sets": ("SELECT count(*) AS n FROM dataset", 3),
    "runs": ("SELECT count(*) AS n FROM run", 2),
    "versions": ("SELECT count(*) AS n FROM model_version", 2),
    "evaluations": ("SELECT count(*) AS n FROM evaluation", 4),
    "corrections": ("SELECT count(*) AS n FROM feedback", CORRECTED),
}


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Yield one attempt per step, then those on the results of the whole chain."""
    draw = random.Random(seed)
    killed = KilledHome(folder / "home")
    try:
        _begin(killed, folder)
        rows = [{"source": "feedback", "endpoint": "Desk"}]
        body = {"model": "sums", "rows": rows, "metric": "perplexity", "margin": 1000}
        improvement = str(killed.client.command("begin_improvement", body)["improvement_id"])
        for state, kind in KINDS.items():
            yield _link(killed, draw, improvement, state, kind)
        ended = _reached(killed, improvement, "deciding")
        counted = ended.facts["rows"]
        yield Attempt("corrections that were used", "" if counted.asked == CORRECTED else str(counted))
        killed.kill("engine", [])
        decision = {"improvement": improvement, "promote": True, "reason": "Measured."}
        killed.client.command("decide_improvement", decision)
        standing = model_versions.alias_standing(killed.client, ended.model_id, "production")
        yield Attempt("the version in use", "" if standing == 2 else f"it is {standing}")
        database = killed.stop()
        try:
            yield from _left(killed, database, ended.model_id)
        finally:
            database.close()
    finally:
        killed.end()


def _begin(killed: KilledHome, folder: Path) -> None:
    """Put version 1 into use, on an endpoint with responses that people corrected."""
    client = killed.client
    write_model(killed.home.models / "tiny")
    write_sums(folder / "sums.jsonl")
    source = {"path": str(folder / "sums.jsonl")}
    killed.finished(str(client.command("import_dataset", {"name": "Sums", "source": source})["job_id"]))
    killed.finished(str(client.command("launch", yaml.safe_load(RUN))["run_id"]))
    killed.finished(str(client.command("register_model", {"name": "sums", "run": "First"})["job_id"]))
    client.command("promote", {"version": "sums@1", "reason": "The first."})
    served = [{"name": "sums", "routes": [{"subject": "sums@1"}]}]
    made = client.command("make_endpoint", {"name": "Desk", "start": False, "models": served})
    write_corrections(killed.home, str(made["endpoint_id"]), CORRECTED)
    count = "SELECT count(*) AS n FROM feedback"
    wait_until(lambda: client.people.query(count)["n"][0].as_py() == CORRECTED, "the feedback")


def _link(killed: KilledHome, draw: random.Random, improvement: str, state: str, kind: str) -> Attempt:
    """Kill a process in one state of the improvement and continue."""
    _reached(killed, improvement, state)
    victim = draw.choice(VICTIMS)
    if victim != "engine":
        seen(lambda: any(killed.worker(job) for job in _alive(killed, kind)), seconds=30)
    after = moment(draw, MOMENT_SECONDS)
    killed.kill(victim, _alive(killed, kind))
    try:
        _passed(killed, improvement, state)
    except AssertionError as error:
        return Attempt(f"{state}: kill -9 of {victim} after {after:.2f} s", str(error))
    return Attempt(f"{state}: kill -9 of {victim} after {after:.2f} s")


def _alive(killed: KilledHome, kind: str) -> list[str]:
    alive = job_queue.with_status(killed.client, sorted(ALIVE))
    return [job.job_id for job in alive if job.kind == kind]


def _present(killed: KilledHome, improvement: str) -> Improvement:
    """Return the current improvement; resume it if it failed."""
    present = improvements.get(killed.client, improvement)
    if present.state == "failed":
        trouble = present.trouble
        assert trouble is not None
        assert "killed" in trouble["message"] or "gone without a result" in trouble["message"], trouble
        killed.client.command("resume_improvement", {"improvement": improvement})
    return present


def _reached(killed: KilledHome, improvement: str, state: str) -> Improvement:
    wait_until(lambda: _present(killed, improvement).state == state, f"the improvement is {state}")
    return improvements.get(killed.client, improvement)


def _passed(killed: KilledHome, improvement: str, state: str) -> None:
    past = (state, "failed")
    wait_until(lambda: _present(killed, improvement).state not in past, f"the improvement is not {state}")


def _left(killed: KilledHome, database: Database, model_id: str) -> Iterator[Attempt]:
    for what, (sql, expected) in MADE.items():
        count = database.query(sql)["n"][0].as_py()
        yield Attempt(what, "" if count == expected else f"{count}, where {expected} belong")
    there = sorted(path.name for path in (killed.home.registry / model_id).iterdir())
    yield Attempt("folders of versions", "" if there == ["1", "1.json", "2", "2.json"] else json.dumps(there))
    yield Attempt("what is left", ", ".join(killed.left(database)))
