"""Libraries of the browser that components use, as released and with their licences; nothing is fetched.

uPlot 1.6.32 (MIT) draws curves, Flechette 2.7.0 (BSD-3-Clause) decodes Arrow, without the comment that names
a source map, which a browser would ask for. Both define one global name in a module: `uPlot` and `fl`.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def read_library(name: str) -> str:
    """Return the text of a bundled file."""
    return (FOLDER / name).read_text(encoding="utf-8")
