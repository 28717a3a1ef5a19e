"""The golden home folder, unpacked and opened, and answers in a form that no change of a type shows in.

A typed dict, a named tuple, a dataclass and a config of the same fields are the same here, and so are a field
that is null and one that is not there: which of them holds an answer is the code's own affair.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import lzma
import math
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from store.core.config import Config
from store.core.home import Home
from store.db.database import Database

HERE = Path(__file__).parent
PACKED = HERE / "home.tar.xz"
ANSWERS = HERE / "answers.json.xz"
HOME = "/home/team/tunebench"  # where the golden home says it is
DIGITS = 12  # of a float that count
WHOLE = 3_000  # characters of an answer that is kept whole
FIRST = 1_000  # characters of a longer one that are kept beside its hash


def unpack_home(folder: Path) -> Home:
    """The home folder as it was packed, made anew in `folder`."""
    with tarfile.open(PACKED) as archive:
        archive.extractall(folder, filter="data")
    return Home(folder.resolve())


def open_store(home: Home) -> Database:
    """Its store, brought up to date as the engine does it."""
    return Database(home.database, [home.datasets, home.jobs])


def read_answers() -> dict[str, Any]:
    """What is golden: tables, queries and files."""
    answers: dict[str, Any] = json.loads(lzma.decompress(ANSWERS.read_bytes()))
    return answers


def name_queries(names: Iterable[str]) -> dict[str, str]:
    """The names of query functions by their golden keys: the function alone where no other is called so, else
    with the last part of its module. So a function may move to another package."""
    every = list(names)
    times = Counter(name.rpartition(".")[2] for name in every)
    return {
        ".".join(name.split(".")[-2:])
        if times[name.rpartition(".")[2]] > 1
        else name.rpartition(".")[2]: name
        for name in every
    }


def simplify(value: Any, home: Home) -> Any:
    """A value as plain JSON, with its home folder where the golden one was."""
    if isinstance(value, str):
        return value.replace(str(home.path), HOME)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, pa.Table):
        types = {field.name: str(field.type) for field in value.schema}
        return {"types": types, "columns": simplify(value.to_pydict(), home)}
    fields = _fields(value)
    if fields is not None:
        return {_key(key): simplify(part, home) for key, part in fields.items() if part is not None}
    if isinstance(value, set | frozenset):
        return sorted((simplify(part, home) for part in value), key=spell)
    if isinstance(value, list | tuple | range):
        return [simplify(part, home) for part in value]
    return simplify(_scalar(value), home)


def spell(value: Any) -> str:
    """Plain JSON as the one text that stands for it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def shorten(value: Any) -> Any:
    """An answer as it is kept: of a huge one its hash, its length and its beginning."""
    text = spell(value)
    if len(text) <= WHOLE:
        return value
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"sha256": digest, "characters": len(text), "begins": text[:FIRST]}


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """What has fields as a mapping; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Config):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        named: Mapping[Any, Any] = value._asdict()
        return named
    return None


def _key(key: Any) -> str:
    if isinstance(key, frozenset):
        return spell(sorted(key))
    return key if isinstance(key, str) else spell(key)


def _scalar(value: Any) -> Any:
    """A value that JSON lacks as one that it has."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no plain form")
