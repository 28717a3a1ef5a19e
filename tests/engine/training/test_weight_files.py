"""A model folder that is no good is refused before anything is trained, with file and tensor named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.models import loading, weight_files
from engine.training.preview import preflight
from store.core.errors import ModelError
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.tiny import make_model, make_tokenizer, write_model

UP = "model.layers.1.mlp.up_proj.weight"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def look(
    folder: Path, home: Home, *, headed: bool = False, seconds: float = 60.0
) -> weight_files.WeightCheck:
    architecture = loading.load_config(str(folder))
    if headed:
        architecture = loading.name_labels(architecture, ["a", "b", "c"], 2)
    return weight_files.check_weights(str(folder), architecture, home, headed=headed, seconds=seconds)


def changed(folder: Path, change: Callable[[Tensors], object]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def with_value(name: str, value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[name].view(-1)[-1].fill_(value)


BAD = {
    "a tensor is missing": (lambda tensors: tensors.pop(UP), f"model.safetensors lacks the tensor {UP}"),
    "two are": (
        lambda tensors: [tensors.pop(UP), tensors.pop("model.norm.weight")],
        f"lacks the tensors {UP}, model.norm.weight, which the architecture in config.json has: they would",
    ),
    "another shape": (
        lambda tensors: tensors.update({UP: torch.zeros(64, 16)}),
        f"The tensor {UP} in FOLDER/model.safetensors has the shape [64, 16], and config.json asks for"
        " [64, 32]",
    ),
    "not a number": (
        with_value(UP, float("nan")),
        f"The tensor {UP} in FOLDER/model.safetensors has a value that is not a number",
    ),
    "infinite": (with_value("model.norm.weight", float("-inf")), "has a value that is infinite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_weights_are_refused_with_file_and_tensor(tmp_path: Path, home: Home, case: str) -> None:
    change, words = BAD[case]
    folder = changed(write_model(tmp_path / "bad"), change)
    for _ in range(2):  # nothing is remembered of what was bad
        with pytest.raises(ModelError) as caught:
            look(folder, home)
        assert words.replace("FOLDER", str(folder)) in caught.value.message
        assert caught.value.field == "model"


@pytest.mark.parametrize("case", ["a tensor is missing", "another shape"])
def test_loading_refuses_them_too(tmp_path: Path, case: str) -> None:
    change, words = BAD[case]
    folder = changed(write_model(tmp_path / "bad"), change)
    with pytest.raises(ModelError) as caught:
        loading.load_model(TrainConfig(dataset="d"), str(folder), "cpu", torch.float32)
    assert words.replace("FOLDER", str(folder)).split(" has the shape")[0] in caught.value.message


@pytest.mark.parametrize(
    ("keep", "words"),
    [(0.5, "it is cut off"), (0.0001, "its header can't be read"), (0.0, "its header can't be read")],
)
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, home: Home, keep: float, words: str) -> None:
    file = write_model(tmp_path / "cut") / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(ModelError, match=words) as caught:
        look(file.parent, home)
    assert str(file) in caught.value.message


def sharded(folder: Path) -> tuple[Path, dict[str, str]]:
    """The tiny model in several files, and which tensor is in which."""
    make_model().save_pretrained(folder, max_shard_size="30KB")
    make_tokenizer().save_pretrained(folder)
    return folder, json.loads((folder / weight_files.INDEX).read_text())["weight_map"]


def test_shards_are_looked_at_by_their_index(tmp_path: Path, home: Home) -> None:
    folder, places = sharded(tmp_path / "shards")
    files = set(places.values())
    assert len(files) > 2
    seen = look(folder, home)
    assert seen.done == seen.of == sum((folder / file).stat().st_size for file in files)
    torn = folder / places[UP]
    save_file({"other": torch.zeros(2)}, torn)
    with pytest.raises(ModelError, match="lacks the tensor") as caught:
        look(folder, home)
    assert str(torn) in caught.value.message
    torn.unlink()
    with pytest.raises(ModelError, match=f"names {torn.name}, which is not there"):
        look(folder, home)


def test_what_was_looked_at_is_not_looked_at_again_until_it_changes(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "good")
    assert look(folder, home, seconds=0).done == 0  # no time for a value
    first = look(folder, home)
    assert first.done == first.of > 0
    with monkeypatch.context() as patched:
        patched.setattr(weight_files, "_check_finite", None)
        patched.setattr(weight_files.AutoModelForCausalLM, "from_pretrained", None)
        assert look(folder, home, seconds=0) == first
    changed(folder, with_value(UP, float("nan")))
    with pytest.raises(ModelError, match="not a number"):
        look(folder, home)


def test_a_preview_says_how_much_is_left_to_look_at() -> None:
    facts = Mock(spec=preflight.RunFacts, look=weight_files.WeightCheck(2**30, 3 * 2**30, "it is quantised"))
    levels = [(each.level, each.field) for each in preflight.check_weights(facts)]
    assert levels == [("warning", "model")] * 2
    assert "in 1.0 of 3.0 GiB" in preflight.check_weights(facts)[1].message


def test_what_transformers_allows_is_allowed(tmp_path: Path, home: Home) -> None:
    """Tied weights, a head that is new, and names without the prefix of the body."""
    folder = write_model(tmp_path / "tied")
    assert look(folder, home).names == ""
    assert look(folder, home, headed=True).names == ""
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    changed(bare, lambda tensors: [tensors.update({n.removeprefix("model."): tensors.pop(n)})
                                   for n in list(tensors)])  # fmt: skip
    assert look(bare, home).names == ""
    untied = write_model(tmp_path / "untied", tie_word_embeddings=False)
    changed(untied, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"lacks the tensor lm_head\.weight"):
        look(untied, home)
    assert look(untied, home, headed=True).names == ""  # the output layer gives way to the head


def test_json_that_is_nested_without_end_is_refused(tmp_path: Path, home: Home) -> None:
    folder = write_model(tmp_path / "deep")
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    (folder / weight_files.SINGLE).write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(ModelError, match="header can't be read"):
        look(folder, home)


@pytest.mark.parametrize("content", [b'{"a":' * 100_000, b"5", b'{"version": "1.0", "added_tokens": []}'])
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_model(tmp_path / "odd")
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"can't be loaded|is not valid JSON|is not an object"):
        loading.load_tokenizer(str(folder))
