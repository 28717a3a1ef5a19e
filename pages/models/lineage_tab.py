"""Where a version comes from and what became of it: a graph, and on a phone the same as a list."""

from __future__ import annotations

import json
import textwrap

import streamlit as st

from pages.models import model_reads
from pages.shared import palette
from pages.shared.session import plain
from store.documents.shipping.lineage import Lineage, LineageKind, LineageNode
from store.documents.shipping.version import ModelLine, ModelVersion
from store.http.client import Client

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
    "run": ("pages/run/run.py", "run"),
    "evaluation": ("pages/evaluations/evaluations.py", "evaluation"),
    "round": ("pages/rating/rating.py", "round"),
}
OLDER: dict[LineageKind, tuple[str, str]] = {
    "evaluation": ("evaluation", "evaluations"),
    "round": ("rating round", "rating rounds"),
    "move": ("move of an alias", "moves of aliases"),
}
WIDTH = 26  # characters of a line in a box
STYLE = """<style>
@media (max-width: 640px) {.st-key-lineage-graph {display: none}}
</style>"""


def draw_lineage(_: Client, model: ModelLine, version: ModelVersion) -> None:
    """The graph, then everything in it with a link to its page."""
    graph = model_reads.lineage(f"{model['name']}@{version['version']}")
    st.html(STYLE)
    with st.container(key="lineage-graph"):
        st.graphviz_chart(dot(graph, dark=st.context.theme.type == "dark"), width="stretch")
    for kind, count in graph["left_out"].items():
        st.caption(f"1 older {OLDER[kind][0]} isn't shown." if count == 1 else
                   f"{count:,} older {OLDER[kind][1]} aren't shown.")  # fmt: skip
    with st.expander("As a list", expanded=True, icon=":material/format_list_bulleted:"):
        for node in graph["nodes"]:
            _draw_node(node, graph)


def _draw_node(node: LineageNode, graph: Lineage) -> None:
    name, icon = KINDS[node["kind"]]
    from_ = [edge for edge in graph["edges"] if edge["target"] == node["node_id"]]
    titles = {entry["node_id"]: entry["title"] for entry in graph["nodes"]}
    how = "; ".join(f"{edge['words']} ← {titles[edge['source']]}" for edge in from_)
    with st.container(gap=None):
        gone = " :red[(deleted)]" if node["gone"] else ""
        page = PAGES.get(node["kind"])
        if page and node["subject_id"]:
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                st.markdown(f"{icon} {name}", width="content")
                st.page_link(
                    page[0], label=f"**{plain(node['title'])}**", query_params={page[1]: node["subject_id"]}
                )
        else:
            st.markdown(f"{icon} {name} **{plain(node['title'])}**{gone}")
        st.caption(plain(" · ".join(part for part in (node["detail"], how) if part)))


def dot(graph: Lineage, *, dark: bool = False) -> str:
    """The graph in Graphviz's language; whatever names hold, it stays a name."""
    ink = "#e8eaed" if dark else "#20262b"
    fill = "#1d2429" if dark else "#ffffff"
    lines = [
        'digraph { rankdir=LR; bgcolor="transparent"; nodesep=0.22; ranksep=0.5;',
        f'node [shape=box style="rounded,filled" fontname="sans-serif" fontsize=11 fillcolor="{fill}"'
        f' fontcolor="{ink}" margin="0.12,0.07"];',
        f'edge [fontname="sans-serif" fontsize=9 color="{palette.BASE}" fontcolor="{palette.BASE}"'
        " arrowsize=0.6];",
    ]
    ids = {node["node_id"]: f"n{place}" for place, node in enumerate(graph["nodes"])}
    for node in graph["nodes"]:
        label = "\n".join(_wrapped(node["title"], 2) + _wrapped(node["detail"], 2))
        style = ' style="rounded,filled,dashed"' if node["gone"] else ""
        width = 2 if node["title"] == graph["reference"] else 1
        lines.append(
            f"{ids[node['node_id']]} [label={json.dumps(label, ensure_ascii=False)}"
            f' color="{COLORS[node["kind"]]}" penwidth={width}{style}];'
        )
    for edge in graph["edges"]:
        words = json.dumps("\n".join(_wrapped(edge["words"], 3)), ensure_ascii=False)
        lines.append(f"{ids[edge['source']]} -> {ids[edge['target']]} [label={words}];")
    return "\n".join([*lines, "}"])


def _wrapped(text: str, most: int) -> list[str]:
    lines = textwrap.wrap(text.replace("\\", "/"), WIDTH) or [""]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: WIDTH - 1] + "…"]
