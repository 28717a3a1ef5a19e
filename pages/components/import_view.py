"""Import: what was recognised in the file, shown for correction, before a single row is stored.

The engine's `inspect` reads the first rows. What the user changes (format, columns, header, encoding) is
asked again, so that the conversations shown are those that the import will write.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.components import quantities, reads
from pages.components.conversation import show_row
from pages.components.dataset_list import back_to_list
from pages.components.import_source import draw_source
from pages.components.session import client, guarded, plain, show_error
from store.errors import EngineUnavailable, TunebenchError
from store.formats import FORMATS
from store.import_config import ImportConfig, suggested_name

RECOGNISED = "as recognised"
NOTHING = "—"
READERS = {
    "csv": "CSV",
    "tsv": "TSV",
    "json": "JSON",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "text": "plain text",
    "hub": "Hugging Face hub",
}
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")
HEADER = {RECOGNISED: None, "names the columns": True, "is a row": False}


def show_import() -> None:
    """The whole import, from the source to the button."""
    st.title("Which rows should a model learn from?", anchor=False)
    back_to_list()
    source = draw_source()
    if source is None:
        return
    with guarded():
        _correct(source)


def _correct(source: dict[str, Any]) -> None:
    scope = json.dumps(source, sort_keys=True)
    reading = st.session_state.get(f"import-reading {scope}", {})
    try:
        found = _inspect({"source": source, **reading})
    except EngineUnavailable:
        raise
    except TunebenchError as error:
        show_error(error)
        if "encoding" in reading or error.field == "encoding":
            _read_as(scope, reading, _draw_encoding(scope, reading))
        return
    _say_recognised(found)
    left, right = st.columns([2, 3], gap="large")
    with left:
        reading = _draw_reading(found, scope)
        chosen, columns, instruction = _draw_mapping(found, scope)
        refused = st.container()
        document = _draw_name_and_split(source, scope)
        pressed = st.button("Import", type="primary", icon=":material/download:", key="import-button")
    document |= {"source": source, "format": chosen, "columns": columns, **reading}
    document |= {"instruction": instruction} if instruction else {}
    corrected = chosen != found["format"] or columns != found["mapping"] or bool(instruction)
    with right:
        _show_rows(source, reading, found, (chosen, columns, instruction) if corrected else None)
    if pressed:
        with refused:
            _start(document)


def _inspect(body: dict[str, Any]) -> dict[str, Any]:
    with st.spinner("Looking at the first rows …"):
        return reads.inspection(json.dumps(body, sort_keys=True))


def _say_recognised(found: dict[str, Any]) -> None:
    parts = [READERS.get(found["reader"], found["reader"]), quantities.size(found["bytes"])]
    parts += ["gzip"] if found.get("compressed") else []
    parts += [found["encoding"]] if found.get("encoding") else []
    parts += [plural(len(found["columns"]), "column")]
    if found["reader"] in ("csv", "tsv"):
        parts.append("first line names them" if found["has_header"] else "no header line")
    title = FORMATS[found["format"]].title if found.get("format") else "no known format"
    st.markdown(f":material/check_circle: Recognised as **{plain(title)}** ({plain(', '.join(parts))})")
    for problem in found["problems"][:10]:
        line = f"Line {problem['line']:,}: " if problem.get("line") else ""
        st.warning(plain(line + problem["reason"]), icon=":material/warning:")
    if len(found["problems"]) > 10:
        st.caption(f"10 of {len(found['problems'])} problems of the first rows are shown.")


def _draw_reading(found: dict[str, Any], scope: str) -> dict[str, Any]:
    """How the file is read; a change is asked again at the next run."""
    if found["reader"] in ("parquet", "hub"):
        return {}
    reading = st.session_state.get(f"import-reading {scope}", {})
    left, right = st.columns(2)
    with left:
        said = _draw_encoding(scope, reading)
    if found["reader"] in ("csv", "tsv"):
        start = list(HEADER.values()).index(reading.get("has_header"))
        first = right.selectbox("The first line", list(HEADER), index=start, key=f"import-header {scope}")
        said.pop("has_header", None)
        if HEADER[first] is not None:
            said["has_header"] = HEADER[first]
    _read_as(scope, reading, said)
    return said


def _draw_encoding(scope: str, reading: dict[str, Any]) -> dict[str, Any]:
    """What `reading` becomes by the chosen encoding; also where the present one can't read the file."""
    options = (RECOGNISED, *ENCODINGS)
    start = options.index(reading.get("encoding", RECOGNISED))
    encoding = st.selectbox("Encoding", options, index=start, key=f"import-encoding {scope}")
    rest = {name: value for name, value in reading.items() if name != "encoding"}
    return rest if encoding == RECOGNISED else {**rest, "encoding": encoding}


def _read_as(scope: str, reading: dict[str, Any], said: dict[str, Any]) -> None:
    """Begin again where something else was chosen."""
    if said != reading:
        st.session_state[f"import-reading {scope}"] = said
        st.rerun()


def _draw_mapping(found: dict[str, Any], scope: str) -> tuple[str, dict[str, str], str]:
    """Format, role -> column, and the instruction of text and label."""
    names = list(FORMATS)
    start = names.index(found["format"]) if found.get("format") in names else names.index("text")
    chosen = st.selectbox(
        "Format",
        names,
        index=start,
        format_func=lambda name: FORMATS[name].title,
        key=f"import-format {scope}",
    )
    form = FORMATS[chosen]
    st.caption(form.help)
    columns = [column["name"] for column in found["columns"]]
    guess = found["mappings"].get(chosen) or (found["mapping"] if chosen == found["format"] else {})
    mapping: dict[str, str] = {}
    typed = ("instruction",) if chosen == "text_label" else ()  # a sentence, not a column
    for role in (*form.required, *(role for role in form.optional if role not in typed)):
        options = columns if role in form.required else [NOTHING, *columns]
        wanted = guess.get(role, role)
        index = options.index(wanted) if wanted in options else 0
        column = st.selectbox(
            f"Column of the {role}", options, index=index, key=f"import-{chosen}-{role} {scope}"
        )
        if column and column != NOTHING:
            mapping[role] = column
    instruction = ""
    if chosen == "text_label":
        instruction = st.text_input(
            "Instruction before each text",
            key=f"import-instruction {scope}",
            placeholder="Which category does this message belong to?",
            help="Says what is asked for; the model learns to answer with the label.",
        )
    return chosen, mapping, (instruction or "").strip()


def _draw_name_and_split(source: dict[str, Any], scope: str) -> dict[str, Any]:
    name = st.text_input("Name", value=suggested_name(source), max_chars=80, key=f"import-name {scope}")
    with st.expander("Split into training, validation and test", icon=":material/call_split:"):
        st.caption("Rows with equal text stay on one side. It can be changed later.")
        left, middle, right = st.columns(3)
        validation = left.number_input("Validation %", 0, 50, 10, key=f"import-validation {scope}")
        test = middle.number_input("Test %", 0, 50, 10, key=f"import-test {scope}")
        seed = right.number_input("Seed", 0, 2**31 - 1, 0, key=f"import-seed {scope}")
    return {
        "name": name,
        "validation_size": validation / 100,
        "test_size": test / 100,
        "split_seed": int(seed),
    }


def _show_rows(
    source: dict[str, Any],
    reading: dict[str, Any],
    found: dict[str, Any],
    corrected: tuple[str, dict[str, str], str] | None,
) -> None:
    """The first rows as they stand in the file, and as the model will be given them."""
    st.markdown("**The first rows of the file**")
    st.dataframe(found["rows"], height=230, hide_index=True, alt="The first rows of the file")
    st.markdown("**How they will be read**")
    if corrected:
        chosen, columns, instruction = corrected
        body = {"source": source, **reading, "format": chosen, "columns": columns}
        body |= {"instruction": instruction} if instruction else {}
        with guarded():
            found = _inspect(body)
    if not found["canonical"]:
        st.caption("No row can be read in this way; choose other columns.")
    for row in found["canonical"][:3]:
        with st.container(border=True):
            show_row(row, 600)


def _start(document: dict[str, Any]) -> None:
    try:
        config = ImportConfig.parse(document)
        answer = client().command("import_dataset", config.model_dump(exclude_none=True))
    except TunebenchError as error:
        show_error(error)
        return
    st.cache_data.clear()
    st.switch_page("pages/data_sets.py", query_params={"job": answer["job_id"]})
