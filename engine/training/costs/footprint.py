"""Compute parameters, step memory and step work of a model under a method from its config alone.

Two or three models of a few layers are built on the meta device; their differences give the cost of a layer,
so a model of 80 layers costs no more than one of three. Architectures with alternating kinds of layer are
built in whole periods. Config fields that limit how many layers a method touches are varied with them.

Code that branches on values, such as a router's, can't run on the meta device; for it, step cost is computed
by formula: bytes and operations of a Llama's layer, and of logits.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedConfig,
)

from engine.models import loading, losses, tuning_methods
from engine.models.batching import batch_by_length, compute_batch_shape, find_largest_micro_batch
from engine.models.classification import upcast_head
from engine.models.forward import llama_layers
from engine.models.forward.attention import make_causal_mask
from engine.models.forward.operations import KINDS, MicroBatchWork, compute_mean_length
from engine.models.forward.packed_forward import MULTIPLE
from engine.models.losses import Objective, TokenObjective
from engine.models.tokenization.rendering import TokenRows
from engine.models.training_state import MasterWeights
from engine.models.tuning_methods import check_layers, count_parameters, list_trainable, make_trainable
from engine.training.costs import rehearsal
from engine.worker.machine_load import pause_garbage_collection
from store.core.config import NO_CODE
from store.training.methods import METHODS, TAKEN_APART, count_adapted_layers
from store.training.train_config import TrainConfig

LOGIT_BYTES = 12  # bytes per trained token and vocabulary entry
MEMORY_TRAFFIC_FACTOR = 8.0  # reads and writes per byte saved by a forward pass, as rehearsed for a Llama
LAYER_OPERATIONS = 110  # operations of a layer's forward pass


@dataclass(frozen=True)
class StepFormula:
    """A micro-batch of padded rows of equal length; wide: 2 in fp32, else 1."""

    text: Any
    config: TrainConfig
    rows: int
    length: int
    trained: int
    wide: int

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def layers(self) -> int:
        return int(self.text.num_hidden_layers)

    @property
    def layer(self) -> float:
        """Return the bytes that a layer's forward pass writes."""
        text = self.text
        mlp = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        return float(self.wide * self.tokens * (24 * text.hidden_size + 8 * mlp))

    @property
    def saved(self) -> float:
        """Return the bytes that the layers save for the backward pass."""
        if not self.config.gradient_checkpointing:
            return self.layers * self.layer
        return float(self.layers * 2 * self.wide * self.tokens * self.text.hidden_size + self.layer)

    @property
    def logits(self) -> float:
        """Return the bytes of the logits and of the tensors a loss derives from them."""
        return float(LOGIT_BYTES * self.trained * self.text.vocab_size)

    def piece(self, linear: float, trains: float) -> MicroBatchWork:
        """Return the work of the micro-batch.

        linear: number of weights of the layers' matrices; trains: share of them that is trained.
        """
        products, attention, head = flops(self.text, linear, self.tokens, self.trained, self.length)
        forward = np.array(
            [
                products,
                attention,
                MEMORY_TRAFFIC_FACTOR * self.layers * self.layer,
                LAYER_OPERATIONS * self.layers,
            ]
        )
        judged = np.array([head, 0.0, 1.5 * self.logits, LAYER_OPERATIONS])
        # backward: gradients of activations down to the lowest trained layer, those of weights where trained
        passes = (
            1
            + _compute_backward_share(self.config, self.layers)
            + self.config.gradient_checkpointing
            + trains
        )
        return MicroBatchWork(
            self.tokens, self.trained, self.length, passes * forward, 2 * judged, forward, judged
        )


def flops(
    text: Any, linear: float, tokens: float, trained: float, length: float
) -> tuple[float, float, float]:
    """Count the operations of a forward pass: two per weight and token, attention, logits where trained."""
    attention = 4 * length * text.hidden_size * text.num_hidden_layers
    return tokens * 2 * linear, tokens * attention, 2 * trained * text.hidden_size * text.vocab_size


def _compute_backward_share(config: TrainConfig, layers: int) -> float:
    """Return the share of the layers that gradients flow through."""
    fields = METHODS[config.method].fields
    field = next((f for f in LAYER_FIELDS if f in fields), None)
    if field is None or ("train_embeddings" in fields and config.train_embeddings):
        return 1.0
    return min(count_adapted_layers(layers, getattr(config, field)), layers) / layers


log = logging.getLogger(__name__)

CPU = torch.device("cpu")  # device of integer tensors
SAMPLED_LENGTHS = 3  # of rows, in multiples of MULTIPLE
MAX_LAYER_PERIOD = 8  # layers; longer periods are treated as a single kind of layer
LAYER_FIELDS = ("trainable_layers", "adapter_layers")  # layer indices, counted from the top


@dataclass(frozen=True)
class ReducedModel:
    """A model of few layers on the meta device; `chosen`: number of layers the method touches, if limited."""

    layers: int
    chosen: int | None


@dataclass(frozen=True)
class ParameterCounts:
    """Parameter counts of a model under a method.

    Of the base model, of its layers' matrices (which quantisation replaces), trained, and added by the
    method; largest: of the largest matrix.
    """

    total: float
    linear: float
    trainable: float
    added: float
    largest: float


@dataclass(frozen=True)
class Footprint:
    """Bytes beyond weights and optimiser.

    `phases`: peak in each phase of a step (rehearsal.PHASES); `left`: gradients after it; `saved`:
    activations when the backward pass starts; `evaluation`: a pass without gradients; `labels`: scoring the
    text of labels. several: a step may have more than one micro-batch, so that gradients accumulate. varied:
    rows have varying lengths. piece: work of the largest micro-batch; `piece_at`: the same in a model of
    another depth. packed: rows have no padding.
    """

    phases: tuple[float, ...]
    left: float
    saved: float
    evaluation: float
    several: bool
    piece: MicroBatchWork
    packed: bool = False
    varied: bool = False
    rehearsed: bool = True  # otherwise by formula, which is less accurate
    labels: float = 0.0
    piece_at: Callable[[ReducedModel], MicroBatchWork] | None = None

    def at_least(self, other: Footprint) -> Footprint:
        """Return this footprint with each memory figure raised to that of the other, if larger."""
        return replace(
            self,
            phases=tuple(map(max, self.phases, other.phases)),
            left=max(self.left, other.left),
            saved=max(self.saved, other.saved),
            several=True,
            varied=self.varied or other.varied,
            rehearsed=self.rehearsed and other.rehearsed,
        )


def set_layer_count(architecture: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    """Return the architecture with that many layers, of the same kinds as its first ones."""
    few = copy.deepcopy(architecture)
    part = few.get_text_config()
    whole = part.num_hidden_layers
    for name, value in list(vars(part).items()):
        if isinstance(value, list) and len(value) == whole:  # one value per layer
            setattr(part, name, [value[i % whole] for i in range(layers)])
    part.num_hidden_layers = layers
    return few


def build_base_model(
    architecture: PreTrainedConfig, few: ReducedModel, config: TrainConfig, dtype: torch.dtype, device: str
) -> Any:
    """Build the model with that many layers on the meta device, as loading on `device` would return it."""
    auto: Any = AutoModelForCausalLM
    if config.task == "classification":  # with as many classes as the architecture has labels
        auto = AutoModelForSequenceClassification
    with torch.device("meta"), rehearsal.SkipInit():
        model = auto.from_config(set_layer_count(architecture, few.layers), dtype=dtype, **NO_CODE)
    return loading.prepare_for_training(model, torch.device(device), dtype)


@dataclass(frozen=True)
class LayerShapes:
    """The few-layer models to build, from which values for any depth are extrapolated.

    turn: period after which the kinds of layer repeat; whole: number of layers of the full model.
    """

    few: tuple[ReducedModel, ...]
    whole: ReducedModel
    turn: int

    def extend(self, values: Any, depth: ReducedModel | None = None) -> Any:
        """Extrapolate `values` of the `few` models to a model of that depth, by default the full model."""
        depth = depth or self.whole
        first = self.few[0].layers
        if depth.chosen is None:
            return values[0] + (depth.layers - first) / self.turn * (values[1] - values[0])
        least, more_layers, more_chosen = values
        others = (depth.layers - depth.chosen) - (first - 1)
        both = more_chosen - more_layers + (more_layers - least)  # one more layer, and it is chosen
        return least + others * (more_layers - least) + (depth.chosen - 1) * both

    def depth(self, layers: int) -> ReducedModel:
        """Return the deepest model of about that many layers, from the smallest of the few to the full model.

        The method touches the same share of layers.
        """
        first, whole = self.few[0].layers, self.whole
        if layers >= whole.layers:
            return whole
        kept = first + max(0, (layers - first) // self.turn) * self.turn
        if whole.chosen is None:
            return ReducedModel(kept, None)
        return ReducedModel(kept, max(1, min(kept - 1, round(whole.chosen * kept / whole.layers))))


def choose_reduced_models(architecture: PreTrainedConfig, config: TrainConfig) -> LayerShapes:
    """Choose the models to build.

    Raises: ConfigError if the method selects layers that the model doesn't have.
    """
    text = architecture.get_text_config()
    whole, turn = text.num_hidden_layers, _find_layer_period(getattr(text, "layer_types", None))
    first = max(3, turn)  # the last layer of packed rows is smaller, so every phase needs a layer before it
    check_layers(config, whole)
    field = next((f for f in LAYER_FIELDS if f in METHODS[config.method].fields), None)
    if field is None:
        few = ReducedModel(first, None), ReducedModel(first + turn, None)
        return LayerShapes(few, ReducedModel(whole, None), turn)
    chosen = min(count_adapted_layers(whole, getattr(config, field)), whole)
    touched = ReducedModel(first, 1), ReducedModel(first + 1, 1), ReducedModel(first + 1, 2)
    return LayerShapes(touched, ReducedModel(whole, chosen), 1)


def _find_layer_period(kinds: list[str] | None) -> int:
    """Return the period after which the kinds of layer repeat."""
    for turn in range(1, MAX_LAYER_PERIOD + 1):
        if not kinds or all(kind == kinds[i % turn] for i, kind in enumerate(kinds)):
            return turn
    return 1


def build_trainable_model(
    architecture: PreTrainedConfig, few: ReducedModel, config: TrainConfig, dtype: torch.dtype, device: str
) -> tuple[Any, ParameterCounts]:
    """Build a model of few layers, make it trainable, and return it with its parameter counts."""
    model = build_base_model(architecture, few, config, dtype, device)
    linears: list[Any] = list(tuning_methods.list_linear_layers(model).values())
    widths = [module.weight.numel() for module in linears]
    total = sum(p.numel() for p in model.parameters())
    if few.chosen is not None:
        config = config.model_copy(update=dict.fromkeys(LAYER_FIELDS, few.chosen))
    with torch.device("meta"), rehearsal.SkipInit():
        model = make_trainable(model, config, dtype).train()
        if config.task == "classification":
            upcast_head(model)
    trained, everything = count_parameters(model)
    added = everything - total
    if config.init_lora_weights in TAKEN_APART:
        added += trained
    return model, ParameterCounts(total, sum(widths), trained, added, max(widths, default=0))


class Rehearsal:
    """The few-layer forms of a config's model, which give its parameter counts and can rehearse steps."""

    def __init__(
        self, architecture: PreTrainedConfig, config: TrainConfig, dtype: torch.dtype, device: str
    ) -> None:
        self.shapes = choose_reduced_models(architecture, config)
        self.few = self.shapes.few
        with pause_garbage_collection():
            made_ones = [build_trainable_model(architecture, few, config, dtype, device) for few in self.few]
        self.models = [model for model, _ in made_ones]
        with torch.device("meta"):
            self.masters = [
                MasterWeights(list_trainable(model)) for model in self.models
            ]  # their hooks move gradients
        self._counted = [list(vars(counts).values()) for _, counts in made_ones]
        self.counts = self.counts_at(self.shapes.whole)
        self.text, self.device = architecture.get_text_config(), device

    def counts_at(self, depth: ReducedModel) -> ParameterCounts:
        """Return the parameter counts of a model of that depth."""
        return ParameterCounts(*self._extended(self._counted, depth))

    def _extended(self, values: list[list[float]], depth: ReducedModel) -> list[float]:
        """Extrapolate the values of the few-layer models to that depth."""
        return [float(v) for v in self.shapes.extend([np.asarray(v, float) for v in values], depth)]

    def run(
        self, config: TrainConfig, train: TokenRows, evaluated: TokenRows, objective: Objective | None = None
    ) -> Footprint:
        """Return the footprint of the largest micro-batch of `train` and of a validation on `evaluated`.

        The validation uses the longest rows. Only the batch sizes of `config` are read; the model is that
        of the config it was built for.
        """
        objective = objective or TokenObjective()
        with (
            llama_layers.simulate_cpu() if self.device == "cpu" else nullcontext(),
            pause_garbage_collection(),
        ):
            longest = int(train.sequence_lengths.max())
            packed = self.packed(longest)
            chosen = find_largest_micro_batch(train.lengths, config, packed=packed)
            varied = len(np.unique(train.lengths // MULTIPLE)) > SAMPLED_LENGTHS
            several = len(chosen) < min(len(train), math.prod(compute_batch_shape(config)))
            try:
                footprint = self._rehearse(config, objective, train, chosen, evaluated, several)
            except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
                log.warning("%s can't be rehearsed: %s", self.text.model_type, error)
                footprint = self._by_formula(train, chosen, config, several)
            finally:
                objective.drop_metrics()
        return replace(footprint, varied=varied, packed=packed)

    def packed(self, longest: int, *, training: bool = True) -> bool:
        """Whether rows of up to that many tokens use the packed forward pass."""
        with llama_layers.simulate_cpu() if self.device == "cpu" else nullcontext():
            return not llama_layers.explain_refusal(_set_training_mode(self.models[0], training), longest)

    def _rehearse(
        self,
        config: TrainConfig,
        objective: Objective,
        train: TokenRows,
        chosen: np.ndarray,
        evaluated: TokenRows,
        several: bool,
    ) -> Footprint:
        batch = objective.collate(train, chosen, CPU)
        values = []
        for few, model, masters in zip(self.few, self.models, self.masters, strict=True):
            # every model must count the mask, which the first would otherwise cache for the others
            make_causal_mask.cache_clear()
            ask = partial(objective.loss_sum, model, batch)
            step = rehearsal.run_step(_set_training_mode(model, True), ask, few.layers)
            for parameter in masters.weights.values():
                parameter.grad = None
            values.append([step.left, step.saved, *step.phases, *np.ravel(step.done)])
        model = _set_training_mode(self.models[0], False)  # without gradients no layer saves anything
        largest = _select_largest_batch(model, evaluated, config.per_device_eval_batch_size)
        held_out = objective.collate(evaluated, largest, CPU)
        evaluation, judged = rehearsal.run_forward(
            model, lambda: objective.loss_sum(model, held_out), self.few[0].layers
        )
        left, saved, *others = self._extended(values, self.shapes.whole)
        phases = others[: len(rehearsal.PHASES)]
        trained = train.trained_counts[chosen].sum()
        more = trained / max(1, evaluated.trained_counts[largest].sum())

        def piece_at(depth: ReducedModel) -> MicroBatchWork:
            _, _, *counted = self._extended(values, depth)
            done = np.reshape(counted[len(phases) :], (len(phases), len(KINDS)))
            forward, loss, *backward = done
            return MicroBatchWork(
                tokens=float(train.lengths[chosen].sum()),
                trained=float(trained),
                length=compute_mean_length(train.lengths[chosen]),
                layers=forward + sum(backward),
                loss=loss,
                forward=forward,
                judged=np.array(judged[1]) * more,
            )

        piece = piece_at(self.shapes.whole)
        return Footprint(tuple(phases), left, saved, float(evaluation), several, piece, piece_at=piece_at)

    def _by_formula(
        self, train: TokenRows, chosen: np.ndarray, config: TrainConfig, several: bool
    ) -> Footprint:
        length, trained = int(train.lengths[chosen].max()), int(train.trained_counts[chosen].sum())
        wide = 2 if next(self.models[0].parameters()).dtype == torch.float32 else 1
        formula = StepFormula(self.text, config, len(chosen), length, trained, wide)
        counts, saved, left = self.counts, formula.saved, 4 * self.counts.trainable
        return Footprint(
            *((saved, saved + formula.logits, saved + left, left), left, saved, losses.LOGIT_BYTES),
            several=several,
            piece=formula.piece(counts.linear, counts.trainable / max(1.0, counts.total + counts.added)),
            rehearsed=False,
        )


def _select_largest_batch(model: Any, rows: TokenRows, batch_size: int) -> np.ndarray:
    """Select the rows of the largest validation batch."""
    if model.get_output_embeddings() is None:  # under a classification head
        return batch_by_length(rows.lengths, batch_size)[0]
    return losses.build_fitting_batches(model, rows, batch_size)[0]


def _set_training_mode(model: Any, training: bool) -> Any:
    """Set the model's mode if it differs; setting it unconditionally costs as much as building a layer."""
    return model if model.training == training else model.train(training)


def warm_up_rehearsal() -> None:
    """Rehearse a step of a tiny model; the first rehearsal of a process takes twice as long as later ones."""
    tiny = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, vocab_size=32
    )
    rows = TokenRows(
        np.arange(1), np.array([0, 8]), np.ones(8, np.int32), np.ones(8, bool), np.zeros(1, np.uint8)
    )
    config = TrainConfig(dataset="none").resolved(1)
    Rehearsal(tiny, config, torch.bfloat16, "cpu").run(config, rows, rows)
