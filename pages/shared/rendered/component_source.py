"""The source of a component that shows prompts and answers: its own files after those that render texts.

Streamlit takes a component's JavaScript and its style as one text each. The files are joined into one module
in which each sees the definitions of the others; no two may define the same name. Prompts and answers are
rendered as text nodes, never as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
RENDERER = ("elements", "markdown", "growing")


def build_component_script(folder: Path, names: Iterable[str]) -> str:
    """The JavaScript: the renderer, then the files `names` of `folder` in that order."""
    paths = [FOLDER / f"{name}.js" for name in RENDERER] + [folder / f"{name}.js" for name in names]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def build_component_style(path: Path) -> str:
    """The style of texts, then that of the component, which may override it."""
    return "\n".join(part.read_text(encoding="utf-8") for part in (FOLDER / "texts.css", path))
