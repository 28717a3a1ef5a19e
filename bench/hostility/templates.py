"""Chat templates that don't end or fill the memory: each ends with one sentence, in time.

This holds for every code that renders them. The time is processor time. The sandbox checks the clock
between two operations, so a single operation, and compiling the template, can exceed its limit; the
waiting time on a loaded machine says nothing about the sandbox, and nothing in a template can wait by
itself.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from bench.hostility import Attempt
from engine.evaluation.row_questions import build_question
from engine.models import loading
from engine.models.tokenization import template_limits
from engine.models.tokenization.rendering import render, render_conversation
from engine.serving.gguf_metadata import GgufHeader
from engine.serving.llama_backend import ChatTemplate
from engine.serving.protocol.request_bodies import ChatTurn
from store.core.errors import TunebenchError
from tests.tiny import write_model
from tests.unit.reading.test_template_limits import HOSTILE, TURNS
from tests.unit.serving.test_gguf_head import FIELDS, TEXT, gguf

SECONDS = 1.0  # limit for a conversation here
SLACK = 2.0  # seconds to compile the longest template, and for one operation begun in time
MEMORY_MIB = 700


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Try every template at every entry point: a form field, a model's own template, and training rows."""
    template_limits.SECONDS = SECONDS
    model = write_model(folder / "tiny")
    templates = [template for template, _ in HOSTILE]
    random.Random(seed).shuffle(templates)
    for template in templates:
        for name, way in WAYS.items():
            yield Attempt(f"{name}: {template[:60]!r}", _failure(way, model, template))


def _failure(way: Callable[[Path, str], object], model: Path, template: str) -> str:
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        way(model, template)
        failure = "it was taken"
    except TunebenchError as error:
        failure = "" if error.fix and len(error.message) < 300 else f"says {error.message!r:.200}"
    except BaseException as error:  # noqa: BLE001 (what is looked for)
        failure = f"raised {type(error).__name__}: {error}"[:300]
    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    if not failure and seconds > SECONDS + SLACK:
        return f"took {seconds:.1f} s of the processor"
    return failure or (f"took {grown:.0f} MiB" if grown > MEMORY_MIB else "")


def _chosen(model: Path, template: str) -> None:
    loading.load_tokenizer(str(model), chat_template=template.replace(" " * 100, "x" * 100))


def _own(model: Path, template: str) -> Any:
    tokenizer = loading.load_tokenizer(str(model))
    tokenizer.chat_template = template
    return tokenizer


def _rows(model: Path, template: str) -> None:
    render(_own(model, template), [0, 1], [TURNS, TURNS])


def _asked(model: Path, template: str) -> None:
    render_conversation(_own(model, template), TURNS, generation_prompt=True)


def _of_file(model: Path, template: str) -> None:
    file = model / "template.gguf"
    file.write_bytes(gguf(FIELDS | {"tokenizer.chat_template": (TEXT, template)}))
    ChatTemplate(GgufHeader(file)).render_prompt([ChatTurn(role="user", content="hi")])


def _of_export(model: Path, template: str) -> None:
    """Apply the template like the process that loads an export's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    build_question(tokenizer, 0, TURNS, None)


WAYS: dict[str, Callable[[Path, str], None]] = {
    "a template that is chosen": _chosen,
    "rows by the model's own": _rows,
    "a question by the model's own": _asked,
    "a question by a GGUF file's": _of_file,
    "an export's prompt": _of_export,
}
