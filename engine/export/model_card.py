"""README.md of an export: a model card in the hub's format, with known facts only.

It states the origin of the model, its training, differences between export and evaluated model, and how to
load it. License and languages are those stated by the base model's card.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load

from engine.export.export_subject import ExportSubject
from engine.models import loading
from engine.worker.job import WorkerJob
from store.core.errors import ModelError
from store.core.export_schemas import BaseCard, ModelCard, ParityReport
from store.core.figure_schemas import Difference, Estimate
from store.core.formatting import plural
from store.export import text as export_text
from store.export.config import ModelExport
from store.export.forms import FORMS, ExportForm
from store.registry import model_card
from store.runs import card_text
from store.training.methods import METHODS

CARD = "README.md"
MAX_BYTES = 2**20
MAX_LANGUAGES = 200
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,99}")
LICENSE_NAME = re.compile(r"[\w][\w .+-]{0,99}")
LINK = re.compile(r"https://[\w./%~#?=&+-]{1,300}")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}|code|multilingual")
UNKNOWN: BaseCard = {"license": None, "license_name": None, "license_link": None, "languages": []}


def read_base_card(job: WorkerJob, subject: ExportSubject) -> BaseCard:
    """Read the base model's card, from beside its weights or from the hub."""
    try:
        if subject.adapter and not subject.own_base:
            source = subject.base(job)
        else:  # of merged models and full weights, the original model
            source = loading.resolve_model(subject.config.model, job.home)
        file = loading.find_file(source, CARD)
        if file is None or file.stat().st_size > MAX_BYTES:
            return UNKNOWN
        return parse_front_matter(metadata_load(file) or {})
    except (ModelError, OSError, ValueError, RecursionError, yaml.YAMLError):
        return UNKNOWN  # a missing base model, or an invalid card


def parse_front_matter(head: dict[str, object]) -> BaseCard:
    """Parse a card's front matter, ignoring values that aren't in the hub's format."""
    license_ = _match(LICENSE, head.get("license"))
    other = license_ == "other"
    named = head.get("language")
    listed = named if isinstance(named, list) else [named]
    languages = [_match(LANGUAGE, each) for each in listed[:MAX_LANGUAGES]]
    return {
        "license": license_,
        "license_name": _match(LICENSE_NAME, head.get("license_name")) if other else None,
        "license_link": _match(LINK, head.get("license_link")) if other else None,
        "languages": [each for each in languages if each],
    }


def _match(form: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None


EXACT = ("adapter", "merged", "merged-f32")  # the model's weights up to rounding
FOLDER = "FOLDER"  # placeholder for the folder of an export that is not on a hub


@dataclass(frozen=True)
class WrittenExport:
    """A written export: subject, format and folder. card: known facts of the model."""

    subject: ExportSubject
    config: ModelExport
    card: ModelCard
    folder: Path

    @property
    def form(self) -> ExportForm:
        return FORMS[self.config.form]

    @property
    def place(self) -> str:
        """Return the repository or placeholder that code examples load from."""
        return self.config.hub or FOLDER


def build_export_card(export: WrittenExport, parity: ParityReport, notices: list[str]) -> str:
    """Return the text of README.md: the model card and a description of the export."""
    text = model_card.format_card(export.card, _build_front_matter(export)).rstrip()
    exported = f"Exported as **{export.form.title}** by Tunebench."
    if export.card["evaluations"] and export.form.name not in EXACT:
        exported += (
            " The metrics above are those of the original model; see below for the changes in this format."
        )
    parts = [
        text,
        f"## This export\n\n{exported}",
        f"## Usage\n\n{_describe_loading(export)}",
        "## Comparison with the evaluated model\n\n" + "\n".join(_describe_parity(parity)),
    ]
    if notices:
        parts.append(
            "## Notes\n\n" + "\n".join(f"- {card_text.escape_markdown(notice)}" for notice in notices)
        )
    return "\n\n".join(parts) + "\n"


def _build_front_matter(export: WrittenExport) -> dict[str, object]:
    """Build the card's front matter for the export's format."""
    family, base = export.form.family, export.card["base"]
    trained = export.card["run"] is not None or export.card["adapter"]
    relation = "adapter" if family == "adapter" else "finetune" if trained else "quantized"
    library = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get(family, "transformers")
    pipeline = "text-classification" if export.subject.labels else "text-generation"
    config = export.card["config"] or {}
    tags = [str(config[name]) for name in ("method", "task") if config.get(name)]
    hub_id = base["hub_id"] if base else None
    return card_text.build_shared_header(hub_id, relation, library, pipeline, [export.form.name, *tags])


def _describe_loading(export: WrittenExport) -> str:
    subject, form, base = export.subject, export.form, export.card["base"]
    if form.family == "ollama":
        fetched = f"hf download {export.place} --local-dir {FOLDER}\n" if export.config.hub else ""
        enter = f"{fetched}cd {FOLDER}\n"
        return (
            f"{_describe_folder(export)}```sh\n{enter}ollama create {subject.name.lower()} -f Modelfile\n```"
        )
    if form.reader == "llama.cpp":
        file = next(export.folder.glob("*.gguf")).name
        named = f"--hf-repo {export.place} --hf-file {file}" if export.config.hub else f"-m {FOLDER}/{file}"
        return f"{_describe_folder(export)}```sh\nllama-server {named}\n```"
    headed = subject.labels is not None
    if form.family != "adapter":
        return _describe_folder(export) + card_text.format_loading_code(export.place, None, headed=headed)
    beneath = card_text.AdapterBase(base["hub_id"] if base else None)
    code = _describe_folder(export) + card_text.format_loading_code(export.place, beneath, headed=headed)
    if METHODS[subject.config.method].family == "adapter":
        return f"{card_text.UNREGISTERED}\n\n{code}"
    return code


def _describe_folder(export: WrittenExport) -> str:
    return "" if export.config.hub and export.form.family != "ollama" else f"{card_text.OF_FOLDER}\n\n"


def _describe_parity(parity: ParityReport) -> list[str]:
    lines = [
        f"{export_text.STATUS_LABELS[parity.status]} ({plural(parity.prompts, 'row')} compared). Loaded by "
        f"{parity.engine} in a separate process.",
        "",
        "| | |",
        "|---|---|",
    ]
    rendering = parity.rendering
    lines.append(
        f"| Prompts rendered differently | {rendering.other_bytes:,} by bytes, {rendering.other_ids:,} by"
        f" tokens, of {rendering.prompts:,} |"
    )
    for title, estimate in (
        ("Mean KL divergence, nats a token", parity.mean_kl),
        ("Top-1 agreement", parity.argmax_agreement),
        ("Identical responses", parity.answer_agreement),
    ):
        if estimate:
            lines.append(f"| {title} | {_format_with_n(estimate)} |")
    lines += [
        f"| Change in {each.metric.removeprefix('eval/').replace('_', ' ')}"
        f" | {_format_with_n(each, signed=True)} |"
        for each in parity.figures
    ]
    return [*lines, *(["", *(f"- {reason}" for reason in parity.reasons)] if parity.reasons else [])]


def _format_with_n(figure: Estimate | Difference, *, signed: bool = False) -> str:
    return f"{card_text.format_with_interval(figure, signed=signed)}, n {figure.n:,}"
