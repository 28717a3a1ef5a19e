"""What is found out about models and the machine without torch: headers, CPU flags, the driver's answers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from store.core.model_folders import list_models
from store.http import machine


def write_model(path: Path, *, cut: int = 0) -> None:
    """A model folder with two tensors of 6 and 4 parameters; `cut` bytes are missing at the end."""
    path.mkdir()
    (path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (path / "tokenizer.json").write_text("{}")
    tensors = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [24, 40]},
    }
    header = json.dumps(tensors).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(40)
    (path / "model.safetensors").write_bytes(content[: len(content) - cut])


def test_models_are_described_from_their_headers(tmp_path: Path) -> None:
    write_model(tmp_path / "whole")
    write_model(tmp_path / "cut", cut=1)
    write_model(tmp_path / "untokenized")
    (tmp_path / "untokenized" / "tokenizer.json").unlink()
    write_model(tmp_path / "sharded")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "empty").mkdir()
    (tmp_path / ".aside").mkdir()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "config.json").write_text("{")
    (tmp_path / "garbage" / "model.safetensors").write_bytes(b"\xff" * 64)
    models = {model.name: model for model in list_models(tmp_path)}
    assert {name: model.ready for name, model in models.items()} == {
        **{"cut": False, "empty": False, "garbage": False, "sharded": False, "untokenized": False},
        "whole": True,
    }
    whole = models["whole"]
    assert (whole.parameters, whole.architecture) == (10, "LlamaForCausalLM")
    assert whole.bytes == sum(file.stat().st_size for file in (tmp_path / "whole").iterdir())
    assert (models["cut"].parameters, models["empty"].parameters) == (None, None)


@pytest.mark.parametrize(
    ("flags", "fast"), [("fpu avx512f avx512_bf16", True), ("amx_bf16", True), ("avx2", False)]
)
def test_bf16_is_fast_where_the_cpu_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    monkeypatch.setattr(machine, "_list_gpu_handles", lambda: [])
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor: 0\nflags\t\t: {flags}\n")
    assert machine.has_bf16() is fast


@pytest.mark.parametrize(("capability", "fast"), [((8, 0), True), ((9, 0), True), ((7, 5), False)])
def test_bf16_is_fast_on_a_gpu_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(machine, "_list_gpu_handles", lambda: ["gpu"])
    monkeypatch.setattr(machine.pynvml, "nvmlDeviceGetCudaComputeCapability", lambda _: capability)
    assert machine.has_bf16() is fast
    assert machine.list_devices() == ["cuda:0"]


def test_a_gpu_that_does_not_report_everything_is_shown_with_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object) -> None:
        raise machine.pynvml.NVMLError(machine.pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(machine, "_list_gpu_handles", lambda: ["gpu"])
    for name in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature"):
        monkeypatch.setattr(machine.pynvml, name, no)
    monkeypatch.setattr(machine.pynvml, "nvmlDeviceGetName", lambda _: "NVIDIA A100")
    (gpu,) = machine.read_gpus()
    assert (gpu.index, gpu.name, gpu.memory_used_gib, gpu.temperature_c) == (
        0,
        "NVIDIA A100",
        None,
        None,
    )
