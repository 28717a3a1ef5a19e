"""The policy of addresses that people choose, and the clients that connect by it."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from store.core.address_policy import PUBLIC, AddressPolicy
from store.core.addresses import explain_blocked_host, parse_network
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.job_folder import write_json
from store.http.outgoing import create_checked_async_client, create_checked_client

LAB = "lab.example"


def at(*answers: list[str]) -> Callable[[str, int], list[str]]:
    """A resolver that says one after another, and the last for good."""
    left = [*answers]
    return lambda host, port: left.pop(0) if len(left) > 1 else left[0]


def policy(*answers: list[str], networks: tuple[str, ...] = (), home: Home | None = None) -> AddressPolicy:
    return AddressPolicy(tuple(map(parse_network, networks)), home, at(*answers))


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("64:ff9b:1::a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::1", "no address of a machine"),
        ("2001:0:a9fe:a9fe::1", "no address of a machine"),
        ("::169.254.169.254", "no address of a machine"),
        ("0.0.0.0", "no address of a machine"),
        ("0.1.2.3", "no address of a machine"),
        ("::", "no address of a machine"),
        ("224.0.0.1", "no address of a machine"),
        ("ff02::1", "no address of a machine"),
        ("255.255.255.255", "no address of a machine"),
        ("fd00:ec2::254", "secrets"),
        ("fd20:ce::254", "secrets"),
        ("100.100.100.200", "secrets"),
        ("168.63.129.16", "secrets"),
    ],
)
def test_places_that_nobody_reaches(place: str, why: str) -> None:
    everything = ("0.0.0.0/0", "::/0")
    for host in (place, LAB):
        with pytest.raises(ConfigError, match=why):
            policy([place], networks=everything).places(host, 443)
    with pytest.raises(ConfigError, match=why):
        policy(["8.8.8.8", place], networks=everything).places(LAB, 443)


@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal", "metadata.google.internal.", "metadata", "instance-data", "2130706433",
        "0x7f000001", "0177.0.0.1", "127.1", "10.1", "0xa9.254.169.254", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_names_and_spellings_that_nobody_reaches(host: str) -> None:
    assert explain_blocked_host(host)
    with pytest.raises(ConfigError):
        policy(["8.8.8.8"]).places(host, 80)


@pytest.mark.parametrize(
    "place",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "fec0::1", "198.18.0.1",
        "::ffff:10.1.2.3", "64:ff9b::10.1.2.3",
    ],
)  # fmt: skip
def test_private_ones_are_refused_until_they_are_allowed(place: str) -> None:
    with pytest.raises(ConfigError, match="private network") as refused:
        policy([place]).places(LAB, 443)
    assert f"{LAB} is at {place}, which is an address of a private network" in refused.value.message
    command, _, address = refused.value.fix.rpartition(" ")
    assert command.endswith("tunebench team allow-network")
    assert policy([place], networks=(address,)).places(LAB, 443) == [place]
    with pytest.raises(ConfigError):
        policy([place], networks=("10.200.0.0/16", "fd99::/16")).places(LAB, 443)


def test_public_ones_and_loopback_by_its_own_name_are_reached() -> None:
    for place in ("93.184.216.34", "2606:4700::1111", "64:ff9b::8.8.8.8"):
        assert policy([place]).places(LAB, 443) == [place]
    assert policy(["127.0.0.1", "::1"]).places("localhost", 8000) == ["127.0.0.1", "::1"]
    assert policy(["127.0.0.1"]).places("127.0.0.1", 8000) == ["127.0.0.1"]
    with pytest.raises(ConfigError, match="this machine itself"):
        policy(["127.0.0.1"]).places(LAB, 8000)


def test_what_the_text_tells_is_refused_without_a_look_up() -> None:
    def fail(host: str, port: int) -> list[str]:
        pytest.fail("looked up")

    never = AddressPolicy((), None, fail)
    for url in ("https://10.1.2.3/v1", "http://[::ffff:a9fe:a9fe]/", "https://METADATA.google.internal./"):
        with pytest.raises(ConfigError) as refused:
            never.check(url, "base_url")
        assert refused.value.field == "base_url"
    never.check("https://lab.example/v1", "base_url")


def test_the_ports_of_tunebench_itself_are_not_reached(home: Home) -> None:
    here = socket.gethostbyname(socket.gethostname())
    for file, port in ((home.engine_file, 4100), (home.screens_file, 4200)):
        write_json(file, {"address": f"http://127.0.0.1:{port}", "pid": 1})
        for host in ("127.0.0.1", "127.0.0.2", "localhost", "::1", here):
            with pytest.raises(ConfigError, match="Tunebench itself"):
                policy(
                    ["127.0.0.1" if host == "localhost" else host], networks=("0.0.0.0/0",), home=home
                ).places(host, port)
        with pytest.raises(ConfigError, match="Tunebench itself"):
            AddressPolicy((), home).check(f"http://localhost:{port}/v1", "base_url")
    assert policy(["127.0.0.1"], home=home).places("127.0.0.1", 4300)
    assert policy(["93.184.216.34"], home=home).places(LAB, 4100), "another machine's"


# -- connecting -------------------------------------------------------------------------------------


class _Answer(BaseHTTPRequestHandler):
    hosts: list[str]

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        moved = self.path == "/moved"
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[tuple[int, type[_Answer]]]:
    kind = type("Answer", (_Answer,), {"hosts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port, kind
    server.shutdown()
    server.server_close()


def get(url: str, by: AddressPolicy, path: str = "") -> httpx.Response:
    """The same answer from both kinds of client."""

    async def asked() -> httpx.Response:
        async with create_checked_async_client(url, by, 5.0, 2) as client:
            return await client.get(url + path)

    with create_checked_client(url, by, 5.0) as client:
        answer = client.get(url + path)
    other = asyncio.run(asked())
    assert (other.status_code, other.text) == (answer.status_code, answer.text)
    return answer


def test_the_address_that_was_checked_is_asked_in_the_servers_name(
    server: tuple[int, type[_Answer]],
) -> None:
    port, kind = server
    allowed = policy(["127.0.0.9", "127.0.0.1"], networks=("127.0.0.0/8",))  # nobody is at the first
    assert get(f"http://{LAB}:{port}", allowed).text == "ok"
    assert kind.hosts == [f"{LAB}:{port}"] * 2
    with pytest.raises(ConfigError, match="this machine itself"):
        get(f"http://{LAB}:{port}", policy(["127.0.0.1"]))
    assert len(kind.hosts) == 2


def test_a_second_look_up_leads_nowhere_else(server: tuple[int, type[_Answer]]) -> None:
    port, kind = server
    url = f"http://{LAB}:{port}"
    turning = policy(["127.0.0.1"], ["169.254.169.254"], networks=("127.0.0.0/8",))
    with create_checked_client(url, turning, 5.0) as client:
        assert client.get(url).text == "ok"
        with pytest.raises(ConfigError, match="link-local"):
            client.get(url)
    assert len(kind.hosts) == 1


def test_no_redirect_is_followed_and_no_other_server_asked(
    server: tuple[int, type[_Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, kind = server
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    url = f"http://127.0.0.1:{port}"
    assert get(url, PUBLIC, "/moved").status_code == 302
    assert len(kind.hosts) == 2
    with (
        create_checked_client(url, PUBLIC, 5.0) as client,
        pytest.raises(ConfigError, match="was to be asked"),
    ):
        client.get(f"http://127.0.0.2:{port}")


def test_a_name_that_is_none_is_no_connection() -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    with pytest.raises(httpx.ConnectError, match="no such name"):
        get("http://lab.example", AddressPolicy((), None, nobody))


def test_the_certificate_has_to_be_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certified(tmp_path, LAB)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    kind = type("Answer", (_Answer,), {"hosts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    allowed = policy(["127.0.0.1"], networks=("127.0.0.0/8",))
    try:
        assert get(f"https://{LAB}:{server.server_port}", allowed).text == "ok"
        with pytest.raises(httpx.ConnectError, match="certificate"):
            get(f"https://other.example:{server.server_port}", allowed)
    finally:
        server.shutdown()
        server.server_close()


def certified(folder: Path, name: str) -> Path:
    """A file with a key and a certificate of its own for a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
