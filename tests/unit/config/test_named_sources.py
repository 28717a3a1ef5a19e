"""Every field that names something of the engine's machine says so by its type, in whatever config it is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import store
from store.core.config import Config, SourceReference, get_source_kind, list_partial_sources, list_sources
from store.data.config import CleanConfig, ImportConfig
from store.http.client import Client
from store.serving.config import ChangeEndpoint
from store.training.train_config import TrainConfig
from tunebench.agents.server import AgentServer

# What a field is called that names a model, a file or a folder.
CALLED = {
    *("model", "subject", "base", "against", "classifier", "source", "folder", "init_from"),
    *("path", "paths", "file", "files", "key_file", "out", "target"),
}
# Fields of such a name that are none: (class, field) -> what they are.
NONE_OF_THEM = {
    ("TrainConfig", "init_from"): "a run, which the store looks up",
    ("ModelExport", "subject"): "a run or a version, which the store looks up",
    ("ModelVerify", "subject"): "the same",
    ("ParityTarget", "subject"): "the same",
    ("BiasGroups", "against"): "an evaluation",
    ("CustomMetricChoice", "file"): "a plain name in the home folder's metrics",
    ("Endpoint", "model"): "a name that another server knows",
    ("JudgeChoice", "model"): "the same",
    ("RemoteModel", "model"): "the same",
    ("Endpoint", "key_file"): "checked with the address that it goes to (`machine_access`)",
    ("JudgeChoice", "key_file"): "the same",
    ("FeedbackRowSource", "model"): "the name that an endpoint answers to",
    ("BackendAdapter", "folder"): "of a spec that the gateway writes",
    ("BackendConfig", "model"): "the same",
    ("ManifestFile", "path"): "of a bundle's manifest, compared with fixed names",
    ("WatchConfig", "source"): "of an order that the engine writes",
    ("QuestionToEndpoint", "model"): "a name that an endpoint answers to",
    ("ConfirmedLaunch", "init_from"): "a run, which the store looks up",
    ("ArgumentsOfget_model", "model"): "a registered model, which the store looks up",
    ("ArgumentsOflist_improvements", "model"): "the same",
}
REGISTERED = {"SetGate", "ImproveConfig", "ImproveSchedule", "ImproveSettings", "UnscheduleImprovement"} | {
    "AliasReference",
    "DescribeModel",
}  # `model` is the plain name of a registered model, held to a pattern


def configs() -> Iterator[type[Config]]:
    """All that there are in the store, in the engine, and as arguments of an agent's tools."""
    AgentServer(Client)
    for module in pkgutil.walk_packages(store.__path__, "store."):
        importlib.import_module(module.name)
    waiting: list[type[Config]] = [Config]
    while waiting:
        waiting += (deeper := waiting.pop().__subclasses__())
        yield from (each for each in deeper if not each.__module__.startswith("tests."))


def names_text(annotation: object) -> bool:
    return "str" in str(annotation) and "store." not in str(annotation)


def test_no_field_is_forgotten() -> None:
    kinds = {
        (config.__name__, name): get_source_kind(field)
        for config in configs()
        for name, field in config.model_fields.items()
        if name in CALLED and names_text(field.annotation) and "Literal" not in str(field.annotation)
    }
    assert kinds[("TrainConfig", "model")] == "model"
    assert len(kinds) > 30
    for (config, name), kind in kinds.items():
        if (config, name) not in NONE_OF_THEM and not (config in REGISTERED and name == "model"):
            assert kind, f"{config}.{name} is a name or a path of the machine and is not marked as one"


DEEP = [
    (TrainConfig, {"dataset": "d", "model": "/m"}, [("model", "model", "/m")]),
    (
        ImportConfig,
        {"source": {"paths": ["/a.csv", "/b.csv"]}},
        [("source.paths.0", "file", "/a.csv"), ("source.paths.1", "file", "/b.csv")],
    ),
    (
        CleanConfig,
        {
            "dataset": "d",
            "recipe": {"steps": [{"step": "strip"}, {"step": "cap_length", "most": 9, "model": "/m"}]},
        },
        [("recipe.steps.1.model", "model", "/m")],
    ),
    (
        ChangeEndpoint,
        {
            "endpoint": "e",
            "settings": {"models": [{"name": "n", "routes": [{"subject": "/m.gguf"}]}]},
        },
        [("settings.models.0.routes.0.subject", "subject", "/m.gguf")],
    ),
]


@pytest.mark.parametrize(("config", "body", "named"), DEEP)
def test_what_is_named_is_found_however_deep(
    config: type[Config], body: dict[str, object], named: list[tuple[str, str, str]]
) -> None:
    assert [tuple(each) for each in list_sources(config.parse(body)) if each.value] == named


def test_of_a_document_that_is_not_whole_too() -> None:
    named = list(list_partial_sources(TrainConfig, {"model": " /m ", "r": "x", "dataset": 3}, "config"))
    assert named == [SourceReference("config.model", "model", "/m")]
