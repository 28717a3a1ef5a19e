"""Where the aliases of a model stand and went, and all its versions, a page at a time."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from pages.models import model_reads
from pages.shared import lists, quantities
from pages.shared.session import act, may, plain
from store.documents.shipping.gate import AliasMove
from store.documents.shipping.version import AliasNow, ModelLine, ModelVersion, VersionLine
from store.http.client import Client

PAGE = 20
TABLE = "versions-table"
MOVES = 10
ARROWS = {
    "promoted": ":material/verified:",
    "overridden": ":orange[:material/gavel:]",
    "back": ":material/undo:",
    "removed": ":material/label_off:",
}


def draw_versions(_: Client, model: ModelLine, version: ModelVersion) -> None:
    """Aliases first: they are what is served."""
    _draw_aliases(model)
    _draw_table(model, version)
    _draw_moves(model)
    if may("work"):
        _draw_delete(model, version)


def _draw_aliases(model: ModelLine) -> None:
    aliases = model_reads.aliases(model["model_id"])
    if not aliases:
        st.caption("No version has an alias yet. Take one to production by its gate.")
    for alias in aliases:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{plain(alias['alias'])}** is version {alias['version']}"
                f" :gray[· {quantities.ago(alias['moved_at'])}]",
                width="stretch",
            )
            if may("work"):
                _draw_back(model, alias)


def _draw_back(model: ModelLine, alias: AliasNow) -> None:
    """Back to the version before, and the alias taken away; each with its reason."""
    name, key = alias["alias"], f"{model['model_id']}-{alias['alias']}"
    earlier = model_reads.before(model["model_id"], name)
    seen = {"version": alias["version"]}
    if earlier is not None:
        with st.popover(f"Back to version {earlier}", icon=":material/undo:", key=f"back-{key}"):
            why = st.text_input("Why", f"Back from version {alias['version']}.", key=f"back-why-{key}")
            if st.button(f"Back to version {earlier}", type="primary", key=f"back-go-{key}"):
                body = {"model": model["name"], "alias": name, "reason": why, "seen": seen}
                if act("move_back", body, f"Version {earlier} is {name} again.") is not None:
                    st.rerun()
    with st.popover("Remove", icon=":material/label_off:", key=f"remove-{key}"):
        why = st.text_input("Why", key=f"remove-why-{key}")
        if st.button(f"Let no version be {name}", key=f"remove-go-{key}"):
            body = {"model": model["name"], "alias": name, "reason": why, "seen": seen}
            if act("remove_alias", body, f"No version is {name} any more.") is not None:
                st.rerun()


def _draw_table(model: ModelLine, version: ModelVersion) -> None:
    total, listed = lists.page_of(
        "versions-page", PAGE, lambda offset: model_reads.listed(model["model_id"], PAGE, offset)
    )
    numbers = [line["version"] for line in listed]
    st.dataframe(
        [_line(line, version) for line in listed],
        hide_index=True,
        on_select=lambda: _picked(numbers),
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
    counted = f"{len(listed)} of {phrasing.plural(total, 'version')}" if total > PAGE else ""
    st.caption(f"{counted or phrasing.plural(total, 'version')}, newest first. A click on a line shows it.")


def _line(line: VersionLine, chosen: ModelVersion) -> dict[str, object]:
    return {
        "Version": f"{line['version']}{' (shown)' if line['version'] == chosen['version'] else ''}",
        "Aliases": line["aliases"],
        "From": origin(line),
        "Kind": "adapter" if line["adapter"] else "whole model",
        "Size": quantities.size(line["bytes"] or 0),
        "By": line["created_by_name"],
        "When": quantities.ago(line["created_at"]),
    }


def origin(line: VersionLine | ModelVersion) -> str:
    """ "run Sums", "run Sums, best checkpoint (the run was deleted)", "a folder"."""
    source = line["source"]
    if source["kind"] == "folder":
        return "a folder"
    which = "" if source["checkpoint"] == "tuned" else f", {source['checkpoint']} checkpoint"
    return f"run {source['run_name']}{which}"


def _picked(numbers: list[int]) -> None:
    if rows := st.session_state[TABLE]["selection"]["rows"]:
        st.query_params["version"] = str(numbers[rows[0]])


def _draw_moves(model: ModelLine) -> None:
    moves = model_reads.moves(model["model_id"])
    if not moves:
        return
    st.markdown("**Who moved what**")
    for move in moves[:MOVES]:
        st.markdown(_move_line(move))
    if len(moves) > MOVES:
        with st.expander(f"{len(moves) - MOVES} earlier moves"):
            for move in moves[MOVES:]:
                st.markdown(_move_line(move))


def _move_line(move: AliasMove) -> str:
    way = f"version {move['to_version']}" if move["to_version"] is not None else "no version"
    before = f", before it {move['from_version']}" if move["from_version"] is not None else ""
    over = " though the gate was not passed" if move["kind"] == "overridden" else ""
    return (
        f"{ARROWS[move['kind']]} **{plain(move['alias'])}**: {way}{before}{over}"
        f" :gray[· {plain(move['moved_by_name'])}, {quantities.ago(move['moved_at'])}]  \n"
        f":gray[{plain(' '.join(move['reason'].split()))}]"
    )


def _draw_delete(model: ModelLine, version: ModelVersion) -> None:
    number = version["version"]
    if any(alias["version"] == number for alias in model_reads.aliases(model["model_id"])):
        return
    with st.popover(f"Delete version {number}", icon=":material/delete:", key="version-delete"):
        st.markdown("Its files go for good. Its number is never given again.")
        if st.button("Delete for good", type="primary", key="version-delete-sure"):
            body = {"version": f"{model['name']}@{number}"}
            if act("delete_version", body, f"Version {number} is deleted.") is not None:
                st.query_params.pop("version", None)
                st.rerun()
