"""The Versions tab: the tree of versions made by recipes, the fate of every row, and two versions side by
side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import plotly.graph_objects as go
import streamlit as st

from pages.data import dataset_queries
from pages.data.cleaning.preview import (
    FATE_TITLES,
    count_rows_before,
    format_changes,
    show_example,
    show_steps,
)
from pages.shared import brand, display, meters
from pages.shared.palette import BAD, BASE, BUSY, GOOD, TRAIN
from pages.shared.run_chips import format_status_badge
from pages.shared.session import escape_markdown, show_errors
from pages.shared.text_display import Cell, trim_common_start
from store.core.formatting import plural
from store.core.row_schemas import Fate, FateCounts, Fates, RowContents, StepCounts
from store.data.cleaning import FATES
from store.data.schemas import Dataset, DatasetRun, FateExample, RowFate, Version

FATE_COLORS = {"kept": GOOD, "changed": TRAIN, "dropped": BAD, "added": BUSY, "rows": BASE}


@dataclass
class SankeyFlows:
    """Named nodes and the links between them, in the form Plotly requires.

    Rows flow from the old version through the steps in their order. Rows dropped by a step leave there, rows
    it adds enter there; at the end, kept, changed and added rows together form the new version. In each stage
    a row is in exactly one flow, so the widths add up. Fates are last, because Plotly writes the names of
    last nodes on their inner side, so that none extends beyond the edge of a phone.
    """

    labels: list[str] = field(default_factory=list)
    hovers: list[str] = field(default_factory=list)
    colors: list[str] = field(default_factory=list)
    links: list[tuple[int, int, int, str]] = field(default_factory=list)

    def node(self, label: str, hover: str, kind: str) -> int:
        self.labels.append(label)
        self.hovers.append(hover)
        self.colors.append(FATE_COLORS[kind])
        return len(self.labels) - 1

    def link(self, source: int, target: int, rows: int, kind: str) -> None:
        if rows:
            self.links.append((source, target, rows, FATE_COLORS[kind]))


def compute_flows(fates: Fates) -> SankeyFlows:
    """Compute the nodes and links of the rows' fates, step by step."""
    made = SankeyFlows()
    old = count_rows_before(fates)
    at = made.node(f"{old:,}", f"{old:,} rows of the previous version", "rows")
    passing = old
    for number, step in enumerate(fates.steps, 1):
        changed = f", {step.changed:,} changed" if step.changed else ""
        here = made.node(f"{number}.", f"{step.title}: {step.rows_in:,} rows come in{changed}", "rows")
        made.link(at, here, passing, "rows")
        if step.dropped:
            hover = f"{step.dropped:,} dropped by step {number}: {step.title}"
            made.link(here, made.node(f"{step.dropped:,} dropped", hover, "dropped"), step.dropped, "dropped")
        if step.added:
            hover = f"{step.added:,} added by step {number}: {step.title}"
            made.link(made.node(f"{step.added:,} added", hover, "added"), here, step.added, "added")
        at, passing = here, step.rows_out
    for fate, count in (("kept", fates.kept), ("changed", fates.changed), ("added", fates.added)):
        if count:
            made.link(at, made.node(f"{count:,} {fate}", f"{count:,} rows {fate}", fate), count, fate)
    return made


def plot_sankey(fates: Fates, ink: str = "#5c6b70") -> go.Figure:
    """Plot a Sankey diagram of the rows' fates. `ink`: text colour.

    Steps are labelled by number, so that it fits a phone.
    """
    made = compute_flows(fates)
    sources, targets, rows, inks = (list(part) for part in zip(*made.links, strict=True))
    figure = go.Figure(
        go.Sankey(
            arrangement="snap",
            textfont={"color": ink, "shadow": "none", "size": 12},
            node={
                "label": made.labels,
                "customdata": [hover.replace("<", "&lt;") for hover in made.hovers],
                "color": made.colors,
                "pad": 22,
                "thickness": 12,
                "line": {"width": 0},
                "hovertemplate": "%{customdata}<extra></extra>",
            },
            link={
                "source": sources,
                "target": targets,
                "value": rows,
                "color": [f"rgba({int(c[1:3], 16)},{int(c[3:5], 16)},{int(c[5:7], 16)},0.35)" for c in inks],
                "hovertemplate": "%{value:,} rows<extra></extra>",
            },
        )
    )
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 8, "t": 12, "b": 12},
        paper_bgcolor="rgba(0,0,0,0)",
    )
    return figure


BEFORE = 30  # characters shown before the first change


@dataclass(frozen=True)
class RowPair:
    """A row in two versions: its number and contents in both (None if missing there), and its fate."""

    first: int | None
    second: int | None
    fate: Fate
    before: RowContents | None
    after: RowContents | None
    reason: str | None = None
    step: int | None = None  # the step that dropped it


def show_table(
    rows: list[RowPair],
    words: dict[str, str],
    key: str,
    numbers: tuple[str, str] = ("Old row", "New row"),
    titles: tuple[str, str] = ("Before", "After"),
    badges: dict[str, str] | None = None,
) -> RowPair | None:
    """Draw rows of two versions as a table; return the open row, which is drawn with changed words marked.

    words: names of the fates; numbers: titles of the columns of row numbers.
    """
    cells, alike = trim_common_start([_build_row(row, words) for row in rows], {"text": "Text"})
    if alike:
        st.caption(escape_markdown(alike))
    reasons = ["reason"] if any(cell["reason"] for cell in cells) else []
    event = st.dataframe(
        cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=["fate", "text", *reasons, "first", "second"],  # a phone shows only the first ones
        column_config={
            "first": st.column_config.NumberColumn(numbers[0], width=80, format="localized"),
            "second": st.column_config.NumberColumn(numbers[1], width=80, format="localized"),
            "fate": st.column_config.TextColumn("Outcome", width=110),
            "reason": st.column_config.TextColumn("Why", width="medium"),
            "text": st.column_config.TextColumn("Text", width="large"),
        },
        height="content",
        placeholder="–",
        alt="Rows of both versions and their outcome",
    )
    for at in event.selection.rows[:1]:
        row = rows[at]
        show_example(_build_example(row), titles, badges)
        return row
    return None


def _build_example(row: RowPair) -> FateExample:
    return FateExample(
        row_id=row.second if row.first is None else row.first,
        fate=row.fate,
        step=row.step,
        steps=[],
        reason=row.reason,
        before=row.before,
        after=row.after,
    )


def _build_row(row: RowPair, words: dict[str, str]) -> Cell:
    return {
        "first": row.first,
        "second": row.second,
        "fate": words[row.fate],
        "reason": row.reason,
        "text": extract_excerpt(_join_text(row.before), _join_text(row.after)),
    }


def extract_excerpt(before: str | None, after: str | None) -> str:
    """Return a text from its beginning, or, if it changed, from shortly before its first change."""
    if before is None or after is None or before == after:
        return before or after or ""
    pairs = enumerate(zip(before, after, strict=False))
    at = next((at for at, (old, new) in pairs if old != new), min(len(before), len(after)))
    if at <= BEFORE:
        return after
    start = after.find(" ", at - BEFORE, at) + 1 or at - BEFORE  # avoids starting in the middle of a word
    return f"… {after[start:]}"


def _join_text(row: RowContents | None) -> str | None:
    return None if row is None else row["text"] or ""


PAGE = 20


def show_fates(dataset_id: str, steps: list[StepCounts]) -> None:
    """Draw a searchable, paged table of the fates of the previous version's rows."""
    fate, step, search = _choose_fates(dataset_id, steps)
    slot = st.container()
    asked = f"{fate}-{step}-{search}"
    offset = PAGE * (st.session_state.get(f"fates-page-{dataset_id}-{asked}", 1) - 1)
    fates_page = dataset_queries.read_row_fates(dataset_id, fate, step, search, PAGE, offset)
    pages = max(1, -(-fates_page.total // PAGE))
    if pages > 1:
        st.pagination(pages, key=f"fates-page-{dataset_id}-{asked}")
    with slot:
        if not fates_page.rows:
            st.caption("No rows match. Choose another outcome or change the search.")
            return
        last = offset + len(fates_page.rows)
        st.caption(
            f"{offset + 1:,} to {last:,} of {plural(fates_page.total, 'row')}. Select a row to open it."
        )
        _draw_table(dataset_id, fates_page.rows, f"{asked}-{offset}")


def _choose_fates(dataset_id: str, steps: list[StepCounts]) -> tuple[Fate | None, int | None, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        fate: Fate | None = st.segmented_control(
            "Outcome",
            list(FATE_TITLES),
            format_func=lambda fate: FATE_TITLES[fate][1],
            key=f"fates-fate-{dataset_id}",
            label_visibility="collapsed",
        )
        step = st.selectbox(
            "Step",
            range(len(steps)),
            None,
            format_func=lambda index: f"{index + 1}. {steps[index].title}",
            placeholder="Any step",
            label_visibility="collapsed",
            key=f"fates-step-{dataset_id}",
            width=260,
        )
        search = st.text_input(
            "Search",
            type="search",
            live="400ms",
            placeholder="Search in text and reason",
            label_visibility="collapsed",
            icon=":material/search:",
            key=f"fates-search-{dataset_id}",
            width=260,
        )
    return fate, step, (search or "").strip()


def _draw_table(dataset_id: str, rows: list[RowFate], key: str) -> None:
    pairs = [
        RowPair(
            row.parent_row_id,
            row.row_id,
            row.fate,
            _parse_content(row.before),
            _parse_content(row.after),
            row.reason,
            row.step,
        )
        for row in rows
    ]
    words: dict[str, str] = {fate: word for fate, (_, word) in FATE_TITLES.items()}
    opened = show_table(pairs, words, f"fates-table-{dataset_id}-{key}")
    if opened and opened.fate == "dropped":
        st.caption(f"Dropped by step {(opened.step or 0) + 1}.")


def _parse_content(text: str | None) -> RowContents | None:
    return None if text is None else {"messages": None, "text": text, "label": None, "rejected": None}


WORDS = {
    "kept": "Unchanged",
    "changed": "Changed",
    "dropped": "Only in the first",
    "added": "Only in the second",
}
BADGES = {
    "kept": ":green-badge[:material/check: Unchanged]",
    "dropped": ":red-badge[:material/remove: Only in the first]",
    "added": ":blue-badge[:material/add: Only in the second]",
}


def show_compare(dataset: Dataset, family: list[Version]) -> None:
    """Draw a comparison of two versions of the family, by default the previous version and this one."""
    names = {version.dataset_id: version.name for version in family}
    key = f"versions-{dataset.dataset_id}"
    first, second = _choose_versions(dataset, names, key)
    if first == second:
        st.caption("Choose two different versions.")
        return
    fate = st.segmented_control(
        "Rows", FATES, format_func=WORDS.__getitem__, key=f"{key}-fate", label_visibility="collapsed"
    )
    page_key = f"{key}-page-{first}-{second}-{fate}"
    offset = PAGE * (st.session_state.get(page_key, 1) - 1)
    comparison = dataset_queries.compare_versions(first, second, fate, PAGE, offset)
    st.html(meters.render_facts(_format_facts(comparison.counts)))
    if not comparison.rows:
        st.caption("No differing rows." if fate is None else "No matching rows.")
        return
    last = offset + len(comparison.rows)
    st.caption(f"{offset + 1:,} to {last:,} of {plural(comparison.total, 'row')}. Select a row to read it.")
    rows = [RowPair(row.row_id, row.other_row_id, row.fate, row.before, row.after) for row in comparison.rows]
    show_table(
        rows, WORDS, f"{page_key}-table-{offset}", ("First", "Second"), (names[first], names[second]), BADGES
    )
    if comparison.total > PAGE:
        st.pagination(-(-comparison.total // PAGE), key=page_key)


def _choose_versions(dataset: Dataset, names: dict[str, str], key: str) -> tuple[str, str]:
    """Draw the choice of two versions and return their ids. names: of all versions, by id."""
    ids = list(names)
    here, parent = dataset.dataset_id, dataset.parent_id
    start = parent if parent and parent in names else here
    end = here if start != here else next(other for other in ids if other != here)
    first_at, second_at = st.columns(2)
    with first_at:
        first = st.selectbox(
            "First", ids, ids.index(start), format_func=names.__getitem__, key=f"{key}-first"
        )
    with second_at:
        second = st.selectbox(
            "Second", ids, ids.index(end), format_func=names.__getitem__, key=f"{key}-second"
        )
    return first, second


def _format_facts(counts: FateCounts) -> list[tuple[str, str, str]]:
    """Format the counts; shares refer to the version that contains the rows."""
    first = counts.kept + counts.changed + counts.dropped
    second = counts.kept + counts.changed + counts.added
    return [
        (title, f"{count:,}", f"{display.format_share(count, n)} of {n:,} rows")
        for count, title, n in (
            (getattr(counts, fate), WORDS[fate], second if fate == "added" else first) for fate in FATES
        )
    ]


RUNS_SHOWN = 4


def show_versions(dataset: Dataset) -> None:
    """Draw the family of a data set, and how this version was created."""
    family = dataset_queries.list_versions(dataset.dataset_id)
    st.caption(
        "A recipe never changes a version; it creates a new one."
        if len(family) > 1
        else "This is the only version. Run a recipe on the Clean tab to create the next one."
    )
    for version in family:
        _draw_version(version, version.dataset_id == dataset.dataset_id)
    if dataset.recipe and dataset.fates:
        with show_errors():
            _draw_recipe_steps(dataset, dataset.fates)
    if len(family) > 1:
        st.subheader("Compare two versions", anchor=False)
        with show_errors():
            show_compare(dataset, family)


def _draw_version(version: Version, here: bool) -> None:
    """Draw one line of the tree: name, rows, how it was made, and the runs that use it."""
    depth = min(version.depth, 6)
    with st.container(horizontal=True, gap=None, key=f"version-{version.dataset_id}"):
        if depth:
            st.space(24 * depth)
            st.markdown(":gray[:material/subdirectory_arrow_right:]", width="content")
        with st.container(border=True, gap=None):
            _draw_version_name(version, here)
            facts = [plural(version.row_count, "row"), display.format_ago(version.created_at)]
            if fates := version.fates:
                facts += format_changes(fates)
            st.caption(" · ".join(facts))
            if version.titles:
                st.caption(escape_markdown("; ".join(version.titles)))
            _draw_runs(version.runs)


def _draw_version_name(version: Version, here: bool) -> None:
    if here:
        st.markdown(f"**{escape_markdown(version.name)}** :blue-badge[this version]")
        return
    st.page_link(
        "pages/data/data.py",
        label=f"**{escape_markdown(version.name)}**",
        query_params={"dataset": version.dataset_id},
    )


def _draw_runs(runs: list[DatasetRun]) -> None:
    if not runs:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for run in runs[:RUNS_SHOWN]:
            st.page_link(
                "pages/runs/run.py",
                label=f"{escape_markdown(run.name)} {format_status_badge(run.status)}",
                icon=":material/show_chart:",
                query_params={"run": run.run_id},
            )
        if len(runs) > RUNS_SHOWN:
            st.caption(f"{RUNS_SHOWN} of {len(runs):,} runs that use it")


def _draw_recipe_steps(dataset: Dataset, fates: Fates) -> None:
    st.subheader("Outcome of every row", anchor=False)
    new = f"{dataset.row_count:,} new rows on the right"
    st.caption(f"{count_rows_before(fates):,} old rows on the left, {new}; steps are numbered.")
    st.plotly_chart(
        plot_sankey(fates, brand.PAPER if st.context.theme.type == "dark" else brand.INK),
        key=f"sankey-{dataset.dataset_id}",
        config={"displayModeBar": False},
        alt="Rows of the old version through each step to the new version",
    )
    show_steps(fates.steps)
    show_fates(dataset.dataset_id, fates.steps)
