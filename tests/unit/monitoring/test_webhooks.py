"""Messages to a webhook: signed, sent once it answers, never where they must not go, and bounded in time."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.made.monitored import Monitored
from engine.monitoring import alerts
from engine.monitoring.alerts import (
    RETRY_SECONDS,
    SIGNATURE_HEADER,
    AlertDetails,
    DeliveryResult,
    WebhookSender,
    raise_alert,
    send_message,
)
from store.core.address_policy import PUBLIC
from store.core.errors import ConfigError, ForbiddenError, QueryError, StateError
from store.monitoring import monitor_alerts
from tests.unit.monitoring.test_monitoring import OWNER, ask

SECRET = "a secret of both sides"


class _Receiver(BaseHTTPRequestHandler):
    answers: list[int]
    got: list[tuple[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.got.append((self.headers[SIGNATURE_HEADER], body))
        status = self.answers.pop(0) if self.answers else 200
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[_Receiver]]]:
    kind = type("Receiver", (_Receiver,), {"answers": [], "got": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/alerts", kind
    server.shutdown()


def test_a_message_is_signed_with_its_time(receiver: tuple[str, type[_Receiver]]) -> None:
    url, kind = receiver
    assert send_message(url, SECRET, '{"event": "alert"}', 1_800_000_000.7, PUBLIC) == DeliveryResult(200, "")
    header, body = kind.got[0]
    digest = hmac.new(SECRET.encode(), f"1800000000.{body}".encode(), hashlib.sha256).hexdigest()
    assert header == f"t=1800000000,v1={digest}"


@pytest.mark.parametrize("redirect", [300, 302])
def test_a_redirect_is_not_followed(receiver: tuple[str, type[_Receiver]], redirect: int) -> None:
    url, kind = receiver
    kind.answers = [redirect]
    status, trouble = send_message(url, SECRET, "{}", 0, PUBLIC)
    assert status == redirect
    assert "not followed" in trouble


@pytest.mark.parametrize("url", [
    "http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/",
    "ftp://example.org/", "file:///etc/passwd", "http://user:pass@example.org/", "https://", "http://a:99999/",
    "http://224.0.0.1/",
])  # fmt: skip
def test_addresses_that_are_refused(monitored: Monitored, url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ask(monitored, "set_webhook", url=url, secret=SECRET)
    assert refused.value.field == "url"
    assert send_message(url, SECRET, "{}", 0, PUBLIC).status is None


def test_a_name_that_leads_to_a_refused_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place])
    assert "link-local" in send_message("http://innocent.example/", SECRET, "{}", 0, PUBLIC).trouble


def test_an_answer_that_drips_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "TOTAL_SECONDS", 0.6)
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            for _ in range(12):
                connection.sendall(b"HTTP/1.1 "[:1])
                time.sleep(0.2)

    threading.Thread(target=drip, daemon=True).start()
    began = time.monotonic()
    outcome = send_message(f"http://127.0.0.1:{listener.getsockname()[1]}/", SECRET, "{}", 0, PUBLIC)
    assert time.monotonic() - began < 2
    assert outcome.status is None
    listener.close()


def test_an_alert_is_sent_until_it_is_taken(
    monitored: Monitored, receiver: tuple[str, type[_Receiver]]
) -> None:
    url, kind = receiver
    ask(monitored, "set_webhook", url=url, secret=SECRET)
    with monitored.database.transaction() as tx:
        raise_alert(
            tx,
            "endpoint-1",
            AlertDetails("errors", "errors", "Many fail.", "Look.", monitored.now),
            monitored.now,
        )
        raise_alert(
            tx,
            "endpoint-1",
            AlertDetails("errors", "errors", "Again.", "Look.", monitored.now),
            monitored.now,
        )
    kind.answers = [500]
    sender = WebhookSender(monitored.database, monitored.home, clock=lambda: monitored.now)
    assert sender.step() == 1  # the second alert of the same subject was none
    delivery = monitor_alerts.deliveries(monitored.database)[0]
    assert (delivery.state, delivery.attempts, delivery.status) == ("waiting", 1, 500)
    assert sender.step() == 0  # it waits
    monitored.now += RETRY_SECONDS[0]
    assert sender.step() == 1
    assert monitor_alerts.deliveries(monitored.database)[0].state == "sent"
    message = json.loads(kind.got[1][1])
    alert = monitor_alerts.open_alerts(monitored.database, "endpoint-1")[0]
    assert message["alert_id"] == alert.alert_id
    assert (message["endpoint"], message["reason"]) == ("Bank", "Many fail.")
    assert kind.got[0][1] == kind.got[1][1]


def test_a_message_that_never_arrives_is_given_up_and_shown(monitored: Monitored) -> None:
    ask(monitored, "set_webhook", url="http://127.0.0.1:9/", secret=SECRET)
    ask(monitored, "try_webhook")
    sender = WebhookSender(
        monitored.database,
        monitored.home,
        post=lambda *_: DeliveryResult(None, "No answer."),
        clock=lambda: monitored.now,
    )
    for wait in (*RETRY_SECONDS, 0.0):
        assert sender.step() == 1
        monitored.now += wait
    assert sender.step() == 0
    delivery = monitor_alerts.deliveries(monitored.database)[0]
    assert (delivery.state, delivery.attempts, delivery.trouble) == ("given_up", 6, "No answer.")


def test_a_webhook_that_was_taken_away_gets_nothing_more(monitored: Monitored) -> None:
    ask(monitored, "set_webhook", url="http://127.0.0.1:9/", secret=SECRET)
    ask(monitored, "try_webhook")
    ask(monitored, "set_webhook", url="")
    sender = WebhookSender(
        monitored.database, monitored.home, post=lambda *_: pytest.fail("sent"), clock=lambda: monitored.now
    )
    assert sender.step() == 0
    assert monitor_alerts.deliveries(monitored.database)[0].state == "given_up"
    with pytest.raises(StateError, match="No webhook"):
        ask(monitored, "try_webhook")


def test_secrets_are_long_never_read_and_an_admins_alone(monitored: Monitored) -> None:
    with pytest.raises(ConfigError) as refused:
        ask(monitored, "set_webhook", url="https://example.org/", secret="short")
    assert refused.value.field == "secret"
    ask(monitored, "set_webhook", url="https://example.org/", secret=SECRET)
    assert monitor_alerts.get_webhook_secret(monitored.database) == SECRET
    with pytest.raises(QueryError), monitored.database.stream("SELECT * FROM webhook_secret"):
        pass
    with pytest.raises(ForbiddenError):
        monitored.commands.table()["set_webhook"]({}, replace(OWNER, role="rater"))
