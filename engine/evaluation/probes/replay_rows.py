"""Where the general rows of a run with replay come from: a data set of the store, or the base model.

They are tokenised once, kept in the job's folder, and taken from there by every later attempt. What is held
out to judge the run is never among them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.data import training_rows
from engine.data.split import leakage
from engine.evaluation.probes import suite_texts
from engine.evaluation.probes.base_samples import (
    PREFIX_TOKENS,
    SAMPLE_TOKENS,
    SamplePlan,
    load_or_generate_samples,
)
from engine.models import batching, loading
from engine.models.batching import Replay
from engine.models.tokenization.rendering import TokenRows, compute_fitting_length
from engine.models.tokenization.tokenized_rows import (
    TokenisationRequest,
    read_rows,
    tokenise_rows,
    write_rows,
)
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.errors import DataError
from store.core.home import Home
from store.data import dataset_files
from store.jobs.schemas import NamedDataset
from store.training.train_config import TrainConfig

GENERATED_SEED = 1  # other texts than those of the probe, which would else measure what was trained on
OWN_LEAST, OWN_MOST = 64, 256  # samples; they take about a minute on two cores, once for every base
GENERATED_TITLE = "the base model's own texts"
PREVIEW_ROWS = 500  # rows of a data set that a preview counts


@dataclass(frozen=True)
class ReplayRows:
    """General rows, and how many were left out because a held-out row is the same, or asks the same."""

    rows: TokenRows
    same: int = 0
    truncated: int = 0


def count_generated(wanted: int) -> int:
    """How many own texts are made where a run replays `wanted` rows: few numbers, so that runs share them."""
    count = OWN_LEAST
    while count < min(wanted, OWN_MOST):
        count *= 2
    return count


@dataclass(frozen=True)
class ReplayBase:
    """The base model, untouched, from the folder or hub id `source`; `positions` that it has for a row."""

    model: Any
    tokenizer: Any
    source: str
    positions: int | None


@dataclass(frozen=True)
class ReplayOptions:
    """How many general rows a run takes; held: fingerprint and ids of the rows that judge it, which are none
    of them; positions: that the model has for a row."""

    wanted: int
    held: tuple[str, np.ndarray]
    positions: int | None


def load_replay(
    job: WorkerJob, config: TrainConfig, base: ReplayBase, held: tuple[str, np.ndarray], train_rows: int
) -> Replay:
    """The rows that a run replays: those of its first attempt, or new ones, kept and told. held: fingerprint
    and ids of the rows that judge the run. Raises DataError where there are none."""
    if job.resume and (rows := read_rows(job.dir.replay)) is not None:
        return Replay(rows, config, train_rows)
    wanted, source = batching.count_replay_rows(config, train_rows), job.spec.get("replay")
    if source:
        order = ReplayOptions(wanted, held, base.positions)
        gathered = draw_rows(job.home, config, base.tokenizer, source, order)
    elif config.replay_dataset:
        raise DataError(
            f"The data set {config.replay_dataset} that is to be replayed is gone.",
            fix="Launch the run again with another replay_dataset.",
            field="replay_dataset",
        )
    else:
        gathered = generate_rows(job, base, wanted)
    write_rows(job.dir.replay, gathered.rows)
    made = Replay(gathered.rows, config, train_rows)
    report_replay(job, made, source["name"] if source else GENERATED_TITLE, gathered)
    return made


def generate_rows(job: WorkerJob, base: ReplayBase, wanted: int) -> ReplayRows:
    """Texts that the base model writes, from the cache or made now; all of it is trained."""
    report = RowProgressReporter(
        job, 0, "tokens", "Letting the base model write what is replayed, once for every base"
    )
    plan = SamplePlan(suite_texts.load_suite(), GENERATED_SEED, count_generated(wanted))
    rows = load_or_generate_samples(
        job.home, base.model, base.tokenizer, loading.find_weights_folder(base.source), plan, report
    )
    return ReplayRows(rows.truncated(base.positions)[0] if base.positions else rows)


def draw_rows(
    home: Home,
    config: TrainConfig,
    tokenizer: Any,
    source: NamedDataset,
    order: ReplayOptions,
) -> ReplayRows:
    """Rows of the data set `source`, as many as are wanted where it has them, drawn by the seed. Raises
    DataError where none is left."""
    wanted, positions = order.wanted, order.positions
    fingerprint = source["fingerprint"]
    total = dataset_files.open_rows(home, fingerprint).metadata.num_rows
    ids = np.random.default_rng([config.seed, batching.SEED_STREAM]).permutation(total)[: max(1, 2 * wanted)]
    same = leakage.find_shared_rows(home, *order.held, fingerprint, ids)
    ids = np.sort(ids[~same][:wanted])
    rows = tokenise_rows(
        home,
        tokenizer,
        TokenisationRequest(
            fingerprint=fingerprint,
            row_count=total,
            row_ids=ids,
            completion_only=config.completion_only_loss,
            load=training_rows.make_loader(home, fingerprint, "text" if source["kind"] == "text" else "chat"),
        ),
    )
    limit = config.max_length or compute_fitting_length(rows.lengths, positions)
    part = training_rows.truncate_rows(rows, min(limit, positions) if positions else limit)
    if not len(part.rows):
        why = ", ".join(part.whole.reason_counts) or "every one is held out to judge the run"
        raise DataError(
            f"No row of {source['name']} can be replayed: {why}.",
            fix="Take another data set, or none: then the base model writes the rows.",
            field="replay_dataset",
        )
    return ReplayRows(part.rows, int(same.sum()), part.truncated)


def estimate_replay(
    home: Home,
    config: TrainConfig,
    tokenizer: Any,
    source: NamedDataset | None,
    order: ReplayOptions,
) -> TokenRows:
    """What a run would replay, for its costs: some of the rows of a data set, or texts of the length that the
    base writes at most."""
    if source:
        few = replace(order, wanted=min(order.wanted, PREVIEW_ROWS))
        return draw_rows(home, config, tokenizer, source, few).rows
    count, length = (
        count_generated(order.wanted),
        min(PREFIX_TOKENS + SAMPLE_TOKENS, order.positions or PREFIX_TOKENS + SAMPLE_TOKENS),
    )
    trained = np.tile(np.arange(length) >= PREFIX_TOKENS, count)
    starts = np.arange(count + 1) * length
    return TokenRows(
        np.arange(count), starts, np.zeros(count * length, np.int32), trained, np.zeros(count, np.uint8)
    )


def report_replay(job: WorkerJob, replay_rows: Replay, name: str, gone: ReplayRows) -> None:
    """Facts and alerts about the rows that are replayed."""
    tokens, trained = replay_rows.tokens
    job.facts(
        replay_from=name,
        replay_rows=replay_rows.count,
        replay_distinct_rows=min(replay_rows.count, len(replay_rows.rows)),
        replay_tokens=tokens,
        replay_trained_tokens=trained,
        replay_left_out=gone.same,
    )
    if gone.same:
        job.alert(
            f"{gone.same:,} rows of {name} are not replayed: rows that judge this run are the same, or"
            " ask the same.",
            "info",
        )
    if gone.truncated:
        job.alert(f"{gone.truncated:,} replayed rows of {name} were cut to length.", "info")
    if replay_rows.count > len(replay_rows.rows):
        job.alert(
            f"{replay_rows.count:,} rows are replayed, and there are {len(replay_rows.rows):,} different"
            " ones: they are repeated.",
            "info",
        )
