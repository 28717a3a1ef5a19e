"""README.md of an export: a card in the hub's form with what is known, and nothing that isn't.

What the model is made of, what training did, how the export differs from the model that was evaluated, and
how to load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.diagnostics.phrasing import plural
from engine.shipping.subject import ExportSubject
from store.catalog.export_forms import FORMS, ExportForm
from store.catalog.methods import METHODS
from store.config.shipping.model_export_config import ModelExport
from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Difference
from store.documents.shipping.card import ModelCard
from store.documents.shipping.parity import ParityReport
from store.words import card_parts, export_words, model_card

EXACT = ("adapter", "merged", "merged-f32")  # the weights of the model, but for rounding
FOLDER = "FOLDER"  # where the files lie, of an export that no hub has


@dataclass(frozen=True)
class WrittenExport:
    """What is exported, in which form, and where it lies. card: what is known of the model."""

    subject: ExportSubject
    config: ModelExport
    card: ModelCard
    folder: Path

    @property
    def form(self) -> ExportForm:
        return FORMS[self.config.form]

    @property
    def place(self) -> str:
        """By which a reader's code finds it."""
        return self.config.hub or FOLDER


def card(export: WrittenExport, parity: ParityReport, notices: list[str]) -> str:
    """The text of README.md: the model card, and beside it what the export is."""
    text = model_card.write(export.card, _head(export)).rstrip()
    exported = f"Exported as **{export.form.title}** by Tunebench."
    if export.card["evaluations"] and export.form.name not in EXACT:
        exported += " The figures above are of the model before that; what the form changed stands below."
    parts = [
        text,
        f"## This export\n\n{exported}",
        f"## How to load it\n\n{_loading(export)}",
        "## Beside the model that was evaluated\n\n" + "\n".join(_parity(parity)),
    ]
    if notices:
        parts.append("## To know\n\n" + "\n".join(f"- {card_parts.plain(notice)}" for notice in notices))
    return "\n\n".join(parts) + "\n"


def _head(export: WrittenExport) -> dict[str, object]:
    """What the form makes of the model card's front matter."""
    family, base = export.form.family, export.card["base"]
    trained = export.card["run"] is not None or export.card["adapter"]
    relation = "adapter" if family == "adapter" else "finetune" if trained else "quantized"
    library = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get(family, "transformers")
    pipeline = "text-classification" if export.subject.labels else "text-generation"
    config = export.card["config"] or {}
    tags = [str(config[name]) for name in ("method", "task") if config.get(name)]
    hub_id = base["hub_id"] if base else None
    return card_parts.head(hub_id, relation, library, pipeline, [export.form.name, *tags])


def _loading(export: WrittenExport) -> str:
    subject, form, base = export.subject, export.form, export.card["base"]
    if form.family == "ollama":
        fetched = f"hf download {export.place} --local-dir {FOLDER}\n" if export.config.hub else ""
        enter = f"{fetched}cd {FOLDER}\n"
        return f"{_of_folder(export)}```sh\n{enter}ollama create {subject.name.lower()} -f Modelfile\n```"
    if form.reader == "llama.cpp":
        file = next(export.folder.glob("*.gguf")).name
        named = f"--hf-repo {export.place} --hf-file {file}" if export.config.hub else f"-m {FOLDER}/{file}"
        return f"{_of_folder(export)}```sh\nllama-server {named}\n```"
    headed = subject.labels is not None
    if form.family != "adapter":
        return _of_folder(export) + card_parts.loading(export.place, None, headed=headed)
    beneath = card_parts.BaseOfAdapter(base["hub_id"] if base else None)
    code = _of_folder(export) + card_parts.loading(export.place, beneath, headed=headed)
    if METHODS[subject.config.method].family == "adapter":
        return f"{card_parts.UNREGISTERED}\n\n{code}"
    return code


def _of_folder(export: WrittenExport) -> str:
    return "" if export.config.hub and export.form.family != "ollama" else f"{card_parts.OF_FOLDER}\n\n"


def _parity(parity: ParityReport) -> list[str]:
    lines = [
        f"{export_words.STATUS_WORDS[parity['status']]} ({plural(parity['prompts'], 'row')} compared)."
        f" Read by {parity['engine']} in another process.",
        "",
        "| | |",
        "|---|---|",
    ]
    rendering = parity["rendering"]
    lines.append(
        f"| Prompts rendered otherwise | {rendering['other_bytes']:,} by bytes, {rendering['other_ids']:,} by"
        f" tokens, of {rendering['prompts']:,} |"
    )
    for title, estimate in (
        ("Mean divergence, nats a token", parity["mean_kl"]),
        ("Tokens with the same favourite", parity["argmax_agreement"]),
        ("Answers that are the same", parity["answer_agreement"]),
    ):
        if estimate:
            lines.append(f"| {title} | {_with_n(estimate)} |")
    lines += [f"| Change of {_plain(each)} | {_with_n(each, signed=True)} |" for each in parity["figures"]]
    return [*lines, *(["", *(f"- {reason}" for reason in parity["reasons"])] if parity["reasons"] else [])]


def _plain(figure: Difference) -> str:
    return figure["metric"].removeprefix("eval/").replace("_", " ")


def _with_n(figure: Estimate | Difference, *, signed: bool = False) -> str:
    return f"{card_parts.with_interval(figure, signed=signed)}, n {figure['n']:,}"
