"""Ask `ratings_file`: preview a file of ratings collected elsewhere before a round is created from it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.data.readers.source_reader import open_source
from engine.rating import notices_text
from engine.rating.imports.column_values import list_unused_columns
from engine.rating.imports.reading import (
    CollectedRating,
    CollectedRatings,
    RatingsFile,
    collect_ratings,
    inspect_file,
)
from engine.worker.job import WorkerJob
from store.rating.config import ImportRound
from store.rating.schemas import RatingFileSummary, RatingParticipant, RatingPreview, UnclearValue

MAX_SECONDS = 6.0  # time limit for reading rows; only the start of a larger file is counted
SHOWN, CUT = 8, 300  # ratings shown, and characters of each text
MAX_NAMES, MAX_COLUMNS = 200, 4_096


def run(job: WorkerJob) -> RatingFileSummary:
    """Count what the file holds. Raises DataError for an unreadable file, ConfigError for an invalid
    mapping.
    """
    config = ImportRound.parse(job.config)
    with contextlib.closing(open_source(job.home, config.source())) as reader:
        file = inspect_file(reader, config)
        seen = _describe_file(file)
        if file.chosen.form is None or file.chosen.problem or file.meanings.unclear:
            return seen
        end = time.monotonic() + MAX_SECONDS

        def look(rows: int) -> bool:
            job.check_cancelled()
            return time.monotonic() < end

        collected, rows, whole = collect_ratings(file, config, look)
    if not collected.ratings:
        seen.problem = "No row has a valid rating."
    return _add_counts(seen, collected, rows, whole)


def _describe_file(file: RatingsFile) -> RatingFileSummary:
    chosen = file.chosen
    return RatingFileSummary(
        form=chosen.form.name if chosen.form else None,
        mapping=chosen.mapping,
        values=file.meanings.values,
        columns=file.head.columns[:MAX_COLUMNS],
        ignored=list_unused_columns(file.head, chosen.mapping),
        undecided=file.undecided,
        unclear=[UnclearValue(value=value, rows=rows) for value, rows in file.meanings.unclear.items()],
        problem=chosen.problem,
        whole=False,
        rows=0,
        ratings=0,
        prompts=0,
        models=[],
        model_count=0,
        raters=[],
        rater_count=0,
        left_out={},
        notices=[],
        first=[],
    )


def _add_counts(
    seen: RatingFileSummary, collected: CollectedRatings, rows: int, whole: bool
) -> RatingFileSummary:
    collected.scales.criteria()  # rejects scores that don't fit a rubric, as the import does
    names = list(collected.models)
    return replace(
        seen,
        whole=whole,
        rows=rows,
        ratings=len(collected.ratings),
        prompts=len(collected.items),
        model_count=len(names),
        rater_count=len(collected.raters),
        left_out=dict(collected.reasons.most_common(notices_text.MAX_IMPORT_REASONS)),
        notices=notices_text.describe_collected(collected),
        models=_list_names(collected.rated),
        raters=_list_names(collected.raters),
        first=[_build_line(collected, names, rating) for rating in collected.ratings[:SHOWN]],
    )


def _list_names(counts: Counter[str]) -> list[RatingParticipant]:
    return [RatingParticipant(name=name, ratings=count) for name, count in counts.most_common(MAX_NAMES)]


def _build_line(collected: CollectedRatings, names: list[str], rating: CollectedRating) -> RatingPreview:
    item = collected.items[rating.item_id]
    models = [names[system] for system in rating.systems]
    answers = [item.answers.get(system) for system in rating.systems]
    return RatingPreview(
        prompt=_truncate(item.prompt[-1][1]),
        models=models,
        answers=[None if text is None else _truncate(text) for text in answers],
        rater=rating.rater,
        rating=_describe_rating(rating, models),
    )


def _describe_rating(rating: CollectedRating, models: list[str]) -> str:
    """Describe a rating in words, as it was read."""
    answer: Mapping[str, Any] = rating.verdict.answer or {}
    if "choice" in answer:
        words = {"tie": "a tie", "both_bad": "both bad"}
        better = words.get(answer["choice"]) or f"{models['AB'.index(answer['choice'])]} is better"
        soft = answer.get("preference")
        return better if soft is None else f"{better} ({max(soft, 1 - soft):.0%})"
    if "passed" in answer:
        return "passes" if answer["passed"] else "fails"
    scores = [f"{name} {value:g}" for name, value in rating.verdict.scores.items()]
    return str(answer.get("label") or ", ".join(scores))


def _truncate(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= CUT else text[: CUT - 1] + "…"
