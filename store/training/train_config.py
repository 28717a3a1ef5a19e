"""Config of a training run, for forms, YAML files and commands.

A field that depends on others (learning rate on method, epochs on rows) is None until `resolved()` fills it;
a run is always stored with its resolved config. Hyperparameters have their Hugging Face names. Defaults
follow published practice: Hu et al. 2021 (LoRA), Dettmers et al. 2023 (QLoRA), Biderman et al. 2024 (rates).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from store.core import metrics_config
from store.core.config import (
    Line,
    ModelSource,
    NoRemoteCodeConfig,
    check_single_line,
    split_commas,
    to_yaml,
)
from store.core.row_schemas import SplitMethod
from store.core.schemas import ConfigDocument
from store.training.methods import METHOD_FIELDS, METHODS, Quantisation, compute_initial_rank
from store.training.run_switches import add_run_switches

if TYPE_CHECKING:
    MethodName = str  # a method in the table
else:
    MethodName = Literal[tuple(METHODS)]


LossType = Literal["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm", "apo_zero"]
# Changes that go with another method, whose defaults then apply: the learning rate alone, or all such fields
UNSET_RATE: dict[str, None] = {"learning_rate": None}
UNSET_BY_METHOD: dict[str, None] = UNSET_RATE | {"weight_decay": None}
HEAD_RATE = 2e-4  # minimum for a classification head, whose weights are initialized randomly
BUNDLED_MODEL = "SmolLM2-135M-Instruct"
SAMPLE_DATASET = "Python standard library"

TASK_TITLES: dict[str, str] = {
    "sft": "Instruction tuning (SFT)",
    "classification": "Text classification",
    "dpo": "Preference tuning (DPO)",
}


@add_run_switches
class TrainConfig(NoRemoteCodeConfig):
    """Config of a run: what is trained, on which rows, and how."""

    name: Line = Field("", max_length=120, description="Default: from method and data set")
    notes: str = Field("", max_length=10_000, description="Free text")

    model: ModelSource = Field(
        BUNDLED_MODEL,
        min_length=1,
        max_length=500,
        description="Bundled model, local folder or hub id",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field("auto", description="auto: bfloat16 where fast")

    init_from: Line = Field("", max_length=120, description="Continue from an earlier run: its id or name")
    init_mode: Literal["stack", "merge"] = Field(
        "stack",
        description="stack: continue training its adapter; merge: train a new adapter on its merged model",
    )

    parent: Line = Field(
        "", max_length=120, description="Id or name of the run that this one was cloned from"
    )

    dataset: Line = Field(min_length=1, max_length=120, description="Name or id of a data set")
    split_seed: int | None = Field(None, ge=0, le=2**31 - 1, description="Default: the data set's split")
    validation_size: float | None = Field(
        None, gt=0, le=0.5, description="Share of rows; default: the data set's split"
    )
    test_size: float | None = Field(
        None, ge=0, le=0.5, description="Share of rows; default: the data set's split"
    )
    split_by: SplitMethod | None = Field(None, description="Default: the data set's split")
    split_column: Line | None = Field(None, description="For a split by group, time or stratified")
    task: Literal["sft", "classification", "dpo"] = Field(
        "sft", description="Instruction tuning, a classification head, or preference pairs"
    )
    beta: float = Field(
        0.1, gt=0, le=100, description="Preference: strength of the penalty for distance from the base model"
    )
    loss_type: LossType = Field("sigmoid", description="Preference: the DPO loss or a variant")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Preference, robust: assumed share of pairs in the wrong order"
    )
    max_train_rows: int | None = Field(None, ge=1, description="Train on a random sample of this many rows")
    max_eval_rows: int = Field(500, ge=1, description="Maximum validation rows, and maximum test rows")

    method: MethodName = Field("lora", description="Tuning method; see `tunebench methods`")
    load_in_4bit: bool = Field(False, description="Load the base model in 4 bits (NF4, double quantization)")
    load_in_8bit: bool = Field(False, description="Load the base model in 8 bits")
    r: int | None = Field(None, ge=1, le=1024, description="Rank of the adapter; default: the method's")
    lora_alpha: int | None = Field(None, ge=1, description="Scale of the adapter; default: 2r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability of the adapter's inputs")
    target_modules: str | list[str] | None = Field(
        None, description="all-linear, keys-values-mlp, or module names; default: the method's"
    )
    use_rslora: bool = Field(False, description="Scale by the square root of the rank, for high ranks")
    use_dora: bool = Field(
        False, description="Train the magnitude of each weight separately from its direction (DoRA)"
    )
    init_lora_weights: Literal["default", "pissa", "olora", "eva", "loftq"] = Field(
        "default",
        description="Initialization of the adapter: default, from the weights, or from activations",
    )
    loraplus_lr_ratio: float | None = Field(
        None, ge=1, le=1024, description="LoRA+: ratio of the learning rates of B and A, usually 16"
    )
    init_r: int | None = Field(None, ge=2, le=1536, description="Initial rank of AdaLoRA; default: 1.5 r")
    oft_block_size: int = Field(32, ge=2, le=1024, description="Block size of OFT rotations")
    num_virtual_tokens: int = Field(20, ge=1, le=1024, description="Number of virtual tokens before each row")
    encoder_hidden_size: int | None = Field(
        None, ge=1, le=65_536, description="Hidden size of the P-tuning network; default: the model's"
    )
    adapter_len: int = Field(10, ge=1, le=1024, description="Number of virtual tokens in each adapted layer")
    adapter_layers: int | None = Field(
        None, ge=1, le=1024, description="Number of top layers with LLaMA-Adapter; default: all but two"
    )
    bottleneck_size: int = Field(64, ge=1, le=65_536, description="Width of the bottleneck")
    trainable_layers: int = Field(2, ge=1, le=1024, description="Number of top layers to train")
    train_embeddings: bool = Field(False, description="Also train the embeddings")

    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate; default: the method's for this model size"
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="Learning rate schedule"
    )
    warmup_steps: float = Field(
        0.05, ge=0, description="Values below 1 are a share of all steps, others a number of steps"
    )
    num_train_epochs: float | None = Field(
        None, gt=0, le=1000, description="Epochs; default: by number of training rows"
    )
    max_steps: int | None = Field(None, ge=1, description="Maximum steps, overrides longer epochs")
    per_device_train_batch_size: int = Field(8, ge=1, le=4096, description="Training rows per forward pass")
    gradient_accumulation_steps: int = Field(2, ge=1, le=4096, description="Batches accumulated per step")
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096, description="Evaluation batch size")
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="Weight decay of AdamW; default: the method's"
    )
    max_grad_norm: float = Field(1.0, ge=0, description="Gradient clipping norm; 0 for none")
    optim: Literal["adamw_torch_fused", "adamw_torch", "paged_adamw_8bit"] = Field(
        "adamw_torch_fused", description="Optimizer; paged_adamw_8bit saves GPU memory"
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, more time")
    max_length: int | None = Field(
        None, ge=8, le=1_048_576, description="Maximum tokens of a row; default: 99th percentile"
    )
    chat_template: str = Field(
        "",
        max_length=20_000,
        description="chatml, llama3, zephyr, headings, or Jinja; default: the model's own",
    )
    completion_only_loss: bool = Field(True, description="Train only on answers")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed of row order and new weights")
    gate_override: str = Field(
        "", max_length=500, description="Reason to launch despite a wrong mask or wrong columns"
    )

    evaluations: int = Field(10, ge=1, le=1000, description="Number of validations during the run")
    early_stopping: bool = Field(True, description="Stop when validation loss no longer decreases")
    early_stopping_patience: int = Field(
        3, ge=1, le=100, description="Validations without improvement before stopping"
    )
    early_stopping_threshold: float = Field(0.005, ge=0, lt=1, description="Minimum relative improvement")
    load_best_model_at_end: bool = Field(True, description="Use the weights with the lowest validation loss")
    negligible_gain: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Gains below this share of the base model's loss, or of the rows, count as no gain",
    )
    probes: bool = Field(True, description="Measure forgetting: general questions, prose, own samples")
    probe_datasets: list[Line] = Field(
        default_factory=list,
        max_length=20,
        description="Data sets on which the model is measured before and after training",
    )
    probe_rows: int = Field(
        200, ge=1, le=10_000, description="Maximum rows of each probe data set; the same rows in every run"
    )
    probe_tasks: list[Line] = Field(
        default_factory=list,
        max_length=20,
        description="Tasks of lm-evaluation-harness, run on base and tuned model at the end, in extra time",
    )
    probe_task_rows: int = Field(
        200, ge=1, le=100_000, description="Maximum items of each probe task, the first ones"
    )
    probe_share: float = Field(
        0.1, ge=0, le=1, description="Maximum share of training time for probes between steps"
    )
    max_forgetting: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Stop when the loss on general prose has increased by this many nats per token",
    )
    replay_share: float = Field(
        0.0, ge=0, lt=1, description="Share of general (replay) rows in each effective batch"
    )
    replay_dataset: Line = Field(
        "",
        max_length=120,
        description="Source of replay rows: a data set, or texts generated by the base model",
    )
    kl_beta: float = Field(
        0.0, ge=0, le=100, description="Weight of the KL penalty towards the base model, on replay rows"
    )
    live_metric: Line = Field(
        "",
        max_length=100,
        description="Metric during training: token_f1, exact_match, own/FILE (600 s, 4 GiB), none, automatic",
    )
    canaries: int = Field(
        0,
        ge=0,
        le=50,
        description="Number of made-up secrets to train on, each group once, 4 and 16 times, to measure"
        " memorization",
    )
    sample_prompts: int = Field(
        10, ge=0, le=100, description="Number of held-out prompts answered by base and tuned model"
    )
    max_new_tokens: int = Field(64, ge=1, le=4096, description="Maximum new tokens of each sample answer")

    @field_validator("live_metric")
    @classmethod
    def _live_metric(cls, value: str) -> str:
        return metrics_config.check_live_metric(value)

    @field_validator("target_modules", mode="before")
    @classmethod
    def _names_modules(cls, value: Any) -> Any:
        names = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(name, str) for name in names):
            raise ValueError("names of modules, such as q_proj, v_proj")
        for name in names if value is not None else ():
            check_single_line(name)
        return value

    @field_validator("target_modules")
    @classmethod
    def _some_module(cls, value: str | list[str] | None) -> str | list[str] | None:
        if isinstance(value, str) and value not in ("all-linear", "keys-values-mlp"):
            value = [part.strip() for part in value.split(",") if part.strip()]  # a string is a regex in peft
        if value is not None and not value:
            raise ValueError("name at least one module, or all-linear")
        return value

    @field_validator("probe_datasets", "probe_tasks", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return split_commas(value)

    @property
    def held(self) -> Quantisation:
        """Precision of the base model's matrices in memory."""
        if own := METHODS[self.method].holds:
            return "int8" if self.load_in_8bit else own
        return "nf4" if self.load_in_4bit else "int8" if self.load_in_8bit else ""

    @property
    def rank(self) -> int:
        """Rank of the method's updates: the config's or the method's default; 0 if it has none."""
        return self.r or METHODS[self.method].rank or 0

    def to_yaml(self) -> str:
        """Format as YAML, without defaults of fields that the method doesn't read."""
        idle = set(METHOD_FIELDS) - set(METHODS[self.method].fields)
        fields = type(self).model_fields
        unsaid = {name for name in idle if getattr(self, name) == fields[name].default}
        return to_yaml(self.model_dump(exclude_none=True, exclude=unsaid))

    def resolved(self, train_rows: int, parameters: int | None = None) -> TrainConfig:
        """Return a copy with all dependent fields filled in.

        `train_rows`: number of training rows. `parameters`: of the base model, if known.
        """
        rows = min(train_rows, self.max_train_rows or train_rows)
        method = METHODS[self.method]
        filled = self.model_copy()
        if self.learning_rate is None:
            filled.learning_rate = self.default_learning_rate(parameters)
        if self.num_train_epochs is None:
            filled.num_train_epochs = 3.0 if rows < 2_000 else 2.0 if rows < 20_000 else 1.0
        if self.weight_decay is None:
            filled.weight_decay = 0.0 if method.adapter and rows < 2_000 else 0.01
        for field, value in self._of_method().items():
            if field in method.fields and getattr(self, field) is None:
                setattr(filled, field, value)
        if not self.name:
            with_task = " preference" if self.task == "dpo" else ""
            filled.name = f"{method.name}{with_task} on {self.dataset}"
        return filled

    def default_learning_rate(self, parameters: int | None = None) -> float:
        """Return the default learning rate; `parameters`: of the base model, if known."""
        method = METHODS[self.method]
        rate = method.learning_rate(parameters or 0)
        if self.task == "dpo":
            return rate / 10
        if self.task == "classification" and method.family == "low rank":
            return max(rate, HEAD_RATE)
        return rate

    def _of_method(self) -> ConfigDocument:
        """Return defaults of the fields that only some methods read."""
        targets = {"target_modules": METHODS[self.method].targets}
        if not self.rank:
            return targets
        return targets | {
            "r": self.rank,
            "lora_alpha": 2 * self.rank,
            "init_r": compute_initial_rank(self.rank),
        }


def build_sample_experiment() -> TrainConfig:
    """Return the sample experiment of a new home folder.

    It must end with a significant gain within minutes.
    """
    return TrainConfig(
        name="Sample experiment",
        notes="LoRA on 400 functions of the Python standard library: from name to documentation.",
        dataset=SAMPLE_DATASET,
        max_train_rows=400,
        max_eval_rows=100,
        num_train_epochs=1,
        evaluations=5,  # for 25 steps: more would take half of the training time
        learning_rate=2e-4,
    )


SPEED = ("dtype", "load_in_4bit", "load_in_8bit", "gradient_checkpointing", "lora_dropout")


def get_speed_settings(config: Mapping[str, Any]) -> str:
    """Return a key of the settings, besides method and task, that affect the speed of a step."""
    return " ".join(str(config.get(field) or "") for field in SPEED)


def can_stop_early(config: Mapping[str, Any]) -> bool:
    """Return whether a run may end before its planned steps."""
    return bool(config.get("early_stopping") or config.get("max_forgetting"))
