"""Start and stop the engine and the screens, find running ones, open a browser, and report running endpoints.

The engine is started detached, with its output in `logs/engine.log`, and outlives its command. Workers
outlive the engine, so that stopping it never costs a run: the next engine picks them up. The screens end
with their command, even if that is killed. The secret is never on a command line, which every account can
read: the browser gets a file that only this user can read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import IO

import httpx
import psutil

from store.core.errors import ConfigError, EngineSilent, EngineUnavailable, NotFoundError, StateError
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.processes import ProcessRecord, read_record, write_record
from store.http.access import (
    HostNames,
    build_screen_url,
    format_url_host,
    is_loopback,
    normalise_host,
    parse_address,
    read_secret,
)
from store.http.client import ADDRESS, TOKEN, Client
from tunebench.terminal.output import print_notice

PROJECT = Path(__file__).resolve().parents[2]
SCREENS_PORT = 8501
LOOPBACK = "127.0.0.1"
WILDCARD_ADDRESSES = {
    "0.0.0.0": LOOPBACK,
    "::": "::1",
}  # all interfaces -> address by which this machine reaches them
NO_INTERFACE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL}  # address is not of this machine


def find_running_engine(home: Home) -> Client | None:
    """Return a client of this home folder's engine, or None if none runs.

    Raises: EngineSilent if one runs and does not respond.
    """
    client = Client(home)
    try:
        client.health()
    except EngineSilent:
        raise
    except EngineUnavailable:
        return None
    return client


def forget_api_token() -> None:
    """Remove a person's API token from the environment.

    Servers of a home folder act for its owner, and neither the engine nor code run by its workers may have
    the token.
    """
    for name in (TOKEN, ADDRESS):
        os.environ.pop(name, None)


def build_engine_command(home: Home, port: int = 0, allow_host: Sequence[str] = ()) -> list[str]:
    """Return the command that serves a home folder's store on loopback; port 0 is any free one."""
    return [
        *(sys.executable, "-m", "engine", "--home", str(home.path), "--port", str(port)),
        *(f"--allow-host={name}" for name in allow_host),
    ]


def start_engine(home: Home, *, seconds: float = 60, allow_host: Sequence[str] = ()) -> Client:
    """Start an engine in the background and wait until it responds.

    Raises: StateError with the end of its log if it stops or does not respond in time, EngineUnavailable
    if the environment names another engine.
    """
    if os.environ.get(TOKEN) and (other := os.environ.get(ADDRESS)):
        raise EngineUnavailable(
            f"No engine is reachable at {other}.", fix=f"Unset {ADDRESS} to start one here."
        )
    home.create()
    log = home.logs / "engine.log"
    began = log.stat().st_size if log.exists() else 0
    with open_log(log) as output:
        process = subprocess.Popen(
            build_engine_command(home, allow_host=allow_host),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=PROJECT,
            env={name: value for name, value in os.environ.items() if name != TOKEN},
        )
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(EngineSilent):  # it is recorded shortly before it responds
                if client := find_running_engine(home):
                    return client
            if process.poll() is not None:
                break
            time.sleep(0.05)
    except KeyboardInterrupt:  # otherwise nothing would stop an engine that has not responded yet
        process.terminate()
        raise
    with open(log, "rb") as file:
        file.seek(began)
        log_lines = file.read().decode("utf-8", "replace").strip().splitlines()
    if not log_lines:  # nothing can be written on a full disk
        home.check_space()
    raise StateError(
        f"The engine did not start: {log_lines[-1] if log_lines else 'no log output'}",
        fix=f"See the log: {log}.",
    )


def open_log(path: Path) -> IO[bytes]:
    """Open the log for appending. Raises ConfigError (field TUNEBENCH_HOME) if it is not writable."""
    try:
        return open(path, "ab")
    except OSError as error:
        raise ConfigError(
            f"{path} is not writable ({error.strerror}).",
            fix="Set TUNEBENCH_HOME to a folder that you own, or move the file.",
            field="TUNEBENCH_HOME",
        ) from error


def stop_engine(home: Home, *, seconds: float = 15) -> bool:
    """Stop the engine of this home folder; return False if none was running. Runs continue.

    Raises: StateError if the record of its process is damaged.
    """
    try:
        record = read_record(home.engine_file)
    except ValueError as error:
        raise StateError(
            f"{home.engine_file} is damaged: can't determine whether an engine is running.",
            fix="Remove the file; `tunebench up` reports if another engine still uses the store.",
        ) from error
    return _end_process(record, seconds)


def stop_screens(home: Home, *, seconds: float = 15) -> bool:
    """Stop the screens of this home folder, and so their command; return False if none were running.

    Otherwise that command would restart a stopped engine at once.
    """
    try:
        return _end_process(read_record(home.screens_file), seconds)
    except ValueError as error:
        raise StateError(
            f"{home.screens_file} is damaged: can't determine whether the web interface is running.",
            fix="Remove the file; press Ctrl-C where the web interface was started to stop it.",
        ) from error


def _end_process(record: ProcessRecord | None, seconds: float) -> bool:
    """Terminate the recorded process, killing it after a timeout; return False if it had ended."""
    process = record.process() if record else None
    if process is None:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # a stopped process can't end
        try:
            process.wait(seconds)
        except psutil.TimeoutExpired:
            process.kill()
    return True


def find_free_port(wanted: int | None, interface: str = LOOPBACK) -> int:
    """Return the port for the screens: the requested one, or the first free one from the default.

    Raises: ConfigError (field port) if a requested port is in use.
    """
    for port in [wanted] if wanted else range(SCREENS_PORT, SCREENS_PORT + 100):
        try:
            if _is_free(port, interface):
                return port
        except OSError as error:
            raise build_interface_error(interface) from error
    raise ConfigError(
        f"Port {wanted or SCREENS_PORT} is in use by another program.",
        fix="Choose another port with --port.",
        field="port",
    )


def _is_free(port: int, interface: str) -> bool:
    """Whether the port is free. Raises OSError if the address is not of this machine."""
    with socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.family == socket.AF_INET6:  # as for the screens: on all interfaces this includes IPv4
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind((interface, port))
        except OSError as error:
            if error.errno in NO_INTERFACE:
                raise
            return False
    return True


def build_interface_error(host: str) -> ConfigError:
    """Return the error for a `--host` that is no interface of this machine."""
    return ConfigError(
        f"--host {host!r} is not an interface of this machine.",
        fix="Give an address or host name of this machine, or 0.0.0.0 or :: for all interfaces.",
        field="host",
    )


@dataclass(frozen=True)
class ScreensOptions:
    """How the screens are served: address, accepted host names, trusted proxies."""

    port: int
    host: str = LOOPBACK
    allow_host: Sequence[str] = ()
    trusted_proxy: Sequence[str] = ()

    def check(self) -> None:
        """Raise ConfigError for invalid names or addresses."""
        HostNames(self.names)
        for address in self.trusted_proxy:
            if parse_address(address) is None:
                raise ConfigError(
                    f"--trusted-proxy {address!r} is not an IP address.",
                    fix="Give an address such as 192.0.2.7 or 2001:db8::7.",
                    field="trusted_proxy",
                )

    @cached_property
    def interface(self) -> str:
        """Return the address to listen on: `host`, or what that name resolves to at first.

        Raises: ConfigError if it can't be resolved.
        """
        if address := parse_address(self.host):
            return str(address)
        try:
            results = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise build_interface_error(self.host) from error
        return str(results[0][4][0])

    @property
    def address(self) -> str:
        """Return the address for a browser on this machine."""
        there = WILDCARD_ADDRESSES.get(self.interface) or normalise_host(self.host)
        return f"http://{format_url_host(there)}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach them."""
        return not is_loopback(self.interface)

    def command(self) -> list[str]:
        """Return the command that serves them until its standard input ends."""
        return [
            *(sys.executable, "-m", "pages", "--with-parent"),
            *(f"--port={self.port}", f"--host={self.interface}"),
            *(f"--allow-host={name}" for name in self.names),
            *(f"--trusted-proxy={address}" for address in self.trusted_proxy),
        ]

    @property
    def names(self) -> list[str]:
        """Return accepted names besides loopback: the allowed ones, and the interface's own."""
        own = [] if self.interface in WILDCARD_ADDRESSES else [normalise_host(self.host), self.interface]
        return [*self.allow_host, *(name for name in dict.fromkeys(own) if not is_loopback(name))]


def find_screens_address(home: Home, path: str = "/") -> str:
    """Return the address of a page of this home folder's running screens, with its secret.

    Raises: NotFoundError if none are running.
    """
    record = read_record(home.screens_file)
    if record is None or record.process() is None:
        raise NotFoundError(
            f"The web interface is not running for {home.path}.",
            fix="Start it with the command: tunebench up",
        )
    return build_screen_url(record.address, read_secret(home.screens_secret), path)


def keep_engine(home: Home, allow_host: Sequence[str] = ()) -> bool:
    """Restart the engine if its process has ended; return whether it had. Runs continued meanwhile."""
    record = read_record(home.engine_file)
    if record and record.process():
        return False
    start_engine(home, allow_host=allow_host)
    return True


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def run_screens(home: Home, served: ScreensOptions) -> Iterator[subprocess.Popen[bytes]]:
    """Run the screens as a process that ends with the block, and with this process however it ends.

    Termination signals raise KeyboardInterrupt in the block.
    """
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # closing the terminal ends the screens too
        signal.signal(ending, _raise_interrupt)
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path)}
    read_secret(home.screens_secret)  # created here, so that both processes have the same
    with open_log(home.logs / "screens.log") as log:
        process = subprocess.Popen(
            served.command(),
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.PIPE,  # ends when this process does
            start_new_session=True,  # Ctrl-C reaches only this process, which then ends the screens
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        record = read_record(home.screens_file)
        if record and record.pid == process.pid:
            home.screens_file.unlink(missing_ok=True)


def serve_screens(
    home: Home,
    process: subprocess.Popen[bytes],
    served: ScreensOptions,
    ready: Callable[[str], None],
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Wait until the screens end, or Ctrl-C; return their exit code.

    `ready(entrance)` is called once the page responds, with or without an engine; `watch()` about once a
    second from then on.
    """
    whole = build_screen_url(served.address, read_secret(home.screens_secret))
    try:
        while process.poll() is None:
            try:
                # trust_env off: proxies in the environment don't apply to loopback
                answer = httpx.get(
                    whole,
                    headers={"Accept": "text/html"},
                    timeout=1,
                    trust_env=False,
                    follow_redirects=True,
                )
                if answer.status_code in (200, 503):
                    write_record(home.screens_file, served.address, process.pid)
                    ready(whole)
                    break
                time.sleep(0.05)
            except httpx.HTTPError:
                time.sleep(0.05)
        while process.poll() is None:
            time.sleep(1)
            if process.poll() is None:  # otherwise the engine was stopped with them
                watch()
        return 0 if process.returncode == -signal.SIGTERM else process.returncode
    except KeyboardInterrupt:
        return 0


def list_running_endpoints(home: Home) -> list[str]:
    """Return the names of endpoints whose gateway is running, whether an engine runs or not."""
    names = []
    for folder in home.endpoints.glob("*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # partially written or deleted
            record = read_record(folder / "gateway.json")
            if record and record.process():
                names.append(str(read_json(folder / "config.json")["name"]))
    return sorted(names)


def report_running_endpoints(home: Home) -> None:
    """Report running endpoints after the engine was stopped."""
    names = list_running_endpoints(home)
    if names:
        subject = f"The endpoint {names[0]} goes" if len(names) == 1 else f"{', '.join(names)} go"
        print_notice(f"{subject} on answering; stop with: tunebench endpoint stop NAME")


_REMOTE = ("SSH_CONNECTION", "SSH_TTY", "CI")
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def open_browser(home: Home, entrance: str) -> bool:
    """Open the screens in a browser; return False if this machine has no display."""
    if not _has_display():
        return False
    if _is_confined():  # it already has the cookie, or shows where to find the secret
        return webbrowser.open(entrance.partition("?")[0])
    return webbrowser.open(_write_redirect_page(home, entrance).as_uri())


def _has_display() -> bool:
    """Whether the command was run in a terminal of a machine with a display."""
    if not sys.stdout.isatty() or any(os.environ.get(name) for name in _REMOTE):
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in _DISPLAYS)


def _is_confined() -> bool:
    """Whether browsers are snaps, which can't open files in hidden folders."""
    return any(Path("/snap/bin", name).exists() for name in ("firefox", "chromium"))


def _write_redirect_page(home: Home, entrance: str) -> Path:
    path = home.path / "open.html"
    path.unlink(missing_ok=True)
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(entrance)}">'
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    return path
