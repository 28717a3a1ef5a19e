"""`python -m pages [streamlit options]` serves the screens.

Streamlit takes a folder `pages` beside the app for its older kind of multi-page app until the app first calls
`st.navigation`: the first visitor of a new server would see a page without the app around it. Said here,
before any visitor, that is not so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web import cli

APP = Path(__file__).resolve().parent.parent / "app.py"


def main(options: list[str]) -> None:
    """Serve until the process is stopped; `options` are those of `streamlit run`."""
    PagesManager.uses_pages_directory = False
    cli.main(["run", str(APP), *options], prog_name="streamlit")


if __name__ == "__main__":
    main(sys.argv[1:])
