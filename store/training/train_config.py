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

    name: Line = Field("", max_length=120, description="Made from method and data set where left empty")
    notes: str = Field("", max_length=10_000, description="Free text")

    model: ModelSource = Field(
        BUNDLED_MODEL,
        min_length=1,
        max_length=500,
        description="A bundled model, a local folder or a hub id",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field("auto", description="auto: bfloat16 where fast")

    init_from: Line = Field("", max_length=120, description="Continue from an earlier run: its id or name")
    init_mode: Literal["stack", "merge"] = Field(
        "stack",
        description="stack: continue training its adapter; merge: train a new adapter on its merged model",
    )

    parent: Line = Field(
        "", max_length=120, description="The run that this one is a change of: its id or name"
    )

    dataset: Line = Field(min_length=1, max_length=120, description="Name or id of a data set")
    split_seed: int | None = Field(None, ge=0, le=2**31 - 1, description="The data set's own where left out")
    validation_size: float | None = Field(
        None, gt=0, le=0.5, description="Share of rows; the data set's own where left out"
    )
    test_size: float | None = Field(
        None, ge=0, le=0.5, description="Share of rows; the data set's own where left out"
    )
    split_by: SplitMethod | None = Field(None, description="The data set's own where left out")
    split_column: Line | None = Field(None, description="For a split by group, time or stratified")
    task: Literal["sft", "classification", "dpo"] = Field(
        "sft", description="Instruction tuning, a classification head, or preference pairs"
    )
    beta: float = Field(
        0.1, gt=0, le=100, description="Preference: how tightly the model is held to the base"
    )
    loss_type: LossType = Field("sigmoid", description="Preference: DPO's own loss, or one of its variants")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Preference, robust: assumed share of pairs in the wrong order"
    )
    max_train_rows: int | None = Field(None, ge=1, description="Train on a random sample of this many rows")
    max_eval_rows: int = Field(500, ge=1, description="Rows of validation and of test at most")

    method: MethodName = Field("lora", description="What of the model is trained; `tunebench methods`")
    load_in_4bit: bool = Field(False, description="Load the base model in 4 bits (NF4, double quantization)")
    load_in_8bit: bool = Field(False, description="Load the base model in 8 bits")
    r: int | None = Field(None, ge=1, le=1024, description="Rank of the adapter; the method's if left out")
    lora_alpha: int | None = Field(None, ge=1, description="Scale of the adapter; 2r where left out")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Share of the adapter's inputs set to 0")
    target_modules: str | list[str] | None = Field(
        None, description="all-linear, keys-values-mlp, or names of modules; the method's own if left out"
    )
    use_rslora: bool = Field(False, description="Scale by the root of the rank, for high ranks")
    use_dora: bool = Field(
        False, description="Train the magnitude of each weight separately from its direction (DoRA)"
    )
    init_lora_weights: Literal["default", "pissa", "olora", "eva", "loftq"] = Field(
        "default",
        description="What the adapter starts from: nothing, the weights, or what flows through them",
    )
    loraplus_lr_ratio: float | None = Field(
        None, ge=1, le=1024, description="LoRA+: learning rate of B over that of A; 16 is usual"
    )
    init_r: int | None = Field(None, ge=2, le=1536, description="Rank that AdaLoRA begins with; 1.5 r")
    oft_block_size: int = Field(32, ge=2, le=1024, description="Size of the blocks that OFT turns")
    num_virtual_tokens: int = Field(20, ge=1, le=1024, description="Trained tokens before each row")
    encoder_hidden_size: int | None = Field(
        None, ge=1, le=65_536, description="Width of P-tuning's network; the model's own if left out"
    )
    adapter_len: int = Field(10, ge=1, le=1024, description="Trained tokens in each adapted layer")
    adapter_layers: int | None = Field(
        None, ge=1, le=1024, description="Top layers that LLaMA-Adapter changes; all but two if left out"
    )
    bottleneck_size: int = Field(64, ge=1, le=65_536, description="Width of the small networks")
    trainable_layers: int = Field(2, ge=1, le=1024, description="Top layers that are trained")
    train_embeddings: bool = Field(False, description="Train the embeddings too")

    learning_rate: float | None = Field(
        None, gt=0, le=1, description="At its peak; the method's for a model of this size where left out"
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="How the learning rate falls over the run"
    )
    warmup_steps: float = Field(
        0.05, ge=0, description="A share of the steps below 1, a number of steps above"
    )
    num_train_epochs: float | None = Field(
        None, gt=0, le=1000, description="Passes over the training rows; by their number where left out"
    )
    max_steps: int | None = Field(None, ge=1, description="Stops earlier than the epochs would")
    per_device_train_batch_size: int = Field(8, ge=1, le=4096, description="Training rows at once")
    gradient_accumulation_steps: int = Field(2, ge=1, le=4096, description="Such batches that make one step")
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096, description="Held-out rows at once")
    weight_decay: float | None = Field(None, ge=0, le=1, description="AdamW's; the method's where left out")
    max_grad_norm: float = Field(1.0, ge=0, description="0 leaves gradients as they are")
    optim: Literal["adamw_torch_fused", "adamw_torch", "paged_adamw_8bit"] = Field(
        "adamw_torch_fused", description="The optimiser; paged_adamw_8bit saves GPU memory"
    )
    gradient_checkpointing: bool = Field(
        False, description="Work activations out twice: less memory, more time"
    )
    max_length: int | None = Field(None, ge=8, le=1_048_576, description="99th percentile where left out")
    chat_template: str = Field(
        "",
        max_length=20_000,
        description="The model's own where left out; chatml, llama3, zephyr, headings, or Jinja",
    )
    completion_only_loss: bool = Field(True, description="Train on answers alone")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of the order of rows and of new weights")
    gate_override: str = Field(
        "", max_length=500, description="Why to launch though mask or columns are wrong"
    )

    evaluations: int = Field(10, ge=1, le=1000, description="Validations over the whole run")
    early_stopping: bool = Field(True, description="Stop once validation loss no longer falls")
    early_stopping_patience: int = Field(3, ge=1, le=100, description="Validations without improvement")
    early_stopping_threshold: float = Field(0.005, ge=0, lt=1, description="Smallest relative improvement")
    load_best_model_at_end: bool = Field(
        True, description="End with the weights of the lowest validation loss"
    )
    negligible_gain: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="The verdict calls smaller gains no gain: share of the base model's loss, or of the rows",
    )
    probes: bool = Field(True, description="Measure forgetting: general questions, prose, own samples")
    probe_datasets: list[Line] = Field(
        default_factory=list,
        max_length=20,
        description="Data sets of which it is measured, before and after, what the model makes of them",
    )
    probe_rows: int = Field(
        200, ge=1, le=10_000, description="Of each of the probe_datasets at most; the same ones in every run"
    )
    probe_tasks: list[Line] = Field(
        default_factory=list,
        max_length=20,
        description="Of lm-evaluation-harness, asked of base and tuned model at the end; their time is extra",
    )
    probe_task_rows: int = Field(
        200, ge=1, le=100_000, description="Of each of the probe_tasks at most, its first items"
    )
    probe_share: float = Field(
        0.1, ge=0, le=1, description="Of the time in training, what probes between steps may take at most"
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
        "", max_length=120, description="Where general rows come from: a data set, or the base's own texts"
    )
    kl_beta: float = Field(
        0.0, ge=0, le=100, description="How much the distance to the base model (KL, on replayed rows) counts"
    )
    live_metric: Line = Field(
        "",
        max_length=100,
        description="Metric of answers while it trains: token_f1, exact_match, own/FILE (at most 600 s"
        " and 4 GiB each time), none, or automatic",
    )
    canaries: int = Field(
        0,
        ge=0,
        le=50,
        description="Number of made-up secrets to train on, each group once, 4 and 16 times, to measure"
        " memorization",
    )
    sample_prompts: int = Field(10, ge=0, le=100, description="Held-out prompts answered by base and tuned")
    max_new_tokens: int = Field(64, ge=1, le=4096, description="Of each of these answers, at most")

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
