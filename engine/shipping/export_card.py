"""README.md of an export: a card in the hub's form with what is known, and nothing that isn't.

What the model is made of, what it was trained on, how the export differs from the model that was evaluated,
and how to load it.
"""

from __future__ import annotations

from pathlib import Path

from engine.diagnostics.phrasing import plural
from engine.shipping.subject import ExportSubject
from store.catalog.export_forms import ExportForm
from store.catalog.methods import METHODS
from store.contract.jobdir import read_json
from store.contract.yaml_text import to_yaml
from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Difference
from store.documents.shipping.export import ExportOrder
from store.documents.shipping.parity import ParityReport
from store.words import export_words, model_card


def card(
    subject: ExportSubject,
    form: ExportForm,
    order: ExportOrder,
    base: tuple[str, str | None],
    parity: ParityReport,
    notices: list[str],
    folder: Path,
) -> str:
    """The text of README.md: of a registered version its model card, and beside it what the export is."""
    head, exported = _head(subject, form, base), f"Exported as **{form.title}** by Tunebench."
    if order["card"]:
        parts = [model_card.write(order["card"], head).rstrip(), f"## This export\n\n{exported}"]
    else:
        parts = [
            f"---\n{to_yaml(head)}---",
            f"# {subject.title}",
            f"{_made_of(subject, base, order)} {exported}",
        ]
    parts += [
        "## How to load it\n\n" + _loading(subject, form, base, folder),
        "## Beside the model that was evaluated\n\n" + "\n".join(_parity(parity)),
    ]
    if not order["card"] and (figures := _figures(subject)):
        parts.append("## What training did\n\n" + figures)
    if notices:
        parts.append("## To know\n\n" + "\n".join(f"- {notice}" for notice in notices))
    return "\n\n".join(parts) + "\n"


def _head(subject: ExportSubject, form: ExportForm, base: tuple[str, str | None]) -> dict[str, object]:
    head: dict[str, object] = {}
    if "/" in base[0]:
        head["base_model"] = base[0]
        head["base_model_relation"] = {"adapter": "adapter", "weights": "finetune"}.get(
            form.family, "quantized"
        )
    head["library_name"] = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get(
        form.family, "transformers"
    )
    head["pipeline_tag"] = "text-classification" if subject.labels else "text-generation"
    head["tags"] = ["tunebench", form.name]
    return head


def _made_of(subject: ExportSubject, base: tuple[str, str | None], order: ExportOrder) -> str:
    method = METHODS[subject.config.method]
    revision = f" (revision {base[1]})" if base[1] else ""
    if order["run_id"] is None:
        return f"The model {base[0]}{revision}."
    dataset = order["dataset_name"] or "a data set without a name"
    return f"{base[0]}{revision}, trained by {method.title} on {dataset}."


def _loading(subject: ExportSubject, form: ExportForm, base: tuple[str, str | None], folder: Path) -> str:
    auto = "AutoModelForSequenceClassification" if subject.labels else "AutoModelForCausalLM"
    if form.reader == "llama.cpp":
        file = next(folder.glob("*.gguf")).name
        if form.family == "ollama":
            return f"```\nollama create {subject.name.lower()} -f Modelfile\n```"
        return f"```\nllama-server -m {file}\n```"
    if form.family == "adapter":
        lines = ["from peft import PeftModel", f"from transformers import {auto}", ""]
        name = base[0] if "/" in base[0] else f"PATH OF {base[0]}"
        revision = f', revision="{base[1]}"' if base[1] else ""
        head = ", config=AutoConfig.from_pretrained(FOLDER)" if subject.labels else ""
        if head:
            lines[1] += ", AutoConfig"
        lines += [
            f'base = {auto}.from_pretrained("{name}"{revision}{head})',
            "model = PeftModel.from_pretrained(base, FOLDER)",
        ]
    else:
        lines = [f"from transformers import {auto}, AutoTokenizer", ""]
        lines += [
            f"model = {auto}.from_pretrained(FOLDER)",
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        ]
    return "```python\n" + "\n".join(lines) + "\n```"


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
            lines.append(f"| {title} | {_estimate(estimate)} |")
    lines += [f"| Change of {_plain(each)} | {_difference(each)} |" for each in parity["figures"]]
    return [*lines, *(["", *(f"- {reason}" for reason in parity["reasons"])] if parity["reasons"] else [])]


def _plain(figure: Difference) -> str:
    return figure["metric"].removeprefix("eval/").replace("_", " ")


def _estimate(estimate: Estimate) -> str:
    low, high = estimate["low"], estimate["high"]
    between = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    return f"{estimate['value']:.3g}{between}, n {estimate['n']:,}"


def _difference(figure: Difference) -> str:
    low, high = figure["low"], figure["high"]
    between = "" if low is None or high is None else f" ({low:+.3g} to {high:+.3g})"
    return f"{figure['value']:+.3g}{between}, n {figure['n']:,}"


def _figures(subject: ExportSubject) -> str:
    """What the run's verdict says, in its own sentences."""
    outcome = read_json(subject.run.folder.result) or {}
    verdict = (outcome.get("result") or {}).get("verdict") or {}
    sentences = verdict.get("sentences") or []
    return " ".join(str(sentence) for sentence in sentences)
