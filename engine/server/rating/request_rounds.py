"""The command that has logged requests rated: what was served is asked about, nothing is generated.

Requests are drawn and ranked as the screen shows it (`engine.diagnostics.drift.labelling`), held in the
folder of the round's job, and linked with its items when the round is there. Which of them may judge, and
with which chance they were drawn, stays with the round when the log is gone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.drift import labelling
from engine.diagnostics.drift.label_candidates import Candidates, LabelCandidate, answer_of, collect
from engine.diagnostics.drift.labelling import Picked, ReasonWeights
from engine.diagnostics.phrasing import plural
from engine.rounds.prompt_sources import REQUESTS
from engine.server.acts.command import MADE, Command
from engine.server.rating.round_commands import check_name, check_scales
from store.config.judging.round_config import MOST_LABELS, SERVED, RequestRound, RoundConfig, RoundModel
from store.contract.errors import ConfigError, NotFoundError, StateError
from store.contract.home import Home
from store.contract.jobdir import JobDir, written_aside
from store.db.database import Database, Queryable
from store.documents.rating.round import RequestRoundQueued
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.monitoring import logged_requests, monitors
from store.queries.rating import assignments, round_requests
from store.queries.runs import runs
from store.queries.shipping import versions

HELD = pa.schema([("turns", pa.string()), ("answers", pa.list_(pa.string())), ("weight", pa.float64())])


class RequestRounds:
    """The command over one store."""

    def __init__(self, database: Database, home: Home, clock: Callable[[], float]) -> None:
        self.database, self.home, self.clock = database, home, clock

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "round_of_requests": Command(
                RequestRound, self.round_of_requests, MADE, makes_work=True, by_person=True
            )
        }

    def round_of_requests(self, body: RequestRound, person: Person) -> RequestRoundQueued:
        """Queue a round of requests. Raises ConfigError that names the field, and StateError where no request
        can be asked about, or another such round is just being made."""
        check_scales(body)
        endpoint = monitors.endpoint(self.database, body.endpoint)
        body = body.model_copy(update={"endpoint": endpoint["endpoint_id"]})
        meant = logged_requests.meant_by(self.database, body.chosen)
        looked = collect(logged_requests.newest(self.database, meant), body.protocol, body.version)
        if not looked.candidates:
            raise _nothing_to_ask(looked)
        picked = _picked(self.database, body, looked)
        total = logged_requests.count(self.database, meant)
        round_id = jobs.new_id("round", self.clock())
        work = {"created_by": dict(person), "notices": _notices(looked, picked, total, body)}
        config = _config(self.database, body, looked)
        every = [*looked.candidates, *looked.reached]
        chosen = [(entry, every[entry.place]) for entry in picked]
        with self._held(round_id, body, chosen), self.database.transaction() as tx:
            if waiting := round_requests.being_made(tx, endpoint["endpoint_id"]):
                raise StateError(f"{waiting[0]} is just being made.", fix="Wait until it is there.")
            check_name(tx, _with_all_versions(tx, config, looked))
            config = config.model_copy(update={"raters": assignments.named(tx, config.raters)})
            document = {"round": config.document(), **work}
            title = f"Round {config.name}"
            jobs.insert(tx, jobs.NewJob(round_id, "round", title, document, self.clock()))
        return {
            "round_id": round_id,
            "job_ids": [],
            "items": len(picked),
            "random": sum(entry.random for entry in picked),
            "left_out": dict(looked.left_out),
        }

    @contextmanager
    def _held(
        self, round_id: str, body: RequestRound, chosen: Sequence[tuple[Picked, LabelCandidate]]
    ) -> Iterator[None]:
        """Hold what is asked while the block queues the round; where that raises, nothing is held."""
        folder = JobDir(self.home.jobs / round_id)
        asked = [
            {"turns": json.dumps(candidate.turns, ensure_ascii=False), "answers": candidate.answers,
             "weight": 1 / entry.probability if entry.probability else 1.0}
            for entry, candidate in chosen
        ]  # fmt: skip
        links = [
            link for item_id, (entry, candidate) in enumerate(chosen)
            for link in _links(body, item_id, entry, candidate)
        ]  # fmt: skip
        try:
            folder.held.mkdir(parents=True)
            for name, rows, schema in (
                (REQUESTS, asked, HELD),
                (round_requests.FILE, links, round_requests.COLUMNS),
            ):
                with written_aside(folder.held / name) as unfinished:
                    pq.write_table(pa.Table.from_pylist(rows, schema=schema), unfinished)
            yield
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise


def _picked(db: Queryable, body: RequestRound, looked: Candidates) -> list[Picked]:
    monitor = monitors.find(db, body.endpoint)
    weights = ReasonWeights(**body.weights.model_dump())
    ranking = labelling.rank(looked.candidates, weights, labelling.topics_of(monitor))
    share = 1.0 if body.choice == "random" else body.random_share
    return labelling.pick(
        looked.candidates, ranking, body.items, random_share=share, seed=body.seed, reached=looked.reached
    )


def _links(
    body: RequestRound, item_id: int, entry: Picked, candidate: LabelCandidate
) -> Iterator[dict[str, Any]]:
    """Each logged answer that an item stands for."""
    for row in candidate.rows:
        yield {
            "item_id": item_id,
            "endpoint_id": body.endpoint,
            **{name: row[name] for name in ("request_id", "asked_at", "version", "role")},
            "label": answer_of(row).strip() if body.protocol == "label" else None,
            "random": entry.random,
            "probability": entry.probability,
            "reasons": entry.reasons,
        }


def _config(db: Queryable, body: RequestRound, looked: Candidates) -> RoundConfig:
    """The round as it is kept: what is asked, and whose answers they are."""
    rated = body.rated
    if body.protocol == "label":
        rated = rated.model_copy(update={"labels": body.labels or labels_of(db, looked)})
    names = looked.versions if body.protocol == "pairwise" or len(looked.versions) == 1 else [SERVED]
    return RoundConfig.parse(
        {
            **rated.model_dump(),
            "models": [_model(db, name) for name in names],
            "requests": body.chosen.model_dump(mode="json"),
            "items": None,
            "choice": body.choice,
        }
    )


def _with_all_versions(db: Queryable, config: RoundConfig, looked: Candidates) -> RoundConfig:
    """The round as if it named every version that answered: raters see its name beside all answers."""
    answered = sorted({row["version"] for candidate in looked.candidates for row in candidate.rows})
    named = [RoundModel.parse(_model(db, name)) for name in answered]
    return config.model_copy(update={"models": [*config.models, *named]})


def _model(db: Queryable, name: str) -> dict[str, str]:
    """A version as a model of the round, with the run that it came from where that is still there."""
    if versions.is_reference(name):
        with suppress(NotFoundError):
            run_id = versions.get_version(db, name)["run_id"]
            if run_id and runs.get_run(db, run_id):
                return {"answers": name, "run": run_id}
    return {"answers": name or SERVED}


def labels_of(db: Queryable, looked: Candidates) -> list[str]:
    """Those that the versions can give, and what else was given. Raises ConfigError (labels) where that is no
    choice."""
    named: list[str] = []
    rows = [row for candidate in looked.candidates for row in candidate.rows]
    for version in sorted({row["version"] for row in rows}):
        with suppress(NotFoundError):
            run_id = versions.get_version(db, version)["run_id"] if versions.is_reference(version) else None
            named += runs.get_run(db, run_id)["facts"].get("labels", []) if run_id else []
    named += sorted({row["label"] for row in rows if row["label"]})
    labels = [label for label in dict.fromkeys(name.strip() for name in named) if label]
    if not 2 <= len(labels) <= MOST_LABELS:
        raise ConfigError(
            f"The answers have {plural(len(labels), 'label')}.",
            fix=f"Name the labels that a text may be given, 2 to {MOST_LABELS}, or ask for corrections.",
            field="labels",
        )
    return labels


def _nothing_to_ask(looked: Candidates) -> StateError:
    if not looked.requests:
        return StateError("No request was answered there.", fix="Choose a longer window, or fewer filters.")
    why = "; ".join(f"{reason} ({count:,})" for reason, count in looked.left_out.most_common())
    return StateError(
        f"Of {plural(looked.requests, 'request')} none can be asked about: {why}.",
        fix="Choose others, or have the endpoint keep texts.",
    )


def _notices(looked: Candidates, picked: Sequence[Picked], total: int, body: RequestRound) -> list[str]:
    """What to know of the items; people read it while they rate, so that it names no version."""
    random = sum(entry.random for entry in picked)
    of = plural(len(looked.candidates) + len(looked.reached), "different request")
    lines = [f"{random:,} of {of} drawn at random."]
    if again := sum(entry.place >= len(looked.candidates) for entry in picked):
        lines.append(f"Of these {again:,} were asked or answered before: a draw of the rest would be easier.")
    if telling := len(picked) - random:
        lines.append(f"{telling:,} chosen because they tell most: no figure of all requests rests on them.")
    if total > looked.requests:
        lines.append(f"The newest {looked.requests:,} of {total:,} requests were looked at.")
    lines += [f"Left out {plural(count, 'request')}: {why}." for why, count in looked.left_out.most_common()]
    return lines
