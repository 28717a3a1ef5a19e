"""Text and tables (one column per size) of simulated rates, for docs and screens."""

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
    "Rows are simulated with a known answer and evaluated by the same functions that evaluate your runs. A"
    " 95% interval must cover the truth in about 95 of 100 draws, and a test may have about 5 false"
    " positives; each line states its target."
)
UNITS = (
    *("rows", "texts", "items", "prompts", "pairs", "templates", "openings", "canaries", "evaluations"),
    *("validations", "runs", "rated", "requests a day"),
)
SIZED = (  # patterns of the size in a name; the first match counts
    re.compile(r",? n (?P<size>[\d,]*\d)$"),
    re.compile(rf"(?<!\+ )(?<![\w.,])(?P<size>[\d,]*\d) (?P<unit>{'|'.join(UNITS)})\b"),
)


class TruthRow(NamedTuple):
    """Rates that differ only in size, or a single rate (its size is 0)."""

    name: str
    rates: dict[int, SimulatedRate]

    @property
    def wanted(self) -> str:
        """The target band common to all rates."""
        return format_target_band(next(iter(self.rates.values())))

    @property
    def draws(self) -> str:
        """The number of counted draws, as a range if it varies."""
        counts = [rate["draws"] for rate in self.rates.values()]
        fewest, most = min(counts), max(counts)
        return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


class TruthTable(NamedTuple):
    """A matrix of rates by size, or a list of single rates if there are no sizes."""

    unit: str  # unit of the sizes; "" if names contain "n 10"
    sizes: tuple[int, ...]
    rows: list[TruthRow]


def read(path: Path | None = None) -> SimulatedTruth:
    """Read the rates shipped with the package; no topics if nothing was measured yet."""
    truth: SimulatedTruth | None = read_json(path or PATH)
    return truth or {"topics": []}


def get_topic_title(topic: SimulatedTopic) -> str:
    """Return a topic's display name."""
    return topic["topic"].replace("_", " ").capitalize()


def count_holding_rates(topics: Iterable[SimulatedTopic]) -> tuple[int, int]:
    """Return how many of the topics' rates hold, and the total."""
    verdicts = [rate["holds"] for topic in topics for rate in topic["rates"]]
    return sum(verdicts), len(verdicts)


def describe_measurement(topics: Sequence[SimulatedTopic]) -> str:
    """Describe the date (or range of dates) and the commit of a measurement."""
    dates, commits = ({topic[key] for topic in topics} for key in ("date", "commit"))
    when = f"on {min(dates)}" if len(dates) == 1 else f"from {min(dates)} to {max(dates)}"
    where = (
        f"commit {min(commits)}" if len(commits) == 1 else f"{len(commits)} commits; each topic names its own"
    )
    return f"{when} at {where}"


def describe_subset(topics: Sequence[SimulatedTopic]) -> str:
    """Describe which share of the draws was taken; "" if all were."""
    part = [topic for topic in topics if topic["share"] < 1]
    if not part:
        return ""
    shares = sorted({topic["share"] for topic in part})
    drawn = " to ".join(f"{100 * share:g}" for share in dict.fromkeys((shares[0], shares[-1])))
    return (
        f"Preliminary: {len(part)} of {len(topics)} topics used a part of their draws ({drawn}%). With so"
        " few, a rate counts as off target only if chance is an unlikely explanation."
    )


def describe_run(topic: SimulatedTopic) -> str:
    """Describe the date, commit and duration of a topic's measurement."""
    return f"Measured {describe_measurement([topic])}, {topic['seconds']:,.0f} s of one core."


def format_target_band(rate: SimulatedRate) -> str:
    """Format the range required of the observed share."""
    low, high = (f"{100 * rate[end]:g}" for end in ("low", "high"))
    if rate["low"] == rate["high"]:
        return f"{low}%"
    if rate["low"] <= 0:
        return f"at most {high}%"
    return f"at least {low}%" if rate["high"] >= 1 else f"{low} to {high}%"


def format_observed_share(rate: SimulatedRate) -> str:
    """Format the observed share."""
    return "no draw counted" if rate["observed"] is None else f"{100 * rate['observed']:.1f}%"


def build_tables(rates: Sequence[SimulatedRate]) -> list[TruthTable]:
    """Build tables with rates that differ only in size in one row, one table per unit; then all others."""
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
    """Return the name with "n" in place of its size, the unit of the size, and the size; 0 if it has none."""
    for pattern in SIZED:
        if match := pattern.search(name):
            unit = match.groupdict().get("unit", "")
            left = f"n {unit}" if unit else ""
            size = int(match["size"].replace(",", ""))
            return name[: match.start()] + left + name[match.end() :], unit, size
    return name, "", 0


def format_truth_page() -> str:
    """Return the page docs/truth.md."""
    topics = read()["topics"]
    held, total = count_holding_rates(topics)
    if not topics:
        return f"# Simulated truth\n\nNothing was measured yet: `{COMMAND}`.\n"
    parts = [
        "# Simulated truth",
        f"**{held:,} of {total:,} rates on target**, measured {describe_measurement(topics)}.",
        f"{MEANS} **Bold** rates are off target. `{COMMAND}` repeats all measurements, for this page and the"
        " one in the app; `--only TOPIC …` repeats some.",
        *([describe_subset(topics)] if describe_subset(topics) else []),
        *(["## Off target", *_format_failing_rates(topics)] if held < total else []),
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
    note = f"{held:,} of {total:,} on target. {describe_run(topic)}"
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
    """Return a cell for each size of the table, in its order."""
    return [cell(row.rates[size]) if size in row.rates else empty for size in sizes or (0,)]


def _format_cell(rate: SimulatedRate) -> str:
    return format_observed_share(rate) if rate["holds"] else f"**{format_observed_share(rate)}**"
