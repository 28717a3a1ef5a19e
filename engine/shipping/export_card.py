"""README.md of an export: a card in the hub's form with what is known, and nothing that isn't.

What the model is made of, what it was trained on, how the export differs from the model that was evaluated,
and how to load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.diagnostics.phrasing import plural
from engine.shipping.subject import ExportSubject
from store.catalog.export_forms import ExportForm
from store.catalog.methods import METHODS
from store.contract.jobdir import read_json
from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Difference
from store.documents.shipping.export import ExportOrder
from store.documents.shipping.parity import ParityReport
from store.words import card_parts, export_words, model_card


@dataclass(frozen=True)
class WrittenExport:
    """What is exported, in which form, and where it lies. base: by which others know the model beneath, and
    its revision where that is known."""

    subject: ExportSubject
    form: ExportForm
    order: ExportOrder
    base: tuple[str, str | None]
    folder: Path


def card(export: WrittenExport, parity: ParityReport, notices: list[str]) -> str:
    """The text of README.md: of a registered version its model card, and beside it what the export is."""
    head, exported = _head(export), f"Exported as **{export.form.title}** by Tunebench."
    version = export.order["card"]
    if version:
        parts = [model_card.write(version, head).rstrip(), f"## This export\n\n{exported}"]
    else:
        title = f"# {export.subject.title}"
        parts = [card_parts.front_matter(head), title, f"{_made_of(export)} {exported}"]
    parts += [
        "## How to load it\n\n" + _loading(export),
        "## Beside the model that was evaluated\n\n" + "\n".join(_parity(parity)),
    ]
    if not version and (figures := _figures(export.subject)):
        parts.append("## What training did\n\n" + figures)
    if notices:
        parts.append("## To know\n\n" + "\n".join(f"- {notice}" for notice in notices))
    return "\n\n".join(parts) + "\n"


def _head(export: WrittenExport) -> dict[str, object]:
    family, name = export.form.family, export.base[0]
    relation = {"adapter": "adapter", "weights": "finetune"}.get(family, "quantized")
    library = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get(family, "transformers")
    pipeline = "text-classification" if export.subject.labels else "text-generation"
    return card_parts.head(name if "/" in name else None, relation, library, pipeline, [export.form.name])


def _made_of(export: WrittenExport) -> str:
    name, revision = export.base
    of_base = f"{name} (revision {revision})" if revision else name
    if export.order["run_id"] is None:
        return f"The model {of_base}."
    method = METHODS[export.subject.config.method]
    dataset = export.order["dataset_name"] or "a data set without a name"
    return f"{of_base}, trained by {method.title} on {dataset}."


def _loading(export: WrittenExport) -> str:
    subject, form, (name, revision) = export.subject, export.form, export.base
    if form.family == "ollama":
        return f"```\nollama create {subject.name.lower()} -f Modelfile\n```"
    if form.reader == "llama.cpp":
        return f"```\nllama-server -m {next(export.folder.glob('*.gguf')).name}\n```"
    beneath = name if "/" in name else f"PATH OF {name}"
    adapter = form.family == "adapter"
    return card_parts.loading(beneath if adapter else None, revision, headed=bool(subject.labels))


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


def _figures(subject: ExportSubject) -> str:
    """What the run's verdict says, in its own sentences."""
    outcome = read_json(subject.run.folder.result) or {}
    verdict = (outcome.get("result") or {}).get("verdict") or {}
    sentences = verdict.get("sentences") or []
    return " ".join(str(sentence) for sentence in sentences)
