"""An export read by vLLM, in the environment that has it, in this very process.

vLLM hands out the log-probabilities of a prompt's own tokens and of the likeliest, not of chosen ones. So the
last layer's output is taken as vLLM computes it for a prompt, and vLLM's own head makes logits of it: these
are its numbers to the last digit (held against its `prompt_logprobs`), and all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from engine.shipping.parity.asked import ParityQuestions
from engine.shipping.parity.export_files import ExportFiles, trimmed
from engine.shipping.parity.reading import AskedText, read_alone
from store.contract.jobdir import read_json
from store.contract.no_code import NO_CODE

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the model lies in this process, where its output can be taken
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
TIMED_PROMPTS, TIMED_TOKENS = 2, 32
AT_ONCE = 16
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, as vLLM reserves room for them
ROOM = 8  # tokens beside prompt and answer
MEMORY = 0.8  # of a GPU's


class VllmReader(ExportFiles):
    """Whole weights of a language model, or a LoRA adapter on its base."""

    def __init__(self, asked: ParityQuestions) -> None:
        super().__init__(asked)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import vllm

        self.version, self.parameters = vllm.__version__, vllm.SamplingParams
        self.taken: list[Any] = []
        adapter = asked["base"] is not None
        options: dict[str, Any] = {"enable_lora": True, "max_lora_rank": self._rank()} if adapter else {}
        length = self._length()
        self.llm = vllm.LLM(
            model=asked["base"] or str(self.folder),
            tokenizer=str(self.folder),
            dtype=asked["dtype"],
            **NO_CODE,
            max_model_len=length,
            max_num_batched_tokens=max(length, 2_048),  # a prompt is read in one step
            max_num_seqs=AT_ONCE,
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
        """Tokens of the longest text that is asked, as far as the export can read."""
        asked = self.asked
        texts = [*asked["answers"]["ids"], *asked["rows"]["ids"], *asked["joined"]["ids"]]
        longest = max((len(ids) for ids in [*texts, *asked["prompt_ids"]]), default=0)
        wanted = longest + asked["max_new_tokens"] + ROOM
        return min(wanted, self.context or wanted)

    def _watch(self, model: Any) -> None:
        model.register_forward_hook(lambda module, inputs, output: self.taken.append(output))

    @property
    def engine(self) -> str:
        return f"vLLM {self.version}"

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """[places, vocabulary] of what stands before each of these places."""
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
        return [trimmed(list(each.outputs[0].token_ids), ends) for each in made]

    def read(self, groups: Sequence[list[AskedText]]) -> Iterator[list[np.ndarray]]:
        """Of each group the logits [places, vocabulary] of its texts."""
        return read_alone(self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether an answer ends with it."""
        return token in self.ends()

    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]:
        """Greedy."""
        ends, new = self.ends(), []
        for start in range(0, len(prompts), AT_ONCE):
            new += self._generate(prompts[start : start + AT_ONCE], self.asked["max_new_tokens"], ends)
            self.taken.clear()
            on_done(len(new), len(prompts))
        return new

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Tokens a second of a few prompts that come alone."""
        began, made, ends = time.perf_counter(), 0, self.ends()
        for prompt in prompts[:TIMED_PROMPTS]:
            made += len(self._generate([prompt], TIMED_TOKENS, ends)[0])
            self.taken.clear()
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """No form that is read here has a head."""
        raise ValueError("vLLM is asked of language models alone.")
