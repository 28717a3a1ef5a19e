"""The source of a component: one JavaScript module and one style sheet.

Streamlit takes a component's JavaScript and its style as one text each. The files are joined into one module
in which each sees the definitions of the others; no two may define the same name. Texts of people and models
are rendered as text nodes, never as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pages.shared.third_party import read_library

FOLDER = Path(__file__).parent
RENDERER = ("elements", "markdown", "growing")  # of prompts and answers
DATA_READER = ("elements", "tables", "values")  # of Arrow tables from a route


def build_component_script(folder: Path, names: Iterable[str]) -> str:
    """The JavaScript of a component that shows texts: the renderer, then the files `names` of `folder` in
    that order.
    """
    return _join_scripts(RENDERER, folder, names)


def build_component_style(path: Path) -> str:
    """The style of texts, then that of the component, which may override it."""
    return "\n".join(part.read_text(encoding="utf-8") for part in (FOLDER / "texts.css", path))


def build_data_script(folder: Path, names: Iterable[str], libraries: Iterable[str] = ()) -> str:
    """The JavaScript of a component that shows tables of a route: the decoder and other `libraries` of
    `pages.shared.third_party`, then the files `names` of `folder` in that order.
    """
    bundled = [read_library(name) for name in ("flechette.js", *libraries)]
    return "\n".join([*bundled, _join_scripts(DATA_READER, folder, names)])


def _join_scripts(base: Iterable[str], folder: Path, names: Iterable[str]) -> str:
    paths = [FOLDER / f"{name}.js" for name in base] + [folder / f"{name}.js" for name in names]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)
