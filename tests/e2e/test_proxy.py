"""The proxies of docs/team.md before real screens, each as the page shows it but for its ports.

Run where caddy and nginx are installed: nothing else here needs them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from store.http.client import Client
from tests.e2e.started_app import BROWSER_ARGS, pick_port, wait_until
from tests.e2e.team_app import PASSWORD, TeamApp, accept, invite

pytestmark = pytest.mark.timeout(300)
DOC = Path(__file__).resolve().parents[2] / "docs" / "team.md"
NAME = "lab.example.org"
FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}


def example(beginning: str) -> str:
    """The block of the page that begins so."""
    page = DOC.read_text(encoding="utf-8")
    block = re.search(rf"^```\w*\n({re.escape(beginning)}.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert block
    return block[1]


def caddy(folder: Path, port: int, screens: str) -> list[str]:
    """The command of caddy, with a certificate of its own making."""
    site = example(f"{NAME} {{").replace(NAME, f"{NAME}:{port}").replace("127.0.0.1:8501", screens)
    options = "{\nlocal_certs\nskip_install_trust\nadmin off\nauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + site)
    return ["caddy", "run", "--config", str(folder / "Caddyfile")]


def nginx(folder: Path, port: int, screens: str) -> list[str]:
    """The command of nginx, with a certificate that is signed by itself."""
    certificate = ["-keyout", str(folder / f"{NAME}.key"), "-out", str(folder / f"{NAME}.pem")]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}"]
    subprocess.run([*making, *certificate], check=True, capture_output=True)
    site = (
        example("map $http_upgrade")
        .replace("listen 443", f"listen {port}")
        .replace("127.0.0.1:8501", screens)
    )
    site = site.replace("/etc/ssl/", f"{folder}/")
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    kept = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in temporary)
    around = f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{around}http {{\naccess_log off;\n{kept}{site}}}\n")
    return ["nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]


class Proxied:
    """Screens behind a proxy; `address` is theirs, as browsers know it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.app = TeamApp(folder / "home", ["--allow-host", NAME, "--trusted-proxy", "127.0.0.1"])
        self.port = pick_port()
        self.address = f"https://{NAME}:{self.port}"
        command = {"caddy": caddy, "nginx": nginx}[kind](
            folder, self.port, self.app.address.removeprefix("http://")
        )
        own = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        with open(folder / "proxy.log", "wb") as log:
            self._process = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log)
        wait_until(self._answers, 30, f"{kind} answers")

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/sign-in").status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, method: str, path: str, *, source: str = "127.0.0.1", **request: Any) -> httpx.Response:
        """Through the proxy, from an address of this machine."""
        transport = httpx.HTTPTransport(local_address=source, verify=False)
        with httpx.Client(transport=transport, timeout=30) as http:
            headers = {"Host": f"{NAME}:{self.port}", "Origin": self.address} | request.pop("headers", {})
            named = {"sni_hostname": NAME}
            url = f"https://127.0.0.1:{self.port}{path}"
            return http.request(method, url, headers=headers, extensions=named, **request)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self.app.stop()


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    started = Proxied(tmp_path_factory.mktemp(request.param), request.param)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def admin(proxied: Proxied, browser: Browser) -> Iterator[Page]:
    """The first admin's browser, for which our name is this machine."""
    mapped = browser.browser_type.launch(
        executable_path=shutil.which("chromium"),
        args=[*BROWSER_ARGS, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"],
    )
    page = mapped.new_context(ignore_https_errors=True, viewport={"width": 1440, "height": 900}).new_page()
    accept(page, proxied.app.link.replace(proxied.app.address, proxied.address), "Ada", "ada@example.org")
    yield page
    mapped.close()


def test_pages_live_connection_links_and_cookies(proxied: Proxied, admin: Page) -> None:
    with admin.expect_websocket() as live:
        admin.reload()
    assert live.value.url == f"wss://{NAME}:{proxied.port}/_stcore/stream"
    expect(admin.get_by_role("heading", name="Overview")).to_be_visible()
    assert invite(admin, "rater", "rita@example.org").startswith(f"https://{NAME}")
    cookies = admin.context.cookies()
    assert cookies
    assert {cookie["secure"] for cookie in cookies} == {True}


def test_a_file_beyond_what_proxies_take_unasked(proxied: Proxied, admin: Page, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{n} + 1? " + "so " * 2000, "completion": f"It is {n + 1}."} for n in range(500)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert file.stat().st_size > 2**21
    admin.get_by_role("link", name="Data sets").click()
    admin.get_by_role("button", name="Import a data set").click()
    admin.locator("input[type=file]").set_input_files(file)
    expect(admin.get_by_text("Import preview")).to_be_visible()
    assert file.stat().st_size in [sent.stat().st_size for sent in (proxied.app.home / "uploads").iterdir()]


def test_the_address_is_the_visitors_whatever_they_claim(proxied: Proxied, admin: Page) -> None:
    form = {"email": "ada@example.org", "password": PASSWORD}
    through = {"headers": FORGED | {"User-Agent": "through"}, "data": form}
    assert "Secure" in proxied.ask("POST", "/sign-in", source="127.0.0.8", **through).headers["set-cookie"]
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(transport=transport, base_url=proxied.app.address, timeout=30) as past_the_proxy:
        own = FORGED | {"User-Agent": "past", "Origin": proxied.app.address}
        answer = past_the_proxy.post("/sign-in", data=form, headers=own)
    assert "Secure" not in answer.headers["set-cookie"]
    sessions = Client(proxied.app.client.home).team().sessions
    addresses = {session.agent: session.address for session in sessions}
    assert (addresses["through"], addresses["past"]) == ("127.0.0.8", "127.0.0.9")
