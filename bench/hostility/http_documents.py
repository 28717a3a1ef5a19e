"""Documents of wrong types for every command and query, sent to a real engine with real workers.

Valid bodies are changed from a seed, one or two fields at a time: numbers for texts, lists, nested
documents, null, very long texts, NUL and newline, file names. Every response must be the requested result,
or an error document that is a sentence: no status 500, no exception class in it, no traceback in the
engine's log.
"""

from __future__ import annotations

import copy
import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from bench.hostility import Attempt
from bench.hostility.sql import start_engine, wait_for
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.core.metric_options import JudgePairs
from store.data import datasets
from store.data.cleaning import Recipe
from store.data.config import CleanConfig, ExportConfig, ImportConfig, ProfileConfig
from store.data.schemas import Dataset
from store.evaluation.config import EvaluateConfig
from store.http.client import Client
from store.jobs import job_queue
from store.training.train_config import TrainConfig
from store.transfer.config import TransferConfig
from tests.tiny import write_model

COMMAND_COUNT, ASK_COUNT = 40, 30  # documents per command and per query
AT_ONCE = 2
SECONDS = 200.0
# Traces of an exception class, or of code, in a response.
RAW = re.compile(
    r"\b[A-Z]\w*(?:Error|Exception)\b|Traceback|object at 0x|<class |object is not|has no attribute"
)

Document = dict[str, Any]
Body = tuple[str, str, Any]  # route, changes, document


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Send every document, then check the engine's log."""
    home = Home(folder / "home").create()
    write_model(home.models / "tiny")
    process = start_engine(home)
    try:
        client = Client(home)
        wait_for(client)
        bodies = _bodies(random.Random(seed), home, _import(client, home))
        token = home.token.read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}"}
        address = json.loads(home.engine_file.read_text())["address"]
        with (
            httpx.Client(base_url=address, headers=headers, timeout=SECONDS, trust_env=False) as http,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            made = list(pool.map(lambda body: _try(http, *body), bodies))
    finally:
        process.terminate()
        process.wait(60)
    log = (home.logs / "engine.log").read_text(encoding="utf-8", errors="replace")
    count = log.count("Traceback (most recent call last)")
    return [*made, Attempt("the engine's log", f"it holds {count} tracebacks" if count else "")]


def _import(client: Client, home: Home) -> Dataset:
    """Import a small data set like a user."""
    file = home.uploads / "rows.csv"
    rows = [f'"What is {i} plus {i}?","{2 * i}",{i % 3}' for i in range(60)]
    file.write_text("question,answer,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    body = {"source": {"upload": "rows.csv"}, "name": "Sums"}
    client.command("import_dataset", body)
    while any(job.status in ALIVE for job in job_queue.recent_jobs(client)):
        time.sleep(0.2)
    return datasets.get_dataset(client, "Sums")


# -- bodies -------------------------------------------------------------------------------------------


def _bodies(draw: random.Random, home: Home, dataset: Dataset) -> list[Body]:
    made: list[Body] = []
    for route, good in _good(dataset).items():
        made.append((route, "nothing", good))
        for wrong in (None, 5, "x", [], [5], True):
            made.append((route, f"the body is {wrong!r}", wrong))
        count = ASK_COUNT if route.startswith("/asks") else COMMAND_COUNT
        for _ in range(count):
            made.append((route, *_changed(draw, good, home)))
    return made


def _good(dataset: Dataset) -> dict[str, Document]:
    """Return, for each route, a body that is valid or nearly so."""
    config = _defaults(TrainConfig) | {"model": "tiny", "dataset": "Sums", "method": "lora"}
    fingerprint = {"fingerprint": dataset.fingerprint}
    recipe = {"steps": [{"step": "filter", "where": {"search": "plus"}}, {"step": "drop_duplicates"}]}
    names = {"dataset": "Sums", "name": "Other"}
    order = {
        "dataset": {key: getattr(dataset, key) for key in ("dataset_id", "kind", "fingerprint", "rows_path")}
    }
    commands: dict[str, Document] = {
        "import_dataset": _defaults(ImportConfig) | {"source": {"upload": "rows.csv"}, "name": "Again"},
        "rename_dataset": {**names, "seen": {"name": "Sums"}},
        "set_split": {"dataset": "Sums", "test": 0.1, "validation": 5, "split_seed": 1, "split_by": "random"},
        "comment": {"subject_kind": "row", "subject_id": "Sums/0", "text": "Why, @you?"},
        "edit_comment": {"comment": "None", "text": "Why?"},
        "delete_comment": {"comment": "None"},
        "delete_dataset": {"dataset": "None"},
        "launch": config | {"model": "no-such-model"},
        "cancel": {"job": "None"},
        "resume": {"job": "None"},
        "delete": {"job": "None"},
        "edit_run": {"run": "None", "name": "x", "notes": "y", "seen": {"notes": ""}},
        "organize_runs": {"runs": ["None"], "add_tags": ["t"], "remove_tags": ["u"], "archived": True},
        "interpolate": {"run": "None", "name": "x", "alphas": [0.5]},
        "keep_variant": {"run": "None", "name": "x", "alpha": 0.5},
        "set_price": {"price_per_hour": 1.5, "currency": "EUR"},
        "profile": _defaults(ProfileConfig) | {"dataset": "Sums", "group": "text"},
        "clean": _defaults(CleanConfig) | {"dataset": "Sums", "recipe": recipe},
        "export": _defaults(ExportConfig) | {"dataset": "Sums", "where": {"search": "zzz"}},
        "save_recipe": {"name": "R", "shared": False, "seen": 0, **_defaults(Recipe), **recipe},
        "delete_recipe": {"name": "R"},
        "save_slice": {**names, "where": {"search": "1", "conditions": [], "expression": ""}},
        "delete_slice": names,
        "evaluate": _defaults(EvaluateConfig) | {"run": "None", "dataset": "Sums"},
        "judge": _defaults(JudgePairs) | {"first": "a", "second": "b"},
        "transfer": _defaults(TransferConfig) | {"runs": ["None"], "datasets": ["Sums"]},
    }
    asks: dict[str, Document] = {
        "inspect": {"source": {"upload": "rows.csv"}, "has_header": True, "encoding": "utf-8", "columns": {}},
        "split": {**fingerprint, "split": {"test": 0.1, "validation": 5, "split_by": "random"}},
        "preview": {**fingerprint, "config": config, "split": {}, "row": 0},
        "advice": {**fingerprint, "config": config, "split": {}},
        "clean_preview": {**order, "recipe": recipe, "examples": 3},
        "rendering": {
            **fingerprint,
            **{"kind": dataset.kind, "model": "tiny", "chat_template": "", "row": 0, "max_length": None},
            **{"completion_only_loss": True},
        },
        "overlap": {**fingerprint, "other": dataset.fingerprint, "threshold": 0.7},
    }
    return {f"/commands/{name}": body for name, body in commands.items()} | {
        f"/asks/{name}": body for name, body in asks.items()
    }


def _defaults(model: Any) -> Document:
    """Return every field that has a default, so that each is changed at some point."""
    values = {
        name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()
    }
    return {
        name: value for name, value in values.items() if isinstance(value, str | int | float | list | None)
    }


def _changed(draw: random.Random, good: Document, home: Home) -> tuple[str, Document]:
    """Return the document with one or two fields of another type, or with a missing or additional field."""
    document = copy.deepcopy(good)
    changes = []
    for _ in range(draw.choice([1, 1, 1, 2])):
        place, key = document, draw.choice(list(document) or ["x"])
        while isinstance(place.get(key), dict) and place[key] and draw.random() < 0.6:
            place = place[key]
            key = draw.choice(list(place))
        value = _wrong(draw, home)
        action = draw.random()
        if action < 0.05:
            place.pop(key, None)
            changes.append(f"no {key}")
        elif action < 0.1:
            place[f"{key}{draw.choice(['_', ' ', chr(0), 'x' * 9_000])}"] = value
            changes.append(f"one field more beside {key}")
        else:
            place[key] = value
            changes.append(f"{key} = {str(value)[:60]!r}")
    return "; ".join(changes), document


def _wrong(draw: random.Random, home: Home) -> Any:
    plain = [
        *(None, True, False, 0, 1, -1, 5, 0.5, -0.0, 1e308, 10**30, -(10**30), 2**63, 1e-320),
        *(float("nan"), float("inf"), "", " ", "x", "5", "yes", "null", "nan", "a\nb", "a\x00b", "\ud800"),
        *("é" * 200, "x" * 5_000, "x" * 300, "../../token", "/etc/passwd", "/dev/zero", "/proc/self/mem"),
        *("/proc/self/environ", "/sys/kernel", str(home.token), str(home.database), "~", "{{ x.__class__ }}"),
        *("{% for %}", "'; DROP TABLE job; --", "SELECT 1", "%s%n", "${HOME}", "<b>", "own/nope", "own/../x"),
        *(
            [],
            {},
            [None],
            [5],
            ["x"] * 400,
            [[[[]]]],
            {"a": {"b": [1]}},
            {"": ""},
            {"path": 5},
            [{}],
            ["a", 5],
        ),
        *({"path": "/proc/self/mem"}, {"path": "/dev/zero"}, {"builtin": "x"}, {"search": 5}, {"regex": "("}),
        *({"expression": "1; DROP TABLE x"}, {"conditions": [5]}, {"steps": 5}, {"steps": [{"step": "x"}]}),
    ]
    return draw.choice(plain)


# -- results ------------------------------------------------------------------------------------------


def _try(http: httpx.Client, route: str, changed: str, document: Any) -> Attempt:
    name = f"{route}: {changed}"
    content = json.dumps(document).encode()
    try:
        answer = http.post(route, content=content)
    except httpx.HTTPError as error:
        return Attempt(name, f"no answer: {type(error).__name__}")
    if answer.status_code == 200:
        return Attempt(name)
    try:
        error = answer.json()
    except ValueError:
        return Attempt(name, f"status {answer.status_code} without a document")
    message = str(error.get("message", ""))
    if answer.status_code >= 500:
        return Attempt(name, f"status {answer.status_code}: {message[:200]}")
    if not message or RAW.search(message) or "\n" in message or len(message) > 1_500:
        return Attempt(name, f"no plain sentence: {message[:200]!r}")
    return Attempt(name)
