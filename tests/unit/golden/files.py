"""The files of the golden home, read by the functions that the engine reads them with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq

from engine.evaluation.metrics import custom_metric
from engine.models import provenance
from engine.monitoring.loop import list_endpoint_folders
from engine.serving.endpoint_folders import EndpointFolder
from store.archives.config import BundleConfig, OpenBundleConfig
from store.bias.config import BiasConfig
from store.core.config import Config, read_yaml
from store.core.home import Home
from store.core.job_folder import JobDir, read_events, read_json
from store.core.version_folders import VersionDir
from store.data import dataset_files
from store.data.config import CleanConfig, ImportConfig, ProfileConfig
from store.evaluation.config import EvaluateConfig
from store.export.config import ModelExport, ModelVerify
from store.monitoring.config import MonitorSettings, WatchConfig
from store.monitoring.log_ingest import Series, list_log_files
from store.rating.config import ImportRound, RoundConfig
from store.registry.config import RegisterConfig
from store.registry.gate_checks import GateConfig
from store.retraining.config import GatherConfig
from store.training.train_config import TrainConfig
from tests.unit.golden.homes import shorten, simplify, spell

WITHIN = {"round": "round", "import_round": "round", "register": "register"}  # kind -> where its config is
MODELS: Mapping[str, type[Config]] = {
    "bias": BiasConfig,
    "bundle": BundleConfig,
    "clean": CleanConfig,
    "evaluate": EvaluateConfig,
    "gather_rows": GatherConfig,
    "import": ImportConfig,
    "import_round": ImportRound,
    "model_export": ModelExport,
    "model_verify": ModelVerify,
    "open_bundle": OpenBundleConfig,
    "profile": ProfileConfig,
    "register": RegisterConfig,
    "round": RoundConfig,
    "train": TrainConfig,
    "watch": WatchConfig,
}
NO_MODEL = {
    "convert": "the engine alone queues it, and names a model",
    "interpolate": "the engine alone queues it, and names a run and its shares",
    "reproduction": "the engine alone queues it, and names a run and a bundle",
}
DOCUMENTS: Mapping[str, type[Config]] = {
    "monitor.yaml": MonitorSettings,
    "gate.yaml": GateConfig,
    "python-topics.yaml": TrainConfig,
}
NOWHERE = Home(Path("/nowhere"))  # rows name no home folder
Read = Callable[[Path], Any]


def read_files(home: Home) -> dict[str, Any]:
    """All files of the home folder by their path within it: what reading each of them gives."""
    parts = (_read_jobs, _read_datasets, _read_registry, _read_endpoints, _read_exports, _read_the_rest)
    return {
        path.relative_to(home.path).as_posix(): shorten(simplify(content, home))
        for part in parts
        for path, content in part(home)
    }


def list_orders(home: Home) -> list[dict[str, Any]]:
    """What the workers of all jobs were told."""
    orders = (read_json(JobDir(path).config) for path in sorted(home.jobs.iterdir()))
    return [order for order in orders if order is not None]


def parse_config(order: Mapping[str, Any]) -> tuple[dict[str, Any], Config]:
    """The config of a job as it was written, and by the model of its kind."""
    document = order["config"]
    if order["kind"] in WITHIN:
        document = document[WITHIN[order["kind"]]]
    return document, MODELS[order["kind"]].parse(document)


def _read_jobs(home: Home) -> Iterator[tuple[Path, Any]]:
    for path in sorted(home.jobs.iterdir()):
        folder = JobDir(path)
        if (order := read_json(folder.config)) is not None:
            parsed = parse_config(order)[1] if order["kind"] in MODELS else None
            yield folder.config, {"order": order, "parsed": parsed}
        for name in (folder.result, folder.worker, folder.published, path / "manifest.json"):
            if name.exists():
                yield name, read_json(name)
        if folder.events.exists():
            yield folder.events, _read_all_events(folder.events)
        yield from _each(path, "*.parquet", _hash_table)
        if folder.model.is_dir():
            yield from _read_model(folder.model)


def _read_datasets(home: Home) -> Iterator[tuple[Path, Any]]:
    for path in sorted(home.datasets.iterdir()):
        yield home.rows(path.name), _hash_rows(dataset_files.load_rows(home, path.name).to_pylist())
        for name in (home.skipped(path.name), home.fates(path.name)):
            if name.exists():
                yield name, _hash_table(name)
        yield from _each(path / "signals", "*.parquet", _hash_table)


def _read_registry(home: Home) -> Iterator[tuple[Path, Any]]:
    for path in sorted(home.registry.glob("*/*/")):
        folder = VersionDir(path)
        yield folder.seal, read_json(folder.seal)
        training = read_json(folder.config)
        if training is not None:
            parsed = TrainConfig.parse(training["config"]).model_dump(mode="json")
            yield folder.config, {**training, "config": parsed}
        yield from _read_model(path)


def _read_endpoints(home: Home) -> Iterator[tuple[Path, Any]]:
    for endpoint_id in list_endpoint_folders(home):
        folder = EndpointFolder(home, endpoint_id)
        yield folder.path / "config.json", folder.read_config()
        yield folder.path / "state.json", folder.read_state()
        yield folder.path / "log", folder.list_last_requests(5)
        for name in ("keys.json", "gateway.json", "backends/*/spec.json", "backends/*/ready.json"):
            yield from _each(folder.path, name, read_json)
        for series in get_args(Series):
            for path in list_log_files(home, endpoint_id, series):
                yield path, _read_all_events(path)


def _read_exports(home: Home) -> Iterator[tuple[Path, Any]]:
    for path in sorted(home.exports.iterdir()):
        yield path / "manifest.json", read_json(path / "manifest.json")
        yield path / "SHA256SUMS", (path / "SHA256SUMS").read_text(encoding="utf-8").splitlines()


def _read_the_rest(home: Home) -> Iterator[tuple[Path, Any]]:
    for name, model in DOCUMENTS.items():
        text = (home.path / name).read_text(encoding="utf-8")
        yield home.path / name, model.parse(read_yaml(text)).model_dump(mode="json")
    for path in sorted(home.metrics.glob("*.py")):
        kind, function = custom_metric.load_metric(path)
        yield path, {"kind": kind, "of two words of three": function("one two", "one two three", "")}


def _read_model(folder: Path) -> Iterator[tuple[Path, Any]]:
    """What lies beside the weights of a model."""
    yield folder / provenance.NOTE, provenance.read_note(folder)
    for name in ("adapter_config.json", "tokenizer_config.json", "generation_config.json", "split.parquet"):
        yield from _each(folder, name, _hash_table if name.endswith(".parquet") else read_json)


def _each(folder: Path, pattern: str, read: Read) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.glob(pattern)):
        yield path, read(path)


def _read_all_events(path: Path) -> Any:
    """All lines, as the engine takes them: some at a time, from where it was."""
    events: list[Any] = []
    offset, end = -1, 0
    while end != offset:
        offset = end
        more, end = read_events(path, offset)
        events.extend(more)
    return {"events": events, "end": end}


def _hash_table(path: Path) -> Any:
    table = pq.read_table(path)
    types = {field.name: str(field.type) for field in table.schema}
    return {"types": types, **_hash_rows(table.to_pylist())}


def _hash_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    text = spell(simplify(rows, NOWHERE))
    return {"rows": len(rows), "sha256": hashlib.sha256(text.encode()).hexdigest(), "first": rows[:1]}
