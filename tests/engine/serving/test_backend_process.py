"""The process of a backend: what it says of itself, how it ends, and with whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.serving.backend import main, read_spec
from store.core.errors import ConfigError
from store.core.job_folder import read_json, write_json
from tests.engine.serving.served import client, events, spec_of
from tests.tiny import write_model

SECONDS = 150


def started(folder: Path, **fields: Any) -> tuple[subprocess.Popen[bytes], Any]:
    """The process, once it is ready or has failed, and what it wrote."""
    write_json(folder / "spec.json", spec_of(folder, adapters=[], **fields))
    command = [sys.executable, "-m", "engine.serving.backend", str(folder / "spec.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS
    while (word := read_json(folder / "ready.json")) is None and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, word


def test_it_drains_at_sigterm(tmp_path: Path) -> None:
    write_model(tmp_path / "base", initializer_range=0.3, max_position_embeddings=4096)
    process, word = started(tmp_path)
    assert word["pid"] == process.pid
    assert word["capabilities"]["models"] == ["base"]
    assert "response_format" in word["capabilities"]["fields"]
    assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o600
    asked = {"model": "base", "prompt": "a", "max_tokens": 300, "stream": True, "logit_bias": {"2": -100}}
    with client(str(tmp_path / "s")) as http, http.stream("POST", "/v1/completions", json=asked) as response:
        threading.Timer(0.05, process.send_signal, [signal.SIGTERM]).start()
        documents = events(response)
    assert documents[-1]["choices"][0]["finish_reason"] == "length"
    assert process.wait(SECONDS) == 0
    assert not (tmp_path / "s").exists()


def test_it_ends_with_its_parent_however_that_ended(tmp_path: Path) -> None:
    parent = subprocess.Popen(["sleep", "100"])
    script = (
        "import sys, time; from engine.serving.backend import exit_with_parent\n"
        "exit_with_parent(int(sys.argv[1]), sys.argv[2]); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(parent.pid), str(tmp_path / "s")], stdout=subprocess.PIPE
    )
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    parent.kill()  # and nobody waits for it: it stays as a zombie
    assert child.wait(SECONDS) == 1
    parent.wait()
    child.stdout.close()


def test_what_can_not_begin_says_why(tmp_path: Path) -> None:
    write_json(tmp_path / "spec.json", spec_of(tmp_path))
    assert main([str(tmp_path / "spec.json")]) == 1
    failed = read_json(tmp_path / "failed.json")
    assert failed["error"] == "ModelError"
    assert str(tmp_path / "base") in failed["message"]
    assert not (tmp_path / "ready.json").exists()


def test_a_version_that_was_changed_is_not_served(tmp_path: Path) -> None:
    root = tmp_path / "home" / "registry" / "model-1" / "3"
    (root / "base").mkdir(parents=True)
    (root / "base" / "config.json").write_text("{}")
    changed = {"path": "base/config.json", "bytes": 9, "sha256": "", "modified_ns": 0}
    write_json(tmp_path / "spec.json", spec_of(tmp_path, model=str(root / "base"), adapters=[]))

    def message() -> Any:
        assert main([str(tmp_path / "spec.json")]) == 1
        return read_json(tmp_path / "failed.json")["message"]

    assert str(root.with_name("3.json")) in message()
    write_json(root.with_name("3.json"), {"reference": "sums@3", "job_id": "j", "files": [changed]})
    assert "sums@3 was changed" in message()
    assert "base/config.json" in message()


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"max_streams": 0}, "max_streams"), ({"names": [], "adapters": []}, "name"), ({"odd": 1}, "odd")],
)
def test_a_spec_is_checked_by_its_fields(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    write_json(tmp_path / "spec.json", spec_of(tmp_path) | fields)
    with pytest.raises(ConfigError, match=named):
        read_spec(tmp_path / "spec.json")
