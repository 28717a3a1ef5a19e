"""Endpoint folders: the files that the engine writes and those that gateways write.

Settings are turned into a gateway config: subjects become files, and adapters of one base share a backend.
Invariant: a gateway depends on its folder only, and keeps running without the engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from store.core.documents import as_json, parse_optional_document
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.core.model_schemas import ModelNote
from store.core.processes import ProcessRecord, read_record
from store.core.version_folders import is_reference
from store.db.database import Queryable
from store.http.access import is_loopback
from store.people import settings
from store.registry import model_versions
from store.runs import runs
from store.serving import endpoints
from store.serving.config import EndpointSettings, RouteChoice
from store.serving.schemas import (
    BackendContent,
    Capabilities,
    EndpointConfig,
    EndpointLimits,
    EndpointLog,
    EndpointRoute,
    EndpointRow,
    EndpointState,
    LabelSettings,
    RequestLine,
    ServedAdapter,
    ServedBackend,
    ServedModel,
)

TAIL_BYTES = 256 * 1024
_keys_lock = threading.Lock()


class EndpointFolder:
    """Paths and documents of one endpoint (docs/serving.md)."""

    def __init__(self, home: Home, endpoint_id: str) -> None:
        self.path = home.endpoints / endpoint_id

    def create(self) -> None:
        """Create the folder, readable by this user only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get_process(self) -> ProcessRecord | None:
        """Return the gateway's process, if it is running."""
        try:
            record = read_record(self.path / "gateway.json")
        except (OSError, ValueError):
            return None
        return record if record and record.process() else None

    def write_document(self, name: str, document: Any) -> bool:
        """Write a document if it differs from the current one; return whether it did."""
        path = self.path / name
        if _read(path) == json.loads(json.dumps(document, default=as_json)):
            return False
        self.create()
        write_json(path, document)
        os.chmod(path, 0o600)
        return True

    def read_config(self) -> EndpointConfig | None:
        """Return the gateway's config; None if none was written yet."""
        config = parse_optional_document(EndpointConfig, _read(self.path / "config.json"))
        return config

    def read_state(self) -> EndpointState | None:
        """Return the gateway's current or last state."""
        state = parse_optional_document(EndpointState, _read(self.path / "state.json"))
        return state

    def read_failure(self) -> Any:
        """Return why a gateway couldn't start: {"at", "error"}."""
        return _read(self.path / "failed.json")

    def list_last_requests(self, count: int) -> list[RequestLine]:
        """Return the newest log lines, newest first, as far as they are in the tail of the newest file."""
        files = sorted((self.path / "log").glob("requests-*.jsonl"))
        if not files:
            return []
        with open(files[-1], "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
        complete = lines[1 if size > TAIL_BYTES else 0 : -1]
        return [json.loads(line) for line in reversed(complete[-count:])]

    def read_log_tail(self) -> str:
        """Return the last line of the gateway's output."""
        try:
            text = (self.path / "gateway.log").read_bytes()[-4000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return text.splitlines()[-1][:300] if text else ""


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def check_not_served(db: Queryable, home: Home, folder: Path, description: str) -> None:
    """Raise StateError, naming the endpoint, if an endpoint that should be running uses files in a folder."""
    for row in endpoints.listed(db):
        config = EndpointFolder(home, row.endpoint_id).read_config()
        if row.wanted != "running" or config is None:
            continue
        for backend in config.backends:
            paths = [backend.model, *(adapter.folder for adapter in backend.adapters)]
            if any(Path(path).is_absolute() and Path(path).is_relative_to(folder) for path in paths):
                raise StateError(
                    f"The endpoint {row.name} serves {description}.",
                    fix=f"Stop it first with: tunebench endpoint stop {shlex.quote(row.name)}",
                )


def sync_keys(database: Queryable, folder: EndpointFolder) -> None:
    """Write the store's current keys for the gateway.

    Commands and the supervisor do so under a lock: otherwise one that read the keys before a key was created
    or revoked could write them afterwards.
    """
    with _keys_lock:
        keys = endpoints.list_gateway_keys(database, folder.path.name)
        folder.write_document("keys.json", {"keys": keys})


WILDCARD_HOSTS = ("0.0.0.0", "::")
SHARED_METHODS = ("lora", "dora", "rslora", "pissa", "qlora")  # methods whose adapters can share one base


@dataclass(frozen=True)
class ServedSubject:
    """A resolved subject: its version name, its weights, and its adapter if it has one."""

    version: str
    engine: Literal["worker", "llama.cpp", "remote"]
    model: str
    adapter: str | None = None
    shared: bool = False  # its base may have other adapters too
    choice: RouteChoice | None = None  # if the subject is an address


def resolve_subject(db: Queryable, home: Home, route: RouteChoice) -> ServedSubject:
    """Resolve a route's subject. Raises NotFoundError, StateError and ConfigError that name it."""
    subject = route.subject
    if route.is_address:
        assert route.remote
        settings.get_address_policy(db, home).check(subject, "subject")
        return ServedSubject(f"{route.remote.model} at {subject}", "remote", route.remote.model, choice=route)
    if is_reference(subject):
        version = model_versions.get_version(db, subject)
        folder = home.path / version.folder
        base = version.base_model if version.adapter else None
        return _resolve_folder(f"{version.name}@{version.version}", folder, home, base)
    local = home.models / subject
    if local.is_dir() and Path(subject).name == subject:
        is_gguf = not (local / "config.json").exists() and any(local.glob("*.gguf"))
        return (
            _resolve_folder(subject, local, home, None)
            if is_gguf
            else ServedSubject(subject, "worker", subject)
        )
    path = Path(subject).expanduser()
    if path.is_absolute() and path.exists():
        return _resolve_folder(path.name, path, home, None)
    return _resolve_run(db, home, subject)


def _resolve_run(db: Queryable, home: Home, name: str) -> ServedSubject:
    try:
        run = runs.get_only_run(db, name)
    except NotFoundError as error:
        raise NotFoundError(
            f"There is no run, model, registered version or file {name!r} to serve.",
            fix="Give a run's name, a model of the home folder, NAME@production, a path, or https://HOST/v1.",
        ) from error
    folder = JobDir(home.jobs / run.run_id)
    if not (folder.model / "tunebench.json").exists():
        raise StateError(
            f"{run.name} is {run.status} and has left no model.", fix="Serve a run that has finished."
        )
    return _resolve_folder(run.name, folder.model, home, None)


def _resolve_folder(version: str, path: Path, home: Home, base: str | None) -> ServedSubject:
    """Resolve a GGUF file, a folder with one, an adapter, or full weights."""
    if not path.exists():
        raise StateError(
            f"The files of {version} no longer exist: {path}.",
            fix="Serve another version, or register it again.",
        )
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if files and files[0].suffix == ".gguf":
        if len(files) > 1:
            raise ConfigError(
                f"{path} has {len(files)} GGUF files.", fix=f"Name one, such as {files[0]}.", field="subject"
            )
        return ServedSubject(version, "llama.cpp", str(files[0]))
    if path.is_file():
        raise ConfigError(f"{path} is neither a folder nor a GGUF file.", field="subject")
    if not (path / "adapter_config.json").exists():
        return ServedSubject(version, "worker", str(path))
    note: ModelNote | None = read_json(path / "tunebench.json")
    if note and note.get("own_base"):
        own_base = path / "base"  # for a registered version; a run's base is beside its model
        base = str(own_base if own_base.is_dir() else path.parent / "base")
    base = base or (note["base_model"] if note else None)
    base = base or read_json(path / "adapter_config.json").get("base_model_name_or_path")
    if not base:
        raise ConfigError(
            f"The adapter {path} does not name its base model.",
            fix="Write base_model_name_or_path into its adapter_config.json.",
            field="subject",
        )
    classifier = bool(note and "labels" in note)
    shared = not classifier and bool(note and note["method"] in SHARED_METHODS and not note["held"])
    return ServedSubject(version, "worker", base, str(path), shared)


class _Backends:
    """The backends that the routes need, with adapters of one base in the same backend."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._drafts: dict[str, BackendContent] = {}

    def assign(self, subject: ServedSubject) -> tuple[str, str]:
        """Return the key of the draft that serves a subject, and the model name to request from it."""
        shares = subject.adapter is None or subject.shared
        identity: list[Any] = [subject.engine, subject.model, None if shares else subject.adapter]
        if subject.choice:
            identity += [
                subject.choice.subject,
                subject.choice.remote.model_dump() if subject.choice.remote else 0,
            ]
        key = json.dumps(identity, sort_keys=True)
        draft = self._drafts.setdefault(key, self._create_draft(subject))
        if subject.engine == "remote":
            return key, subject.model
        if subject.adapter is None:
            if subject.version not in draft.names:
                draft.names.append(subject.version)
            return key, subject.version
        for adapter in draft.adapters:
            if adapter.folder == subject.adapter:
                return key, adapter.name
        draft.adapters.append(ServedAdapter(name=subject.version, folder=subject.adapter))
        return key, subject.version

    def _create_draft(self, subject: ServedSubject) -> BackendContent:
        settings, choice = self._settings, subject.choice
        remote = choice.remote if choice else None
        labels = LabelSettings(temperature=settings.temperature, threshold=settings.threshold)
        return BackendContent(
            engine=subject.engine, model=subject.model, adapters=[], names=[],
            dtype=settings.dtype, threads=settings.threads, max_streams=settings.max_streams,
            max_tokens=settings.tokens_in_memory, most_answer=settings.limits.max_tokens,
            context=settings.context,
            labels=labels if subject.engine == "worker" else None,  # no other engine supports labels
            url=choice.subject if choice else None,
            key_env=(remote.key_env or None) if remote else None,
            capabilities=Capabilities(
                engine="remote", version="", kinds=remote.kinds, fields=remote.fields,
                context=remote.context, template=True, models=[remote.model],
            ) if remote else None,
        )  # fmt: skip

    def build_backends(self) -> dict[str, ServedBackend]:
        """Return the backends by draft key, each with its id: a hash of its whole content."""
        backends: dict[str, ServedBackend] = {}
        for key, draft in self._drafts.items():
            content = json.dumps(draft, sort_keys=True, default=as_json).encode()
            digest = hashlib.sha256(content).hexdigest()[:12]
            backends[key] = ServedBackend(backend_id=digest, **vars(draft))
        return backends


def build_gateway_config(db: Queryable, home: Home, row: EndpointRow) -> EndpointConfig:
    """Build the config of an endpoint's gateway. Raises what `resolve_subject` raises."""
    endpoint_settings = EndpointSettings.parse(row.settings)
    drafts = _Backends(endpoint_settings)
    assigned = [
        (
            model.name,
            [
                (route, subject, *drafts.assign(subject))
                for route, subject in [(route, resolve_subject(db, home, route)) for route in model.routes]
            ],
        )
        for model in endpoint_settings.models
    ]
    backends = drafts.build_backends()
    models: list[ServedModel] = []
    for name, routes in assigned:
        model_routes = [
            _build_route(route, subject, backends[key].backend_id, asked_as)
            for route, subject, key, asked_as in routes
        ]
        models.append(ServedModel(name=name, routes=model_routes))
    host = endpoint_settings.host
    # open to other machines, an endpoint accepts its own host name by default
    own_names = [] if is_loopback(host) or host in WILDCARD_HOSTS else [host]
    return EndpointConfig(
        endpoint_id=row.endpoint_id,
        name=row.name,
        asked_at=row.wanted_at,
        home=str(home.path),
        host=host,
        port=endpoint_settings.port or 0,
        allow_host=[*endpoint_settings.allow_host, *own_names],
        networks=settings.networks(db),
        models=models,
        backends=list(backends.values()),
        limits=EndpointLimits(**endpoint_settings.limits.model_dump()),
        log=EndpointLog(**endpoint_settings.log.model_dump()),
    )


def _build_route(route: RouteChoice, subject: ServedSubject, backend_id: str, asked_as: str) -> EndpointRoute:
    return EndpointRoute(
        subject=route.subject,
        version=subject.version,
        role=route.role,
        share=route.share,
        backend_id=backend_id,
        asked_as=asked_as,
    )
