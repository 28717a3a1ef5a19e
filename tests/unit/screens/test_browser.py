"""When `tunebench up` opens a browser, and that the secret stands on no command line."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from store.core.home import Home
from tunebench.terminal import processes

ENTRANCE = "http://127.0.0.1:8501/?secret=s3cret&a=b"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was given, at a terminal of a desk with a display."""
    opened: list[str] = []
    monkeypatch.setattr(processes.webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(processes, "_is_confined", lambda: False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(processes.sys, "platform", "linux")
    for name in ("SSH_CONNECTION", "SSH_TTY", "CI", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    return opened


def test_the_browser_gets_a_file_that_its_user_alone_can_read(home: Home, opened: list[str]) -> None:
    assert processes.open_browser(home, ENTRANCE)
    assert opened == [(home.path / "open.html").as_uri()]
    page = Path(opened[0].removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "url=http://127.0.0.1:8501/?secret=s3cret&amp;a=b" in page.read_text()
    assert processes.open_browser(home, ENTRANCE)  # each time anew


@pytest.mark.parametrize("name", ["SSH_CONNECTION", "SSH_TTY", "CI"])
def test_nobody_sits_at_a_machine_that_is_far_away(
    home: Home, opened: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert not processes.open_browser(home, ENTRANCE)
    assert opened == []


def test_without_a_display_or_a_terminal_nothing_is_opened(
    home: Home, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY")
    assert not processes.open_browser(home, ENTRANCE)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert processes.open_browser(home, ENTRANCE)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert not processes.open_browser(home, ENTRANCE)
    assert len(opened) == 1


def test_a_browser_that_may_not_read_the_file_is_given_no_secret(
    home: Home, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_is_confined", lambda: True)
    assert processes.open_browser(home, ENTRANCE)
    assert opened == ["http://127.0.0.1:8501/"]
