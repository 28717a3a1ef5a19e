"""Simulated rates in words: sentences, and tables with a column for each size; of docs and screens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from store.core.job_folder import read_json
from store.evaluation.schemas import SimulatedRate, SimulatedTopic, SimulatedTruth

PATH = Path(__file__).with_name("simulated_truth.json")
COMMAND = "python bench/truth.py --write"
MEANS = (
    "Rows are drawn where the answer is known, and the same functions that judge your runs are asked about "
    "them. A 95% interval must hold the truth in about 95 of 100 draws, and a test may see what isn't there "
    "in at most about 5; each line says what was wanted of it."
)
UNITS = (
    *("rows", "texts", "items", "prompts", "pairs", "templates", "openings", "canaries", "evaluations"),
    *("validations", "runs", "rated", "requests a day"),
)
SIZED = (  # where a name says how much there was; the first that is in it
    re.compile(r",? n (?P<size>[\d,]*\d)$"),
    re.compile(rf"(?<!\+ )(?<![\w.,])(?P<size>[\d,]*\d) (?P<unit>{'|'.join(UNITS)})\b"),
)


class TruthRow(NamedTuple):
    """Rates that differ in size alone, or a single one (its size is 0)."""

    name: str
    rates: dict[int, SimulatedRate]

    @property
    def wanted(self) -> str:
        """The band, which they share."""
        return format_target_band(next(iter(self.rates.values())))

    @property
    def draws(self) -> str:
        """How many counted, from the fewest to the most."""
        counts = [rate["draws"] for rate in self.rates.values()]
        fewest, most = min(counts), max(counts)
        return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


class TruthTable(NamedTuple):
    """A matrix of rates by size, or without sizes a list of single ones."""

    unit: str  # what the sizes count; "" where names say "n 10"
    sizes: tuple[int, ...]
    rows: list[TruthRow]


def read(path: Path | None = None) -> SimulatedTruth:
    """What comes with the package; nothing where nothing was measured yet."""
    truth: SimulatedTruth | None = read_json(path or PATH)
    return truth or {"topics": []}


def get_topic_title(topic: SimulatedTopic) -> str:
    """Its name for people."""
    return topic["topic"].replace("_", " ").capitalize()


def count_holding_rates(topics: Iterable[SimulatedTopic]) -> tuple[int, int]:
    """How many of their rates hold, of how many."""
    verdicts = [rate["holds"] for topic in topics for rate in topic["rates"]]
    return sum(verdicts), len(verdicts)


def describe_measurement(topics: Sequence[SimulatedTopic]) -> str:
    """When, and at which commit; of topics that were measured apart from the first day to the last."""
    dates, commits = ({topic[key] for topic in topics} for key in ("date", "commit"))
    when = f"on {min(dates)}" if len(dates) == 1 else f"from {min(dates)} to {max(dates)}"
    where = (
        f"commit {min(commits)}" if len(commits) == 1 else f"{len(commits)} commits; each topic names its own"
    )
    return f"{when} at {where}"


def describe_subset(topics: Sequence[SimulatedTopic]) -> str:
    """Which part of the draws was taken, where it was not all of them."""
    part = [topic for topic in topics if topic["share"] < 1]
    if not part:
        return ""
    shares = sorted({topic["share"] for topic in part})
    drawn = " to ".join(f"{100 * share:g}" for share in dict.fromkeys((shares[0], shares[-1])))
    return (
        f"A first look: {len(part)} of {len(topics)} topics took a part of their draws ({drawn}%). "
        "So few leave much open: a rate counts as off only where chance alone hardly puts it there."
    )


def describe_run(topic: SimulatedTopic) -> str:
    """When, where and how long one was measured."""
    return f"Measured {describe_measurement([topic])}, {topic['seconds']:,.0f} s of one core."


def format_target_band(rate: SimulatedRate) -> str:
    """The band in which the observed share must lie."""
    low, high = (f"{100 * rate[end]:g}" for end in ("low", "high"))
    if rate["low"] == rate["high"]:
        return f"{low}%"
    if rate["low"] <= 0:
        return f"at most {high}%"
    return f"at least {low}%" if rate["high"] >= 1 else f"{low} to {high}%"


def format_observed_share(rate: SimulatedRate) -> str:
    """The share that came of it."""
    return "no draw counted" if rate["observed"] is None else f"{100 * rate['observed']:.1f}%"


def build_tables(rates: Sequence[SimulatedRate]) -> list[TruthTable]:
    """Rates that differ in size alone in one row, by what the sizes count; then all others."""
    folded: dict[tuple[str, str, str], dict[int, SimulatedRate]] = {}
    for rate in rates:
        name, unit, size = split_size(rate["name"])
        folded.setdefault((unit, name, format_target_band(rate)), {})[size] = rate
    by_unit: dict[str, list[TruthRow]] = {}
    single = []
    for (unit, name, _), sized in folded.items():
        if len(sized) > 1:
            by_unit.setdefault(unit, []).append(TruthRow(name, dict(sorted(sized.items()))))
        else:
            single += [TruthRow(rate["name"], {0: rate}) for rate in sized.values()]
    matrices = [
        TruthTable(unit, tuple(sorted({size for row in rows for size in row.rates})), rows)
        for unit, rows in by_unit.items()
    ]
    return [*matrices, *([TruthTable("", (), single)] if single else [])]


def split_size(name: str) -> tuple[str, str, int]:
    """The name with "n" in the place of its size, what the size counts, and the size; 0 where it has none."""
    for pattern in SIZED:
        if match := pattern.search(name):
            unit = match.groupdict().get("unit", "")
            left = f"n {unit}" if unit else ""
            size = int(match["size"].replace(",", ""))
            return name[: match.start()] + left + name[match.end() :], unit, size
    return name, "", 0


def format_truth_page() -> str:
    """docs/truth.md."""
    topics = read()["topics"]
    held, total = count_holding_rates(topics)
    if not topics:
        return f"# Simulated truth\n\nNothing was measured yet: `{COMMAND}`.\n"
    parts = [
        "# Simulated truth",
        f"**{held:,} of {total:,} rates hold**, measured {describe_measurement(topics)}.",
        f"{MEANS} In **bold** is what does not hold. `{COMMAND}` measures all anew, for this page and the "
        "one in the app; with `--only TOPIC …` it keeps the others.",
        *([describe_subset(topics)] if describe_subset(topics) else []),
        *(["## What does not hold", *_format_failing_rates(topics)] if held < total else []),
        *(part for topic in topics for part in _format_topic(topic)),
    ]
    return "\n\n".join(parts) + "\n"


def _format_failing_rates(topics: Sequence[SimulatedTopic]) -> list[str]:
    lines = [
        f"| {get_topic_title(topic)}: {rate['name']} | {rate['draws']:,} |"
        f" {format_target_band(rate)} | {_format_cell(rate)} |"
        for topic in topics
        for rate in topic["rates"]
        if not rate["holds"]
    ]
    return ["\n".join(["| what | draws | wanted | observed |", "|---|---|---|---|", *lines])]


def _format_topic(topic: SimulatedTopic) -> list[str]:
    held, total = count_holding_rates([topic])
    note = f"{held:,} of {total:,} hold. {describe_run(topic)}"
    return [
        f"## {get_topic_title(topic)}",
        topic["about"],
        note,
        *map(_format_table, build_tables(topic["rates"])),
    ]


def _format_table(table: TruthTable) -> str:
    heads = [f"n {size:,}" for size in table.sizes] or ["observed"]
    lines = [
        f"| {row.name} | {row.draws} | {row.wanted} |"
        f" {' | '.join(format_cells(row, table.sizes, _format_cell))} |"
        for row in table.rows
    ]
    return "\n".join(
        [f"| what | draws | wanted | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|", *lines]
    )


def format_cells(
    row: TruthRow, sizes: Sequence[int], cell: Callable[[SimulatedRate], str], empty: str = ""
) -> list[str]:
    """A cell for each size of the table, in its order."""
    return [cell(row.rates[size]) if size in row.rates else empty for size in sizes or (0,)]


def _format_cell(rate: SimulatedRate) -> str:
    return format_observed_share(rate) if rate["holds"] else f"**{format_observed_share(rate)}**"
