"""Reader of an export with transformers as any user would load it, in a process without another model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from engine.export.parity.exchange import ParityQuestions, QuestionText, read_together
from engine.export.parity.folder_readers import ExportFiles, trim_answer
from engine.models import classification, loading
from engine.models.classification import ClassObjective, Labels, upcast_head
from engine.models.generation import GenerationOptions, find_end_tokens, generate_continuations
from engine.models.losses import limit_output
from engine.models.tokenization.rendering import TokenRows
from store.core.config import NO_CODE
from store.core.job_folder import read_json

TIMED_PROMPTS, TIMED_TOKENS = 2, 32
BATCH = 16

OnDone = Callable[[int, int], None]


class TransformersReader(ExportFiles):
    """Reader of one export; `tokenizer`: the export's own."""

    def __init__(self, asked: ParityQuestions) -> None:
        super().__init__(asked)
        self.model = self._model().eval()

    def _model(self) -> Any:
        """Load the model in the precision of the evaluation, to compare weights, not arithmetic."""
        headed = self.asked.labels is not None
        auto: Any = transformers.AutoModelForCausalLM
        options: dict[str, object] = {"use_safetensors": True, **NO_CODE}
        if headed:
            auto = transformers.AutoModelForSequenceClassification
        dtype, device = getattr(torch, self.asked.dtype), self.asked.device
        if self.asked.base is not None:
            return self._adapted(auto, dtype, options).to(device)
        settings = read_json(self.folder / "config.json") or {}
        if settings.get("quantization_config"):
            held = auto.from_pretrained(self.folder, dtype=dtype, device_map={"": device}, **options)
            loading.keep_training_numerics(held)  # a CPU would repack 4 bits, which some widths don't allow
            return held
        model = auto.from_pretrained(self.folder, dtype=dtype, **options).to(device)
        return upcast_head(model) if headed else model

    def _adapted(self, auto: Any, dtype: torch.dtype, options: dict[str, object]) -> Any:
        from engine.models import saved_models

        if (self.folder / "config.json").exists() and self.asked.labels is not None:
            options["config"] = transformers.AutoConfig.from_pretrained(self.folder, **NO_CODE)
            options["ignore_mismatched_sizes"] = True
        base = auto.from_pretrained(self.asked.base, dtype=dtype, **options)
        model = saved_models.load_tuned_model(self.folder, base)
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        return upcast_head(model) if self.asked.labels is not None else model

    @property
    def engine(self) -> str:
        return f"transformers {transformers.__version__}"

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """Return logits [places, vocabulary] that predict the tokens at these places."""
        picked = torch.zeros(1, len(ids), dtype=torch.bool)
        picked[0, [place - 1 for place in places]] = True
        inputs = torch.tensor([ids], device=self.asked.device)
        with torch.inference_mode(), limit_output(self.model, picked.to(self.asked.device)):
            out: np.ndarray = self.model(input_ids=inputs, use_cache=False).logits.float().cpu().numpy()
        return out

    def read(self, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
        """Yield, for each group, the logits [places, vocabulary] of its texts."""
        return read_together(self.model, self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether the token ends a response."""
        return token in find_end_tokens(self.model, self.tokenizer)

    def answers(self, prompts: list[list[int]], on_done: OnDone) -> list[list[int]]:
        """Generate greedy responses."""
        most = self.asked.max_new_tokens
        how = GenerationOptions(most, self.asked.device, BATCH, steady=True)
        ends = find_end_tokens(self.model, self.tokenizer)
        new = generate_continuations(
            self.model, self.tokenizer, prompts, how, on_token=lambda done, total: on_done(done, total)
        )
        return [trim_answer(tokens, ends) for tokens in new]

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Return tokens per second over a few prompts, one at a time."""
        few, made, ends = prompts[:TIMED_PROMPTS], 0, find_end_tokens(self.model, self.tokenizer)
        began = time.perf_counter()
        for prompt in few:
            how = GenerationOptions(TIMED_TOKENS, self.asked.device, 1)
            made += len(
                trim_answer(generate_continuations(self.model, self.tokenizer, [prompt], how)[0], ends)
            )
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def classes(self, texts: list[str], on_done: OnDone) -> np.ndarray:
        """Return log-probabilities [texts, classes]."""
        labels = list(self.asked.labels or ())
        return compute_class_log_probs(self.model, self.tokenizer, texts, labels, self.asked, on_done)


def compute_class_log_probs(
    model: Any, tokenizer: Any, texts: list[str], labels: list[str], asked: ParityQuestions, on_done: OnDone
) -> np.ndarray:
    """Return a classifier's log-probabilities [texts, classes]; texts are truncated to its positions."""
    whole = classification.encode_texts(tokenizer, np.arange(len(texts)), texts)
    rows: TokenRows = classification.truncate_texts(
        tokenizer, whole, asked.positions or int(whole.lengths.max(initial=1))
    )[0]
    names = Labels(
        labels, rows.row_ids, np.zeros(len(texts), np.int64), texts, np.zeros(len(labels), np.int64)
    )
    objective = ClassObjective(names, tokenizer.pad_token_id)
    device = torch.device(asked.device)
    return objective.predict(model, rows, BATCH, device, lambda done: on_done(done, len(texts)))
