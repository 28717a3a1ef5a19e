"""The forms of one model side by side: size, speed and loss, and what parity said of each."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.shared import quantities, wording
from pages.shared.session import plain
from store.catalog.export_forms import FORMS, limits_of
from store.contract.home import Home
from store.documents.figures.figure import Difference
from store.documents.shipping.export import ModelExportRow
from store.words import export_words

TABLE = "exports-table"
STATUS = {
    "passed": wording.Status("Passed", "green", ":material/verified:"),
    "untold": wording.Status("Can't be told", "gray", ":material/help:"),
    "warned": wording.Status("Not sure", "orange", ":material/warning:"),
    "failed": wording.Status("Failed", "red", ":material/error:"),
}
MOST_DOWNLOAD = 512 * 2**20  # bytes that a browser is given; larger files are copied from the disk


def draw_table(rows: Sequence[ModelExportRow]) -> ModelExportRow:
    """The table; the row that was clicked, else the newest."""
    state = st.dataframe(
        [_line(row) for row in rows],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=TABLE,
        column_config={
            "Form": st.column_config.TextColumn(width=120),
            "Parity": st.column_config.TextColumn(width=90),
            "Size": st.column_config.TextColumn(width=140),
        },
        alt="Exports of this model, newest first",
    )
    st.caption(
        f"{plural(len(rows), 'export')}, newest first; 95% intervals over rows in brackets. KL: how far its"
        " next-token probabilities are from the model's, in nats a token. A click on a line shows it below."
    )
    picked = state["selection"]["rows"]
    return rows[picked[0]] if picked and picked[0] < len(rows) else rows[0]


def _line(row: ModelExportRow) -> dict[str, str]:
    parity = row["parity"]
    figure = export_words.main_figure(row)
    name = f"Change of {export_words.metric_words(figure['metric'])}" if figure else "Change"
    speed = row["tokens_per_second"]
    return {
        "Form": title(row),
        "Parity": STATUS[row["status"]].title,
        "Size": f"{quantities.size(row['model_bytes'])}, {100 * export_words.share(row):.0f}% of 16 bits",
        "KL (nats a token)": wording.estimate(parity["mean_kl"], sign=False),
        "Same favourite token (%)": wording.estimate(parity["argmax_agreement"], scale=100, sign=False),
        "Same answers (%)": wording.estimate(parity["answer_agreement"], scale=100, sign=False),
        name: _change(figure),
        "Tokens a second": "–" if speed is None else f"{speed:,.0f}",
        "n (rows)": f"{parity['prompts']:,}",
    }


def title(row: ModelExportRow) -> str:
    """The form, with the file of Ollama's."""
    form = FORMS[row["form"]].title
    return f"{form} ({FORMS[row['gguf']].title.removeprefix('GGUF ')})" if row["gguf"] else form


def _change(figure: Difference | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    return wording.estimate(figure, reason=False)


def draw_one(row: ModelExportRow) -> None:
    """One export in depth: what parity said and why, where it lies."""
    status, parity = STATUS[row["status"]], row["parity"]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(title(row)), anchor=False, width="content")
        st.badge(status.title, icon=status.icon, color=status.color)
    st.markdown(plain(export_words.sentence(row)))
    for reason in parity["reasons"]:
        st.markdown(f"- {plain(reason)}")
    _draw_rendering(row)
    limits = limits_of(row["form"], row["gguf"] or "gguf-q8_0")
    st.caption(
        f"Read by {plain(parity['engine'])} in another process. The form passes up to a KL of"
        f" {limits.kl[0]:g} and from {100 * limits.argmax[0]:.0f}% of the same favourite tokens, and fails"
        f" beyond {limits.kl[1]:g} or under {100 * limits.argmax[1]:.0f}%: {limits.why}. {_longest(row)}"
    )
    _draw_figures(parity["figures"])
    for notice in row["notices"]:
        st.info(plain(notice), icon=":material/info:")
    _draw_files(row)


def _longest(row: ModelExportRow) -> str:
    long = row["parity"]["long"]
    if not long or not long["mean_kl"]:
        return ""
    words = wording.estimate(long["mean_kl"], sign=False)
    texts = plural(long["prompts"], "longest text")
    return f"On the {texts}, up to {long['tokens']:,} tokens, the KL is {words}."


def _draw_rendering(row: ModelExportRow) -> None:
    """What two engines read otherwise, beside each other."""
    rendering = row["parity"]["rendering"]
    example = rendering["example"]
    if example is None:
        st.markdown(
            f":green[:material/check:] All {plural(rendering['prompts'], 'prompt')} are read the same, byte"
            " by byte and token by token."
        )
        return
    expected, present = st.columns(2)
    with expected:
        st.caption(f"Row {example['row_id']}, as the model is asked")
        st.code(example["expected"], language=None, wrap_lines=True)
    with present:
        st.caption("As the export reads it")
        st.code(example["present"], language=None, wrap_lines=True)


def _draw_figures(figures: Sequence[Difference]) -> None:
    if not figures:
        return
    st.markdown("**The evaluation's figures, export minus model**")
    st.dataframe(
        [
            {
                "Figure": f"{export_words.metric_words(each['metric'])} {wording.arrow(each['better'])}",
                "Change": _change(each),
                "n (rows)": f"{each['n']:,}",
                "Seen if at least": wording.detectable(each["detectable"]),
            }
            for each in figures
        ],
        hide_index=True,
        key="exports-figures",
        alt="Change of each figure with its interval",
    )
    named = ((export_words.metric_words(each["metric"]), each) for each in figures)
    if reasons := wording.missing_intervals(named):
        st.caption(plain(reasons))


def _draw_files(row: ModelExportRow) -> None:
    home = Home()
    folder = home.path / row["folder"]
    if not folder.is_dir():
        st.warning(f"The folder {plain(str(folder))} is gone. Export again.", icon=":material/warning:")
        return
    st.caption(f"{plural(len(row['files']), 'file')} with SHA256SUMS, {quantities.size(row['bytes'])}:")
    st.code(str(folder), language=None)
    if row["hub"]:
        st.markdown(f"Pushed to {plain(row['hub'])}")
    if row["zip"]:
        _draw_zip(row["zip"])


def _draw_zip(name: str) -> None:
    path = Home().exports / name
    if not path.is_file():
        st.caption("The zip file is gone.")
        return
    count = path.stat().st_size
    if count > MOST_DOWNLOAD:
        st.caption(f"The zip file is too large for a browser ({quantities.size(count)}): {plain(str(path))}")
        return
    st.download_button(
        f"Download the zip file ({quantities.size(count)})",
        data=path.read_bytes,
        file_name=name,
        icon=":material/download:",
        key="exports-zip",
    )
