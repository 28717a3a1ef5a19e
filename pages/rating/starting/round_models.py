"""The models of a new round: answers that are there, and runs and models that answer first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_form import MODELS
from pages.run_parts import run_reads
from pages.shared import reads
from store.config.judging.evaluate_config import EvaluateConfig
from store.config.judging.round_config import MOST_MODELS

MOST = 100  # evaluations and runs to choose from
P = "round-new-"


class ModelOption(NamedTuple):
    """A model to choose: its label, and the fields of its `RoundModel`."""

    label: str
    model: dict[str, str]


ModelOptions = Mapping[str, ModelOption]


def answered_options(dataset_id: str) -> dict[str, ModelOption]:
    """Evaluations with answers to rows of the data set."""
    lines = evaluation_reads.listed("", dataset_id, "", MOST, 0)[1]
    return {
        f"e:{line['evaluation_id']}": ModelOption(
            f"{line['name']} ({plural(line['n'], 'answer')} there)", {"evaluation": line["evaluation_id"]}
        )
        for line in lines
        if EvaluateConfig.of_past(line["config"]).generates
    }


def named_options(answers: Mapping[str, int]) -> dict[str, ModelOption]:
    """Names under which a file has answers."""
    return {
        f"a:{name}": ModelOption(f"{name} ({plural(count, 'answer')} in the file)", {"answers": name})
        for name, count in answers.items()
    }


def other_options() -> dict[str, ModelOption]:
    """Runs and models by name, which answer the prompts first."""
    options: dict[str, ModelOption] = {}
    for run in run_reads.newest("", ("finished",), MOST):
        if run["config"].get("task") == "classification":
            continue
        for checkpoint in ("tuned", "base"):
            model = {"run": run["run_id"], "checkpoint": checkpoint}
            label = f"{run['name']}: {MODELS[checkpoint].lower()}"
            options[f"r:{checkpoint}:{run['run_id']}"] = ModelOption(label, model)
    for name in reads.registered_models():
        options[f"m:{name}"] = ModelOption(name, {"model": name})
    for named in reads.models():
        options[f"m:{named['name']}"] = ModelOption(f"{named['name']} (model)", {"model": named["name"]})
    return options


def draw_models(options: ModelOptions, key: str) -> list[dict[str, str]]:
    """The choice; a run that the link names is in it, tuned and base. `key`: of the prompts."""
    asked = st.query_params.get("run", "")
    default = [option for option in (f"r:base:{asked}", f"r:tuned:{asked}") if option in options]
    chosen = st.multiselect(
        "Models",
        list(options),
        default=default,
        format_func=lambda option: options[option].label,
        max_selections=MOST_MODELS,
        key=f"{P}models.{key}",
        placeholder="Choose two or more",
        help="Answers that are there are taken as they are. A run or a model answers the same prompts first.",
    )
    return [options[option].model for option in chosen]
