"""A seeded home folder is made once in a process of tests and copied after that."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

from store.core.home import Home

P = ParamSpec("P")
_kept = tempfile.TemporaryDirectory(prefix="tunebench-seeds-")
_homes: dict[tuple[object, ...], Path] = {}


def made_once(seed: Callable[Concatenate[Path, P], Home]) -> Callable[Concatenate[Path, P], Home]:
    """`seed(path, **settings)`, which makes the same for the same settings and writes no path into it."""

    @wraps(seed)
    def copied(path: Path, *args: P.args, **kwargs: P.kwargs) -> Home:
        if Home(path).database.exists():  # something was seeded there before
            return seed(path, *args, **kwargs)
        key = (seed.__name__, args, *sorted(kwargs.items()))
        if key not in _homes:
            _homes[key] = seed(Path(tempfile.mkdtemp(dir=_kept.name), "home"), *args, **kwargs).path
        shutil.copytree(_homes[key], path, dirs_exist_ok=True)
        return Home(path)

    return copied
