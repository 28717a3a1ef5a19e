"""A page that is left by a button just when one of its live parts asks for itself."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.e2e.started_app import App

pytestmark = pytest.mark.timeout(300)


class MoreQuestions:
    """Passes everything on. From a click on, the server is asked for a live part whenever it sets to work."""

    def __init__(self, page: Page) -> None:
        self.asked: bytes | None = None  # what the last timer asked
        self._left = 3  # times; each may be answered by a run, at whose start it would be asked again
        self._clicked = False
        page.route_web_socket(re.compile("_stcore/stream"), self._between)

    def _between(self, browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()

        def ask(message: str | bytes) -> None:
            assert isinstance(message, bytes)
            rerun = BackMsg.FromString(message).rerun_script
            if rerun.is_auto_rerun and not self._clicked:
                self.asked = message
            self._clicked = self._clicked or any(state.trigger_value for state in rerun.widget_states.widgets)
            server.send(message)

        def answer(message: str | bytes) -> None:
            assert isinstance(message, bytes)
            browser.send(message)
            begins = ForwardMsg.FromString(message).HasField("new_session")
            if self._clicked and begins and self.asked and self._left:
                server.send(self.asked)
                self._left -= 1

        browser.on_message(ask)
        server.on_message(answer)


def test_the_page_that_is_gone_to_stays(app: App, page: Page) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    timer = MoreQuestions(page)
    app.open(page)
    expect(page.get_by_text("are being prepared")).to_be_visible()  # so the overview is live
    while timer.asked is None:
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Run the sample experiment").click()
    page.wait_for_url(re.compile(r"/run\?run="))
    page.wait_for_timeout(5000)  # so that live parts of this page have asked for themselves
    expect(page.get_by_role("heading", name="Sample experiment")).to_be_visible()
    assert errors == []
