"""Commands that create a round from logged requests, and a training data set from a round.

Requests are sampled and ranked as the page shows them, and stored in the job's folder; their sampling
probabilities are stored with the round. A round's rows go through the regular import, split by prompt, and
name their round.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from engine.monitoring import labelling
from engine.monitoring.label_candidates import (
    CandidateSet,
    LabelCandidate,
    collect_candidates,
    extract_answer,
)
from engine.monitoring.labelling import PickedCandidate, ReasonWeights
from engine.rating import notices_text
from engine.rating.analysis.rater_checks import compute_rater_checks, count_ratings
from engine.rating.exported_ratings import is_text_round
from engine.rating.prompt_sources import REQUESTS
from engine.rating.raters_text import format_counted_ratings
from engine.rating.round_commands import check_name, check_scales
from engine.rating.training_rows import (
    RoundRows,
    build_correction_rows,
    build_label_rows,
    build_preference_rows,
    build_written_rows,
    list_pair_votes,
)
from engine.server.command import CREATED, Command
from engine.server.job_submission import JobSubmission
from store.core.config import Config, Line
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.formatting import plural
from store.core.home import Home
from store.core.job_folder import JobDir, write_atomically
from store.core.rating_schemas import RatingCounts, RequestRoundQueued, Round, RoundRowsQueued
from store.core.schemas import Person
from store.core.version_folders import is_reference
from store.data.config import NAME_LENGTH, ImportConfig, find_free_name
from store.db.database import Database, Queryable, Transaction
from store.jobs import job_queue
from store.monitoring import logged_requests, monitors
from store.rating import ratings, rounds, workload
from store.rating.config import MAX_LABELS, SERVED, RequestRound, RoundConfig, RoundModel
from store.registry import model_versions
from store.runs import runs

# Rounds of requests ask about what was served; nothing is generated. Requests are linked with the round's
# items (`engine.monitoring.labelling`). Which of them may judge a version, and their sampling probabilities,
# stay with the round after the log is deleted.

HELD_SCHEMA = pa.schema(
    [("turns", pa.string()), ("answers", pa.list_(pa.string())), ("weight", pa.float64())]
)


class RequestRoundCommands:
    """Command that creates a round from logged requests."""

    def __init__(self, database: Database, home: Home, clock: Callable[[], float]) -> None:
        self.database, self.home, self.clock = database, home, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "round_of_requests": Command(
                RequestRound, self.round_of_requests, CREATED, makes_work=True, by_person=True
            )
        }

    def round_of_requests(self, body: RequestRound, person: Person) -> RequestRoundQueued:
        """Queue a round of requests.

        Raises ConfigError that names the field, and StateError if no request can be rated or another round
        of the endpoint is still being created.
        """
        check_scales(body)
        endpoint = monitors.endpoint(self.database, body.endpoint)
        body = body.model_copy(update={"endpoint": endpoint.endpoint_id})
        meant = logged_requests.meant_by(self.database, body.chosen)
        looked = collect_candidates(logged_requests.newest(self.database, meant), body.protocol, body.version)
        if not looked.candidates:
            raise _build_nothing_to_ask_error(looked)
        picked = _pick_requests(self.database, body, looked)
        total = logged_requests.count(self.database, meant)
        round_id = job_queue.create_id("round", self.clock())
        notices = notices_text.describe_requests(looked, picked, total)
        work = {"created_by": vars(person), "notices": notices}
        config = _build_config(self.database, body, looked)
        every = [*looked.candidates, *looked.reached]
        chosen = [(entry, every[entry.place]) for entry in picked]
        with self._held(round_id, body, chosen), self.database.transaction() as tx:
            if waiting := rounds.list_pending_titles(tx, endpoint.endpoint_id):
                raise StateError(f"{waiting[0]} is still being created.", fix="Wait until it is ready.")
            check_name(tx, _add_all_versions(tx, config, looked))
            config = config.model_copy(update={"raters": workload.resolve_people(tx, config.raters)})
            document = {"round": config.document(), **work}
            title = f"Round {config.name}"
            job_queue.insert(tx, job_queue.NewJob(round_id, "round", title, document, self.clock()))
        return {
            "round_id": round_id,
            "job_ids": [],
            "items": len(picked),
            "random": sum(entry.random for entry in picked),
            "left_out": dict(looked.left_out),
        }

    @contextmanager
    def _held(
        self, round_id: str, body: RequestRound, chosen: Sequence[tuple[PickedCandidate, LabelCandidate]]
    ) -> Iterator[None]:
        """Store the items in the job's folder while the block queues the round; delete them if it raises."""
        folder = JobDir(self.home.jobs / round_id)
        asked = [
            {"turns": json.dumps(candidate.turns, ensure_ascii=False), "answers": candidate.answers,
             "weight": 1 / entry.probability if entry.probability else 1.0}
            for entry, candidate in chosen
        ]  # fmt: skip
        links = [
            link for item_id, (entry, candidate) in enumerate(chosen)
            for link in _list_links(body, item_id, entry, candidate)
        ]  # fmt: skip
        try:
            folder.held.mkdir(parents=True)
            for name, rows, schema in (
                (REQUESTS, asked, HELD_SCHEMA),
                (rounds.LINKS_FILE, links, rounds.LINK_COLUMNS),
            ):
                with write_atomically(folder.held / name) as unfinished:
                    pq.write_table(pa.Table.from_pylist(rows, schema=schema), unfinished)
            yield
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise


def _pick_requests(db: Queryable, body: RequestRound, looked: CandidateSet) -> list[PickedCandidate]:
    monitor = monitors.find(db, body.endpoint)
    weights = ReasonWeights(**body.weights.model_dump())
    ranking = labelling.rank_candidates(looked.candidates, weights, labelling.count_reference_topics(monitor))
    share = 1.0 if body.choice == "random" else body.random_share
    return labelling.pick_candidates(
        looked.candidates, ranking, body.items, random_share=share, seed=body.seed, reached=looked.reached
    )


def _list_links(
    body: RequestRound, item_id: int, entry: PickedCandidate, candidate: LabelCandidate
) -> Iterator[dict[str, object]]:
    """Yield a link for each logged answer that an item represents."""
    for row in candidate.rows:
        yield {
            "item_id": item_id,
            "endpoint_id": body.endpoint,
            **{name: row[name] for name in ("request_id", "asked_at", "version", "role")},
            "label": extract_answer(row).strip() if body.protocol == "label" else None,
            "random": entry.random,
            "probability": entry.probability,
            "reasons": entry.reasons,
        }


def _build_config(db: Queryable, body: RequestRound, looked: CandidateSet) -> RoundConfig:
    """Return the round's config: what is asked, and whose answers they are."""
    rated = body.rated
    if body.protocol == "label":
        rated = rated.model_copy(update={"labels": body.labels or list_labels(db, looked)})
    names = looked.versions if body.protocol == "pairwise" or len(looked.versions) == 1 else [SERVED]
    return RoundConfig.parse(
        {
            **rated.model_dump(),
            "models": [_build_model(db, name) for name in names],
            "requests": body.chosen.model_dump(mode="json"),
            "items": None,
            "choice": body.choice,
        }
    )


def _add_all_versions(db: Queryable, config: RoundConfig, looked: CandidateSet) -> RoundConfig:
    """Return the config with all versions that answered, as raters see the round's name beside all
    answers.
    """
    answered = sorted({row["version"] for candidate in looked.candidates for row in candidate.rows})
    named = [RoundModel.parse(_build_model(db, name)) for name in answered]
    return config.model_copy(update={"models": [*config.models, *named]})


def _build_model(db: Queryable, name: str) -> dict[str, str]:
    """Return a version as a model of the round, with its run if that still exists."""
    if is_reference(name):
        with suppress(NotFoundError):
            run_id = model_versions.get_version(db, name).run_id
            if run_id and runs.get_run(db, run_id):
                return {"answers": name, "run": run_id}
    return {"answers": name or SERVED}


def list_labels(db: Queryable, looked: CandidateSet) -> list[str]:
    """Return the labels that the versions can give, and others that were given.

    Raises ConfigError (labels) for fewer than two or too many labels.
    """
    named: list[str] = []
    rows = [row for candidate in looked.candidates for row in candidate.rows]
    for version in sorted({row["version"] for row in rows}):
        with suppress(NotFoundError):
            run_id = model_versions.get_version(db, version).run_id if is_reference(version) else None
            named += runs.get_run(db, run_id).facts.get("labels", []) if run_id else []
    named += sorted({row["label"] for row in rows if row["label"]})
    labels = [label for label in dict.fromkeys(name.strip() for name in named) if label]
    if not 2 <= len(labels) <= MAX_LABELS:
        raise ConfigError(
            f"The answers have {plural(len(labels), 'label')}.",
            fix=f"Name the labels that a text may be given, 2 to {MAX_LABELS}, or ask for corrections.",
            field="labels",
        )
    return labels


def _build_nothing_to_ask_error(looked: CandidateSet) -> StateError:
    if not looked.requests:
        return StateError(
            "No requests were answered in this window.", fix="Choose a longer window, or fewer filters."
        )
    why = "; ".join(f"{reason} ({count:,})" for reason, count in looked.left_out.most_common())
    return StateError(
        f"None of {plural(looked.requests, 'request')} can be rated: {why}.",
        fix="Choose other requests, or turn on text storage for the endpoint.",
    )


# Rows for training go through the regular import so that they are counted, split and measured like all
# others; rows of one prompt stay in one split.

PROMPT_COLUMN = "source.prompt_id"
ROWS_BY_PROTOCOL = {
    "correction": "corrections",
    "label": "labels",
    "free_text": "written",
}  # other protocols give preferences
MIN_ROWS = 2  # at least one row to train on and one to evaluate on


class RoundRowsOptions(Config):
    """Options of a data set from a round.

    agreement: minimum share of equal votes on a pair or text.
    """

    round: str = Field(min_length=1, max_length=120)
    rows: Literal["preferences", "corrections", "labels", "written"] | None = Field(
        None, description="Kind of training data"
    )
    name: Line = Field("", max_length=NAME_LENGTH, description="Defaults to the name of the round")
    agreement: float = Field(0.5, ge=0, le=1)
    least_votes: int = Field(1, ge=1, le=20)
    include_flagged: bool = Field(
        False, description="Include ratings of flagged raters (too fast, failing check items)"
    )


class RoundDataCommands:
    """Command that creates data sets from rounds."""

    def __init__(self, database: Database, home: Home, launching: JobSubmission) -> None:
        self.database, self.home, self.launching = database, home, launching

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {"rows_from_round": Command(RoundRowsOptions, self.rows_from_round, CREATED, makes_work=True)}

    def rows_from_round(self, body: RoundRowsOptions) -> RoundRowsQueued:
        """Queue the import of a data set. Raises StateError if the round has no such rows."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if is_text_round(round):
                raise StateError(
                    f"Training does not support several labels or spans, so {round.name} can't become a "
                    "data set.",
                    fix="Save its rows as JSON lines with tunebench round data NAME --out FILE",
                )
            wanted = body.rows or ROWS_BY_PROTOCOL.get(round.protocol, "preferences")
            made, counted = _build_rows(tx, round, body, wanted)
            taken = self.launching.taken_names(tx)
        if len(made.rows) < MIN_ROWS:
            reasons = [f"{reason} ({count:,})" for reason, count in made.left_out.most_common()]
            because = "; ".join(reasons) or ("nothing was rated" if not counted["raters"] else "")
            raise StateError(
                f"{round.name} gives {len(made.rows)} rows of {wanted}"
                f" out of {format_counted_ratings(counted)}{f': {because}' if because else ''}.",
                fix="Collect more ratings, lower the minimum agreement, or include excluded raters.",
            )
        upload = f"{round.round_id}-{wanted}-{secrets.token_hex(4)}.jsonl"
        with write_atomically(self.home.uploads / upload) as unfinished:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in made.rows)
            unfinished.write_text("".join(lines), encoding="utf-8")
        config = ImportConfig.parse(
            {
                "name": body.name or find_free_name(f"{round.name[:60]}, {wanted}", taken),
                "source": {
                    "upload": upload,
                    "round": round.round_id,
                    "round_ratings": format_counted_ratings(counted),
                },
                "format": _FORMATS[wanted],
                "columns": _COLUMNS[wanted],
                "ignore": _VOTE_COLUMNS[wanted],
                "split_by": "group",
                "split_column": PROMPT_COLUMN,
            }
        )
        job_id = self.launching.import_dataset(config)["job_id"]
        return {
            "job_id": job_id,
            "dataset": config.name,
            "rows": len(made.rows),
            "left_out": dict(made.left_out),
            "counted": counted,
        }


_FORMATS = {
    "preferences": "preference",
    "corrections": "messages",
    "labels": "text_label",
    "written": "messages",
}
_COLUMNS = {
    "preferences": {"chosen": "chosen", "rejected": "rejected"},
    "corrections": {"messages": "messages"},
    "labels": {"text": "text", "label": "label"},
    "written": {"messages": "messages"},
}
_VOTE_COLUMNS = {  # how the rows were rated: metadata that isn't trained on
    "preferences": ["agreement", "votes", "raters", "chosen_shown_first"],
    "corrections": ["rater", "changed"],
    "labels": ["agreement", "votes", "raters"],
    "written": ["rater"],
}


def _build_rows(
    tx: Transaction, round: Round, body: RoundRowsOptions, wanted: str
) -> tuple[RoundRows, RatingCounts]:
    """Return the rows, and the ratings they are based on."""
    tasks, listed = ratings.dealt(tx, round.round_id), rounds.items(tx, round.round_id)
    by_hand = {rater.person_id for rater in ratings.left_out(tx, round.round_id)}
    checks = compute_rater_checks(round, tasks, listed)
    counted = count_ratings(checks, by_hand, include_flagged=body.include_flagged)
    left_out = {each["person_id"] for each in counted["left_out"]}
    items = {item.item_id: item for item in listed}
    if wanted == "corrections":
        return build_correction_rows(tasks, items, left_out), counted
    if wanted == "written":
        return build_written_rows(round, tasks, items, left_out), counted
    if wanted == "labels":
        return build_label_rows(
            tasks, items, left_out, agreement=body.agreement, least_votes=body.least_votes
        ), counted
    return build_preference_rows(
        list_pair_votes(tasks, left_out), items, agreement=body.agreement, least_votes=body.least_votes
    ), counted
