"""Apparent forgetting of an untrained adapter.

For every method that keeps the base model in place: the change of the loss on prose from the plain model,
with the adapter disabled, as the evidence measures the base, and enabled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from engine.evaluation.probes import suite_probes
from engine.evaluation.probes.probe_sets import ProbeMeasurement
from engine.models import adapter_weights, loading
from engine.models.tuning_methods import make_trainable, use_base_model
from store.core.home import Home
from store.training.methods import METHODS
from store.training.train_config import BUNDLED_MODEL, TrainConfig

CPU = torch.device("cpu")
PASSAGES = 12  # passages of the suite's prose
# In addition to the methods of the table: an adapter's initialization changes its untrained effect.
STARTS = {
    "LoRA with DoRA": {"use_dora": True},
    "LoRA from PiSSA": {"init_lora_weights": "pissa"},
    "LoRA from OLoRA": {"init_lora_weights": "olora"},
}


def changes(home: Home) -> Iterator[tuple[str, float, float]]:
    """Yield the title of each method and the nats per token forgotten with the adapter disabled and
    enabled.
    """
    cases: dict[str, dict[str, Any]] = {
        method.title: {"method": name} for name, method in METHODS.items() if method.adapter
    }
    for title, fields in (cases | STARTS).items():
        config = TrainConfig(dataset="none", dtype="float32", **fields).resolved(500)
        yield title, *_change(home, config)


def _change(home: Home, config: TrainConfig) -> tuple[float, float]:
    source = loading.resolve_model(BUNDLED_MODEL, home)
    tokenizer = loading.load_tokenizer(source)
    model = loading.load_model(config, source, "cpu", torch.float32)
    probe = suite_probes.build_prose_probe(tokenizer, None).part(PASSAGES)
    before = _loss(probe.measure(model, batch_size=8, device=CPU))
    torch.manual_seed(0)
    examples = [torch.tensor([tokenizer(text).input_ids[:64]]) for text in probe.texts[:4]]
    folder = None if config.held else loading.find_weights_folder(source)
    tuned = make_trainable(model, config, torch.float32, start=adapter_weights.InitSources(examples, folder))
    on = _loss(probe.measure(tuned, batch_size=8, device=CPU))
    with use_base_model(tuned) as untuned:
        off = _loss(probe.measure(untuned, batch_size=8, device=CPU))
    return off - before, on - before


def _loss(measured: ProbeMeasurement) -> float:
    return float(measured.loss_sum.sum() / measured.tokens.sum())
