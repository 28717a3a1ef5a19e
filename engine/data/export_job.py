"""The job `export`: write rows of a version to a file, with a data card, in the home folder's exports.

A filter and the parts of the split may select the rows. The card is Markdown, for people and repositories:
counts, source, every version with its recipe and the fates of its rows, the split, and the measured signals
with their healthy ranges. Both files are written to a temporary folder and renamed once complete; an existing
file is never overwritten.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.data import export_formats
from engine.data.cleaning.row_queries import RowQueries
from engine.data.cleaning.text_steps import Redactor
from engine.data.cleaning.working_rows import WorkingRows
from engine.data.export_formats import TITLES, ExtraColumns, FileLayout, list_used_columns
from engine.data.split.dataset_split import SplitAssignment, assign_rows_unchecked
from engine.data.split.partition import PARTS, parse_split
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.temporary_folder import use_temporary_folder
from store.data.cleaning import Recipe, Redact
from store.data.cleaning_text import describe_filter, describe_step
from store.data.config import ExportConfig
from store.data.schemas import ExportResult
from store.data.signals import GROUPS, format_band, format_figure, format_four_digits
from store.jobs.schemas import GroupFigures, OrderDataset, VersionSpec

_VALUE = re.compile(r'"[^"]*[\d@][^"]*"')  # a bare number may be personal data or not
KIND_NAMES = {"chat": "conversations", "text": "plain texts", "preference": "preferred and rejected answers"}


class CardSubject(NamedTuple):
    """The version, its history and its measured signals, from the job spec (`engine.server.job_specs`)."""

    dataset: OrderDataset
    history: list[VersionSpec]  # from the first version to the current one
    figures: Mapping[str, GroupFigures]  # group of signals -> its figures


def write_card(
    subject: CardSubject,
    config: ExportConfig,
    *,
    rows: int,
    parts: Mapping[str, int],
    notices: list[str],
) -> str:
    """Return the data card of an export. parts: number of rows of each part of the whole version."""
    dataset, history, measured = subject
    hide = _make_redactor(history)
    sections = [
        f"# {_escape_markdown(dataset['name'])}",
        _format_facts(dataset, config, rows, [hide(notice) for notice in notices], hide),
        "## Source\n\n" + _describe_source(history[0]),
        "## Versions\n\n" + "\n\n".join(_describe_version(version, hide) for version in history),
        "## Split\n\n" + _describe_split(dataset, parts),
    ]
    if measured:
        groups = [_format_figures(name, group) for name, group in measured.items() if name in GROUPS]
        sections.append("## Measured of all rows of this version\n\n" + "\n\n".join(groups))
    return "\n\n".join(sections) + "\n"


def _make_redactor(history: Iterable[VersionSpec]) -> Callable[[str], str]:
    """Return a function that redacts what the recipes redact: a step title must not reveal such a value."""
    steps = [step for version in history if version.recipe for step in Recipe.parse(version.recipe).steps]
    kinds = {kind for step in steps if isinstance(step, Redact) for kind in step.kinds}
    if not kinds:
        return str
    redact = Redactor(kinds)
    return lambda text: _VALUE.sub('"…"', redact(text))


def _format_facts(
    dataset: OrderDataset, config: ExportConfig, rows: int, notices: list[str], hide: Callable[[str], str]
) -> str:
    which = [hide(describe_filter(config.where))] if config.where else []
    which += [f"of the {' and '.join(config.parts)} part"] if config.parts else []
    lines = [
        ("Rows in this file", f"{rows:,} of {dataset['row_count']:,}"),
        ("Which", ", ".join(which) or "all rows"),
        ("Kind", KIND_NAMES[dataset["kind"]]),
        ("Format", TITLES[config.format]),
        ("Fingerprint of the version", dataset["fingerprint"]),
    ]
    noticed = [f"- {_escape_markdown(notice)}" for notice in notices]
    return "\n".join([*(f"- **{name}:** {_escape_markdown(value)}" for name, value in lines), *noticed])


def _describe_source(first: VersionSpec) -> str:
    source = {k: v for k, v in first.source.items() if k != "hub_split" or first.source.get("hub_id")}
    named = ", ".join(f"{field} {value}" for field, value in source.items() if value is not None)
    used = ", ".join(f"{role} = {column}" for role, column in first.columns.items())
    lines = [
        f"- **From:** {_escape_markdown(named)}",
        f"- **Read as:** {first.format}" + (f" ({_escape_markdown(used)})" if used else ""),
        f"- **Rows read:** {first.row_count:,}; skipped: {first.skipped_count:,}",
    ]
    for reason, count in (first.stats.get("skipped_reasons") or {}).items():
        lines.append(f"  - {count:,}: {_escape_markdown(reason)}")
    return "\n".join(lines)


def _describe_version(version: VersionSpec, hide: Callable[[str], str]) -> str:
    head = f"### {_escape_markdown(version.name)}: {version.row_count:,} rows"
    fates = version.fates
    if not version.recipe or fates is None:
        return f"{head}\n\nImported {version.created_at[:10]}."
    counts = ", ".join(f"{getattr(fates, fate):,} {fate}" for fate in ("kept", "changed", "dropped", "added"))
    titles = [hide(describe_step(step)) for step in Recipe.parse(version.recipe).steps]
    rows = [
        [
            f"{number}. {_escape_markdown(name)}",
            *(
                f"{getattr(step, field):,}"
                for field in ("rows_in", "changed", "dropped", "added", "rows_out")
            ),
        ]
        for number, (name, step) in enumerate(zip(titles, fates.steps, strict=True), 1)
    ]
    table = _format_table(["Step", "Rows in", "Changed", "Dropped", "Added", "Rows out"], rows)
    return f"{head}\n\nMade {version.created_at[:10]}: {counts}.\n\n{table}"


def _describe_split(dataset: OrderDataset, parts: Mapping[str, int]) -> str:
    how = parse_split(dataset)
    settings = ", ".join(f"{field} {value}" for field, value in how.model_dump(exclude_none=True).items())
    counted = ", ".join(f"{count:,} {part}" for part, count in parts.items())
    return f"Of all rows of the version: {counted} ({_escape_markdown(settings)})."


def _format_figures(name: str, measured: GroupFigures) -> str:
    group, figures = GROUPS[name], measured["figures"]
    options = ", ".join(f"{key} {value}" for key, value in measured["options"].items())
    rows = [
        [signal.title, format_figure(signal, figures[signal.column]), format_band(signal)]
        for signal in group.signals
        if signal.column in figures
    ]
    rows += [
        [key.removeprefix("set.").replace("_", " "), format_four_digits(figure["value"]), ""]
        for key, figure in figures.items()
        if "value" in figure and figure["value"] is not None
    ]
    how = ", ".join(
        [f"{measured['row_count']:,} rows measured", *([_escape_markdown(options)] if options else [])]
    )
    head = f"### {group.title} ({how})"
    return f"{head}\n\n{_format_table(['Signal', 'Figure', 'Healthy'], rows)}"


def _format_table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape_markdown(value: Any) -> str:
    """Return the text escaped for Markdown, on one line."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return text


COLUMNS = ("messages", "text", "label", "rejected", "source", "choices", "answer_index")
NAME_CHARACTERS = 80


phases = ONE_PHASE  # `RecipeProgress` reports the share of all work


def run(job: WorkerJob) -> ExportResult:
    """Write the export of the job's ExportConfig.

    Returns {"path", "card_path", "name", "rows", "format", "notices"}. Raises ConfigError if no row is
    selected or the format can't represent the rows; nothing is written then.
    """
    config = ExportConfig.parse(job.config)
    with use_temporary_folder(job, what="the file", again="export again") as folder:
        work = WorkingRows(job, job.spec["dataset"], {}, folder)
        work.progress.plan([1.0, 1.0])
        dealt = _choose(work, config)
        columns = ExtraColumns(dealt.codes, list_used_columns(work.columns))
        shape = export_formats.summarise_rows(work.scan(COLUMNS), columns)
        layout = FileLayout(work.kind, config.format, shape, config.one_list)
        export_formats.check_format(layout)
        work.progress.begin(1, "Writing the file")
        file = folder / "rows"
        rows = work.scan(COLUMNS)
        export_formats.write_rows(file, layout, rows, columns)
        notices = export_formats.describe_losses(layout)
        subject = CardSubject(job.spec["dataset"], job.spec["history"], job.spec["figures"])
        text = write_card(subject, config, rows=shape.rows, parts=dealt.counts(), notices=notices)
        (folder / "card").write_text(text, encoding="utf-8")
        job.check_cancelled()
        name = _build_name(work.origins[0].dataset["name"], config)
        path = _publish(file, folder / "card", job.home.exports, name)
    for notice in notices:
        job.alert(notice, level="info")
    return {
        "path": str(path),
        "card_path": str(_build_card_path(path)),
        "name": path.name,
        "rows": shape.rows,
        "format": config.format,
        "notices": notices,
    }


def _choose(work: WorkingRows, config: ExportConfig) -> SplitAssignment:
    """Keep only the selected rows alive; return the split of the whole version."""
    if config.where:
        with closing(RowQueries(work)) as ask:
            chosen = ask.matching(config.where)
        work.alive[:] = False
        work.alive[chosen] = True
    dataset = work.origins[0].dataset
    how = parse_split(dataset)
    dealt = assign_rows_unchecked(work.home, dataset["fingerprint"], how)
    if config.parts is not None:
        wanted = [PARTS.index(part) for part in config.parts]
        work.alive &= np.isin(dealt.codes, wanted)
    return dealt


def _build_name(dataset_name: str, config: ExportConfig) -> str:
    plain = re.sub(r"[^\w.()-]+", "-", dataset_name)[:NAME_CHARACTERS].strip("-.") or "data-set"
    part = f"-{'-'.join(config.parts)}" if config.parts else ""
    return (
        f"{plain}{part}{export_formats.SUFFIXES.get(config.format, '.json' if config.one_list else '.jsonl')}"
    )


def _publish(file: Path, card_file: Path, folder: Path, name: str) -> Path:
    """Move file and card to their final names; hard-linking the file never overwrites an existing one."""
    folder.mkdir(exist_ok=True)
    for path in (file, card_file):
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    stem, suffix = os.path.splitext(name)
    number, path = 1, folder / name
    while True:
        try:
            os.link(file, path)
            break
        except FileExistsError:
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
    os.replace(card_file, _build_card_path(path))
    return path


def _build_card_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.md")
