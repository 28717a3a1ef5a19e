"""All versions of a model, the history of its aliases, and the lineage of a version."""

from __future__ import annotations

import json
import textwrap

import streamlit as st

from pages.registry import model_queries
from pages.shared import display, layout, palette
from pages.shared.session import escape_markdown, has_right, send_command
from store.core import formatting
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion, VersionSummary
from store.http.client import Client
from store.registry.schemas import AliasMove, Lineage, LineageKind, LineageNode

PAGE = 20
TABLE = "versions-table"
MOVES = 10
ARROWS = {
    "promoted": ":material/verified:",
    "overridden": ":orange[:material/gavel:]",
    "back": ":material/undo:",
    "removed": ":material/label_off:",
}


def draw_versions(_: Client, model: ModelSummary, version: ModelVersion) -> None:
    """Draw aliases, then all versions and the alias history; aliases come first because they are what is
    served.
    """
    _draw_aliases(model)
    _draw_table(model, version)
    _draw_moves(model)
    if has_right("work"):
        _draw_delete(model, version)


def _draw_aliases(model: ModelSummary) -> None:
    aliases = model_queries.list_aliases(model.model_id)
    if not aliases:
        st.caption("No aliases yet. Promote a version on the Gate tab.")
    for alias in aliases:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{escape_markdown(alias.alias)}** is version {alias.version}"
                f" :gray[· {display.format_ago(alias.moved_at)}]",
                width="stretch",
            )
            if has_right("work"):
                _draw_rollback(model, alias)


def _draw_rollback(model: ModelSummary, alias: AliasState) -> None:
    """Draw forms that roll an alias back to its previous version or remove it, each with a reason."""
    name, key = alias.alias, f"{model.model_id}-{alias.alias}"
    earlier = model_queries.find_previous_version(model.model_id, name)
    seen = {"version": alias.version}
    if earlier is not None:
        with st.popover(f"Roll back to version {earlier}", icon=":material/undo:", key=f"back-{key}"):
            why = st.text_input("Reason", f"Rolled back from version {alias.version}.", key=f"back-why-{key}")
            if st.button(f"Roll back to version {earlier}", type="primary", key=f"back-go-{key}"):
                body = {"model": model.name, "alias": name, "reason": why, "seen": seen}
                if send_command("move_back", body, f"Version {earlier} is {name} again.") is not None:
                    st.rerun()
    with st.popover("Remove", icon=":material/label_off:", key=f"remove-{key}"):
        why = st.text_input("Reason", key=f"remove-why-{key}")
        if st.button(f"Remove the alias {name}", key=f"remove-go-{key}"):
            body = {"model": model.name, "alias": name, "reason": why, "seen": seen}
            if send_command("remove_alias", body, f"The alias {name} is removed.") is not None:
                st.rerun()


def _draw_table(model: ModelSummary, version: ModelVersion) -> None:
    total, listed = layout.read_page(
        "versions-page", PAGE, lambda offset: model_queries.list_versions(model.model_id, PAGE, offset)
    )
    numbers = [line.version for line in listed]
    st.dataframe(
        [_build_row(line, version) for line in listed],
        hide_index=True,
        on_select=lambda: _handle_selection(numbers),
        selection_mode="single-row",
        key=TABLE,
        column_config={
            "Version": st.column_config.TextColumn(width=90),
            "Aliases": st.column_config.ListColumn(width=150),
        },
        alt="Versions, the newest first",
    )
    if total > PAGE:
        st.pagination(-(-total // PAGE), key="versions-page")
    counted = f"{len(listed)} of {formatting.plural(total, 'version')}" if total > PAGE else ""
    st.caption(f"{counted or formatting.plural(total, 'version')}, newest first. Click a row to open it.")


def _build_row(line: VersionSummary, chosen: ModelVersion) -> dict[str, object]:
    return {
        "Version": f"{line.version}{' (shown)' if line.version == chosen.version else ''}",
        "Aliases": line.aliases,
        "From": format_origin(line),
        "Kind": "adapter" if line.adapter else "full model",
        "Size": display.format_size(line.bytes or 0),
        "By": line.created_by_name,
        "When": display.format_ago(line.created_at),
    }


def format_origin(line: VersionSummary | ModelVersion) -> str:
    """Format the origin of a version: "run Sums", "run Sums, best checkpoint", "a folder"."""
    source = line.source
    if source.kind == "folder":
        return "a folder"
    which = "" if source.checkpoint == "tuned" else f", {source.checkpoint} checkpoint"
    return f"run {source.run_name}{which}"


def _handle_selection(numbers: list[int]) -> None:
    if rows := st.session_state[TABLE]["selection"]["rows"]:
        st.query_params["version"] = str(numbers[rows[0]])


def _draw_moves(model: ModelSummary) -> None:
    moves = model_queries.list_alias_moves(model.model_id)
    if not moves:
        return
    st.markdown("**Alias history**")
    for move in moves[:MOVES]:
        st.markdown(_format_move(move))
    if len(moves) > MOVES:
        with st.expander(f"{len(moves) - MOVES} earlier moves"):
            for move in moves[MOVES:]:
                st.markdown(_format_move(move))


def _format_move(move: AliasMove) -> str:
    way = f"version {move.to_version}" if move.to_version is not None else "no version"
    before = f", before it {move.from_version}" if move.from_version is not None else ""
    over = " although the gate did not pass" if move.kind == "overridden" else ""
    return (
        f"{ARROWS[move.kind]} **{escape_markdown(move.alias)}**: {way}{before}{over}"
        f" :gray[· {escape_markdown(move.moved_by_name)}, {display.format_ago(move.moved_at)}]  \n"
        f":gray[{escape_markdown(' '.join(move.reason.split()))}]"
    )


def _draw_delete(model: ModelSummary, version: ModelVersion) -> None:
    number = version.version
    if any(alias.version == number for alias in model_queries.list_aliases(model.model_id)):
        return
    with st.popover(f"Delete version {number}", icon=":material/delete:", key="version-delete"):
        st.markdown("Its files are deleted permanently. The number is never reused.")
        if st.button("Delete permanently", type="primary", key="version-delete-sure"):
            body = {"version": f"{model.name}@{number}"}
            if send_command("delete_version", body, f"Version {number} deleted.") is not None:
                st.query_params.pop("version", None)
                st.rerun()


COLORS: dict[LineageKind, str] = {
    "base": palette.BASE,
    "dataset": palette.RUNS[0],
    "run": palette.TRAIN,
    "version": palette.VALIDATION,
    "evaluation": palette.RUNS[6],
    "round": palette.RUNS[4],
    "bias": palette.RUNS[7],
    "export": palette.RUNS[5],
    "move": palette.GOOD,
}
KINDS: dict[LineageKind, tuple[str, str]] = {
    "base": ("Base model", ":material/foundation:"),
    "dataset": ("Data", ":material/dataset:"),
    "run": ("Run", ":material/model_training:"),
    "version": ("Version", ":material/deployed_code:"),
    "evaluation": ("Evaluation", ":material/fact_check:"),
    "round": ("Rating round", ":material/rate_review:"),
    "bias": ("Bias check", ":material/balance:"),
    "export": ("Export", ":material/download:"),
    "move": ("Alias", ":material/sell:"),
}
PAGES: dict[LineageKind, tuple[str, str]] = {
    "dataset": ("pages/data/data.py", "dataset"),
    "run": ("pages/runs/run.py", "run"),
    "evaluation": ("pages/evaluation/evaluations.py", "evaluation"),
    "round": ("pages/rating/rating.py", "round"),
}
LEGACY_PAGES: dict[LineageKind, tuple[str, str]] = {
    "evaluation": ("evaluation", "evaluations"),
    "round": ("rating round", "rating rounds"),
    "move": ("move of an alias", "moves of aliases"),
}
WIDTH = 26  # characters per line in a box
STYLE = """<style>
@media (max-width: 640px) {.st-key-lineage-graph {display: none}}
</style>"""


def draw_lineage(_: Client, model: ModelSummary, version: ModelVersion) -> None:
    """Draw the lineage as a graph, then as a list with links."""
    graph = model_queries.read_lineage(f"{model.name}@{version.version}")
    st.html(STYLE)
    with st.container(key="lineage-graph"):
        st.graphviz_chart(render_dot(graph, dark=st.context.theme.type == "dark"), width="stretch")
    for kind, count in graph.left_out.items():
        st.caption(f"1 older {LEGACY_PAGES[kind][0]} isn't shown." if count == 1 else
                   f"{count:,} older {LEGACY_PAGES[kind][1]} aren't shown.")  # fmt: skip
    with st.expander("As a list", expanded=True, icon=":material/format_list_bulleted:"):
        for node in graph.nodes:
            _draw_node(node, graph)


def _draw_node(node: LineageNode, graph: Lineage) -> None:
    name, icon = KINDS[node.kind]
    from_ = [edge for edge in graph.edges if edge.target == node.node_id]
    titles = {entry.node_id: entry.title for entry in graph.nodes}
    how = "; ".join(f"{edge.words} ← {titles[edge.source]}" for edge in from_)
    with st.container(gap=None):
        gone = " :red[(deleted)]" if node.gone else ""
        page = PAGES.get(node.kind)
        if page and node.subject_id:
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                st.markdown(f"{icon} {name}", width="content")
                st.page_link(
                    page[0],
                    label=f"**{escape_markdown(node.title)}**",
                    query_params={page[1]: node.subject_id},
                )
        else:
            st.markdown(f"{icon} {name} **{escape_markdown(node.title)}**{gone}")
        st.caption(escape_markdown(" · ".join(part for part in (node.detail, how) if part)))


def render_dot(graph: Lineage, *, dark: bool = False) -> str:
    """Render the graph in Graphviz's language; names are escaped."""
    ink = "#e8eaed" if dark else "#20262b"
    fill = "#1d2429" if dark else "#ffffff"
    lines = [
        'digraph { rankdir=LR; bgcolor="transparent"; nodesep=0.22; ranksep=0.5;',
        f'node [shape=box style="rounded,filled" fontname="sans-serif" fontsize=11 fillcolor="{fill}"'
        f' fontcolor="{ink}" margin="0.12,0.07"];',
        f'edge [fontname="sans-serif" fontsize=9 color="{palette.BASE}" fontcolor="{palette.BASE}"'
        " arrowsize=0.6];",
    ]
    ids = {node.node_id: f"n{place}" for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        label = "\n".join(_wrap(node.title, 2) + _wrap(node.detail, 2))
        style = ' style="rounded,filled,dashed"' if node.gone else ""
        width = 2 if node.title == graph.reference else 1
        lines.append(
            f"{ids[node.node_id]} [label={json.dumps(label, ensure_ascii=False)}"
            f' color="{COLORS[node.kind]}" penwidth={width}{style}];'
        )
    for edge in graph.edges:
        words = json.dumps("\n".join(_wrap(edge.words, 3)), ensure_ascii=False)
        lines.append(f"{ids[edge.source]} -> {ids[edge.target]} [label={words}];")
    return "\n".join([*lines, "}"])


def _wrap(text: str, most: int) -> list[str]:
    lines = textwrap.wrap(text.replace("\\", "/"), WIDTH) or [""]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: WIDTH - 1] + "…"]
