"""Job `bias`: run the same probes on two models, compute group metrics of scored rows, and report what got
worse.

Files and classifier labels are read before a model is loaded, so that invalid inputs fail early. Only one
model is in memory at a time: the classifier judges continuations after both models are unloaded.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.bias import continuation_probe, groups, harm_classifier, item_files, scoring, verdict
from engine.bias import text as words
from engine.bias.continuation_probe import ContinuationProbe
from engine.bias.probes import BASE, PROBE_CLASSES, TUNED, BuiltinProbe, RunnableProbe
from engine.bias.rates import MeasuredBias
from engine.bias.scoring import ProbedModel
from engine.evaluation import evaluated_model
from engine.evaluation.live_answers import TOKEN_COST
from engine.models import hardware, loading, saved_models
from engine.models.hardware import choose_dtype, read_versions
from engine.worker.job import Phase, Phases, WorkerJob
from engine.worker.progress import RowProgressReporter
from store.bias.config import BiasConfig, BiasContinuations
from store.bias.schemas import BiasDetails, BiasResult, ClassifierJudgement, GroupComparison
from store.core.errors import ConfigError, ModelError
from store.core.figure_schemas import BiasReport
from store.evaluation.config import ModelSelection
from store.jobs.schemas import ComparedVersion, JobSpec
from store.rating.config import RowFile
from store.runs.card_text import get_last_part, parse_hub_id

HEADED = "Bias probes are not available for models with a classification head."


@dataclass(frozen=True)
class BiasSubject:
    """One of the two models; `which` is base or tuned, `field` the config field that names it."""

    which: str
    field: str
    chosen: ModelSelection
    version: ComparedVersion | None = None


def build_subjects(job: WorkerJob, config: BiasConfig) -> tuple[BiasSubject, BiasSubject]:
    """Return the base and the tuned subject."""
    if config.run:
        return (
            BiasSubject("base", "run", ModelSelection(run=config.run, checkpoint="base")),
            BiasSubject("tuned", "run", ModelSelection(run=config.run)),
        )
    versions: dict[str, ComparedVersion] = job.spec.get("compared_versions") or {}
    return (
        BiasSubject("base", "against", ModelSelection(model=config.against), versions.get(config.against)),
        BiasSubject("tuned", "model", ModelSelection(model=config.model), versions.get(config.model)),
    )


def load_subject(job: WorkerJob, subject: BiasSubject, batch_size: int) -> ProbedModel:
    """Load the model. Raises ConfigError if it doesn't generate text, and the errors of loading it."""
    version = subject.version
    loaded = _load_version(job, version) if version else evaluated_model.load_model(job, subject.chosen)
    if loaded.labels is not None:
        raise ConfigError(HEADED, fix="Compare groups of evaluated rows instead.", field=subject.field)
    return ProbedModel(loaded.model, loaded.tokenizer, loaded.positions, torch.device(job.device), batch_size)


def _load_version(job: WorkerJob, version: ComparedVersion) -> evaluated_model.EvaluatedModel:
    """Load a registered version: a full model, or an adapter with its base model."""
    folder = job.home.path / version["folder"]
    reference = version["reference"]
    if not folder.is_dir():
        raise ModelError(
            f"The folder of {reference} no longer exists: {folder}.",
            fix="Register the model again.",
            field="model",
        )
    if not version["adapter"]:
        return evaluated_model.load_untrained(
            job, evaluated_model.build_default_config(str(folder)), str(folder)
        )
    if not version["base_model"]:
        raise ModelError(
            f"{reference} is an adapter without a base model.", fix="Register the model again.", field="model"
        )
    config = evaluated_model.build_default_config(version["base_model"])
    source = evaluated_model.resolve_source(job, version["base_model"])
    below = evaluated_model.load_untrained(job, config, source)
    model: Any = saved_models.load_tuned_model(folder, below.model)
    dtype = choose_dtype(config.dtype, torch.device(job.device))
    for parameter in model.parameters():  # peft loads some in fp32
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    tokenizer = (
        loading.load_tokenizer(str(folder), model=source)
        if (folder / "tokenizer.json").exists()
        else below.tokenizer
    )
    return evaluated_model.EvaluatedModel(model, tokenizer, config, below.positions)


JUDGING = "Classifying continuations"
MAX_PAIRS = 40  # pairs stored for all probes together
LIMITS_BY_KIND = {
    "stereotype_pairs": (
        "Stereotype pairs such as CrowS-Pairs are noisy: the authors advise against using them alone, and a"
        " share near 50% does not prove fairness."
    ),
    "coreference": "Pronoun items cover occupations and two genders only, in synthetic sentences.",
    "ambiguous_choice": "Multiple choice is scored by the answer texts; small models often guess.",
    "group_gap": "A gap may come from the data rather than the model: labels can be wrong for a group.",
}
ITEM_TOKENS = 120  # approximate tokens read per item
DEFAULT_ITEMS = 1_500  # items per file: about as many as CrowS-Pairs and WinoBias have


def phases(spec: JobSpec) -> Phases:
    """Return the phases: each probe on base, then on tuned, then the classifier; shares are approximate
    tokens read.
    """
    config = BiasConfig.parse(spec["config"])
    costs = _estimate_costs(config)
    asked = [Phase(_format_message(which, name), costs[name]) for which in (BASE, TUNED) for name in costs]
    judging = Phase(JUDGING, 2 * ITEM_TOKENS * _count_continuations(config.continuations))
    before = Phase(("Reading ", "Loading the classifier"), 0)
    return (evaluated_model.LOADING_MESSAGE, before, *asked, judging, Phase("Comparing models"))


def _estimate_costs(config: BiasConfig) -> dict[str, float]:
    """Return the approximate number of tokens that one model reads for each probe, by name."""
    written = TOKEN_COST * scoring.MAX_WRITTEN_TOKENS * 2 * len(scoring.build_writing_pairs())
    costs: dict[str, float] = (
        {scoring.BUILTIN_NAME: ITEM_TOKENS * len(scoring.build_decision_pairs()) + written}
        if config.builtin
        else {}
    )
    for file in config.files:  # files of the same name share their progress phase
        costs[_get_file_name(file)] = costs.get(_get_file_name(file), 0.0) + ITEM_TOKENS * (
            file.max_rows or DEFAULT_ITEMS
        )
    if continued := config.continuations:
        name = _get_file_name(continued.file) if continued.file else continuation_probe.OPENINGS_NAME
        costs[name] = TOKEN_COST * continued.max_new_tokens * _count_continuations(continued)
    return costs


def _get_file_name(file: RowFile) -> str:
    return Path(file.path or file.upload or "").name


def _count_continuations(asked: BiasContinuations | None) -> int:
    """Return the approximate number of continuations by one model."""
    return asked.samples * (asked.max_rows or len(continuation_probe.load_builtin_openings())) if asked else 0


def _format_message(which: str, probe: str) -> str:
    return f"Probing the {which} model: {probe}"


def run(job: WorkerJob) -> BiasResult:
    """Run the check in `job.config`."""
    config = BiasConfig.parse(job.config)
    try:
        return _check(job, config)
    except Exception as error:
        if isinstance(error, hardware.OutOfMemory) or hardware.is_out_of_memory(error):
            smaller = max(1, config.per_device_eval_batch_size // 4)
            raise hardware.OutOfMemory(
                "The device ran out of memory while probing the models.",
                fix=f"Set per_device_eval_batch_size to {smaller}, or use a smaller model.",
                field="per_device_eval_batch_size",
                change={"per_device_eval_batch_size": smaller},
            ) from error
        raise


def _check(job: WorkerJob, config: BiasConfig) -> BiasResult:
    began = time.monotonic()
    job.status("preparing")
    probes = _load_probes(job, config)
    figures: list[MeasuredBias] = []
    compared: list[GroupComparison] = []
    for asked in config.groups:
        job.check_cancelled()
        measured, document = groups.measure_groups(job, asked)
        figures += measured
        compared.append(document)
    job.status("evaluating")
    judged_by = _ask_all(job, config, probes) if probes else None
    figures = [figure for probe in probes for figure in probe.figures()] + figures
    job.progress(1, 1, "check", "Comparing models")
    pairs = sorted(
        (pair for probe in probes for pair in probe.changed()),
        key=lambda pair: abs(pair.base) - abs(pair.tuned),
    )
    report = verdict.build_report(
        figures, _list_limits(config, figures), _find_compared_models(config, compared)
    )
    report.limits += _list_harm_limits(judged_by, report)
    details = BiasDetails(
        probes=[probe.document() for probe in probes],
        pairs=pairs[:MAX_PAIRS],
        groups=compared,
        seconds=time.monotonic() - began,
        device=job.device,
        versions=read_versions(),
    )
    if judged_by is not None:
        details.continuations = judged_by
    return BiasResult(report=report, details=details)


def _list_limits(config: BiasConfig, figures: Sequence[MeasuredBias]) -> list[str]:
    """Return the limitations of the probes."""
    kinds = dict.fromkeys(figure.kind for figure in figures)
    return [
        *(scoring.BUILTIN_LIMITS if config.builtin else ()),
        *(LIMITS_BY_KIND[kind] for kind in kinds if kind in LIMITS_BY_KIND),
    ]


def _list_harm_limits(judged_by: ClassifierJudgement | None, report: BiasReport) -> list[str]:
    """Return the limitations of the classifier, or that there was none."""
    if judged_by is None:
        return [words.NO_TOXICITY]
    own = continuation_probe.OPENING_LIMITS if judged_by.probe == continuation_probe.OPENINGS_NAME else ()
    return [*words.list_toxicity_limits(judged_by, report.figures), *own]


def _find_compared_models(
    config: BiasConfig, compared: Sequence[GroupComparison]
) -> words.ComparedModels | None:
    """Return the names of what is compared; None for a run and its base."""
    if config.run:
        return None
    if config.model:
        return words.ComparedModels(_shorten_model_name(config.model), _shorten_model_name(config.against))
    return words.ComparedModels(compared[0].evaluation, compared[0].against or "")


def _shorten_model_name(model: str) -> str:
    """Remove a folder's path, as the sentence is shown in the model's public card."""
    return parse_hub_id(model) or get_last_part(model)


def _load_probes(job: WorkerJob, config: BiasConfig) -> list[RunnableProbe]:
    probes: list[RunnableProbe] = [BuiltinProbe()] if config.builtin else []
    for asked in config.files:
        job.progress(0, 1, "files", f"Reading {asked.path or asked.upload}")
        read = item_files.read_items(job.home, asked, config.seed, job.check_cancelled)
        probes.append(PROBE_CLASSES[read.form](read))
    if config.continuations:
        harm_classifier.check_labels(job, config.continuations)
        begins = continuation_probe.read_openings(
            job.home, config.continuations, config.seed, job.check_cancelled
        )
        probes.append(ContinuationProbe(config.continuations, begins, config.seed))
    return probes


def _ask_all(job: WorkerJob, config: BiasConfig, probes: list[RunnableProbe]) -> ClassifierJudgement | None:
    """Probe base, then tuned, then classify their continuations, with one model in memory at a time."""
    continued = next((probe for probe in probes if isinstance(probe, ContinuationProbe)), None)
    for subject in build_subjects(job, config):
        _ask(job, config, subject, probes)
    return _judge(job, config, continued) if continued else None


def _judge(job: WorkerJob, config: BiasConfig, continued: ContinuationProbe) -> ClassifierJudgement:
    """Classify the continuations."""
    name = job.spec["classifier"]["name"]
    classifier = harm_classifier.load_classifier(job, continued.asked)
    on_texts = RowProgressReporter(job, 2 * continued.items, "texts", f"{JUDGING} with {name}")
    on_texts(0)
    continued.judge(classifier, config.per_device_eval_batch_size, torch.device(job.device), on_texts)
    errors = harm_classifier.measure_errors(
        job, continued.asked, classifier.labels, several=classifier.several
    )
    del classifier
    _free_memory()
    return continued.document_of(name, errors)


def _ask(job: WorkerJob, config: BiasConfig, subject: BiasSubject, probes: list[RunnableProbe]) -> None:
    """Run all probes on one model."""
    asked = load_subject(job, subject, config.per_device_eval_batch_size)
    for probe in probes:
        on_items = RowProgressReporter(job, probe.items, "items", _format_message(subject.which, probe.name))
        on_items(0)
        probe.ask(subject.which, asked, on_items)
    del asked
    _free_memory()


def _free_memory() -> None:
    """Free the memory of the last model."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
