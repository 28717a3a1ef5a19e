"""No code that comes with a model is run: not by a model folder, a hub's repository, an adapter or a pickle,
whoever asks and whatever they say."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.evaluation import evaluated_model
from engine.models import loading, saved_models
from engine.training import train_job
from engine.training.costs.footprint import choose_reduced_models
from engine.training.preview import advice_query, preview_query, rendering_query
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, ModelError, TunebenchError
from store.core.home import Home
from store.core.job_folder import write_json
from store.evaluation.config import EvaluateConfig
from store.training.train_config import TrainConfig
from tests.engine.job_events import QUICK
from tests.tiny import conversations, make_job, make_model, write_model, write_rows

ROOT = Path(__file__).parents[3]
CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({marker!r}).write_text("it ran")


class ForeignConfig(LlamaConfig):
    model_type = "foreign"


class ForeignModel(LlamaForCausalLM):
    config_class = ForeignConfig


class ForeignTokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO_MAP = {
    "AutoConfig": "foreign.ForeignConfig",
    "AutoModelForCausalLM": "foreign.ForeignModel",
    "AutoModelForSequenceClassification": "foreign.ForeignModel",
}
TRUST: list[dict[str, Any]] = [{}, {"trust_remote_code": True}]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(120))
    return home


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Is written by foreign code that runs; the test fails where it is there in the end."""
    marker = tmp_path / "it-ran"
    yield marker
    assert not marker.exists()


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_foreign(folder: Path, marker: Path, model_type: str = "foreign") -> Path:
    """A model that transformers can't load without the Python file beside it, and its tokenizer too."""
    write_model(folder)
    (folder / "foreign.py").write_text(CODE.format(marker=str(marker)))
    change(folder / "config.json", model_type=model_type, auto_map=AUTO_MAP, architectures=["ForeignModel"])
    tokenizer = {"AutoTokenizer": ["foreign.ForeignTokenizer", "foreign.ForeignTokenizer"]}
    change(folder / "tokenizer_config.json", auto_map=tokenizer, tokenizer_class="ForeignTokenizer")
    return folder


def asked(home: Home, kind: str, body: dict[str, Any]) -> WorkerJob:
    folder = home.asks / kind
    folder.mkdir(exist_ok=True)
    order = {"job_id": kind, "kind": kind, "home": str(home.path), "device": "cpu", "config": body}
    write_json(folder / "config.json", order)
    return WorkerJob(folder)


def ask_rendering(home: Home, model: str, more: dict[str, Any]) -> None:
    body = {"fingerprint": "rows", "kind": "chat", "model": model, **more}
    rendering_query.run(asked(home, "rendering", body))


def ask_costs(kind: str, ask: Callable[[WorkerJob], object]) -> Callable[[Home, str, dict[str, Any]], None]:
    def act(home: Home, model: str, more: dict[str, Any]) -> None:
        config = {"model": model, "dataset": "rows", **more}
        ask(asked(home, kind, {"config": config, "fingerprint": "rows", "split": {"split_seed": 0}}))

    return act


def evaluate(home: Home, model: str, more: dict[str, Any]) -> None:
    config = EvaluateConfig.parse({"model": model, "dataset": "rows", "metrics": ["chrf"], **more})
    evaluated_model.load_model(make_job(home, "evaluation"), config)


def train_it(home: Home, model: str, more: dict[str, Any]) -> None:
    job = make_job(home, "run", **QUICK | {"model": model})
    write_json(job.dir.config, job.spec | {"config": job.config | more})
    train_job.run(WorkerJob(job.dir.path))


WAYS = {
    "rendering": ask_rendering,
    "preview": ask_costs("preview", preview_query.run),
    "advice": ask_costs("advice", advice_query.run),
    "evaluate": evaluate,
    "train": train_it,
}


@pytest.mark.parametrize("more", TRUST, ids=["unsaid", "true"])
@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_brings_code_is_refused(
    home: Home, marker: Path, way: str, more: dict[str, Any]
) -> None:
    folder = write_foreign(home.models / "foreign", marker)
    with pytest.raises(TunebenchError) as caught:
        WAYS[way](home, str(folder), more)
    assert "does not run" in str(caught.value)
    assert "custom code" in str(caught.value)
    assert caught.value.field == ("trust_remote_code" if more else "model")
    assert "save_pretrained" in caught.value.fix


def test_what_transformers_has_itself_is_taken_though_code_lies_beside_it(home: Home, marker: Path) -> None:
    """Of a Llama that names code of its own, as some do that came before transformers had them."""
    folder = write_foreign(home.models / "llama", marker, "llama")
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", auto_map={})
    config = TrainConfig(model=str(folder), dataset="rows", dtype="float32")
    assert type(loading.load_model(config, str(folder), "cpu", torch.float32)).__name__ == "LlamaForCausalLM"
    assert loading.load_tokenizer(str(folder)).is_fast


def test_nor_where_costs_are_counted_from_an_architecture(home: Home, marker: Path) -> None:
    folder = write_foreign(home.models / "llama", marker, "llama")
    architecture = loading.load_config(str(folder))
    assert choose_reduced_models(architecture, TrainConfig(model=str(folder), dataset="rows")).few


# -- kernels, indices, adapters ---------------------------------------------------------------------


@pytest.mark.parametrize("field", ["attn_implementation", "experts_implementation"])
def test_a_config_that_asks_for_a_kernel_of_a_hub_is_refused(home: Home, field: str) -> None:
    folder = home.models / "tiny"
    change(folder / "config.json", **{field: "someone/flash-kernel"})
    with pytest.raises(ModelError, match="asks for the kernel someone/flash-kernel"):
        loading.load_config(str(folder))


def test_nor_does_the_private_name_of_the_field_reach_the_model(home: Home) -> None:
    """Releases of transformers read it or drop it; either way no kernel is loaded."""
    folder = home.models / "tiny"
    change(folder / "config.json", _attn_implementation="someone/flash-kernel")
    config = TrainConfig(model="tiny", dataset="rows", dtype="float32")
    with suppress(ModelError):  # "asks for the kernel"
        model = loading.load_model(config, str(folder), "cpu", torch.float32)
        assert model.config._attn_implementation in ("sdpa", "eager")


LOAD_KERNEL = """
import engine
from transformers.integrations.hub_kernels import get_kernel
from transformers.utils import is_kernels_available

assert not is_kernels_available()
try:
    get_kernel("kernels-community/activation", version=1)
except ImportError:
    print("no kernels")
import kernels
"""


def test_no_library_can_load_kernels_of_a_hub() -> None:
    """In a process of the engine, where the package `kernels` is installed too, as transformers wants it."""
    command = [sys.executable, "-c", LOAD_KERNEL]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout == "no kernels\n"
    assert "ModuleNotFoundError: import of kernels halted" in result.stderr


class Bomb:
    """Pickled, it writes the marker when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path(self.marker), "it ran")


def test_an_index_that_names_pickled_files_is_refused(home: Home, marker: Path) -> None:
    folder = home.models / "tiny"
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "beside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = TrainConfig(model="tiny", dataset="rows", dtype="float32")
    with pytest.raises(ModelError, match=r"names pytorch_model\.bin, which is not safetensors") as caught:
        loading.load_model(config, loading.resolve_model("tiny", home), "cpu", torch.float32)
    assert caught.value.field == "model"


def adapter(home: Home) -> Path:
    """That of a run which has ended."""
    job = make_job(home, "lora", **QUICK | {"r": 4, "max_steps": 2})
    train_job.run(job)
    folder: Path = job.dir.model
    return folder


def test_an_adapter_in_another_form_or_with_a_module_to_import_is_refused(home: Home, marker: Path) -> None:
    folder = adapter(home)
    base = make_model()
    change(folder / "adapter_config.json", megatron_config={"a": 1}, megatron_core="megatron.core")
    with pytest.raises(ModelError, match="names a module to import"):
        saved_models.load_tuned_model(folder, base)
    change(folder / "adapter_config.json", megatron_config=None, peft_type="XLORA")
    with pytest.raises(ModelError, match="X-LoRA"):
        saved_models.load_tuned_model(folder, base)
    change(folder / "adapter_config.json", peft_type="LORA")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"weights": Bomb(marker)}, folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        saved_models.load_tuned_model(folder, base)
    earlier = make_job(home, "second", **QUICK | {"r": 4, "init_from": "lora"})
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        train_job.run(earlier)


def test_a_repository_of_a_hub_that_is_an_adapter_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would load the base that the adapter names: any folder of the machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache, commit = tmp_path / "hub", "0" * 40
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repository = cache / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = write_model(repository / "snapshots" / commit)
    config = TrainConfig(model="owner/name", dataset="rows", dtype="float32")
    assert loading.load_model(config, "owner/name", "cpu", torch.float32) is not None
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(home.models / "tiny")}
    (snapshot / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="owner/name is an adapter"):
        loading.load_model(config, "owner/name", "cpu", torch.float32)


# -- every loader says so ---------------------------------------------------------------------------

LOADERS = {"from_pretrained", "from_config", "pipeline", "LLM"}
OF_PEFT = {"PeftModel"}  # has no such argument, and its folder was looked at


def calls_of(file: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if name in LOADERS and owner not in OF_PEFT:
                yield node


def spread(call: ast.Call) -> set[str]:
    return {keyword.value.id for keyword in call.keywords if isinstance(keyword.value, ast.Name)}


def test_every_loader_is_told_to_run_none() -> None:
    files = [*(ROOT / "engine").rglob("*.py"), *(ROOT / "store").rglob("*.py")]
    calls = [(file, call) for file in files for call in calls_of(file)]
    assert len(calls) > 10
    for file, call in calls:
        # `options` of a reader of exports begins with it
        spreads = spread(call) & {"NO_CODE", *(("options",) if file.name == "transformers_reader.py" else ())}
        assert spreads, f"{file.name}:{call.lineno} says nothing of code that comes with a model"


def test_only_the_one_place_names_the_argument() -> None:
    script = ROOT / "engine" / "export" / "format_writers.py"  # runs in an environment without us
    place = ROOT / "store" / "core" / "config.py"
    for house in ("store", "engine", "pages", "tunebench"):
        for file in (ROOT / house).rglob("*.py"):
            if file not in (place, script):
                assert "trust_remote_code" not in file.read_text(encoding="utf-8"), file
    assert '"trust_remote_code": False' in script.read_text(encoding="utf-8")


def test_a_config_that_asks_for_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"does not run custom code of models") as caught:
        TrainConfig.parse({"dataset": "d", "trust_remote_code": True})
    assert "auto_map" in caught.value.fix
