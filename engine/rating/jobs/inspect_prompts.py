"""Ask `prompts`: preview a file of prompts before a rating round is started with it."""

from __future__ import annotations

from engine.data.readers.source_files import locate_file
from engine.rating.prompts_file import FIELD, read_prompts
from engine.worker.job import WorkerJob
from store.core.errors import DataError
from store.core.rating_schemas import PromptFile
from store.rating.config import RowFile

SHOWN, CUT = 3, 300  # prompts shown, and characters of each
MAX_NAMES, MAX_REASONS = 100, 20


def run(job: WorkerJob) -> PromptFile:
    """Count prompts and answers. Raises DataError (prompts_file) for a file without prompts."""
    ask = RowFile.parse(job.config)
    try:
        path = locate_file(job.home, ask.source())
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=FIELD) from error
    read = read_prompts(job.home, path, check=lambda _: job.check_cancelled())
    return {
        "prompts": len(read.prompts),
        "answers": dict(read.answered.most_common(MAX_NAMES)),
        "left_out": dict(read.left_out.most_common(MAX_REASONS)),
        "first": [prompt.turns[-1]["content"][:CUT] for prompt in read.prompts[:SHOWN]],
    }
