"""The data card that lies beside an exported file: where the rows come from and what was done to them.

Markdown that a person reads and a repository shows: counts, source, every version with its recipe and what
became of the rows, the split, and the signals that were measured with their healthy bands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from engine.data.deal.split import split_of
from engine.export.export_rows import TITLES
from engine.recipe.redaction import Redactor
from store.catalog.signals import GROUPS
from store.config.data.data_config import ExportConfig
from store.config.data.recipe import Recipe, Redact
from store.documents.tables.job_order import GroupFigures, OrderDataset, OrderVersion
from store.words.recipe_words import title, words
from store.words.signal_words import band_words, figure_words, number_words

_VALUE = re.compile(r'"[^"]*[\d@][^"]*"')  # a number alone doesn't say whether it is somebody's
KINDS = {"chat": "conversations", "text": "plain texts", "preference": "preferred and rejected answers"}


class CardSubject(NamedTuple):
    """What the order of an export says of the version, its history and what was measured of it
    (`engine.server.scheduling.work_orders`)."""

    dataset: OrderDataset
    history: list[OrderVersion]  # from the first version to this one
    figures: Mapping[str, GroupFigures]  # group of signals -> what was measured


def write(
    subject: CardSubject,
    config: ExportConfig,
    *,
    rows: int,
    parts: Mapping[str, int],
    notices: list[str],
) -> str:
    """The card of the file that an ExportConfig asked for. parts: rows of each part of the whole version."""
    dataset, history, measured = subject
    hide = _redactor(history)
    sections = [
        f"# {_plain(dataset['name'])}",
        _facts(dataset, config, rows, [hide(notice) for notice in notices], hide),
        "## Source\n\n" + _source(history[0]),
        "## Versions\n\n" + "\n\n".join(_version(version, hide) for version in history),
        "## Split\n\n" + _split(dataset, parts),
    ]
    if measured:
        groups = [_figures(name, group) for name, group in measured.items() if name in GROUPS]
        sections.append("## Measured of all rows of this version\n\n" + "\n\n".join(groups))
    return "\n\n".join(sections) + "\n"


def _redactor(history: Iterable[OrderVersion]) -> Callable[[str], str]:
    """What the recipes of the versions redact: a step that names a value must not tell it."""
    steps = [
        step for version in history if version["recipe"] for step in Recipe.parse(version["recipe"]).steps
    ]
    kinds = {kind for step in steps if isinstance(step, Redact) for kind in step.kinds}
    if not kinds:
        return str
    redact = Redactor(kinds)
    return lambda text: _VALUE.sub('"…"', redact(text))


def _facts(
    dataset: OrderDataset, config: ExportConfig, rows: int, notices: list[str], hide: Callable[[str], str]
) -> str:
    which = [hide(words(config.where))] if config.where else []
    which += [f"of the {' and '.join(config.parts)} part"] if config.parts else []
    lines = [
        ("Rows in this file", f"{rows:,} of {dataset['row_count']:,}"),
        ("Which", ", ".join(which) or "all rows"),
        ("Kind", KINDS[dataset["kind"]]),
        ("Format", TITLES[config.format]),
        ("Fingerprint of the version", dataset["fingerprint"]),
    ]
    noticed = [f"- {_plain(notice)}" for notice in notices]
    return "\n".join([*(f"- **{name}:** {_plain(value)}" for name, value in lines), *noticed])


def _source(first: OrderVersion) -> str:
    source = {k: v for k, v in first["source"].items() if k != "hub_split" or first["source"].get("hub_id")}
    named = ", ".join(f"{field} {value}" for field, value in source.items() if value is not None)
    used = ", ".join(f"{role} = {column}" for role, column in first["columns"].items())
    lines = [
        f"- **From:** {_plain(named)}",
        f"- **Read as:** {first['format']}" + (f" ({_plain(used)})" if used else ""),
        f"- **Rows read:** {first['row_count']:,}; not taken: {first['skipped_count']:,}",
    ]
    for reason, count in (first["stats"].get("skipped_reasons") or {}).items():
        lines.append(f"  - {count:,}: {_plain(reason)}")
    return "\n".join(lines)


def _version(version: OrderVersion, hide: Callable[[str], str]) -> str:
    head = f"### {_plain(version['name'])}: {version['row_count']:,} rows"
    fates = version["fates"]
    if not version["recipe"] or fates is None:
        return f"{head}\n\nImported {version['created_at'][:10]}."
    counts = ", ".join(f"{fates[fate]:,} {fate}" for fate in ("kept", "changed", "dropped", "added"))
    titles = [hide(title(step)) for step in Recipe.parse(version["recipe"]).steps]
    rows = [
        [
            f"{number}. {_plain(name)}",
            *(f"{step[field]:,}" for field in ("rows_in", "changed", "dropped", "added", "rows_out")),
        ]
        for number, (name, step) in enumerate(zip(titles, fates["steps"], strict=True), 1)
    ]
    table = _table(["Step", "Rows in", "Changed", "Dropped", "Added", "Rows out"], rows)
    return f"{head}\n\nMade {version['created_at'][:10]}: {counts}.\n\n{table}"


def _split(dataset: OrderDataset, parts: Mapping[str, int]) -> str:
    how = split_of(dataset)
    settings = ", ".join(f"{field} {value}" for field, value in how.model_dump(exclude_none=True).items())
    counted = ", ".join(f"{count:,} {part}" for part, count in parts.items())
    return f"Of all rows of the version: {counted} ({_plain(settings)})."


def _figures(name: str, measured: GroupFigures) -> str:
    group, figures = GROUPS[name], measured["figures"]
    options = ", ".join(f"{key} {value}" for key, value in measured["options"].items())
    rows = [
        [signal.title, figure_words(signal, figures[signal.column]), band_words(signal)]
        for signal in group.signals
        if signal.column in figures
    ]
    rows += [
        [key.removeprefix("set.").replace("_", " "), number_words(figure["value"]), ""]
        for key, figure in figures.items()
        if "value" in figure and figure["value"] is not None
    ]
    how = ", ".join([f"{measured['row_count']:,} rows measured", *([_plain(options)] if options else [])])
    head = f"### {group.title} ({how})"
    return f"{head}\n\n{_table(['Signal', 'Figure', 'Healthy'], rows)}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(value: Any) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return text
