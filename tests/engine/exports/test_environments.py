"""Environments that stand beside ours: what is said of one that isn't there, isn't right, or ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.export.external_tools import COMPRESSOR, VLLM, build_process_error
from engine.export.parity import checking
from store.core.errors import ConfigError, DataError, ModelError
from store.export.config import ModelExport

PARITY = "engine.export.parity"
ABSENT = ("duckdb", "pyarrow", "peft", "psutil", "datasets", "sklearn", "scipy", "pandas")


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("", "TUNEBENCH_VLLM is not set"),
        ("/nowhere/python", "'/nowhere/python', which is not a file"),
        (sys.executable, "vllm is not installed"),
        (__file__, "can't be run"),
    ],
)
def test_an_environment_that_is_not_there_is_said_with_how_to_make_it(
    python: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VLLM.setting, python)
    with pytest.raises(ConfigError, match=why) as error:
        VLLM.check()
    assert error.value.fix.startswith("python -m venv DIR; DIR/bin/pip install vllm")
    assert "TUNEBENCH_VLLM=DIR/bin/python" in error.value.fix


def test_a_python_that_breaks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'libpython is missing' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv(COMPRESSOR.setting, str(broken))
    with pytest.raises(ConfigError, match="libpython is missing"):
        COMPRESSOR.check()


def test_another_version_than_was_tried_is_part_of_the_reason() -> None:
    error = VLLM.ended("could not load the export", 1, ["Traceback", "KeyError: 'x'", ""], "0.9.1")
    assert error.message == "vLLM 0.9.1 could not load the export: KeyError: 'x'"
    assert f"The tested version is {VLLM.tried}" in error.fix
    assert "tried" not in VLLM.ended("failed", 1, ["no"], VLLM.tried).fix


def test_memory_and_disk_are_told_apart() -> None:
    killed = build_process_error("It ended", -9, [])
    assert isinstance(killed, ModelError)
    assert "SIGKILL, likely because the machine ran out of memory" in killed.message
    full = build_process_error("It ended", 1, ["OSError: [Errno 28] No space left on device", "Traceback"])
    assert isinstance(full, DataError)
    assert full.message == "It ended: the disk is full."
    assert build_process_error("It ended", 3, []).message == "It ended: exit code 3"


def test_the_other_process_needs_next_to_nothing() -> None:
    """Once it wanted duckdb, which only we have, so that no other environment could read anything."""
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in ABSENT)
    imports = f"import {PARITY}.__main__, {PARITY}.folder_readers"
    code = f"import sys; {blocked}; {imports}; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(checking.PROJECT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.stdout == "False\n", ran.stderr


def reads(form: str, device: str, reader: str = "usual") -> str:
    config = ModelExport.parse({"subject": "run", "form": form, "reader": reader})
    return checking.choose_engine(config, device)


def test_who_reads_which_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VLLM.setting, raising=False)
    assert reads("compressed-tensors", "cuda") == "transformers alone"
    monkeypatch.setenv(VLLM.setting, sys.executable)
    assert reads("compressed-tensors", "cuda") == "vllm"
    assert reads("compressed-tensors", "cpu") == "transformers alone", "vLLM has no kernel for it"
    assert reads("compressed-tensors-w8a8", "cpu") == "vllm"
    assert reads("merged", "cpu") == "transformers"
    assert reads("merged", "cpu", "vllm") == "vllm"
    assert reads("ollama", "cpu") == "llama.cpp"
    with pytest.raises(ConfigError, match="vLLM can't load gguf-q8_0"):
        reads("gguf-q8_0", "cpu", "vllm")


def test_what_vllm_cannot_read_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(VLLM), "check", lambda self: "0.32.0")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')

    def refused(form: str, **changes: Any) -> str:
        subject: Any = SimpleNamespace(**({"labels": None, "folder": tmp_path} | changes))
        config = ModelExport.parse({"subject": "run", "form": form, "reader": "vllm"})
        with pytest.raises(ConfigError) as error:
            checking.check_reader(config, subject, "cpu")
        assert error.value.field == "reader"
        return error.value.message

    assert "classification heads" in refused("merged", labels=["a"])
    assert "only plain LoRA" in refused("adapter")
    assert "compressed-tensors-w8a8" in refused("compressed-tensors")
