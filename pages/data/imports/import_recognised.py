"""What was recognised in a file, in words: its kind and format, which columns are used as what, which are
ignored, and what is odd about the first rows. A tick stands only where nothing was guessed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.shared import quantities
from pages.shared.session import plain
from store.catalog.formats import FORMATS
from store.catalog.left_out import is_meant
from store.words.reading_words import ignored_words, used_words

READERS = {
    "csv": "CSV",
    "tsv": "TSV",
    "json": "JSON",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "text": "plain text",
    "hub": "Hugging Face hub",
}
PROBLEMS = 6  # kinds of them that are shown


def say_recognised(recognised: dict[str, Any]) -> None:
    """Draw the answer of `inspect`, rows aside."""
    about = _file_words(recognised)
    if not recognised.get("format"):
        st.warning(
            f"**No format was recognised** ({plain(about)}). Choose one below, and the columns it needs.",
            icon=":material/help:",
        )
    else:
        title = plain(FORMATS[recognised["format"]].title)
        if recognised.get("guessed"):
            st.markdown(f":orange[:material/help:] Guessed to be **{title}** ({plain(about)})")
        else:
            st.markdown(f":green[:material/check_circle:] Recognised as **{title}** ({plain(about)})")
    _say_problems(recognised["problems"])


def say_columns(
    format: str,
    columns: dict[str, str],
    answers: str | None,
    values: dict[str, str],
    ignored: list[str],
    ignored_count: int | None = None,
) -> None:
    """Which columns are used as what, and which are ignored."""
    st.markdown(f":material/input: **Used:** {plain(used_words(format, columns, answers, values))}")
    mark = ":orange[:material/visibility_off:]" if ignored else ":material/visibility:"
    st.markdown(f"{mark} **Ignored:** {plain(ignored_words(ignored, ignored_count))}")


def _file_words(recognised: dict[str, Any]) -> str:
    parts = [READERS.get(recognised["reader"], recognised["reader"]), quantities.size(recognised["bytes"])]
    parts += ["gzip"] if recognised.get("compressed") else []
    text = recognised.get("encoding") and recognised["reader"] not in ("parquet", "hub")
    parts += [recognised["encoding"]] if text else []
    own = [column for column in recognised["columns"] if "." not in column["name"]]
    parts += [plural(len(own), "column")]
    if recognised["reader"] in ("csv", "tsv"):
        parts.append("first line names them" if recognised["has_header"] else "no header line")
    return ", ".join(parts)


def _say_problems(problems: list[dict[str, Any]]) -> None:
    """Each kind of problem once, with the rows that have it and the first line: all that is odd in one box,
    so that the form stays in sight, and under it what only says how the file is read."""
    counts = Counter(problem["reason"] for problem in problems)
    first = {problem["reason"]: problem.get("line") for problem in reversed(problems)}
    notices = {problem["reason"] for problem in problems if problem.get("notice")}
    odd: list[str] = []
    meant: list[str] = []
    for reason, count in list(counts.items())[:PROBLEMS]:
        line = first[reason]
        where = ""
        if line:
            where = f"Line {line:,}: " if count == 1 else f"{count:,} of the first rows, from line {line:,}: "
        (meant if reason in notices or is_meant(reason) else odd).append(plain(where + reason))
    if odd:
        st.warning("  \n".join(odd), icon=":material/warning:")
    for sentence in meant:
        st.caption(f":material/info: {sentence}")
    if len(counts) > PROBLEMS:
        st.caption(f"{PROBLEMS} of {len(counts)} kinds of problems in the first rows are shown.")
