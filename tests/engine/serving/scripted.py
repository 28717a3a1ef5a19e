"""A worker whose model writes what a test says, all else as it is: its template, batch and answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import torch
from torch import Tensor

from engine.serving.torch_backend.answering import TorchAnswerer
from engine.serving.torch_backend.batch import Batch
from engine.serving.torch_backend.batched_forward import PromptChunk
from engine.serving.torch_backend.loading import LoadedModel, ServedName
from tests.engine.serving import served

CONTEXT = 8192
END = 2


class ScriptedForward:
    """Finds one token far likelier than all others, whatever it is shown: the script's next one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._vocabulary = tokenizer, len(tokenizer)
        self.text = ""
        self._rows: dict[int, list[int]] = {}
        self.batches_prompts = True
        self._prompts: dict[int, list[int]] = {}

    @property
    def prompts(self) -> list[str]:
        """All that it was shown, the newest last."""
        return [self._tokenizer.decode(tokens) for tokens in self._prompts.values()]

    def extend(self, pieces: Sequence[PromptChunk]) -> list[Tensor]:
        for piece in pieces:
            self._prompts.setdefault(piece.key, []).extend(piece.tokens)
            self._rows[piece.key] = self._tokenizer(self.text, add_special_tokens=False).input_ids
        return [self._next(piece.key) for piece in pieces]

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor:
        return torch.stack([self._next(key) for key in keys])

    def release(self, key: int) -> None:
        self._rows.pop(key, None)

    def fork(self, key: int, copy: int, /) -> None:
        self._rows[copy] = [*self._rows[key]]

    def _next(self, key: int) -> Tensor:
        """Of the script's next token; where it may not come, the end of a text of JSON is likeliest."""
        scores = torch.linspace(0, 1, self._vocabulary)
        scores[self._tokenizer.convert_tokens_to_ids(list('}"'))] = torch.tensor([20.0, 30.0])
        scores[self._rows[key].pop(0) if self._rows[key] else END] = 50.0
        return scores


class ScriptedWorker:
    """The worker, and a client of OpenAI's own that asks it."""

    def __init__(self, folder: Path, tokenizer: Any, **named: Any) -> None:
        self.model, self.tokenizer = ScriptedForward(tokenizer), tokenizer
        name = ServedName(-1, tokenizer, frozenset({END}), **named)
        loaded = LoadedModel(self.model, {"base": name}, CONTEXT, len(tokenizer))
        self.batch = Batch(self.model, rows=4, tokens=CONTEXT)
        self.answers = TorchAnswerer(loaded, self.batch, served.spec_of(folder))


@contextmanager
def scripted(folder: Path, tokenizer: Any, **named: Any) -> Iterator[tuple[ScriptedForward, openai.OpenAI]]:
    """Its model, whose script a test may change, and a client."""
    tokenizer.has_own_template = tokenizer.chat_template is not None
    worker = ScriptedWorker(folder, tokenizer, **named)
    worker.batch.start()
    socket = served.spec_of(folder)["socket"]
    transport = httpx.HTTPTransport(uds=socket)
    with served.server(worker.answers, socket), httpx.Client(transport=transport, timeout=60) as http:
        client = openai.OpenAI(base_url="http://backend/v1", api_key="-", http_client=http, max_retries=0)
        yield worker.model, client
    worker.batch.close()
