"""llama.cpp as a library in this process: quantization, tokens and distributions of a GGUF file.

The parity check reads a GGUF file with the file's own template, tokenizer, positions and stop tokens.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from engine.export.parity.exchange import ParityQuestions, QuestionText, read_separately
from engine.models.forward import packed_forward
from store.core.config import NO_CODE
from store.core.errors import ModelError, StateError

# Its output is captured and used only for error messages. A failing call raises a Python error rather than
# aborting the process: texts longer than a batch are decoded in parts.

BATCH = 512  # tokens decoded at a time


def load_library() -> tuple[Any, Any]:
    """Return cffi's library and types. Raises StateError if the package is not installed."""
    try:
        from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib
    except ImportError as error:
        raise StateError(
            "llama.cpp's library is not installed.", fix="pip install llama-cpp-py-sync", field="form"
        ) from error
    return get_lib(), get_ffi()


def get_version() -> str:
    """Return llama.cpp's version by its build tag."""
    from llama_cpp_py_sync import __llama_cpp_tag__

    return f"llama.cpp {__llama_cpp_tag__}"


@contextmanager
def _capture_stderr() -> Iterator[Callable[[], str]]:
    """Capture the standard error of C code; yield a function that returns its last line about an error."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as lines:

        def why() -> str:
            lines.seek(0)
            text = lines.read().decode("utf-8", "replace")
            return next((line.strip() for line in reversed(text.splitlines()) if "error" in line), "")

        try:
            os.dup2(lines.fileno(), 2)
            yield why
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def quantise(source: Path, target: Path, ftype: int) -> None:
    """Convert `source`, an F16 file, to another of llama.cpp's file types. Raises ModelError."""
    lib, ffi = load_library()
    with _capture_stderr() as why:
        lib.llama_backend_init()
        settings = lib.llama_model_quantize_default_params()
        settings.ftype = ftype
        settings.nthread = max(1, os.cpu_count() or 1)
        pointer = settings if isinstance(settings, int) else ffi.addressof(settings)
        code = lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), pointer)
        reason = why() if code else ""
    if code:
        raise ModelError(
            f"llama.cpp could not quantize the model: {reason or f'code {code}'}",
            fix="Choose the form gguf-f16, or another quantization.",
            field="form",
        )


class GgufModel:
    """A loaded GGUF file; must be closed. `context`: maximum number of tokens of a text."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        from llama_cpp_py_sync import Llama

        self.lib, self.ffi = load_library()
        with _capture_stderr() as why:
            try:
                self.llama = Llama(
                    str(path), n_ctx=context, n_batch=BATCH, n_threads=threads, n_threads_batch=threads
                )
            except RuntimeError as error:
                raise ModelError(f"llama.cpp can't load {path.name}: {why() or error}") from error
            # embeddings would produce an output for every token
            self.lib.llama_set_embeddings(self.llama._ctx, False)
        self.model, self.held, self.vocab = self.llama._model, self.llama._ctx, self.llama._vocab

    def close(self) -> None:
        with _capture_stderr():
            self.llama.close()

    def text(self, key: str) -> str:
        """Return a string of the file's metadata; empty if missing."""
        size = 65_536
        room = self.ffi.new(f"char[{size}]")
        length = self.lib.llama_model_meta_val_str(self.model, key.encode(), room, size)
        if length >= size:
            room = self.ffi.new(f"char[{length + 1}]")
            length = self.lib.llama_model_meta_val_str(self.model, key.encode(), room, length + 1)
        return "" if length < 0 else self.ffi.string(room).decode("utf-8", "replace")

    @property
    def trained_context(self) -> int:
        return int(self.lib.llama_model_n_ctx_train(self.model))

    @property
    def begins(self) -> int | None:
        """Return the BOS token."""
        token = int(self.lib.llama_vocab_bos(self.vocab))
        return None if token < 0 else token

    def ends(self, token: int) -> bool:
        """Whether the token ends a response, according to the file."""
        return bool(self.lib.llama_vocab_is_eog(self.vocab, token))

    def tokens(self, text: str) -> list[int]:
        """Tokenize as a server would: add the tokens the file specifies, and parse special tokens."""
        return [int(token) for token in self.llama.tokenize(text, add_special=True, parse_special=True)]

    def forget(self, behind: int = 0) -> int:
        """Reset the context, keeping the first `behind` tokens if possible; return the number kept."""
        memory = self.lib.llama_get_memory(self.held)
        if behind and self.lib.llama_memory_seq_rm(memory, 0, behind, -1):
            return behind
        self.lib.llama_memory_clear(memory, True)
        return 0

    def logits(self, ids: list[int], begin: int, wanted: list[int]) -> np.ndarray:
        """Return logits [wanted, vocabulary] after the tokens at indices `wanted` of `ids`.

        `ids` are at position `begin` of the text. Raises ModelError.
        """
        size = int(self.lib.llama_vocab_n_tokens(self.vocab))
        out = np.empty((len(wanted), size), np.float32)
        rows = {place: row for row, place in enumerate(wanted)}
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            batch = self.lib.llama_batch_init(len(part), 0, 1)
            try:
                batch.n_tokens = len(part)
                for i, token in enumerate(part):
                    batch.token[i], batch.pos[i] = token, begin + start + i
                    batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
                    batch.logits[i] = 1 if start + i in rows else 0
                code = self.lib.llama_decode(self.held, batch)
                if code:
                    raise ModelError(
                        f"llama.cpp could not process a text of {len(ids)} tokens (code {code})."
                    )
                for i in range(len(part)):
                    if start + i in rows:
                        line = self.lib.llama_get_logits_ith(self.held, i)
                        out[rows[start + i]] = np.frombuffer(self.ffi.buffer(line, size * 4), np.float32)
            finally:
                self.lib.llama_batch_free(batch)
        return out


DEFAULT_ROPE_BASE = 10_000.0  # if the file has none
SPARE_TOKENS = 64  # spare context tokens beyond prompt and response
TIMED_PROMPTS = 2
UNMERGED = 2  # number of dimensions of a matrix


class LlamaReader:
    """Reader of one GGUF file. `tokenizer` only renders the file's template; ids come from the file."""

    def __init__(self, asked: ParityQuestions, tokenizer_folder: str) -> None:
        self.asked, self.file = asked, Path(asked.export)
        texts = [
            *asked.answers.ids,
            *asked.rows.ids,
            *asked.joined.ids,
            *asked.prompt_ids,
        ]
        longest = max((len(ids) for ids in texts), default=0)
        self.passed: list[int] = []  # tokens in the model's context
        threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
        self.gguf = GgufModel(self.file, longest + asked.max_new_tokens + SPARE_TOKENS, threads)
        # renders the file's template with Jinja as transformers does
        self.tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_folder, **NO_CODE)
        self.tokenizer.chat_template = self.gguf.text("tokenizer.chat_template")

    @property
    def engine(self) -> str:
        return get_version()

    @property
    def context(self) -> int:
        return self.gguf.trained_context

    @property
    def rope_base(self) -> float:
        kind = self.gguf.text("general.architecture")
        return float(self.gguf.text(f"{kind}.rope.freq_base") or DEFAULT_ROPE_BASE)

    @property
    def begin_token(self) -> int | None:
        return self.gguf.begins

    def ids(self, text: str) -> list[int]:
        return self.gguf.tokens(text)

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """Return logits [places, vocabulary] that predict the tokens at these places."""
        alike = packed_forward.count_common_prefix([self.passed, ids]) if self.passed else 0
        begin = self.gguf.forget(min(alike, min(places) - 1))
        self.passed = []  # after a failed call the context is undefined
        logits = self.gguf.logits(ids[begin:], begin, [place - 1 - begin for place in places])
        self.passed = ids
        return logits

    def read(self, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
        """Yield, for each group, the logits [places, vocabulary] of its texts."""
        return read_separately(self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether the token ends a response."""
        return self.gguf.ends(token)

    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]:
        """Generate greedy responses, one prompt at a time."""
        answers = []
        for done, prompt in enumerate(prompts, start=1):
            answers.append(self._answer(prompt))
            on_done(done, len(prompts))
        return answers

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Return tokens per second over a few prompts."""
        began = time.perf_counter()
        made = sum(len(self._answer(prompt)) for prompt in prompts[:TIMED_PROMPTS])
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def _answer(self, prompt: list[int]) -> list[int]:
        self.gguf.forget()
        self.passed = []
        new: list[int] = []
        part, begin = prompt, 0
        while len(new) < self.asked.max_new_tokens:
            token = int(self.gguf.logits(part, begin, [len(part) - 1])[0].argmax())
            new.append(token)
            if self.gguf.ends(token):
                break
            begin += len(part)
            part = [token]
        return new

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """Raise ValueError: GGUF has no classification head."""
        raise ValueError("GGUF does not support classification heads.")

    def zeroed(self) -> list[str]:
        """Return the names of all-zero matrices, whatever their storage type."""
        from gguf import GGUFReader

        tensors = GGUFReader(self.file).tensors
        return [each.name for each in tensors if len(each.shape) >= UNMERGED and not each.data.any()]
