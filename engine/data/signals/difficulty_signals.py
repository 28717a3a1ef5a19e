"""The group `difficulty`: the base model's loss on each answer, with and without its prompt.

IFD = exp(loss given the prompt - loss without it) (Li et al. 2024): the prompt helps if it is below 1.
Both losses are over the same tokens of the last answer, including its closing token. Without the prompt,
the answer follows what the chat template puts before every answer, so that its first token is predicted
too. An answer is cut if prompt and answer together exceed the model's length or `MAX_TOKENS` tokens.
Without a GPU, `CPU_ROWS` rows are drawn unless the config sets a sample size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jinja2.exceptions import TemplateError
from scipy.stats import binomtest

from engine.data.signals.protocol import Progress
from engine.data.signals.topic_map import sample_rows
from engine.models import loading
from engine.models.bundled import ensure_bundled_model
from engine.models.hardware import choose_dtype
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import Messages, TokenRows, render
from engine.worker.job import Phase, Phases, WorkerJob
from store.core.errors import DataError
from store.core.row_schemas import SetFigure
from store.data import dataset_files
from store.data.config import ProfileConfig
from store.training.train_config import TrainConfig

OPTIONS = ("model", "sample")
CPU_ROWS = 200  # rows
MAX_TOKENS = 2_048  # tokens
BATCH = 8
CHUNK = 2_000  # rows rendered at a time


def phases(rows: int) -> Phases:
    """Return a single phase, with progress by tokens."""
    return (Phase(),)


def compute(
    job: WorkerJob, config: ProfileConfig, rows_path: Path, progress: Progress
) -> tuple[pa.Table, dict[str, SetFigure]]:
    """Compute answer_loss, answer_loss_alone and ifd of the drawn rows, null for the others.

    Figures of the set: hard (share of rows whose prompt does not help, 95% Wilson interval) and
    unmeasured. Raises DataError for plain texts.
    """
    total = dataset_files.open_rows(job.home, rows_path.parent.name).metadata.num_rows
    device = torch.device(job.device)
    rows = sample_rows(total, config.sample or (CPU_ROWS if device.type == "cpu" else total))
    if _read_messages(job, rows_path, rows[:1])[0] is None:
        raise DataError(
            "Plain texts have no prompt and no answer.", fix="Import rows with prompts and answers."
        )
    model, tokenizer, limit = _load(job, config.model, device)
    row_loss = np.full((total, 2), np.nan)
    for first in range(0, len(rows), CHUNK):
        part = rows[first : first + CHUNK]
        given, alone = build_answer_rows(tokenizer, part, _read_messages(job, rows_path, part), limit)
        for column, side in enumerate((given, alone)):
            if len(side):
                done = 2 * first + column * len(part)
                tell = _make_reporter(progress, done, 2 * len(rows), side)
                losses = compute_row_losses(model, side, batch_size=BATCH, device=device, on_batch=tell)
                row_loss[side.row_ids, column] = losses.loss_sum / losses.tokens
    ifd = np.exp(row_loss[:, 0] - row_loss[:, 1])
    columns = {"answer_loss": row_loss[:, 0], "answer_loss_alone": row_loss[:, 1], "ifd": ifd}
    table = pa.table(
        {"row_id": pa.array(np.arange(total, dtype=np.int64))}
        | {name: pa.array(values, pa.float32(), from_pandas=True) for name, values in columns.items()}
    )
    return table, _compute_figures(ifd, len(rows))


def build_answer_rows(
    tokenizer: Any, row_ids: np.ndarray, rows: list[Messages], limit: int
) -> tuple[TokenRows, TokenRows]:
    """Return the rows with their prompts, and the same answers alone.

    Only the last answer is marked as trained. Rows without an answer within `limit` tokens are in neither.
    """
    whole = render(tokenizer, row_ids, rows)
    before = _find_answer_prefix(tokenizer)
    sides: tuple[list[Any], list[Any]] = ([], [])
    for i in range(len(whole)):
        ids, trained = whole.row(i)
        marked = _keep_last_run(trained)
        marked[limit:] = False
        if marked.any():
            end = int(np.flatnonzero(marked)[-1]) + 1
            answer = ids[marked]
            sides[0].append((whole.row_ids[i], ids[:end], marked[:end]))
            sides[1].append(
                (
                    whole.row_ids[i],
                    np.concatenate([before, answer]),
                    np.arange(len(before) + len(answer)) >= len(before),
                )
            )
    return _build_rows(sides[0]), _build_rows(sides[1])


def _keep_last_run(trained: np.ndarray) -> np.ndarray:
    """Keep only the last run of trained tokens; the headings of turns separate the runs."""
    places = np.flatnonzero(trained)
    marked = np.zeros(len(trained), bool)
    if len(places):
        gaps = np.flatnonzero(np.diff(places) > 1)
        marked[places[gaps[-1] + 1 if len(gaps) else 0 :]] = True
    return marked


def _find_answer_prefix(tokenizer: Any) -> np.ndarray:
    """Return the tokens that the template puts before every answer; if none, the end-of-text token."""
    asked = [{"role": "user", "content": "a"}]
    try:
        closed, opened = (
            tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=flag)
            for flag in (False, True)
        )
    except TemplateError:
        closed = opened = ""
    heading = opened[len(closed) :] if opened.startswith(closed) else ""
    ids = tokenizer(heading, add_special_tokens=False).input_ids if heading else []
    return np.asarray(ids or [tokenizer.eos_token_id], np.int32)


def _build_rows(parts: list[tuple[int, np.ndarray, np.ndarray]]) -> TokenRows:
    starts = np.concatenate([[0], np.cumsum([len(ids) for _, ids, _ in parts], dtype=np.int64)]).astype(
        np.int64
    )
    return TokenRows(
        np.asarray([row_id for row_id, _, _ in parts], np.int64),
        starts,
        np.concatenate([np.zeros(0, np.int32), *(ids for _, ids, _ in parts)]).astype(np.int32),
        np.concatenate([np.zeros(0, bool), *(marked for _, _, marked in parts)]).astype(bool),
        np.zeros(len(parts), np.uint8),
    )


def _read_messages(job: WorkerJob, rows_path: Path, rows: np.ndarray) -> list[Any]:
    table = dataset_files.load_rows(job.home, rows_path.parent.name, columns=["messages"], row_ids=rows)
    conversations: list[Any] = table["messages"].to_pylist()
    return conversations


def _load(job: WorkerJob, name: str, device: torch.device) -> tuple[Any, Any, int]:
    """Load the model and tokenizer, and return them with the maximum number of tokens of a row."""
    if name in loading.BUNDLED:
        ensure_bundled_model(name, job.home)
    source = loading.resolve_model(name, job.home)
    positions = getattr(loading.load_config(source).get_text_config(), "max_position_embeddings", None)
    tokenizer = loading.load_tokenizer(source)
    config = TrainConfig(model=name, dataset="rows")
    model = loading.load_model(config, source, str(device), choose_dtype(config.dtype, device))
    return model, tokenizer, min(MAX_TOKENS, positions or MAX_TOKENS)


def _make_reporter(progress: Progress, begun: int, total: int, rows: TokenRows) -> Any:
    """Make a callback that reports progress by tokens, because the longest rows are processed first."""
    tokens = np.cumsum(np.sort(rows.lengths)[::-1])

    def tell(done: int) -> None:
        share = tokens[done - 1] / tokens[-1]
        progress(begun + share * len(rows), total, "answers", "Measuring how hard the answers are")

    progress(begun, total, "answers", "Measuring how hard the answers are")
    return tell


def _compute_figures(ifd: np.ndarray, asked: int) -> dict[str, SetFigure]:
    measured = int(np.isfinite(ifd).sum())
    hard = int((ifd[np.isfinite(ifd)] >= 1).sum())
    interval = binomtest(hard, measured).proportion_ci(method="wilson") if measured else None
    return {
        "hard": {
            "value": hard / measured if measured else None,
            "low": float(interval.low) if interval else None,
            "high": float(interval.high) if interval else None,
            "n": measured,
            "unit": "rows",
        },
        "unmeasured": {"value": asked - measured, "n": asked, "unit": "rows"},
    }
