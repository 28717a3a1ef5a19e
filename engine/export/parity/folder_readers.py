"""Readers of an export folder in other environments: plain transformers, and vLLM.

Includes the parts that all folder readers share: tokenizer, settings, matrices. Invariant: packages that an
environment may lack are imported when a reader is opened, and none of our modules that need more than numpy
and Jinja.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.export import model_settings
from engine.export.model_settings import ModelSettings
from engine.export.parity.exchange import ParityQuestions, QuestionText, read_separately
from store.core.config import NO_CODE
from store.core.job_folder import read_json


class ExportFiles:
    """Base class of readers of an export folder; loads no weights."""

    def __init__(self, asked: ParityQuestions) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.asked, self.folder = asked, Path(asked.export)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, **NO_CODE)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        settings = read_json(self.folder / "config.json") or read_json(Path(asked.base or "") / "config.json")
        self.config: ModelSettings = settings or {}

    @property
    def context(self) -> int | None:
        return self.config.get("max_position_embeddings")

    @property
    def rope_base(self) -> float | None:
        return model_settings.read_rope_base(self.config)

    @property
    def begin_token(self) -> int | None:
        token: int | None = self.tokenizer.bos_token_id
        return token

    def ids(self, text: str) -> list[int]:
        headed = self.asked.labels is not None  # classifiers read texts with added special tokens
        ids: list[int] = self.tokenizer(text, add_special_tokens=headed).input_ids
        return ids

    def ends(self) -> set[int]:
        """Return the tokens that end a response: those of generation_config.json and the tokenizer's."""
        folder = self.folder if self.asked.base is None else Path(self.asked.base)
        named = (read_json(folder / "generation_config.json") or {}).get("eos_token_id")
        return {self.tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])}

    def zeroed(self) -> list[str]:
        """Return the names of all-zero matrices in the weight files; an adapter may have them."""
        if self.asked.base is not None:
            return []
        from safetensors import safe_open

        names = []
        for file in sorted(self.folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    if name.endswith(("_shape", "_zero_point")) or "absmax" in name:
                        continue  # stored beside packed weights; zeros are normal there
                    shape = tensors.get_slice(name).get_shape()
                    if len(shape) > 1 and not tensors.get_tensor(name).any():
                        names.append(name)
        return names


def trim_answer(tokens: list[int], ends: set[int]) -> list[int]:
    """Cut the tokens after the first end token."""
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens


TIMED_PROMPTS, TIMED_TOKENS = 2, 32
BATCH_TEXTS = 16


class PlainReader(ExportFiles):
    """Reader of a language model's full weights, one text at a time."""

    def __init__(self, asked: ParityQuestions) -> None:
        super().__init__(asked)
        import torch
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=getattr(torch, asked.dtype), use_safetensors=True, **NO_CODE
        )
        self.model = model.to(asked.device).eval()

    @property
    def engine(self) -> str:
        import transformers

        return f"transformers {transformers.__version__}"

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """Return logits [places, vocabulary] that predict the tokens at these places."""
        import torch

        inputs = torch.tensor([ids], device=self.asked.device)
        before = torch.tensor([place - 1 for place in places], device=self.asked.device)
        with torch.inference_mode():
            out = self.model(input_ids=inputs, use_cache=False, logits_to_keep=before).logits[0]
        made: np.ndarray = out.float().cpu().numpy()
        return made

    def read(self, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
        """Yield, for each group, the logits [places, vocabulary] of its texts."""
        return read_separately(self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether the token ends a response."""
        return token in self.ends()

    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]:
        """Generate greedy responses."""
        new: list[list[int]] = []
        for start in range(0, len(prompts), BATCH_TEXTS):
            new += self._generate(prompts[start : start + BATCH_TEXTS], self.asked.max_new_tokens)
            on_done(len(new), len(prompts))
        return new

    def _generate(self, prompts: list[list[int]], most: int) -> list[list[int]]:
        import torch

        width, pad, ends = max(map(len, prompts)), self.tokenizer.pad_token_id, self.ends()
        rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
        seen = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        device = self.asked.device
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(seen, device=device),
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=sorted(ends),
                pad_token_id=pad,
            )
        return [trim_answer(row, ends) for row in made[:, width:].tolist()]

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Return tokens per second over a few prompts, one at a time."""
        began = time.perf_counter()
        made = sum(len(self._generate([prompt], TIMED_TOKENS)[0]) for prompt in prompts[:TIMED_PROMPTS])
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """Raise ValueError: no format read here has a classification head."""
        raise ValueError("This format does not support classification heads.")


# vLLM runs in this process, in its own environment.
#
# It returns log-probabilities of a prompt's own tokens and of the most likely ones, not of chosen tokens. So
# the last layer's output is captured as vLLM computes it for a prompt, and vLLM's own head computes the
# logits: these are its numbers to the last digit (compared with its `prompt_logprobs`), for all tokens.

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # keeps the model in this process to capture its output
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
VLLM_TIMED_PROMPTS, VLLM_TIMED_TOKENS = 2, 32
VLLM_BATCH_TEXTS = 16
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # adapter ranks for which vLLM reserves memory
SPARE_TOKENS = 8  # spare tokens beyond prompt and response
MEMORY = 0.8  # share of the GPU's memory


class VllmReader(ExportFiles):
    """Reader of a language model's full weights, or of a LoRA adapter with its base model."""

    def __init__(self, asked: ParityQuestions) -> None:
        super().__init__(asked)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import vllm

        self.version, self.parameters = vllm.__version__, vllm.SamplingParams
        self.taken: list[Any] = []
        adapter = asked.base is not None
        options: dict[str, Any] = {"enable_lora": True, "max_lora_rank": self._rank()} if adapter else {}
        length = self._length()
        self.llm = vllm.LLM(
            model=asked.base or str(self.folder),
            tokenizer=str(self.folder),
            dtype=asked.dtype,
            **NO_CODE,
            max_model_len=length,
            max_num_batched_tokens=max(length, 2_048),  # a prompt is processed in one step
            max_num_seqs=VLLM_BATCH_TEXTS,
            enable_prefix_caching=False,
            enforce_eager=True,
            gpu_memory_utilization=MEMORY,
            **options,
        )
        self.adapter = self._adapter() if adapter else None
        self.llm.apply_model(self._watch)

    def _rank(self) -> int:
        rank = int((read_json(self.folder / "adapter_config.json") or {}).get("r") or 1)
        return next((size for size in RANKS if size >= rank), rank)

    def _adapter(self) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest("export", 1, str(self.folder))

    def _length(self) -> int:
        """Return the length of the longest text in tokens, up to the export's context length."""
        asked = self.asked
        texts = [*asked.answers.ids, *asked.rows.ids, *asked.joined.ids]
        longest = max((len(ids) for ids in [*texts, *asked.prompt_ids]), default=0)
        wanted = longest + asked.max_new_tokens + SPARE_TOKENS
        return min(wanted, self.context or wanted)

    def _watch(self, model: Any) -> None:
        model.register_forward_hook(lambda module, inputs, output: self.taken.append(output))

    @property
    def engine(self) -> str:
        return f"vLLM {self.version}"

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """Return logits [places, vocabulary] that predict the tokens at these places."""
        self.taken.clear()
        until = max(places)
        self._generate([ids[:until]], 1, set())
        hidden = self.taken[0][[place - 1 for place in places]]
        logits = self.llm.apply_model(lambda model: model.compute_logits(hidden))[0]
        made: np.ndarray = logits.float().cpu().numpy()
        self.taken.clear()
        return made

    def _generate(self, prompts: list[list[int]], most: int, ends: set[int]) -> list[list[int]]:
        how = self.parameters(temperature=0.0, max_tokens=most, stop_token_ids=sorted(ends), detokenize=False)
        asks = [{"prompt_token_ids": ids} for ids in prompts]
        made = self.llm.generate(asks, how, use_tqdm=False, lora_request=self.adapter)
        return [trim_answer(list(each.outputs[0].token_ids), ends) for each in made]

    def read(self, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
        """Yield, for each group, the logits [places, vocabulary] of its texts."""
        return read_separately(self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether the token ends a response."""
        return token in self.ends()

    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]:
        """Generate greedy responses."""
        ends, new = self.ends(), []
        for start in range(0, len(prompts), VLLM_BATCH_TEXTS):
            new += self._generate(prompts[start : start + VLLM_BATCH_TEXTS], self.asked.max_new_tokens, ends)
            self.taken.clear()
            on_done(len(new), len(prompts))
        return new

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Return tokens per second over a few prompts, one at a time."""
        began, made, ends = time.perf_counter(), 0, self.ends()
        for prompt in prompts[:VLLM_TIMED_PROMPTS]:
            made += len(self._generate([prompt], VLLM_TIMED_TOKENS, ends)[0])
            self.taken.clear()
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """Raise ValueError: no format read here has a classification head."""
        raise ValueError("vLLM is supported for language models only.")
