"""Continuations in the bias job, on tiny models: a model is no more harmful than itself, probabilities are
those of transformers, and what can't judge is refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from engine.bias import continuation_probe
from engine.bias.continuation_probe import ContinuationProbe
from engine.bias.scoring import ProbedModel
from engine.models import hardware
from store.bias.config import BiasContinuations
from store.bias.schemas import BiasResult
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.rating.config import RowFile
from tests.engine.processes.test_bias_job import checked
from tests.engine.shipping.test_registering import placed, registering
from tests.tiny import encoder_config, make_encoder_tokenizer, write_model

LABELS = ["calm", "harm", "threat"]
SAME = {"model": "first", "against": "first", "builtin": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home")).create()
    write_model(home.models / "first", max_position_embeddings=256)
    write_model(home.models / "second", seed=1, max_position_embeddings=256)
    torch.manual_seed(4)
    config = encoder_config("bert", num_labels=3, id2label=dict(enumerate(LABELS)), initializer_range=0.5)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(home.models / "judge")
    make_encoder_tokenizer().save_pretrained(home.models / "judge")
    return home


def of(home: Home, name: str, asked: dict[str, Any], classifier: str = "judge", **config: Any) -> BiasResult:
    named = {"name": "Judge", "run_id": None, "evaluations": []}
    whole = {"classifier": classifier, "labels": ["harm"], "samples": 2, "max_new_tokens": 6} | asked
    return checked(home, name, {"classifier": named}, **(SAME | config), continuations=whole)


def headed(home: Home, name: str, **settings: Any) -> Path:
    """The judge again, with other settings."""
    folder = home.models / name
    shutil.copytree(home.models / "judge", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """As RealToxicityPrompts has them, with rows that are none."""
    path = tmp_path / "prompts.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": {"text": f"Number {i} went to"}, "of": "ab"[i % 2]} for i in range(24)
    ]
    rows += [{"prompt": {"text": " "}}, {"prompt": None}, {"prompt": {"text": "Number 1 went to"}}]
    rows += [{"prompt": "x" * 300}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_is_no_more_harmful_than_itself(home: Home, prompts: Path) -> None:
    made = of(home, "same", {"file": {"path": str(prompts)}, "group_column": "of"})
    figures = {(figure.measure, figure.group): figure for figure in made.report.figures}
    assert {key for key in figures if key[1]} == {("toxic_share", "a"), ("toxic_share", "b")}
    for figure in figures.values():
        assert figure.base == figure.tuned
        assert figure.change.value == 0
        assert figure.change.low < 0 < figure.change.high
    assert figures["toxic_share", ""].tuned.n == 24
    assert made.report.worse == 0
    assert made.details.continuations.changed == []
    probe = made.details.probes[0]
    assert (probe.items, probe.rows) == (24, 28)
    assert sorted(probe.left_out.values()) == [1, 1, 2]
    assert any("Error rate of" in limit for limit in made.report.limits)


def test_probabilities_are_those_of_transformers(home: Home, prompts: Path) -> None:
    asked = {"file": {"path": str(prompts)}, "labels": ["harm", "threat"], "threshold": 0.6, "max_rows": 12}
    made = of(home, "apart", asked, model="second")
    changed = made.details.continuations.changed
    assert changed
    assert made.details.probes[0].notices[0] == "Random sample of 12 of 25 prompts."
    judge = AutoModelForSequenceClassification.from_pretrained(home.models / "judge").eval()
    tokenizer = make_encoder_tokenizer()
    for line in changed:
        for text, probability in (
            (line.base, line.base_probability),
            (line.tuned, line.tuned_probability),
        ):
            if text:
                with torch.inference_mode():
                    logits = judge(**tokenizer(text, return_tensors="pt")).logits[0]
                expected = float(logits.softmax(-1)[1:].sum())
                assert probability == pytest.approx(expected, abs=1e-5)


def test_labels_that_are_true_by_themselves_may_all_be_harmful(home: Home) -> None:
    """As toxic-bert has them: sigmoids, of which the likeliest counts."""
    folder = headed(home, "several", problem_type="multi_label_classification")
    asked = {"labels": LABELS, "samples": 1, "max_rows": 10}
    made = of(home, "several", asked, "several", model="second")
    (line, *_) = made.details.continuations.changed
    judge = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = judge(**make_encoder_tokenizer()(line.tuned or "x", return_tensors="pt")).logits[0]
    expected = float(logits.sigmoid().max()) if line.tuned else 0.0
    assert line.tuned_probability == pytest.approx(expected, abs=1e-5)


def as_version(home: Home, number: int, folder: Path) -> str:
    """The folder registered; its reference."""
    placed(home, registering(home, f"register-{number}", path=str(folder)), number)
    return f"sums@{number}"


def figures_of(made: BiasResult) -> list[tuple[str, float, float]]:
    return [(f.measure, f.base.value, f.tuned.value) for f in made.report.figures]


def test_a_version_judges_as_the_folder_that_was_registered(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that are true by themselves, all of them harmful, and precise where the device prefers bf16."""
    monkeypatch.setattr(hardware, "cpu_multiplies_bf16", lambda: True)
    folder = headed(home, "several-too", problem_type="multi_label_classification")
    asked = {"labels": LABELS, "samples": 1, "max_rows": 10}
    of_folder = of(home, "as-folder", asked, str(folder), model=str(home.models / "second"))
    assert "second is " in of_folder.report.sentence
    assert str(home.path) not in str(of_folder.report)  # it stands in public cards
    of_version = of(home, "as-version", asked, as_version(home, 1, folder), model="second")
    assert figures_of(of_version) == figures_of(of_folder)
    assert of_version.details.continuations.changed == of_folder.details.continuations.changed


def test_a_version_whose_head_is_not_in_its_files_is_refused(home: Home) -> None:
    folder = headed(home, "headless-too")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="would be random") as caught:
        of(home, "version-headless", {"samples": 1, "max_rows": 10}, as_version(home, 2, folder))
    assert caught.value.field == "continuations.classifier"


def test_rows_with_a_label_that_it_does_not_have_are_left_out(home: Home) -> None:
    """They may be harmful or not; nobody said."""
    folder = home.jobs / "judged-other"
    folder.mkdir()
    table = {
        "label": ["hateful"] * 6 + ["calm"] * 4,
        "prediction": ["harm"] * 6 + ["calm"] * 4,
        "probability": [0.9] * 10,
    }
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    evaluation = {"evaluation_id": "judged-other", "name": "Others", "fingerprint": "rows"}
    named = {"name": "Judge", "run_id": None, "evaluations": [evaluation]}
    asked = {"classifier": "judge", "labels": ["harm"], "samples": 1, "max_new_tokens": 2, "max_rows": 10}
    made = checked(home, "other-labels", {"classifier": named}, **SAME, continuations=asked)
    (error,) = made.details.continuations.errors
    assert (error.recall, error.other_labels) == (None, 6)
    assert (error.false_positive.value, error.false_positive.n) == (0.0, 4)


def test_openings_that_are_too_long_are_not_asked_and_none_left_is_an_error(
    home: Home, tmp_path: Path
) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i} " * 200}) + "\n" for i in range(10)))
    with pytest.raises(DataError, match="exceed the context length") as caught:
        of(home, "all-long", {"file": {"path": str(path)}})
    assert caught.value.field == "continuations.file"
    with path.open("a") as file:
        file.write(json.dumps({"prompt": "Short"}) + "\n")
    begins = continuation_probe.read_openings(
        home,
        BiasContinuations(classifier="judge", labels=["harm"], file=RowFile(path=str(path))),
        0,
        lambda: None,
    )
    asked: list[int] = []

    def continued(
        model: Any, tokenizer: Any, encoded: list[list[int]], *_: Any, **__: Any
    ) -> list[list[int]]:
        asked.append(len(encoded))
        return [[1]] * len(encoded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continuation_probe, "generate_continuations", continued)
        probing = ContinuationProbe(BiasContinuations(classifier="j", labels=["harm"], samples=2), begins, 0)
        model = ProbedModel(None, make_encoder_tokenizer(), 256, torch.device("cpu"), 4)
        probing.ask("base", model, lambda count: None)
    assert asked == [1, 1]
    assert probing.usable() == [10]


def test_its_known_error_stands_beside_the_figures(home: Home) -> None:
    """By hand: of 10 harmful rows 7 are called so, of 20 others 1; one row's kept labels don't settle it."""
    folder = home.jobs / "judged"
    folder.mkdir()
    truth = ["harm"] * 10 + ["calm"] * 20
    answers = ["harm"] * 7 + ["calm"] * 3 + ["harm"] + ["calm"] * 19
    likely = [0.9] * 29 + [0.4]
    table = {"row_id": range(30), "label": truth, "prediction": answers, "probability": likely}
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    evaluation = {"evaluation_id": "judged", "name": "Known rows", "fingerprint": "rows"}
    named = {"name": "Judge", "run_id": None, "evaluations": [evaluation]}
    asked = {"classifier": "judge", "labels": ["harm"], "samples": 1, "max_new_tokens": 2, "max_rows": 10}
    made = checked(home, "error", {"classifier": named}, **SAME, continuations=asked)
    (error,) = made.details.continuations.errors
    assert (error.recall.value, error.recall.n) == (0.7, 10)
    assert (error.false_positive.value, error.false_positive.n) == (0.05, 20)
    assert error.by_likeliest == 1
    assert any("recall 70%" in limit and "Known rows" in limit for limit in made.report.limits)


@pytest.mark.parametrize(
    ("classifier", "labels", "field", "words"),
    [
        ("second", ["harm"], "continuations.classifier", "is a generative model without labels"),
        ("judge", ["rude"], "continuations.labels", "no label 'rude'"),
        ("judge", LABELS, "continuations.labels", "All labels"),
        ("./gone", ["harm"], "continuations.classifier", "gone"),
    ],
)
def test_what_cannot_judge_is_refused_first(
    home: Home, classifier: str, labels: list[str], field: str, words: str
) -> None:
    name = f"refused-{classifier.strip('./')}-{len(labels)}"
    with pytest.raises(Exception, match=words) as caught:
        of(home, name, {"labels": labels}, classifier, model="not there")
    assert getattr(caught.value, "field", "") == field


def test_a_head_that_is_not_in_the_files_is_refused(home: Home) -> None:
    """transformers would give it random weights and call it a classifier."""
    folder = home.models / "headless"
    write_model(folder, max_position_embeddings=256)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": dict(enumerate(LABELS))}
    (folder / "config.json").write_text(
        json.dumps(config | {"label2id": {n: i for i, n in enumerate(LABELS)}})
    )
    with pytest.raises(ConfigError, match="would be random"):
        of(home, "headless", {"max_rows": 10}, "headless")


def test_a_file_without_openings_is_refused(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text("prompt,x\n,1\n,2\n")
    with pytest.raises(DataError, match="empty prompt") as caught:
        of(home, "none", {"file": {"path": str(path)}})
    assert caught.value.field == "continuations.file"
    with pytest.raises(DataError, match="no column 'text'"):
        of(home, "no-column", {"file": {"path": str(path)}, "column": "text"})


def test_a_column_may_have_a_dot_in_its_name(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "dotted.csv"
    path.write_text("prompt.text,x\nOne went,1\nTwo went,2\n")
    asked = BiasContinuations(
        classifier="judge", labels=["harm"], file=RowFile(path=str(path)), column="prompt.text"
    )
    begins = continuation_probe.read_openings(home, asked, 0, lambda: None)
    assert [opening.text for opening in begins.openings] == ["One went", "Two went"]


def test_no_two_samples_of_two_seeds_are_drawn_alike() -> None:
    """With seed + sample, seed 1 would draw the samples of seed 0 again."""
    asked = BiasContinuations(classifier="judge", labels=["harm"])
    none = continuation_probe.Openings("none", [], 0)
    model = ProbedModel(None, None, None, torch.device("cpu"), 4)
    drawn = [
        ContinuationProbe(asked, none, seed)._drawn(sample, model).sampling
        for seed in range(4)
        for sample in range(4)
    ]
    assert len({sampling.seed for sampling in drawn if sampling}) == 16


def test_built_in_openings_are_as_many_of_each_axis() -> None:
    by_axis: dict[str, list[str]] = {}
    for opening in continuation_probe.load_builtin_openings():
        by_axis.setdefault(opening.group, []).append(opening.text)
        assert opening.text == opening.text.strip()
    assert {len(set(texts)) for texts in by_axis.values()} == {12}
    assert len(by_axis) == 8
