"""Job `answer_prompts`: one model answers the prompts of a file, for the rating round that stores it.

Answers are written to `predictions.parquet` like those of an evaluation; a row's id is its position in the
file. A prompt that can't be rendered keeps its row without an answer, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq
import torch
from jinja2.exceptions import TemplateError

from engine.evaluation import evaluated_model
from engine.evaluation.model_answers import build_predictions_table, generate_row_answers
from engine.evaluation.row_questions import format_turns
from engine.models import hardware
from engine.models.hardware import get_device_name
from engine.models.tokenization.rendering import render_conversation
from engine.rating.prompts_file import FilePrompt, locate_held_file, read_prompts
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from store.core.errors import ConfigError
from store.core.job_folder import JobDir, write_atomically
from store.core.rating_schemas import PromptAnswersResult
from store.rating.config import AnswerPrompts

phases = build_fixed_phases(evaluated_model.LOADING_MESSAGE, Phase("Answering the prompts"))


def run(job: WorkerJob) -> PromptAnswersResult:
    """Answer every prompt once. Raises DataError for the file, and the errors of loading the model."""
    config = AnswerPrompts.parse(job.config)
    try:
        return _answer(job, config)
    except Exception as error:
        if isinstance(error, hardware.OutOfMemory) or hardware.is_out_of_memory(error):
            raise hardware.OutOfMemory(
                "The device ran out of memory while the model answered the prompts.",
                fix="Set max_new_tokens lower, or take a smaller model.",
                field="max_new_tokens",
            ) from error
        raise


def _answer(job: WorkerJob, config: AnswerPrompts) -> PromptAnswersResult:
    job.status("preparing")
    path = locate_held_file(JobDir(job.home.jobs / config.round))
    prompts = read_prompts(job.home, path, check=lambda _: job.check_cancelled()).prompts
    subject = evaluated_model.load_model(job, config)
    if subject.labels is not None:
        raise ConfigError(
            "The model has a classification head: it assigns classes and generates no text.",
            fix="Choose a model that writes.",
            field="run" if config.run else "model",
        )
    job.status("evaluating")
    asked = [_render_prompt(subject.tokenizer, prompt) for prompt in prompts]
    written = iter(generate_row_answers(job, config, subject, [text for text in asked if text is not None]))
    _write(job, prompts, [None if text is None else next(written) for text in asked])
    return {
        "n": len(prompts),
        "unasked": asked.count(None),
        "device": job.device,
        "device_name": get_device_name(torch.device(job.device)),
    }


def _render_prompt(tokenizer: Any, prompt: FilePrompt) -> str | None:
    """Render the prompt for the model; None if its chat template rejects it."""
    try:
        return render_conversation(tokenizer, prompt.turns, generation_prompt=True)
    except (TemplateError, TypeError):  # from a template that doesn't support its turns
        return None


def _write(job: WorkerJob, prompts: Sequence[FilePrompt], predictions: list[str | None]) -> None:
    columns: dict[str, list[Any]] = {
        "prompt": [format_turns(prompt.turns) for prompt in prompts],
        "prediction": predictions,
        "reference": [prompt.reference for prompt in prompts],
    }
    with write_atomically(job.dir.predictions) as unfinished:
        pq.write_table(build_predictions_table([prompt.row_id for prompt in prompts], columns), unfinished)
