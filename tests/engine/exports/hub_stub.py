"""The hub's own endpoints as far as a push and a download need them, on loopback; what came is kept."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "t" * 30


class HubStub:
    """One hub. repositories: whether each is private. files: what was committed, of all. commits: of
    each repository its files at each commit, the last one is its main. fail: HTTP status by the beginning
    of a path; 0 breaks the connection in the middle of what is sent."""

    def __init__(self) -> None:
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail: dict[str, int] = {}
        self.address = ""

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and document of a request."""
        document = json.loads(body) if body.startswith(b"{") and "/commit/" not in path else {}
        if path == "/api/whoami-v2":
            return 200, {"name": "ada", "type": "user", "auth": {"type": "access_token"}}
        if path == "/api/repos/create":
            return self._create(document)
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            modes = ["lfs" if file["size"] > 10_000 else "regular" for file in document["files"]]
            files = [
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
                for file, mode in zip(document["files"], modes, strict=True)
            ]
            return 200, {"files": files}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.address}/store/{each['oid']}"}}}
                for each in document["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        if path.startswith("/store/"):
            self.stored[path.removeprefix("/store/")] = body
            return 200, {}
        if "/commit/" in path:
            return self._commit(path, body)
        if path.startswith("/api/models/") and "/tree/" in path:
            return self._tree(path.removeprefix("/api/models/"))
        if path.startswith("/api/models/"):
            return self._info(path.removeprefix("/api/models/"))
        return 404, {"error": path}

    def publish(self, name: str, files: dict[str, bytes]) -> str:
        """A commit of a repository with these files alone; its id."""
        self.repositories.setdefault(name, True)
        commits = self.commits.setdefault(name, {})
        commit = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[commit] = files
        return commit

    def file(self, path: str) -> tuple[str, bytes] | None:
        """Commit and bytes of OWNER/NAME/resolve/REVISION/FILE; None where there is none."""
        name, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        commit = self._commit_of(name, revision)
        content = self.commits[name][commit].get(file) if commit else None
        return None if commit is None or content is None else (commit, content)

    def _commit_of(self, name: str, revision: str) -> str | None:
        commits = self.commits.get(name, {})
        if revision in commits:
            return revision
        return list(commits)[-1] if commits and revision == "main" else None

    def _tree(self, path: str) -> tuple[int, Any]:
        name, _, rest = path.partition("/tree/")
        revision, _, folder = rest.partition("/")
        commit = self._commit_of(name, revision)
        files = self.commits[name][commit] if commit else {}
        inside = [file for file in files if not folder or file.startswith(f"{folder}/")]
        if not inside:
            return 404, {"error": "Entry not found"}
        return 200, [{"type": "file", "path": p, "size": len(files[p]), "oid": "0" * 40} for p in inside]

    def _create(self, document: dict[str, Any]) -> tuple[int, Any]:
        name = "/".join(part for part in (document.get("organization"), document["name"]) if part)
        name = name if "/" in name else f"ada/{name}"
        url = {"url": f"{self.address}/{name}"}
        if name in self.repositories:
            return 409, url | {"error": "You already created this model repo"}
        self.repositories[name] = bool(document.get("private") or document.get("visibility") == "private")
        return 200, url

    def _info(self, name: str) -> tuple[int, Any]:
        name, _, revision = name.partition("/revision/")
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        commit = self._commit_of(name, revision or "main")
        siblings = [{"rfilename": file} for file in self.commits[name][commit]] if commit else []
        document = {"id": name, "private": self.repositories[name], "siblings": siblings}
        return 200, document | {"sha": commit or "0" * 40}

    def _commit(self, path: str, body: bytes) -> tuple[int, Any]:
        came: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                came[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.stored[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                came[value["path"]] = content
        self.files |= came
        name = path.removeprefix("/api/models/").split("/commit/")[0]
        before = list(self.commits.get(name, {}).values())[-1:]
        commit = self.publish(name, {**(before[0] if before else {}), **came})
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{commit}", "commitOid": commit}


@contextmanager
def running() -> Iterator[HubStub]:
    """A hub that answers until the end of the block."""
    hub = HubStub()

    class HubAnswers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            path = self.path.split("?")[0]
            hub.requests.append((self.command, path))
            status = next((code for begin, code in hub.fail.items() if path.startswith(begin)), None)
            if status == 0:
                self.rfile.read(1_000)
                self.connection.close()
                return
            body = self._body()
            authorised = path.startswith("/store/") or self.headers["Authorization"] == f"Bearer {TOKEN}"
            if status is None and not authorised:
                status = 401
            if status is None and "/resolve/" in path:
                self._send_file(hub.file(path))
                return
            code, document = (status, {"error": "no"}) if status else hub.answer(path, body)
            content = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            if code == 404:
                self.send_header("X-Error-Code", "EntryNotFound" if "/tree/" in path else "RepoNotFound")
            self.end_headers()
            self.wfile.write(content)

        def _send_file(self, there: tuple[str, bytes] | None) -> None:
            commit, content = there or ("", b"")
            self.send_response(200 if there else 404)
            self.send_header("Content-Length", str(len(content)))
            if there:
                self.send_header("X-Repo-Commit", commit)
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        do_GET = do_HEAD = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), HubAnswers)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
