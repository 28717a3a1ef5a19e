"""Where the base of each version is to be looked for that answered an endpoint's requests.

A log knows versions by name alone: NAME@3, a run, a model of the home folder, a folder or a file, a model at
another address. Whether the files are still there is for the worker to see, which reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store.config.serving.endpoint_config import EndpointSettings, RouteChoice
from store.contract.errors import TunebenchError
from store.contract.home import Home
from store.contract.version_folders import is_reference
from store.db.database import Queryable
from store.documents.serving.served_base import ServedBase, ServedBases
from store.documents.tables.run import Run
from store.queries.runs import runs
from store.queries.serving import endpoints
from store.queries.shipping import versions

REMOTE = "another server answered, whose base is not known"
GGUF = "a GGUF file answered, whose base is not known"


def served_bases(db: Queryable, home: Home, endpoint_id: str, asked: Sequence[str]) -> ServedBases:
    """Of these versions, and of the live one of the endpoint's first model."""
    settings = EndpointSettings.parse(endpoints.get(db, endpoint_id)["settings"])
    routes = [route for model in settings.models for route in model.routes]
    live = _version_of(db, next(route for route in settings.models[0].routes if route.role == "live"))
    return {"live": live, "bases": {name: _base(db, home, name, routes) for name in {*asked, live}}}


def _version_of(db: Queryable, route: RouteChoice) -> str:
    """As the log calls it; an alias that is gone stays as it is, and has no base."""
    subject = route.subject
    if route.remote is not None:
        return f"{route.remote.model} at {subject}"
    if versions.is_reference(subject):
        try:
            version = versions.get_version(db, subject)
        except TunebenchError:
            return subject
        return f"{version['name']}@{version['version']}"
    path = Path(subject).expanduser()
    return path.name if path.is_absolute() else subject


def _base(db: Queryable, home: Home, version: str, routes: Sequence[RouteChoice]) -> ServedBase:
    if any(route.remote is not None and _version_of(db, route) == version for route in routes):
        return _none(REMOTE)
    if is_reference(version):
        return _model(version)
    if Path(version).name == version and (home.models / version).is_dir():
        return _model(version)
    for route in routes:
        path = Path(route.subject).expanduser()
        if path.is_absolute() and path.name == version:
            return _of_path(path)
    if " at http" in version:
        return _none(REMOTE)
    for name in (*(route.subject for route in routes), version):  # of runs with one name that which is served
        run = _run(db, name)
        if run is not None and version in (run["run_id"], run["name"]):
            return {"model": "", "run": run["run_id"], "why": ""}
    return _none(f"nothing here tells which model {version} was")


def _run(db: Queryable, name: str) -> Run | None:
    try:
        return runs.one_run(db, name)
    except TunebenchError:  # none of that name, or several
        return None


def _of_path(path: Path) -> ServedBase:
    if path.suffix == ".gguf" or next(path.glob("*.gguf"), None) is not None:
        return _none(GGUF)
    return _model(str(path))


def _model(name: str) -> ServedBase:
    return {"model": name, "run": "", "why": ""}


def _none(why: str) -> ServedBase:
    return {"model": "", "run": "", "why": why}
