"""Model card of a version in the Hugging Face hub's format. Pure functions of the card's document.

It states known facts with intervals and n, and states explicitly what isn't known. A name that is meaningful
only on one machine, such as a folder, is never included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from store.core.config import to_yaml
from store.core.export_schemas import CardEvaluation, ModelCard
from store.core.figure_schemas import Estimate, FigureSummary, get_measure_title
from store.core.model_schemas import BaseReference
from store.core.schemas import JsonObject
from store.runs import card_text
from store.runs.card_text import (
    TASKS,
    escape_markdown,
    format_number,
    format_with_interval,
    get_last_part,
    join_lines,
    parse_hub_id,
)
from store.training.methods import METHODS

LICENSE_FIELDS: tuple[Literal["license", "license_name", "license_link"], ...] = (
    "license", "license_name", "license_link",
)  # fmt: skip
PRIVATE_ROWS = "private"  # replaces the hub id of a data set
USED = {  # settings that are independent of a run's length
    "learning_rate": "Learning rate",
    "per_device_train_batch_size": "Batch size",
    "gradient_accumulation_steps": "Accumulated",
    "r": "Rank",
    "lora_alpha": "Alpha",
    "seed": "Seed",
}
GRAMS = 473  # CO₂ equivalents per kWh: world average of electricity in 2024, by Ember
PRIVATE = ("name", "notes", "dataset", "init_from", "parent", "replay_dataset", "probe_datasets")
SHARE = "share"
SHORT = 90  # seconds up to which a duration is shown in seconds


def format_card(card: ModelCard, head: Mapping[str, object] | None = None) -> str:
    """Format the card as Markdown with front matter; head: front matter that an export overrides."""
    registered = card["registered"]
    sections = [
        ("Intended use", _format_intended_use(card)) if registered else None,
        ("License and languages", _format_license(card)),
        ("Training data", _format_data(card)),
        ("Training", _format_training(card)),
        ("Figures", _format_figures(card)),
        ("Forgetting", _format_forgetting(card)),
        ("Bias", _format_bias(card)),
        ("Limits", _format_limits(card)),
        ("Energy", _format_energy(card)),
        ("Approvals", _format_approvals(card)) if registered else None,
        ("How to reproduce", _format_reproduction(card)),
    ]
    title = f"# {escape_markdown(card['reference'])}\n\n{_format_summary(card)}"
    texts = [f"## {section[0]}\n\n{section[1]}" for section in sections if section]
    return "\n\n".join([_format_front_matter(card, head or {}), title, *texts]) + "\n"


# -- front matter -----------------------------------------------------------------------------------


def _format_front_matter(card: ModelCard, head: Mapping[str, object]) -> str:
    task = str(_get_config(card).get("task", ""))
    pipeline = TASKS[task][1] if task in TASKS else ""  # the task's name on hubs
    base = card["base"]
    document = card_text.build_shared_header(
        base["hub_id"] if base else None,
        card_text.get_base_relation(card["adapter"]),
        card_text.get_library_name(card["adapter"]),
        pipeline,
        [_get_config(card)["method"], task] if task in TASKS else [],
    )
    if stated := card["base_card"]:
        document |= {name: stated[name] for name in LICENSE_FIELDS if stated[name]}
        if stated["languages"]:
            document["language"] = stated["languages"]
    if sets := list(dict.fromkeys(dataset["hub_id"] for dataset in card["data"] if dataset["hub_id"])):
        document["datasets"] = sets
    measured = [
        (evaluation, figure)
        for evaluation in card["evaluations"]
        for figure in _list_usable_figures(evaluation)
    ]
    if measured:
        document["metrics"] = sorted({_get_metric(figure) for _, figure in measured})
    if card["energy_wh"] is not None:
        grams = round(card["energy_wh"] / 1000 * GRAMS, 1)
        document["co2_eq_emissions"] = {"emissions": grams, "source": "energy read from the device"}
    if results := [
        _format_result(evaluation, pipeline)
        for evaluation in card["evaluations"]
        if _list_usable_figures(evaluation)
    ]:
        document["model-index"] = [{"name": join_lines(card["reference"]), "results": results}]
    return card_text.format_front_matter(document | dict(head))


def _get_config(card: ModelCard) -> JsonObject:
    return card["config"] or {}


def _list_usable_figures(evaluation: CardEvaluation) -> list[FigureSummary]:
    return [f for f in evaluation.figures if f.value is not None and math.isfinite(f.value)]


def _get_metric(figure: FigureSummary) -> str:
    return figure.metric.removeprefix("eval/")


def _format_result(evaluation: CardEvaluation, pipeline: str) -> JsonObject:
    metrics = [
        {"type": _get_metric(figure), "name": _format_metric_with_n(figure), "value": figure.value}
        for figure in _list_usable_figures(evaluation)
    ]
    return {
        "task": {"type": pipeline or "text-generation"},
        "dataset": {
            "name": join_lines(evaluation.dataset),
            "type": evaluation.hub_id or PRIVATE_ROWS,
            "split": evaluation.part,
        },
        "metrics": metrics,
    }


def _format_metric_with_n(figure: FigureSummary) -> str:
    """Format a metric as "accuracy (95% 0.81 to 0.87, n 500)".

    The hub's format has no other place for an interval.
    """
    if figure.low is None or figure.high is None:
        return f"{_get_metric(figure)} (no interval, n {figure.n:,})"
    _, _, bounds = format_with_interval(figure).partition(" (")
    return f"{_get_metric(figure)} (95% {bounds.removesuffix(')')}, n {figure.n:,})"


# -- sections ---------------------------------------------------------------------------------------


def _format_summary(card: ModelCard) -> str:
    what = "An adapter" if card["adapter"] else "A full model"
    came = f"from the run “{escape_markdown(card['run'])}”" if card["run"] else "from an imported folder"
    if card["checkpoint"] not in (None, "tuned"):
        came += f" ({card['checkpoint']} checkpoint)"
    day = card["created_at"][:10]
    since = (
        f"registered on {day} by {escape_markdown(card['created_by'])}"
        if card["registered"]
        else f"begun on {day}"
    )
    base = f" Its base is {_format_base(card['base'])}." if card["base"] else ""
    names = f" It is {' and '.join(card['aliases'])}." if card["aliases"] else ""
    notes = f"\n\n{escape_markdown(card['notes'])}" if card["notes"] else ""
    return f"{what} {came}, {since}.{base}{names}{notes}"


def _format_base(base: BaseReference) -> str:
    if owner := base["hub_id"]:
        commit = f", revision `{base['revision']}`" if base["revision"] else ", revision not known"
        return card_text.format_hub_link(owner) + commit
    return card_text.describe_local_base(base["name"])


def _format_license(card: ModelCard) -> str:
    stated = card["base_card"]
    if stated is None:
        return "Exports copy it from the base model's card."
    license_ = stated["license_name"] or stated["license"]
    lines = [
        f"The base model's card states the license {escape_markdown(license_)}."
        if license_
        else "No license is stated, because the base model's license is unknown.",
        f"It states the languages {escape_markdown(', '.join(stated['languages']))}."
        if stated["languages"]
        else "The languages are unknown.",
    ]
    return " ".join(lines)


def _format_intended_use(card: ModelCard) -> str:
    if card["intended_use"].strip():
        return "\n\n".join(escape_markdown(part) for part in card["intended_use"].split("\n\n"))
    return "No intended use has been written yet. See the data and figures below."


def _format_data(card: ModelCard) -> str:
    if not card["data"]:
        if card["run"]:
            return "The run that trained it was deleted, so the training data is unknown."
        return "It was imported as a folder, so the training data is unknown."
    lines = []
    for dataset in card["data"]:
        where = f", from the hub: {dataset['hub_id']}" if dataset["hub_id"] else ""
        rows = f"has {dataset['rows']:,} rows" if dataset["rows"] is not None else ("has been deleted since")
        made = (
            f"; made from the previous one by: {escape_markdown(', '.join(dataset['steps']))}"
            if dataset["steps"]
            else ""
        )
        print_ = f", fingerprint `{dataset['fingerprint'][:16]}`" if dataset["fingerprint"] else ""
        lines.append(f"- **{escape_markdown(dataset['name'])}** {rows}{where}{print_}{made}")
    if course := card["course"]:
        lines.append(
            f"- Training saw {course['rows']:,} rows, of a training part of {course['train_rows']:,}."
        )
    return "\n".join(lines)


def _format_training(card: ModelCard) -> str:
    config = card["config"]
    if config is None:
        return "Training details are unknown."
    method = METHODS[config["method"]]
    lines = [f"- **Method:** {method.title}, {TASKS[config['task']][0]}", *_format_training_outcome(card)]
    if (trained := card["trainable_parameters"]) and (total := card["total_parameters"]):
        lines.append(f"- **Trained parameters:** {trained:,} of {total:,} ({100 * trained / total:.2g}%)")
    lines += [
        f"- **{title}:** {config[name]:g}" for name, title in USED.items() if config.get(name) is not None
    ]
    if card["device"]:
        took = ""
        if seconds := card["seconds"]:
            took = f", {seconds:.0f} s" if seconds < SHORT else f", {seconds / 60:,.0f} min"
        lines.append(f"- **Trained on:** {escape_markdown(card['device'])}{took}")
    return "\n".join(lines)


def _format_training_outcome(card: ModelCard) -> list[str]:
    """Format the course of training, which settings such as a number of epochs don't tell."""
    if card["mixed"]:
        return [f"- **Mixed, not trained:** {escape_markdown(card['mixed'])}"]
    lines = []
    if course := card["course"]:
        lines.append(f"- **What happened:** {' '.join(card_text.format_sentences(course))}")
    else:
        lines.append("- **What happened:** how many steps and rows it saw was not recorded.")
    if card["continued_from"]:
        lines.append(
            f"- **Continued from:** the model of the run {escape_markdown(card['continued_from'])}, whose "
            "own training is not counted here"
        )
    return lines


def _format_figures(card: ModelCard) -> str:
    parts = []
    if verdict := card["verdict"]:
        parts.append(
            "\n".join(f"- {escape_markdown(line)}" for line in [verdict["headline"], *verdict["sentences"]])
        )
    for evaluation in card["evaluations"]:
        lines = [
            f"| {_get_metric(f)} | {format_with_interval(f)} | {f.n:,} | {f.better} is better |"
            for f in _list_usable_figures(evaluation)
        ]
        if lines:
            rows = f"{evaluation.part}, n {evaluation.n:,}"
            head = f"**{escape_markdown(evaluation.name)}** ({escape_markdown(evaluation.dataset)}, {rows})"
            table = "| metric | value (95% interval) | n | |\n|---|---|---|---|\n"
            parts.append(f"{head}\n\n{table}" + "\n".join(lines))
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _format_forgetting(card: ModelCard) -> str:
    lines = list(card["verdict"]["forgetting"]) if card["verdict"] else []
    for evaluation in card["evaluations"]:
        for probe in evaluation.probes:
            right = f", {format_with_interval(probe['accuracy'])} right" if probe["accuracy"] else ""
            loss = f"loss {format_with_interval(probe['loss'])} nats"
            lines.append(f"{probe['probe']} in {evaluation.name}: {loss}{right}, n {probe['n']:,}")
    if not lines:
        return "Forgetting was not measured."
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _format_bias(card: ModelCard) -> str:
    report = card["bias"]
    if report is None:
        return "Bias was not checked."
    against = card["bias_against"]  # may be a folder, whose path is private
    whom = f" against {parse_hub_id(against) or get_last_part(against)}" if against else ""
    lines = [report.sentence]
    for figure in report.figures:
        if figure.group or figure.change is None:
            continue
        share = figure.unit == SHARE
        unit = "points" if share else figure.unit
        change = format_with_interval(_format_points(figure.change) if share else figure.change)
        answer = {"worse": "worse", "better": "better", "no_worse": "not worse", "cant_tell": "inconclusive"}
        measure = get_measure_title(figure.measure, "")
        lines.append(
            f"{measure[:1].upper()}{measure[1:]} in {figure.probe}: change{whom} {change}"
            f" {unit}, n {figure.change.n:,}: {answer[figure.answer]}"
        )
    return "\n".join(f"- {escape_markdown(line)}" for line in [*lines, *report.limits])


def _format_points(share: Estimate) -> Estimate:
    low, high = share.low, share.high
    ends = (None, None) if low is None or high is None else (100 * low, 100 * high)
    return Estimate(value=100 * share.value, low=ends[0], high=ends[1], n=share.n)


def _format_limits(card: ModelCard) -> str:
    lines = ["The figures above apply to rows like those they were measured on; other texts may differ."]
    if card["verdict"]:
        lines += card["verdict"]["memorised"]
    if not card["evaluations"] and not card["verdict"]:
        lines.append("No metrics were measured, so its quality is unknown.")
    if card["bias"] is None:
        lines.append("No probe checked how it treats groups of people.")
    if card["run"] and not card["run_present"]:
        lines.append("The run that made it was deleted: its curves and verdict are no longer available.")
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _format_energy(card: ModelCard) -> str:
    if (used := card["energy_wh"]) is None:
        return "The training machine does not report energy, so consumption is unknown."
    grams = used / 1000 * GRAMS
    mean = f"{GRAMS} g CO₂e a kWh (the world's mean of 2024, by Ember; your grid may differ)"
    took = f"Training took {format_number(used, 1)} Wh, read from the device."
    return f"{took} At {mean} that is {format_number(grams, 1)} g."


def _format_approvals(card: ModelCard) -> str:
    if not card["approvals"]:
        return "No alias has been assigned."
    return "\n".join(f"- {escape_markdown(line)}" for line in card["approvals"])


def _format_reproduction(card: ModelCard) -> str:
    config = card["config"]
    print_ = f" SHA-256 over its files: `{card['fingerprint']}`." if card["fingerprint"] else ""
    if config is None:
        return f"It can't be retrained from here.{print_}"
    kept = {
        name: value for name, value in config.items() if value not in (None, "", []) and name not in PRIVATE
    }
    base = card["base"]
    kept["model"] = base["name"] if base else get_last_part(str(kept["model"]))
    kept["dataset"] = config["dataset"]
    dataset = card["data"][-1] if card["data"] else None
    rows = (
        f" The rows have the fingerprint `{dataset['fingerprint']}`."
        if dataset and dataset["fingerprint"]
        else ""
    )
    used = ", ".join(f"{name} {number}" for name, number in sorted(card["versions"].items()))
    libraries = f" Libraries: {escape_markdown(used)}." if used else ""
    return (
        "These are the requested settings; the outcome is under Training. Launch them with `tunebench "
        f"launch config.yaml`.{rows}{libraries}{print_}\n\n```yaml\n{to_yaml(kept).strip()}\n```"
    )
