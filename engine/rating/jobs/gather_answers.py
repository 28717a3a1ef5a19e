"""Round job: collect the prompts of a rating round, with each model's answers.

Answers come from evaluations or from a file (`engine.rating.prompt_sources`); the round waits for those
that aren't there yet. A prompt is used if every model answered it. Prompts are sampled by a hash of the
row, so that a round can be repeated. Answers that name their model are flagged, as they unblind raters.
What is left out is counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.split import partition
from engine.rating import notices_text, raters_text
from engine.rating.analysis.prompt_selection import measure_disagreement, select_prompts
from engine.rating.check_items import FIELD as GOLD_FILE
from engine.rating.check_items import (
    draw_attention_items,
    draw_known_items,
    read_dataset_answers,
    read_file_answers,
)
from engine.rating.prompt_sources import AnswersByRow, PromptSource, open_prompt_source
from engine.rating.prompts_file import locate_held_file
from engine.worker.job import ONE_PHASE, WorkerJob
from store.core.errors import DataError
from store.core.job_folder import JobDir, write_atomically
from store.core.rating_schemas import CheckKind, RoundDetails, RoundItem, RoundResult, RoundSystem
from store.data.filters import Filter
from store.rating.config import RoundConfig

# Model mentions. Searched are the words of the models' own names that identify a model rather than a setting,
# and the names of model families that answers are known to reveal.

FAMILIES = (
    "alpaca", "bard", "bloom", "chatglm", "chatgpt", "claude", "cohere", "deepseek", "dolly",
    "falcon", "gemini", "gemma", "gpt-2", "gpt-3", "gpt-4", "gpt-5", "granite", "grok", "koala",
    "llama", "mistral", "mixtral", "olmo", "openassistant", "pythia", "qwen", "smollm", "smollm2",
    "smollm3", "stablelm", "tulu", "vicuna", "wizardlm", "zephyr",
)  # fmt: skip
SELF_REFERENCE = re.compile(
    r"\bI(?:'m| am) (?:an? )?(?:\w+ ){0,3}(?:model|assistant|AI)\b[^.]{0,40}\b"
    r"(?:trained|developed|created|made|built) by\b",
    re.IGNORECASE,
)
_SHORT = 4  # characters: shorter names are too ambiguous


def list_model_words(names: Iterable[str]) -> frozenset[str]:
    """Return lowercase words to look for: whole model names and names of model families."""
    whole = {name.rpartition("/")[2].casefold() for name in names}
    return frozenset(name for name in whole if len(name) > _SHORT and not name.isdigit()) | frozenset(
        FAMILIES
    )


def mentions_model(text: str, words: frozenset[str]) -> bool:
    """Return whether an answer names a model or says who made it."""
    small = text.casefold()
    for word in words:
        if word in small and re.search(rf"(?<![\w-]){re.escape(word)}(?![\w])", small):
            return True
    return bool(SELF_REFERENCE.search(text))


ITEMS = "items.parquet"
SCHEMA = pa.schema(
    [
        ("item_id", pa.int32()),
        ("row_id", pa.int64()),
        ("prompt", pa.string()),  # JSON
        ("reference", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("named", pa.bool_()),
        ("check", pa.string()),
        ("expected", pa.string()),  # JSON: RatingAnswer
        ("weight", pa.float64()),
    ]
)
CHECK_EVERY = 200  # prompts between checks for cancellation
DRAW_SEED = 17  # offset from the seeds of other samples


phases = ONE_PHASE


def run(job: WorkerJob) -> RoundResult:
    """Collect the items of the job's round.

    Raises DataError if no prompt was answered by all models, and ConfigError (where) if the filter matches
    none.
    """
    config = RoundConfig.parse(job.config["round"])
    systems = job.spec["systems"]
    source = open_prompt_source(job, config)
    answered = source.answered()
    row_ids = source.meant(_find_common_rows(answered, systems))
    row_ids, named = _find_model_mentions(config, row_ids, answered, systems)
    left_out = 0
    if config.named == "leave_out":
        left_out = int(named.sum())
        row_ids, named = row_ids[~named], named[~named]
    if not len(row_ids):
        raise DataError(
            "Every prompt has an answer that names a model.", fix="Keep such prompts.", field="named"
        )
    rows, weights, notices = len(row_ids), source.weights(row_ids), source.notices
    if config.items is not None and rows > config.items:
        if config.choice == "telling":
            drawn, weights = _choose_informative_rows(job, config, row_ids, answered, systems, notices)
        else:
            notices.append(notices_text.describe_random_prompts(config.items, rows))
            drawn = np.sort(
                partition.select_by_hash(source.digests(), row_ids, config.items, config.seed + DRAW_SEED)
            )
            weights = np.ones(len(drawn))
        row_ids, named = drawn, named[np.isin(row_ids, drawn)]
    items = _build_items(job, source, row_ids, named, answered)
    for item, weight in zip(items, weights.tolist(), strict=True):
        item.weight = weight
    checks = _build_check_items(job, config, items, notices)
    with write_atomically(job.dir.path / ITEMS) as unfinished:
        pq.write_table(build_items_table([*items, *checks]), unfinished)
    kinds = Counter(item.check for item in checks)
    details = RoundDetails(
        rows=rows + left_out,
        drawn=len(items),
        named=int(named.sum()),
        left_out=left_out,
        empty=sum(not (answer or "").strip() for item in items for answer in item.answers),
        same=sum(len(set(item.answers)) < len(item.answers) for item in items),
        gold=kinds["gold"],
        attention=kinds["attention"],
        qualification=kinds["qualification"],
        notices=notices,
        filters=_list_filters(job, config),
    )
    return {"systems": systems, "dataset_id": source.dataset_id, "details": details}


def _list_filters(job: WorkerJob, config: RoundConfig) -> list[dict[str, object]]:
    """Return the filters on prompts, by the round itself or by evaluations whose answers it uses."""
    narrowed = [each for each in job.spec.get("filters", []) if each]
    filters = [Filter.parse(each) for each in narrowed] + ([config.where] if config.where else [])
    return list({each.model_dump_json(): each.model_dump() for each in filters}.values())


def _find_common_rows(answered: Sequence[AnswersByRow], systems: Sequence[RoundSystem]) -> np.ndarray:
    """Return the rows that all models answered, sorted. Raises DataError if there are none."""
    shared = set(answered[0]).intersection(*answered[1:])
    if shared:
        return np.array(sorted(shared), np.int64)
    silent = [system.name for system, rows in zip(systems, answered, strict=True) if not rows]
    if silent:
        raise DataError(f"{silent[0]} answered no prompt.", fix="Choose one that did.", field="models")
    raise DataError(
        "The models have no prompt in common.", fix="Choose answers to the same prompts.", field="models"
    )


def _find_model_mentions(
    config: RoundConfig,
    row_ids: np.ndarray,
    answered: Sequence[AnswersByRow],
    systems: Sequence[RoundSystem],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows, and a mask of those where an answer names a model."""
    words = list_model_words([name for system in systems for name in (system.name, system.model)])
    flags = [any(mentions_model(rows[row_id].prediction, words) for rows in answered) for row_id in row_ids]
    return row_ids, np.array(flags, bool)


def _choose_informative_rows(
    job: WorkerJob,
    config: RoundConfig,
    row_ids: np.ndarray,
    answered: Sequence[AnswersByRow],
    systems: Sequence[RoundSystem],
    notices: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most informative rows, sorted, and 1 / the sampling probability of each as its weight.

    With these weights, statistics represent all rows.
    """
    assert config.items is not None
    judgings = [job.home.jobs / job_id / "judgements.parquet" for job_id in job.spec.get("judgings", [])]
    texts = [{row_id: rows[row_id].prediction for row_id in row_ids.tolist()} for rows in answered]
    evaluations = [system.evaluation_id for system in systems if system.evaluation_id]
    scores = [JobDir(job.home.jobs / evaluation_id).scores for evaluation_id in evaluations]
    measures = measure_disagreement(row_ids.tolist(), texts, scores, judgings)
    chosen = select_prompts(measures, config.items, seed=config.seed)
    notices.append(raters_text.describe_prompt_selection(chosen))
    order = np.argsort(chosen.places)
    return row_ids[chosen.places[order]], chosen.weights[order]


def _build_items(
    job: WorkerJob,
    source: PromptSource,
    row_ids: np.ndarray,
    named: np.ndarray,
    answered: Sequence[AnswersByRow],
) -> list[RoundItem]:
    turns = source.turns(row_ids, answered[0])
    items: list[RoundItem] = []
    for place, row_id in enumerate(row_ids.tolist()):
        if place % CHECK_EVERY == 0:
            job.check_cancelled()
            job.progress(place, len(row_ids), "prompts", "Gathering answers")
        items.append(
            RoundItem(
                item_id=place,
                row_id=row_id if source.dataset_id else None,
                prompt=turns[place],
                reference=answered[0][row_id].reference,
                answers=[rows[row_id].prediction for rows in answered],
                named=bool(named[place]),
                check=None,
                expected=None,
                weight=1.0,
            )
        )
    return items


def _build_check_items(
    job: WorkerJob, config: RoundConfig, items: Sequence[RoundItem], notices: list[str]
) -> list[RoundItem]:
    """Return the round's check items; a notice tells if there are too few."""
    random = np.random.default_rng([config.seed, DRAW_SEED])
    systems, first_id = len(job.spec["systems"]), len(items)
    attention = draw_attention_items(config, items, systems, first_id, random)
    wanted: dict[CheckKind, int] = {"qualification": config.qualification_items, "gold": config.gold_items}
    if not any(wanted.values()):
        return attention
    if config.gold_file:
        path = locate_held_file(job.dir, GOLD_FILE)
        source = read_file_answers(job.home, path, config, systems, random, lambda _: job.check_cancelled())
    else:
        source = read_dataset_answers(job.home, job.spec["gold"]["fingerprint"], config, systems, random)
    checks = draw_known_items(source, wanted, first_id + len(attention), random)
    without = not all(item.reference for item in checks)
    notices += notices_text.describe_known_answers(
        source.left_out,
        len(checks),
        sum(wanted.values()),
        lack_reference=config.protocol != "label" and without and any(item.reference for item in items),
    )
    return [*attention, *checks]


def build_items_table(items: Sequence[RoundItem]) -> pa.Table:
    """Return the items as a table for the store."""
    rows = [
        {
            **vars(item),
            "prompt": json.dumps(item.prompt, ensure_ascii=False),
            "expected": item.expected and json.dumps(item.expected, ensure_ascii=False),
        }
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
