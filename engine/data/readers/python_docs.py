"""Questions and answers from Python's own documentation of the standard library's functions and properties.

Run as a script (`python -I -S python_docs.py`), it imports the standard library in a separate process and
prints one JSON array, so that import side effects don't reach the caller. The module itself only uses the
standard library. Rows are sorted by name, so that the same Python gives the same data set.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# Modules that print, open a window or a browser, start something, or are not meant for Python users.
EXCLUDED_MODULES = frozenset(
    {"__hello__", "__phello__", "antigravity", "distutils", "encodings", "ensurepip", "idlelib", "lib2to3"}
    | {"msilib", "nt", "ntpath", "pip", "pydoc_data", "rlcompleter", "test", "this", "tkinter", "turtle"}
    | {"turtledemo", "winreg"}
)
EXCLUDED_PARTS = frozenset({"__main__", "test", "tests"})
FUNCTION, PROPERTY = "What does {} do?", "What is {}?"
SHORTEST, LONGEST = 12, 400  # characters of an answer
PUBLIC_MODULES = {"posixpath": "os.path", "genericpath": "os.path", "posix": "os", "_io": "io"}

_SIGNATURE = re.compile(
    r"^[\w.]*\(.*?\)(?:\s*->\s*(?:\([^)]*\)|[^,.:;]*))?(?:\s*(?:--|[-,.:;])\s*(?P<rest>\S.*))?$"
)


def list_module_names() -> list[str]:
    """Return the public modules of the standard library and their public submodules, packages first."""
    names = [
        name for name in sys.stdlib_module_names if not name.startswith("_") and name not in EXCLUDED_MODULES
    ]
    modules: set[str] = set()
    while names:
        name = names.pop()
        modules.add(name)
        module = _import_module(name)
        for part in pkgutil.iter_modules(getattr(module, "__path__", [])):
            if not part.name.startswith("_") and part.name not in EXCLUDED_PARTS:
                names.append(f"{name}.{part.name}")
    return sorted(modules, key=lambda name: (name.count("."), name))


def _import_module(name: str) -> ModuleType | None:
    """Import the module; None if this platform doesn't have it."""
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError, ValueError, OSError):
        return None


def list_functions() -> Iterator[tuple[str, str, str, str]]:
    """Yield (question, qualified name, module, docstring) of public functions, methods and properties.

    Each is yielded once.
    """
    seen: set[int] = set()
    for name in list_module_names():
        module = _import_module(name)
        if module is None:
            continue
        prefix = "" if name == "builtins" else f"{PUBLIC_MODULES.get(name, name)}."
        for key, value in sorted(vars(module).items()):
            if key.startswith("_") or id(value) in seen or not _is_defined_in(value, key, module):
                continue
            seen.add(id(value))
            if inspect.isclass(value):
                for method, member in sorted(vars(value).items()):
                    if isinstance(member, classmethod | staticmethod):
                        member = member.__func__
                    documented = inspect.isroutine(member) or isinstance(member, property)
                    if not method.startswith("_") and documented and id(member) not in seen:
                        seen.add(id(member))
                        question = PROPERTY if isinstance(member, property) else FUNCTION
                        yield question, f"{prefix}{key}.{method}", name, _read_doc(member)
            elif inspect.isroutine(value):
                yield FUNCTION, f"{prefix}{key}", name, _read_doc(value)


def _is_defined_in(value: Any, key: str, module: ModuleType) -> bool:
    """Return whether the module is the public home of `value` rather than one that imported it."""
    owner = getattr(value, "__module__", None)
    if not isinstance(owner, str):
        return key in getattr(module, "__all__", ())
    owner, own = PUBLIC_MODULES.get(owner, owner), PUBLIC_MODULES.get(module.__name__, module.__name__)
    if owner == own or owner.startswith(own + "."):
        return True
    return owner.startswith("_") and key in getattr(module, "__all__", (key,))


def _read_doc(value: Any) -> str:
    text = getattr(value, "__doc__", None)
    return text if isinstance(text, str) else ""


def extract_first_paragraph(doc: str) -> str:
    """Return the first non-empty paragraph, with white space folded and leading signatures removed."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        lines = paragraph.strip().split("\n")
        while lines and (match := _SIGNATURE.match(lines[0].strip())):
            lines[0] = match["rest"] or ""
            if match["rest"]:
                break
            lines.pop(0)
        text = " ".join(" ".join(lines).split()).replace("``", "`").lstrip("->: ")
        if text:
            return text[:1].upper() + text[1:]
    return ""


def describe_fault(answer: str) -> str:
    """Return why an answer is unsuitable for training, or an empty text."""
    if len(answer) < SHORTEST:
        return f"answer shorter than {SHORTEST} characters"
    if len(answer) > LONGEST:
        return f"answer longer than {LONGEST} characters"
    if ">>>" in answer or "::" in answer or answer.startswith((":", "@", "*", "(", "[")):
        return "answer is code or a list"
    return ""


def collect_rows() -> list[dict[str, str]]:
    """Return rows of prompt, completion and module; an unsuitable row also has a `reason`.

    Functions without a docstring are omitted. Neither names nor answers repeat.
    """
    rows: list[dict[str, str]] = []
    answers: set[str] = set()
    documented = {
        name: (question, module, doc) for question, name, module, doc in list_functions() if doc.strip()
    }
    for name in sorted(documented, key=_rank_name):
        question, module, doc = documented[name]
        row = {"prompt": question.format(name), "completion": extract_first_paragraph(doc), "module": module}
        reason = describe_fault(row["completion"])
        if not reason and row["completion"].casefold() in answers:
            reason = "answer repeats that of an earlier function"
        answers.add(row["completion"].casefold())
        rows.append({**row, "reason": reason} if reason else row)
    return sorted(rows, key=lambda row: row["prompt"])


def _rank_name(name: str) -> tuple[bool, int, int, str]:
    """Rank the names that share an answer, the best known first.

    str.split comes before bytes.split, and random.choice before random.Random.choice.
    """
    return not name.startswith(("str.", "list.", "dict.", "set.", "int.")), name.count("."), len(name), name


def main() -> None:
    """Print the rows; discard everything that the imported modules print."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    json.dump(collect_rows(), out)
    out.close()
    os._exit(0)  # skips the exit handlers of the modules


if __name__ == "__main__":
    main()
