"""Spec of a job that gathers rows: the run's data set, the data sets that rows come from, and people's
feedback on a model in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.rating.analysis.rater_checks import compute_rater_checks, count_ratings
from engine.rating.training_rows import RoundRows, build_label_rows, build_preference_rows, list_pair_votes
from engine.retraining import leakage
from store.core.errors import NotFoundError
from store.core.home import Home
from store.core.job_folder import JobDir, write_atomically
from store.core.rating_schemas import COUNTING, AssignedTask, Round, RoundItem, RoundRequest
from store.core.row_schemas import Message
from store.core.schemas import Job
from store.data import datasets
from store.db.database import Queryable
from store.jobs import job_queue
from store.jobs.schemas import JobSpecDetails
from store.monitoring import feedback, monitor_alerts
from store.rating import ratings, rounds
from store.retraining.config import DatasetRowSource, FeedbackRowSource, GatherConfig, RoundRowSource
from store.retraining.schemas import RowCandidate
from store.serving import endpoints


def build_feedback_spec(db: Queryable, job: Job) -> JobSpecDetails:
    """Build the job's spec. Raises NotFoundError if a data set was deleted."""
    return {
        **datasets.work_order(db, job.config),
        "beside": leakage.list_comparison_rows(db, job.config),
        "disputed": leakage.read_disputed_keys(db, job.config),
    }


def stage_candidates(db: Queryable, home: Home, job: Job) -> None:
    """Write the feedback to the job's folder as JSON lines.

    Raises NotFoundError if an endpoint or a round was deleted.
    """
    config = GatherConfig.parse(job.config)
    path = JobDir(home.jobs / job.job_id).path / "candidates.jsonl"
    with write_atomically(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        for place, source in enumerate(config.rows):
            for candidate in _list_candidates(db, place, source):
                line = json.dumps(candidate)  # ASCII: texts may contain unpaired surrogates
                file.write(f"{line}\n")


def _list_candidates(
    db: Queryable, place: int, source: FeedbackRowSource | RoundRowSource | DatasetRowSource
) -> Iterator[RowCandidate]:
    if isinstance(source, FeedbackRowSource):
        yield from _list_feedback_candidates(db, place, source)
    elif isinstance(source, RoundRowSource):
        yield from _list_round_candidates(db, place, rounds.get(db, source.round))


# -- feedback ---------------------------------------------------------------------------------------


def resolve_feedback(db: Queryable, source: FeedbackRowSource) -> feedback.FeedbackFilter:
    """Return the filter of a feedback source. Raises NotFoundError if the endpoint or the alert was
    deleted.
    """
    endpoint_id = endpoints.get(db, source.endpoint).endpoint_id
    which = feedback.FeedbackFilter(
        endpoint_id, source.start, source.end, group=source.group, model=source.model
    )
    if not source.alert:
        return which
    alert = monitor_alerts.get(db, source.alert)
    if alert.endpoint_id != endpoint_id:
        raise NotFoundError(f"The alert {source.alert} belongs to another endpoint.", field="alert")
    first, last = alert.first_place, alert.last_place
    if first is None or last is None:
        return which._replace(since=alert.since)
    return which._replace(places=(first, last))


def _list_feedback_candidates(db: Queryable, place: int, source: FeedbackRowSource) -> Iterator[RowCandidate]:
    """Yield feedback that people gave unprompted, so it is no random sample of requests."""
    for word in feedback.list_entries(db, resolve_feedback(db, source)):
        yield {
            "source": place,
            "request": word.request_id,
            "person": word.person_id,
            "kind": "label" if word.kind == "label" else "correction",
            "prompt": _parse_turns(word.messages),
            "answer": word.text,
            "rejected": word.output,
            "asked_at": word.asked_at,
            "random": False,
        }


def _parse_turns(messages: str | None) -> list[Message] | None:
    """Return the prompt's turns as text, or None; parts of a content are joined, as they were for
    the model.
    """
    turns = json.loads(messages) if messages else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None
    return [{"role": str(turn.get("role")), "content": _join_content(turn.get("content"))} for turn in turns]


def _join_content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


# -- rating rounds ----------------------------------------------------------------------------------


def _list_round_candidates(db: Queryable, place: int, round: Round) -> Iterator[RowCandidate]:
    tasks = ratings.dealt(db, round.round_id)
    items = {item.item_id: item for item in rounds.items(db, round.round_id)}
    by_hand = {rater.person_id for rater in ratings.left_out(db, round.round_id)}
    counted = count_ratings(compute_rater_checks(round, tasks, items.values()), by_hand)
    out = {rater["person_id"] for rater in counted["left_out"]}  # excluded by hand, or flagged
    asked = _RoundSource(place, round, rounds.requests_of_round(db, round.round_id))
    if round.protocol in ("spans", "free_text") or round.config.get("several_labels"):
        yield asked.nothing("protocol") | {"answer": "its ratings can't be used for training"}
        return
    if round.protocol in ("pairwise", "rank"):
        made = build_preference_rows(list_pair_votes(tasks, out), items, agreement=0.5)
        yield from _list_preferences(asked, made)
    elif round.protocol == "label":
        made = build_label_rows(tasks, items, out)
        for row in made.rows:
            yield asked.item(items[row["item_id"]]) | {"kind": "label", "answer": row["label"]}
    else:
        yield from _list_corrections(asked, tasks, items, out)
        return
    for reason, count in made.left_out.items():
        for number in range(count):
            yield asked.nothing(f"{reason}-{number}") | {"answer": reason}


class _RoundSource:
    """A round as a source: its items as requests, with their times and whether they were sampled at
    random.
    """

    def __init__(self, place: int, round: Round, requests: Sequence[RoundRequest]) -> None:
        self.place, self.round_id = place, round.round_id
        self.at: dict[int, float] = {}
        self.random: set[int] = set()
        for request in requests:
            at = job_queue.to_epoch(request.asked_at)
            self.at[request.item_id] = min(at, self.at.get(request.item_id, at))
            if request.random:
                self.random.add(request.item_id)

    def nothing(self, name: str) -> RowCandidate:
        """Return an entry of the round that gives no row."""
        return {
            "source": self.place,
            "request": f"{self.round_id}/{name}",
            "person": None,
            "kind": "none",
            "prompt": None,
            "answer": None,
            "rejected": None,
            "asked_at": None,
            "random": False,
        }

    def item(self, item: RoundItem, name: str = "") -> RowCandidate:
        """Return an entry for a rated item; `name` tells several entries of an item apart."""
        prompt: list[Message] = [{"role": turn["role"], "content": turn["content"]} for turn in item.prompt]
        return self.nothing(f"{item.item_id}{name}") | {
            "prompt": prompt,
            "asked_at": self.at.get(item.item_id),
            "random": item.item_id in self.random,
        }


def _list_corrections(
    asked: _RoundSource, tasks: Sequence[AssignedTask], items: Mapping[int, RoundItem], out: set[str]
) -> Iterator[RowCandidate]:
    """Yield corrections by model answer; two people with different corrections disagree."""
    for task in tasks:
        answer: Any = task.answer or {}
        if task.purpose not in COUNTING or task.person_id in out or "text" not in answer:
            continue
        item, system = items[task.item_id], task.systems[0]
        yield asked.item(item, f"/{system}") | {
            "person": task.person_id,
            "kind": "correction",
            "answer": answer["text"],
            "rejected": item.answers[system],
        }


def _list_preferences(asked: _RoundSource, made: RoundRows) -> Iterator[RowCandidate]:
    """Yield answer pairs with a majority preference."""
    for number, row in enumerate(made.rows):
        yield asked.nothing(f"pair-{number}") | {
            "kind": "preference",
            "prompt": row["chosen"][:-1],
            "answer": row["chosen"][-1]["content"],
            "rejected": row["rejected"][-1]["content"],
        }
