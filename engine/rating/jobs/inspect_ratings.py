"""The ask `ratings_file`: what a file of ratings from elsewhere holds, before a round is made of it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from engine.data.readers.source_reader import open_source
from engine.rating.imports.column_values import ignored_columns
from engine.rating.imports.reading import (
    MAX_REASONS,
    Collected,
    CollectedRating,
    RatingsFile,
    collect,
    notices_of,
    understand,
)
from engine.worker.job import WorkerJob
from store.rating.config import ImportRound
from store.rating.schemas import RatedFile, RatedLine, RatedName

SECONDS = 6.0  # that rows are read for; of a file that takes longer the beginning is counted
SHOWN, CUT = 8, 300  # ratings, and characters of each text
MAX_NAMES, MAX_COLUMNS = 200, 4_096


def run(job: WorkerJob) -> RatedFile:
    """Count what the file holds. Raises DataError for one that can't be read, ConfigError for a mapping that
    can't be."""
    config = ImportRound.parse(job.config)
    with contextlib.closing(open_source(job.home, config.source())) as reader:
        file = understand(reader, config)
        seen = _seen(file)
        if file.chosen.form is None or file.chosen.problem or file.meanings.unclear:
            return seen
        end = time.monotonic() + SECONDS

        def look(rows: int) -> bool:
            job.check_cancelled()
            return time.monotonic() < end

        collected, rows, whole = collect(file, config, look)
    if not collected.ratings:
        seen["problem"] = "No row has a rating that can be taken."
    return _counted(seen, collected, rows, whole)


def _seen(file: RatingsFile) -> RatedFile:
    chosen = file.chosen
    return {
        "form": chosen.form.name if chosen.form else None,
        "mapping": chosen.mapping,
        "values": file.meanings.values,
        "columns": file.head.columns[:MAX_COLUMNS],
        "ignored": ignored_columns(file.head, chosen.mapping),
        "undecided": file.undecided,
        "unclear": [{"value": value, "rows": rows} for value, rows in file.meanings.unclear.items()],
        "problem": chosen.problem,
        "whole": False,
        "rows": 0,
        "ratings": 0,
        "prompts": 0,
        "models": [],
        "model_count": 0,
        "raters": [],
        "rater_count": 0,
        "left_out": {},
        "notices": [],
        "first": [],
    }


def _counted(seen: RatedFile, collected: Collected, rows: int, whole: bool) -> RatedFile:
    collected.scales.criteria()  # scores that no rubric can hold are refused here as in the import
    names = list(collected.models)
    counts = {
        "whole": whole,
        "rows": rows,
        "ratings": len(collected.ratings),
        "prompts": len(collected.items),
        "model_count": len(names),
        "rater_count": len(collected.raters),
        "left_out": dict(collected.reasons.most_common(MAX_REASONS)),
        "notices": notices_of(collected),
    }
    lists = {
        "models": _named(collected.rated),
        "raters": _named(collected.raters),
        "first": [_line(collected, names, rating) for rating in collected.ratings[:SHOWN]],
    }
    return {**seen, **counts, **lists}  # type: ignore[typeddict-item]


def _named(counts: Counter[str]) -> list[RatedName]:
    return [{"name": name, "ratings": count} for name, count in counts.most_common(MAX_NAMES)]


def _line(collected: Collected, names: list[str], rating: CollectedRating) -> RatedLine:
    item = collected.items[rating.item_id]
    models = [names[system] for system in rating.systems]
    answers = [item.answers.get(system) for system in rating.systems]
    return {
        "prompt": _cut(item.prompt[-1][1]),
        "models": models,
        "answers": [None if text is None else _cut(text) for text in answers],
        "rater": rating.rater,
        "rating": _in_words(rating, models),
    }


def _in_words(rating: CollectedRating, models: list[str]) -> str:
    """What was said, as it was read."""
    answer: Mapping[str, Any] = rating.verdict.answer or {}
    if "choice" in answer:
        words = {"tie": "a tie", "both_bad": "both are bad"}
        better = words.get(answer["choice"]) or f"{models['AB'.index(answer['choice'])]} is better"
        soft = answer.get("preference")
        return better if soft is None else f"{better} ({max(soft, 1 - soft):.0%})"
    if "passed" in answer:
        return "passes" if answer["passed"] else "fails"
    scores = [f"{name} {value:g}" for name, value in rating.verdict.scores.items()]
    return str(answer.get("label") or ", ".join(scores))


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= CUT else text[: CUT - 1] + "…"
