"""Opening the screens in the user's browser, where there is one.

The secret never stands on a command line, which every account of the machine can read: the browser is given a
file of the home folder that leads to the address, readable by this user alone.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from html import escape
from pathlib import Path

from store.contract.home import Home

_REMOTE = ("SSH_CONNECTION", "SSH_TTY", "CI")
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def open_browser(home: Home, entrance: str) -> bool:
    """Open the screens; False where nobody sits at a browser of this machine."""
    if not _is_there():
        return False
    if _is_confined():  # it has the cookie already, or shows where the secret is
        return webbrowser.open(entrance.partition("?")[0])
    return webbrowser.open(_leading_to(home, entrance).as_uri())


def _is_there() -> bool:
    """Whether the command was given at a terminal of a machine with a display."""
    if not sys.stdout.isatty() or any(os.environ.get(name) for name in _REMOTE):
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in _DISPLAYS)


def _is_confined() -> bool:
    """Whether browsers come as snaps, which may not open files in hidden folders."""
    return any(Path("/snap/bin", name).exists() for name in ("firefox", "chromium"))


def _leading_to(home: Home, entrance: str) -> Path:
    path = home.path / "open.html"
    path.unlink(missing_ok=True)
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(entrance)}">'
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    return path
