"""Loading of a backend's model from its spec: base, adapters, tokenizers, and their forward.

Llama-like models get the batched forward. Any other runs by its own code, each row separately with its own
cache.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from peft import PeftModel
from peft.config import PeftConfig
from torch import Tensor
from transformers import DynamicCache

from engine.models import bottleneck, bundled, generation, loading, saved_models
from engine.models.adapter_weights import AdapterSwitch
from engine.models.forward.llama_layers import ModelParts, recognise_model
from engine.models.generation import find_end_tokens, pass_whole_rows_to_head
from engine.models.hardware import choose_dtype
from engine.serving.torch_backend.batched_forward import BatchedForward, PromptChunk
from engine.serving.torch_backend.linear_layers import NO_ADAPTER
from store.core.errors import ModelError
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.model_schemas import ModelNote
from store.serving.schemas import BackendSpec, ServedAdapter
from store.training.methods import SHIFTED, WHOLE_METHOD
from store.training.train_config import TrainConfig


@dataclass
class RowCache:
    """Cache of a row. position: of its next token, if trained prompts make it differ from the token count."""

    adapter: int
    cache: Any = None
    position: int | None = None


class SequentialForward:
    """Forward of one model, row by row.

    `names`: the switch's adapters, numbered from 0 (NO_ADAPTER: none).
    """

    def __init__(self, model: Any, switch: AdapterSwitch | None, names: Sequence[str], device: str) -> None:
        self._model, self._switch, self._names, self._device = model, switch, list(names), device
        self._rows: dict[int, RowCache] = {}
        self.batches_prompts = False

    def extend(self, chunks: Sequence[PromptChunk]) -> list[Tensor]:
        """Process further prompt tokens of these rows.

        Returns each row's logits after its last token, [vocabulary] in fp32.
        """
        rows = [self._rows.setdefault(chunk.key, RowCache(chunk.adapter)) for chunk in chunks]
        return [self._run_row(row, chunk.tokens) for row, chunk in zip(rows, chunks, strict=True)]

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Process one more token of each of these rows; return the next logits [rows, vocabulary] in fp32."""
        return torch.stack(
            [self._run_row(self._rows[key], [token]) for key, token in zip(keys, tokens, strict=True)]
        )

    def release(self, key: int) -> None:
        """Remove a row."""
        self._rows.pop(key, None)

    def fork(self, key: int, other: int) -> None:
        """Add a copy of a row."""
        self._rows[other] = copy.deepcopy(self._rows[key])

    def _run_row(self, row: RowCache, tokens: Sequence[int]) -> Tensor:
        if self._switch is not None:
            self._switch.to("" if row.adapter == NO_ADAPTER else self._names[row.adapter])
        base: Any = self._model.get_base_model() if isinstance(self._model, PeftModel) else self._model
        ids = torch.tensor([list(tokens)], device=self._device)
        inputs: dict[str, Tensor] = {"input_ids": ids}
        with torch.inference_mode(), pass_whole_rows_to_head(base):
            if row.cache is None:
                row.cache = DynamicCache(config=self._model.config)
                if generation.has_prompt_tokens(self._model):
                    prompt_length = generation.count_prompt_tokens(self._model)
                    token_positions = torch.arange(prompt_length + ids.shape[1], device=ids.device)[None]
                    inputs, row.cache, positions = generation.prepare_first_step(
                        self._model, ids, token_positions
                    )
                    inputs["position_ids"] = positions
                    row.position = int(positions[0, -1]) + 1
            elif row.position is not None:
                next_positions = torch.arange(row.position, row.position + len(tokens), device=ids.device)
                inputs["position_ids"] = next_positions[None]
                row.position += len(tokens)
            output = base(**inputs, cache=row.cache, use_cache=True, logits_to_keep=1)
            row.cache = output.cache
            scores: Tensor = output.logits[0, -1].float()
            return scores


log = logging.getLogger("backend")

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Forward(Protocol):
    """Computes logits row by row (`BatchedForward`, `SequentialForward`).

    `batches_prompts`: prompts of several rows share a pass, which succeeds or fails for all; otherwise
    they are processed one at a time.
    """

    batches_prompts: bool

    def extend(self, chunks: Sequence[PromptChunk]) -> list[Tensor]: ...

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor: ...

    def release(self, key: int) -> None: ...

    def fork(self, key: int, copy: int, /) -> None: ...


@dataclass(frozen=True)
class ServedName:
    """What a model name stands for.

    calls_written: it was trained on function calls written out as text, for a template without support for
    them.
    """

    adapter: int
    tokenizer: Any
    ends: frozenset[int]
    calls_written: bool = False


@dataclass
class LoadedModel:
    """A model ready to answer. unbatched_reason: why rows aren't batched; empty if they are."""

    forward: Forward
    models: dict[str, ServedName]
    context: int
    vocabulary: int
    unbatched_reason: str = ""


def load(spec: BackendSpec) -> LoadedModel:
    """Load the spec's model. Raises ModelError."""
    home = Home(spec["home"])
    if spec["model"] in loading.BUNDLED:
        bundled.ensure_bundled_model(spec["model"], home)
    source = loading.resolve_model(spec["model"], home)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    notes = [read_adapter_note(adapter) for adapter in spec["adapters"]]
    quantization = _find_quantization(spec["adapters"], notes)
    config = TrainConfig(model=source, dataset="none", method=WHOLE_METHOD, dtype=spec["dtype"])
    _check_memory(source)
    dtype = choose_dtype(spec["dtype"], torch.device(device))
    model = loading.load_model(apply_quantization(config, quantization), source, device, dtype)
    tokenizers = _load_tokenizers(source, spec["adapters"])
    ends = [frozenset(find_end_tokens(model, tokenizer)) for tokenizer in tokenizers]
    context = compute_context_length(model, spec)
    names = [f"adapter{index}" for index in range(len(spec["adapters"]))]
    model = _load_adapters(model, spec["adapters"], names, dtype, apply_quantization(config, quantization))
    model.eval()
    forward, unbatched_reason = _build_forward(model, names, spec, context, device)
    _release_memory()
    base_note: ModelNote | None = read_json(Path(source) / "tunebench.json")
    calls_written = bool(base_note and base_note.get("calls"))
    models = {name: ServedName(NO_ADAPTER, tokenizers[0], ends[0], calls_written) for name in spec["names"]}
    for index, (adapter, note) in enumerate(zip(spec["adapters"], notes, strict=True)):
        calls_written = bool(note.get("calls"))
        models[adapter.name] = ServedName(index, tokenizers[index + 1], ends[index + 1], calls_written)
    return LoadedModel(forward, models, context, model.config.get_text_config().vocab_size, unbatched_reason)


def _release_memory() -> None:
    """Return freed memory to the system, left over from converting the weights.

    glibc otherwise keeps freed blocks below its mmap threshold, such as adapter pairs.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def read_adapter_note(adapter: ServedAdapter) -> ModelNote:
    """Read a run's note beside the adapter; an adapter from elsewhere gets a note with an unquantised base.

    Raises ModelError if the folder has no adapter.
    """
    folder = Path(adapter.folder)
    if not (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} contains no adapter (no adapter_config.json).",
            fix="Serve a complete model as the base of its own endpoint.",
            field="adapters",
        )
    note: ModelNote | None = read_json(folder / "tunebench.json")
    default_note: ModelNote = {"base_model": "", "method": "", "adapter": True, "held": "", "merges": True}
    return note or default_note


def _find_quantization(adapters: Sequence[ServedAdapter], notes: Sequence[ModelNote]) -> str:
    """Return the base's quantisation: the one that the adapters were trained with."""
    kinds = {str(note["held"]) for note in notes} or {""}
    if len(kinds) > 1:
        described = ", ".join(
            f"{adapter.name} ({note['held'] or 'as it is'})"
            for adapter, note in zip(adapters, notes, strict=True)
        )
        raise ModelError(
            f"The adapters were trained on bases that are held differently: {described}.",
            fix="Serve those of one kind together.",
            field="adapters",
        )
    return kinds.pop()


def apply_quantization(config: TrainConfig, quantization: str) -> TrainConfig:
    """Return the config with the base in 4 or 8 bits, or unquantised."""
    return config.model_copy(
        update={"load_in_4bit": quantization == "nf4", "load_in_8bit": quantization == "int8"}
    )


def _check_memory(source: str) -> None:
    """Raise ModelError if the weights can't fit, before the system kills the process on loading."""
    if not Path(source).is_dir():
        return  # from the hub: its size is unknown
    needed = sum(path.stat().st_size for path in Path(source).glob("*.safetensors"))
    free = psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"The weights of {source} take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free.",
            fix="End other programs, or serve a smaller or a quantized model.",
            field="model",
        )


def _load_tokenizers(source: str, adapters: Sequence[ServedAdapter]) -> list[Any]:
    """Load the base's tokenizer, then each adapter's own; equal ones are loaded once."""
    loaded: dict[str, object] = {}
    base = loading.load_tokenizer(source)
    loaded[_hash_tokenizer(Path(source))] = base
    tokenizers = [base]
    for adapter in adapters:
        folder = Path(adapter.folder)
        if not any((folder / name).exists() for name in loading.TOKENIZER_FILES):
            tokenizers.append(base)
            continue
        digest = _hash_tokenizer(folder)
        if digest not in loaded:
            loaded[digest] = loading.load_tokenizer(str(folder), model=source)
        tokenizers.append(loaded[digest])
    return tokenizers


def _hash_tokenizer(folder: Path) -> str:
    """Return a key that differs between different tokenizers."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"-")
        digest.update(b"\0")
    return digest.hexdigest() if folder.is_dir() else str(folder)


def compute_context_length(model: Any, spec: BackendSpec) -> int:
    """Return the maximum tokens of a prompt with its answer."""
    text_config = model.config.get_text_config()
    positions = getattr(text_config, "max_position_embeddings", None)
    if positions and text_config.model_type in SHIFTED:
        positions -= (text_config.pad_token_id or 0) + 1
    limits = [number for number in (positions, spec["context"], spec["max_tokens"]) if number]
    return min(limits)


def _load_adapters(
    model: Any,
    adapters: Sequence[ServedAdapter],
    names: Sequence[str],
    dtype: torch.dtype,
    config: TrainConfig,
) -> Any:
    bottleneck.register()
    if len(adapters) > 1:
        _check_shared(adapters)
    for adapter, name in zip(adapters, names, strict=True):
        try:
            model = saved_models.load_tuned_model(Path(adapter.folder), model, name)
        except (RuntimeError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(
                f"The adapter {adapter.name} can't be loaded on this base: {text}",
                fix="Name the base that it was trained on.",
                field="adapters",
            ) from error
    for parameter in model.parameters():  # in the dtype of training; peft loads some in fp32
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
            parameter.requires_grad_(False)
    loading.keep_dtype(model, config, dtype)
    return model


def _check_shared(adapters: Sequence[ServedAdapter]) -> None:
    """Raise ModelError, naming it and its type, for an adapter that can't share its base with others."""
    for adapter in adapters:
        settings = read_json(Path(adapter.folder) / "adapter_config.json") or {}
        kind = settings.get("peft_type")
        if kind != "LORA" or settings.get("modules_to_save"):
            reason = "replaces parts of the base" if settings.get("modules_to_save") else f"is {kind}"
            raise ModelError(
                f"The adapter {adapter.name} {reason}: only LoRA adapters share a base.",
                fix="Serve it with its own base.",
                field="adapters",
            )


def _build_forward(
    model: Any, names: Sequence[str], spec: BackendSpec, context: int, device: str
) -> tuple[Forward, str]:
    """Return the batched forward if the model is supported, or else the sequential one and the reason."""
    adapter_config: PeftConfig | None = next(iter(model.peft_config.values())) if names else None
    # adapters are layers that can be switched off, unless they are trained prompts
    switchable = adapter_config is not None and not adapter_config.is_prompt_learning
    switch = AdapterSwitch(model) if switchable else None
    base, parts = _find_parts(model, switch, names, context)
    refusals = [part_or_reason for part_or_reason in (base, *parts) if isinstance(part_or_reason, str)]
    if refusals:
        log.warning("rows are not made together: %s", refusals[0])
        return SequentialForward(model, switch, names, device), refusals[0]
    assert isinstance(base, ModelParts)
    adapter_parts = [part_or_reason for part_or_reason in parts if isinstance(part_or_reason, ModelParts)]
    rows = spec["max_streams"]
    return BatchedForward(base, adapter_parts, rows=rows, max_tokens=context), ""


def _find_parts(
    model: Any, switch: AdapterSwitch | None, names: Sequence[str], context: int
) -> tuple[ModelParts | str, list[ModelParts | str]]:
    """Return the parts of the base and of each adapter, or why they are unavailable."""
    if switch is None:
        return recognise_model(model, context), []
    parts = []
    for name in names:
        switch.to(name)
        parts.append(recognise_model(model, context))
    switch.to("")
    return recognise_model(model.get_base_model(), context), parts
