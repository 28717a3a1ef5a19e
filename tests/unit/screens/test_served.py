"""Where the screens listen: addresses of both kinds and names, and whose forwarded headers count."""

from __future__ import annotations

import socket

import pytest
from streamlit.web.server.starlette import starlette_server

from pages.__main__ import expand_trusted_proxies, send_answers_at_once
from store.core.errors import ConfigError
from tests.loopback import has_ipv6_loopback
from tunebench.terminal import processes
from tunebench.terminal.processes import ScreensOptions


@pytest.mark.parametrize(
    ("host", "interface", "address", "is_open", "names"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:8501", False, []),
        ("0.0.0.0", "0.0.0.0", "http://127.0.0.1:8501", True, []),
        ("::1", "::1", "http://[::1]:8501", False, []),
        ("[::1]", "::1", "http://[::1]:8501", False, []),
        ("::", "::", "http://[::1]:8501", True, []),
        ("::ffff:127.0.0.1", "127.0.0.1", "http://127.0.0.1:8501", False, []),
        ("::ffff:192.0.2.7", "192.0.2.7", "http://192.0.2.7:8501", True, ["192.0.2.7"]),
        ("2001:DB8::7", "2001:db8::7", "http://[2001:db8::7]:8501", True, ["2001:db8::7"]),
        ("lab", "2001:db8::7", "http://lab:8501", True, ["lab", "2001:db8::7"]),
        ("localhost", "127.0.0.1", "http://localhost:8501", False, []),
    ],
)
def test_screens_listen_on_addresses_of_both_kinds_and_on_names(
    monkeypatch: pytest.MonkeyPatch, host: str, interface: str, address: str, is_open: bool, names: list[str]
) -> None:
    addresses = {"lab": "2001:db8::7", "localhost": "127.0.0.1"}
    monkeypatch.setattr(
        processes.socket, "getaddrinfo", lambda name, *_, **__: [(None, None, None, "", (addresses[name], 0))]
    )
    served = ScreensOptions(8501, host, ["lab.example.org"], ["::1", "192.0.2.1"])
    served.check()
    assert (served.interface, served.address, served.is_open) == (interface, address, is_open)
    assert served.names == ["lab.example.org", *names]
    assert f"--host={interface}" in served.command()


def test_a_port_is_free_or_taken_on_both_kinds_of_address() -> None:
    for interface in ("127.0.0.1", "::1"):
        if ":" in interface and not has_ipv6_loopback():
            continue
        kind = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.create_server((interface, 0), family=kind) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=f"Port {port} is in use"):
                processes.find_free_port(port, interface)
    for nowhere in ("192.0.2.7", "2001:db8::7"):
        with pytest.raises(ConfigError, match="not an interface of this machine"):
            processes.find_free_port(None, nowhere)


def test_a_proxy_is_trusted_however_a_socket_tells_its_address() -> None:
    assert expand_trusted_proxies(["127.0.0.1", "::1", "::ffff:192.0.2.1"]) == [
        "127.0.0.1", "::1", "192.0.2.1", "::ffff:127.0.0.1", "::ffff:192.0.2.1"
    ]  # fmt: skip
    assert expand_trusted_proxies([]) == []


def test_no_connection_holds_the_end_of_an_answer_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        starlette_server, "_bind_socket", starlette_server._bind_socket
    )  # put back afterwards
    send_answers_at_once()
    with starlette_server._bind_socket("127.0.0.1", 0, 1) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
