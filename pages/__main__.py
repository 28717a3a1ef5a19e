"""`python -m pages [streamlit options]` serves the screens, with two faults of Streamlit put right.

Streamlit takes a folder `pages` beside the app for its older kind of multi-page app until the app first calls
`st.navigation`: the first visitor of a new server would see a page without the app around it. Said here,
before any visitor, that is not so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner
from streamlit.web import cli

APP = Path(__file__).resolve().parent.parent / "app.py"


def main(options: list[str]) -> None:
    """Serve until the process is stopped; `options` are those of `streamlit run`."""
    PagesManager.uses_pages_directory = False
    leave_pages_for_good()
    cli.main(["run", str(APP), *options], prog_name="streamlit")


def leave_pages_for_good() -> None:
    """Have no run for parts of a page that was left.

    The browser asks for the live parts of its page by a timer, and learns that `st.switch_page` has left that
    page a moment later. What it asked in between would be answered as the old page, without its other
    elements: the browser takes that for a change of page, empties the new one, finds no place for the next
    live part, and stays white.
    """
    run_script = ScriptRunner._run_script

    def run_what_is_shown(self: ScriptRunner, asked: RerunData) -> None:
        shown = self._pages_manager.current_page_script_hash
        if asked.fragment_id_queue and shown and asked.page_script_hash != shown:
            return
        run_script(self, asked)

    ScriptRunner._run_script = run_what_is_shown  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main(sys.argv[1:])
