"""A training run from the job specification to the verdict: tokens, model and method, the loop, the evidence.

Order of work: checks that can fail cheaply come first (rows, tokens), then the model is loaded, and
everything not needed for the first metric comes after training. Every row that is truncated or left out is
counted; energy that can't be measured is None, never estimated.
"""

from __future__ import annotations

import gc
import shutil
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.data import canaries, training_rows
from engine.data.training_rows import TokenisedPart
from engine.evaluation import run_evaluation
from engine.evaluation.classifier_evaluation import LabelEvaluation
from engine.evaluation.derived_prompts import build_swapped_prompts, has_question
from engine.evaluation.row_questions import choose_prompts
from engine.evaluation.run_evaluation import EvaluationPace, ModelEvaluator
from engine.evaluation.verdicts import classifier_verdict
from engine.evaluation.verdicts.question_part import count_rounds
from engine.evaluation.verdicts.verdict import add_unmeasured
from engine.models import adapter_weights, hardware, loading, provenance, saved_models
from engine.models.batching import count_total_steps
from engine.models.bundled import ensure_bundled_model
from engine.models.hardware import choose_dtype, get_device_name, get_dtype_name, read_versions
from engine.models.losses import Objective, TokenObjective
from engine.models.tokenization.rendering import Load, TokenRows
from engine.models.tuning_methods import count_parameters, make_trainable, use_base_model
from engine.training import run_verdict
from engine.training.reference_probes import ReferenceProbes
from engine.training.run_verdict import ExtractionRun, RunEvaluation, measure_weight_change
from engine.training.training_loop import TrainingLoop, TrainingSetup
from engine.worker.job import WorkerJob
from engine.worker.machine_load import OtherLoad
from engine.worker.progress import RowProgressReporter
from store.core.errors import DataError
from store.core.figure_schemas import JudgingSplit
from store.core.job_folder import read_json, write_json
from store.core.model_schemas import ModelOrigin, TrainingSummary
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from store.runs import card_text
from store.training.methods import METHODS
from store.training.split import Split
from store.training.train_config import TrainConfig


def report_rows(
    job: WorkerJob,
    config: TrainConfig,
    split: Split,
    fingerprint: str,
    parts: dict[str, TokenisedPart],
    limit: int,
) -> None:
    """Record facts and alerts about the rows. Raises DataError if a part has no trained token at all."""
    train = parts["train"]
    for name in ("train", "validation"):
        if not len(parts[name].rows):
            reasons = ", ".join(parts[name].whole.reason_counts)
            raise DataError(
                f"No {name} row has a token to train on: {reasons}.",
                fix="Raise max_length, or look at how the data set's columns were read.",
                field="dataset",
            )
    for name, part in parts.items():
        called = "training" if name == "train" else name
        for reason, count in part.whole.reason_counts.items():
            job.alert(f"{count:,} of {len(part.whole):,} {called} rows were left out: {reason}.")
    if train.truncated:
        job.alert(
            f"{train.truncated:,} of {len(train.whole):,} training rows were cut at {limit} tokens; they"
            f" lost {train.lost_tokens:,} trained tokens.",
            "info",
        )
    job.facts(
        rows={name: len(part.rows) for name, part in parts.items()},
        tokens_per_epoch=len(train.rows.ids),
        trained_tokens_per_epoch=int(train.rows.trained.sum()),
        truncated_rows=train.truncated,
        untrained_rows=train.untrained,
        max_length=limit,
        steps=count_total_steps(config, len(train.rows)),
        data_fingerprint=fingerprint,
        split=split.model_dump(),
    )


POWERCAP = Path("/sys/class/powercap")
MICROJOULES = 3_600_000_000  # per watt-hour
MILLIJOULES = 3_600_000


class EnergyMeter:
    """Energy used since creation: of a GPU by NVML, of a processor by RAPL.

    Both count the whole device, so the figure is the run's only if no other work uses it. Where neither can
    be read (virtual machines, missing permission) the energy is None.
    """

    def __init__(self, device: torch.device, powercap: Path = POWERCAP) -> None:
        self.device, self.powercap = device, powercap
        self.began = self._read()

    def watt_hours(self) -> float | None:
        """Return the energy since creation; None where the machine doesn't report it."""
        now = self._read()
        if not self.began or now.keys() != self.began.keys():
            return None
        pairs = [(self.began[name], now[name]) for name in now]
        # a counter may have wrapped around once
        return sum(after - before + (size if after < before else 0.0) for (before, _), (after, size) in pairs)

    def _read(self) -> dict[str, tuple[float, float]]:
        """Return counter -> (watt-hours, value at which it wraps around; 0 for never)."""
        if self.device.type == "cuda":
            return _read_gpu_energy(self.device.index or 0)
        readings = {}
        for zone in sorted(self.powercap.glob("intel-rapl:*")):
            if zone.name.count(":") > 1:  # part of a package that is already counted
                continue
            try:
                used, most = (int((zone / n).read_text()) for n in ("energy_uj", "max_energy_range_uj"))
            except (OSError, ValueError):
                return {}
            readings[zone.name] = used / MICROJOULES, most / MICROJOULES
        return readings


def _read_gpu_energy(index: int) -> dict[str, tuple[float, float]]:
    import pynvml

    try:
        pynvml.nvmlInit()
        used = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError:
        return {}
    return {"gpu": (used / MILLIJOULES, 0.0)}


FIRST_BATCH_ROWS = 64  # training rows for the `eva` initialization's directions of input variance


class TrainingRun:
    """A run of one task: `prepare` → `build` → training → `judge`."""

    def __init__(self, job: WorkerJob, config: TrainConfig) -> None:
        self.job = job
        self.config = config
        self.split = Split.parse(job.spec["split"])
        self.data = job.spec["dataset"]
        self.packed = False  # whether micro-batches are split by tokens
        self.course: TrainingSummary | None = None  # known once training has ended
        self.device = torch.device(job.device)
        self.dtype = choose_dtype(self.config.dtype, self.device)
        self.began, self.energy, self.others = time.monotonic(), EnergyMeter(self.device), OtherLoad()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def open(self) -> None:
        """Locate the model to load, and load its tokenizer."""
        self.job.progress(0, 1, "run", "Loading the tokenizer")
        if self.config.model in loading.BUNDLED:
            ensure_bundled_model(self.config.model, self.job.home)
        self.source = loading.resolve_model(self.config.model, self.job.home)
        self.earlier = saved_models.find_earlier_run(self.job.home, self.config)
        if self.earlier:
            self.job.progress(0, 1, "run", "Loading the model of the earlier run")
            self.source = saved_models.resolve_source(
                self.job.home, self.config, self.earlier, self.job.dir, self.dtype
            )
        elif self.job.resume and (began_on := read_json(self.job.dir.loaded_base)):
            self.source = provenance.find_pinned_folder(self.source, began_on)
        self.architecture = loading.load_config_for(self.config, self.source)
        # the hub may have newer weights by the time of a resume or of loading a checkpoint
        if not self.job.resume and (commit := loading.find_commit(self.source)):
            write_json(self.job.dir.loaded_base, {**provenance.build_reference(self.source, commit)})
        self.tokenizer = loading.load_tokenizer(self.source, chat_template=self.config.chat_template)

    def run(self) -> Verdict:
        self.job.status("preparing")
        self.open()
        train, validation, test = self.prepare()
        self.questions.judged = test if len(test) else validation
        model = self.build(train)
        self.objective = self.choose_objective(model, [train, validation, test])
        probing = self.questions.probing(train, validation, self.objective)
        held = self.data["fingerprint"], np.concatenate([validation.row_ids, test.row_ids])
        replay = self.questions.replayed(model, held, len(train))
        metric = self.questions.metric(validation, probing)
        setup = TrainingSetup(self.objective, probing, replay, metric)
        training = TrainingLoop(self.job, self.config, model, train, validation, setup)
        split: JudgingSplit = "test" if len(test) else "validation"
        held_out = test if len(test) else validation
        self.packed = not training.stepper.unpacked
        training.clock.judged = self.judged_rows(len(held_out)) / len(validation)
        stopped = training.run()
        attempts = self.job.spec.get("attempt", 1)
        self.course = card_text.summarise_run(self.config, len(train), stopped, attempts)
        self.job.facts(
            stopped=stopped,
            course=self.course,
            train_seconds=training.state.train_seconds,
            peak_memory_gib=hardware.measure_peak_gib(self.device),
        )
        self.job.status("evaluating")
        verdict = self.judge(training, stopped, held_out, split)
        verdict = add_unmeasured(verdict, probes=self.config.probes)
        training.alarms.conclude(verdict)
        if not METHODS[self.config.method].adapter:
            shutil.rmtree(self.job.dir.base, ignore_errors=True)  # all weights are saved with the result
        if not self.job.resume:  # the totals of a resumed run are unknown
            self.job.facts(
                run_seconds=time.monotonic() - self.began,
                energy_wh=self.energy.watt_hours(),
                other_work=self.others.shares().others,
            )
        verdict = saved_models.describe_continued_verdict(verdict, self.earlier)
        saved_models.write_card(self.job.dir.model, self.config, verdict)
        return verdict

    def judged_rows(self, held_out: int) -> float:
        """Return the number of rows that each model is judged on.

        Responses after prompts of other rows are included.
        """
        return held_out * (1 + (count_rounds(held_out) if has_question(self.job.spec, self.config) else 0))

    def choose_objective(self, model: Any, parts: list[TokenRows]) -> Objective:
        """Return the objective of the task."""
        return TokenObjective()

    @cached_property
    def questions(self) -> ReferenceProbes:
        """Return the probes from `choose_questions`, created once."""
        return self.choose_questions()

    def choose_questions(self) -> ReferenceProbes:
        """Create the probes of its models beside the held-out rows."""
        return ReferenceProbes(self.job, self.config, self.tokenizer, self.source, self.positions)

    @property
    def positions(self) -> int | None:
        """Return the maximum number of tokens of a row under the model."""
        return training_rows.count_positions(self.architecture, self.config)

    def prepare(self) -> tuple[TokenRows, TokenRows, TokenRows]:
        """Return train, validation and test rows, truncated to length; counts go into the facts."""
        job, config, dataset = self.job, self.config, self.data
        dealt = training_rows.load_split_rows(job, dataset["fingerprint"], self.split, config)
        whole = training_rows.tokenise(
            job.home,
            config,
            self.tokenizer,
            training_rows.SplitRows(dataset["fingerprint"], dataset["kind"], dealt),
            on_rows=RowProgressReporter(job, 0, "rows", "Tokenizing"),
        )
        limit = training_rows.resolve_max_length(config, whole["train"], self.positions)
        whole["train"] = canaries.plant(self.tokenizer, config, dataset["kind"], whole["train"])
        limit = canaries.extend_max_length(config, whole["train"], limit)
        run_verdict.report_canaries(job, config)
        parts = {name: training_rows.truncate_rows(rows, limit) for name, rows in whole.items()}
        report_rows(job, config, self.split, dataset["fingerprint"], parts, limit)
        return parts["train"].rows, parts["validation"].rows, parts["test"].rows

    def build(self, rows: TokenRows) -> Any:
        """Return the model with the method's parameters, initialized from the seed."""
        config, device = self.config, self.device
        dtype = self.dtype
        self.job.progress(0, 1, "run", "Loading the model")
        torch.manual_seed(config.seed)
        model = self.load(rows)
        self.take_over(model)
        if not METHODS[self.config.method].adapter:  # there is no base model to generate with later
            self.questions.hear(model)
        if not saved_models.starts_at_base(config):
            self.questions.hear_task(model)
        trained, total = count_parameters(model)
        self.job.facts(
            trainable_parameters=trained,
            total_parameters=total,
            dtype=get_dtype_name(dtype),
            device=str(device),
            device_name=get_device_name(device),
            versions=read_versions(),
        )
        self.job.check_cancelled()
        return model

    def load(self, rows: TokenRows) -> Any:
        """Load the base model and add the method's parameters."""
        return self.tunable(loading.load_model(self.config, self.source, str(self.device), self.dtype), rows)

    def tunable(self, model: Any, rows: TokenRows) -> Any:
        """Add the method's parameters to the base model; `rows` are the training rows."""
        steps = count_total_steps(self.config, len(rows))
        start = None if saved_models.continues_training(self.config) else self.start(rows)
        return make_trainable(model, self.config, self.dtype, steps=steps, start=start)

    def start(self, rows: TokenRows) -> adapter_weights.InitSources:
        """Return the sources of the adapter's initial weights: some training rows and the model's weights."""
        order = np.random.default_rng(self.config.seed).permutation(len(rows))[:FIRST_BATCH_ROWS]
        examples = [torch.from_numpy(rows.row(int(i))[0].astype(np.int64)).to(self.device) for i in order]
        return adapter_weights.InitSources(
            examples, loading.find_weights_folder(self.source) if self.config.held else None
        )

    def take_over(self, model: Any) -> None:
        """If an adapter is trained further, load its earlier weights."""
        if (
            self.earlier
            and METHODS[self.config.method].adapter
            and saved_models.continues_training(self.config)
        ):
            saved_models.load_adapter_weights(model, self.earlier)

    def save(self, model: Any) -> None:
        """Save the tuned model in the job's folder."""
        adapter = METHODS[self.config.method].adapter
        origin: ModelOrigin = {
            "dataset": self.data.get("name", self.config.dataset),
            "continued_from": self.config.init_from or None,
            "init_mode": self.config.init_mode if self.earlier else None,
            # the adapter belongs to the model beside this folder, not to the model of that name
            "own_base": adapter and self.job.dir.base.exists(),
            # function calls need a prompt format where the template has none
            "calls": self.data["kind"] != "text"
            and training_rows.has_function_calls(self.job.home, self.data["fingerprint"]),
        }
        if self.earlier and not adapter:  # loaded from that run's folder, or from a temporary one
            origin["base"] = saved_models.read_base(self.earlier.folder.model)
        if self.course:
            origin["course"] = self.course
        saved_models.save_model(model, self.tokenizer, self.config, self.job.dir.model, origin)
        self.job.facts(base=saved_models.read_base(self.job.dir.model))

    def judge(
        self, training: TrainingLoop, stopped: TrainingStop, rows: TokenRows, split: JudgingSplit
    ) -> Verdict:
        """Save the model, compare it with the base model on `rows`, and return the verdict."""
        job, config = self.job, self.config
        load = training_rows.make_loader(job.home, self.data["fingerprint"], self.data["kind"])
        model = training.release()
        self.save(model)
        labels = LabelEvaluation.of_answers(job, config, self.tokenizer, rows.row_ids, self.positions)
        extraction = self.extraction(rows, load)
        gathering = self.gathering(model, rows, load, extraction)
        tuned = gathering.of(model, "the tuned model")
        job.facts(judged_seconds=gathering.pace.passes)
        secrets = run_verdict.measure_canaries(
            job, config, self.tokenizer, self.data["kind"], model, gathering.pace
        )
        tuned_labels = labels and labels.score(model, "the tuned model")
        probes = self.questions.of_base(gathering.probes)
        of_base = gathering.as_base(probes, loading.find_weights_folder(self.source))
        if saved_models.starts_at_base(config):
            with use_base_model(model) as untuned:
                base = of_base.of(untuned, "the base model")
                base_labels = labels and labels.score(untuned, "the base model")
        elif METHODS[config.method].adapter:
            self.take_over(model)
            base = gathering.of(model, "the model of the earlier run")
            base_labels = labels and labels.score(model, "the model of the earlier run")
        else:
            del model  # memory for one model at a time
            gc.collect()
            model = loading.load_model(config, self.source, str(self.device), self.dtype)
            base = of_base.of(model, "the base model")
            base_labels = labels and labels.score(model, "the base model")
        judged = RunEvaluation(training, stopped, split, base, tuned, gathering.swapped)
        document = self.conclude(judged, gathering, extraction)
        document.canaries = secrets
        if extraction:
            document.duplicates = run_verdict.judge_duplicates(job, self.data["fingerprint"], base, tuned)
        if config.probes:
            document.weights = measure_weight_change(job, config, self.source, model)
        if labels and tuned_labels and base_labels:
            classifier_verdict.add_label_figures(document, labels.report(split, tuned_labels, base_labels))
        return document

    def gathering(
        self, model: Any, rows: TokenRows, load: Load, extraction: ExtractionRun | None
    ) -> ModelEvaluator:
        """Return the evaluator of base and tuned model; `rows` are held out, `model` is the tuned one."""
        count, seed = self.config.sample_prompts, self.split.split_seed
        return ModelEvaluator(
            job=self.job,
            config=self.config,
            tokenizer=self.tokenizer,
            objective=self.objective,
            rows=rows,
            prompts=choose_prompts(self.tokenizer, rows, load, count, seed),
            probes=self.questions.probes(model),
            pace=EvaluationPace(self.job),
            extraction=extraction,
            tasks=self.questions.tasks,
            swapped=build_swapped_prompts(self.job.spec, self.config, rows, load, self.positions),
        )

    def conclude(
        self, run: RunEvaluation, gathering: ModelEvaluator, extraction: ExtractionRun | None
    ) -> Verdict:
        """Return the verdict including forgetting, and write the rows and items that it is based on."""
        base, tuned, tasks = run.base, run.tuned, gathering.tasks
        run_evaluation.drop_unpaired(tasks, base, tuned)
        run_evaluation.write_probe_items(self.job, [*gathering.probes, *(tasks.probes if tasks else ())])
        run_evaluation.write_evaluations(self.job, run.split, base, tuned, gathering.prompts)
        document = self.verdict(run, extraction)
        earlier, failed = run_verdict.advise_earlier_step(self.config, run), tasks.failed if tasks else None
        run_evaluation.add_forgetting(
            document, base, tuned, self.config, earlier, failed, run.training.parameters
        )
        return document

    def extraction(self, rows: TokenRows, load: Load) -> ExtractionRun | None:
        """Return the extraction test, or None without probes.

        rows: held-out rows; load: loads their content.
        """
        if not self.config.probes:
            return None
        return ExtractionRun(self.job, self.tokenizer, self.questions.seen.rows, rows, load)

    def verdict(self, run: RunEvaluation, extraction: ExtractionRun | None) -> Verdict:
        """Return the verdict from the evidence."""
        return run_verdict.judge_run(self.config, run, extraction)
