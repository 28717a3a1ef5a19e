"""A run from its order to its verdict: data to tokens, model to method, the loop, the evidence.

Order of things: what can be refused cheaply comes first (rows, tokens), the model is loaded after that,
and everything that is not needed to see the first metric comes after training.
"""

from __future__ import annotations

import gc
import shutil
import time
from functools import cached_property
from typing import Any

import numpy as np
import torch

from engine.diagnostics.verdicts import class_verdict
from engine.diagnostics.verdicts.question_part import rounds_of
from engine.diagnostics.verdicts.verdict import add_unmeasured
from engine.evidence import evidence
from engine.evidence.class_evidence import LabelEvidence
from engine.evidence.gathering import Gathering, JudgingPace
from engine.evidence.swapped_prompts import has_question, swap_prompts_of
from engine.forward.batches import total_steps
from engine.models import base_names, continued, initial_weights, memory, models, saving
from engine.models.apply_method import base_model, count_parameters, make_trainable
from engine.models.bundled import ensure
from engine.models.precision import choose_dtype, device_name, dtype_name, versions
from engine.objectives.objectives import Objective, TrainedTokens
from engine.prepare import canaries, prepare
from engine.probes.sample_prompts import choose_prompts
from engine.rows.render import Load, TokenRows
from engine.runs import canary_exposure, duplicate_effect, row_verdict
from engine.runs.extraction_run import ExtractionRun
from engine.runs.judged_run import JudgedRun
from engine.runs.reference_questions import ReferenceQuestions
from engine.runs.row_facts import tell_rows
from engine.runs.weight_change import weight_change
from engine.training.energy import Meter
from engine.training.train import Training, TrainingSetup
from engine.worker.job import WorkerJob
from engine.worker.other_work import OtherWork
from engine.worker.progress import ProgressReporter
from store.catalog.methods import METHODS
from store.config.training.train_config import Split, TrainConfig
from store.contract.jobdir import read_json, write_json
from store.documents.models.saved_model import ModelOrigin, TrainedCourse
from store.documents.verdicts.classification import JudgingSplit
from store.documents.verdicts.verdict import Stopped, Verdict
from store.words import trained_course

START_ROWS = 64  # training rows that show the start `eva` in which directions inputs vary


class TrainingRun:
    """One run: `prepare` → `build` → training → `judge`."""

    def __init__(self, job: WorkerJob, config: TrainConfig) -> None:
        self.job = job
        self.config = config
        self.split = Split.parse(job.order["split"])
        self.data = job.order["dataset"]
        self.packed = False  # whether micro-batches are dealt by tokens
        self.course: TrainedCourse | None = None  # known once training has ended
        self.device = torch.device(job.device)
        self.dtype = choose_dtype(self.config.dtype, self.device)
        self.began, self.energy, self.others = time.monotonic(), Meter(self.device), OtherWork()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def open(self) -> None:
        """Find the model that is loaded, and load its tokenizer."""
        self.job.progress(0, 1, "run", "Loading the tokenizer")
        if self.config.model in models.BUNDLED:
            ensure(self.config.model, self.job.home)
        self.source = models.resolve(self.config.model, self.job.home)
        self.earlier = continued.find(self.job.home, self.config)
        if self.earlier:
            self.job.progress(0, 1, "run", "Taking over the model of the earlier run")
            self.source = continued.source_of(
                self.job.home, self.config, self.earlier, self.job.dir, self.dtype
            )
        elif self.job.resume and (began_on := read_json(self.job.dir.loaded_base)):
            self.source = base_names.pinned(self.source, began_on)
        self.architecture = models.load_config_for(self.config, self.source)
        # a resume, and whoever loads a checkpoint, may find that the hub has newer weights
        if not self.job.resume and (commit := models.commit_of(self.source)):
            write_json(self.job.dir.loaded_base, {**base_names.reference(self.source, commit)})
        self.tokenizer = models.load_tokenizer(self.source, chat_template=self.config.chat_template)

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
        training = Training(self.job, self.config, model, train, validation, setup)
        split: JudgingSplit = "test" if len(test) else "validation"
        held_out = test if len(test) else validation
        self.packed = not training.stepper.unpacked
        training.clock.judged = self.judged_rows(len(held_out)) / len(validation)
        stopped = training.run()
        attempts = self.job.order.get("attempt", 1)
        self.course = trained_course.of_run(self.config, len(train), stopped, attempts)
        self.job.facts(
            stopped=stopped,
            course=self.course,
            train_seconds=training.state.train_seconds,
            peak_memory_gib=memory.peak_gib(self.device),
        )
        self.job.status("evaluating")
        verdict = self.judge(training, stopped, held_out, split)
        verdict = add_unmeasured(verdict, probes=self.config.probes)
        training.alarms.conclude(verdict)
        if not METHODS[self.config.method].adapter:
            shutil.rmtree(self.job.dir.base, ignore_errors=True)  # all weights are saved with the result
        if not self.job.resume:  # of a resumed run nobody knows the whole
            self.job.facts(
                run_seconds=time.monotonic() - self.began,
                energy_wh=self.energy.watt_hours(),
                other_work=self.others.shares().others,
            )
        verdict = continued.continued_verdict(verdict, self.earlier)
        saving.write_card(self.job.dir.model, self.config, verdict)
        return verdict

    def judged_rows(self, held_out: int) -> float:
        """Rows that each model is judged on, answers after prompts of other rows among them."""
        return held_out * (1 + (rounds_of(held_out) if has_question(self.job.order, self.config) else 0))

    def choose_objective(self, model: Any, parts: list[TokenRows]) -> Objective:
        """What the task makes smaller."""
        return TrainedTokens()

    @cached_property
    def questions(self) -> ReferenceQuestions:
        """As `choose_questions` makes them."""
        return self.choose_questions()

    def choose_questions(self) -> ReferenceQuestions:
        """What its models are asked beside the held-out rows."""
        return ReferenceQuestions(self.job, self.config, self.tokenizer, self.source, self.positions)

    @property
    def positions(self) -> int | None:
        """The most tokens of a row that the model can see."""
        return prepare.positions(self.architecture, self.config)

    def prepare(self) -> tuple[TokenRows, TokenRows, TokenRows]:
        """Train, validation and test rows, cut to length; counts go into the facts."""
        job, config, dataset = self.job, self.config, self.data
        dealt = prepare.dealt_rows(job, dataset["fingerprint"], self.split, config)
        whole = prepare.tokenise(
            job.home,
            config,
            self.tokenizer,
            prepare.DealtRows(dataset["fingerprint"], dataset["kind"], dealt),
            on_rows=ProgressReporter(job, 0, "rows", "Tokenising"),
        )
        limit = prepare.length_limit(config, whole["train"], self.positions)
        whole["train"] = canaries.plant(self.tokenizer, config, dataset["kind"], whole["train"])
        limit = canaries.fitting(config, whole["train"], limit)
        canary_exposure.tell(job, config)
        parts = {name: prepare.cut(rows, limit) for name, rows in whole.items()}
        tell_rows(job, config, self.split, dataset["fingerprint"], parts, limit)
        return parts["train"].rows, parts["validation"].rows, parts["test"].rows

    def build(self, rows: TokenRows) -> Any:
        """The model with what the method trains, its initial weights set by the seed."""
        config, device = self.config, self.device
        dtype = self.dtype
        self.job.progress(0, 1, "run", "Loading the model")
        torch.manual_seed(config.seed)
        model = self.load(rows)
        self.take_over(model)
        if not METHODS[self.config.method].adapter:  # later there is no base model to let write
            self.questions.hear(model)
        if not continued.starts_at_base(config):
            self.questions.hear_task(model)
        trained, total = count_parameters(model)
        self.job.facts(
            trainable_parameters=trained,
            total_parameters=total,
            dtype=dtype_name(dtype),
            device=str(device),
            device_name=device_name(device),
            versions=versions(),
        )
        self.job.check_cancelled()
        return model

    def load(self, rows: TokenRows) -> Any:
        """The base model with what the method trains."""
        return self.tunable(models.load_model(self.config, self.source, str(self.device), self.dtype), rows)

    def tunable(self, model: Any, rows: TokenRows) -> Any:
        """The base model with what the method trains; `rows` are those of training."""
        steps = total_steps(self.config, len(rows))
        start = None if continued.further(self.config) else self.start(rows)
        return make_trainable(model, self.config, self.dtype, steps=steps, start=start)

    def start(self, rows: TokenRows) -> initial_weights.Sources:
        """What the adapter's first weights are made from: some training rows, the model's own weights."""
        order = np.random.default_rng(self.config.seed).permutation(len(rows))[:START_ROWS]
        examples = [torch.from_numpy(rows.row(int(i))[0].astype(np.int64)).to(self.device) for i in order]
        return initial_weights.Sources(
            examples, models.weights_folder(self.source) if self.config.held else None
        )

    def take_over(self, model: Any) -> None:
        """Where an adapter is trained further, give it the weights that it had."""
        if self.earlier and METHODS[self.config.method].adapter and continued.further(self.config):
            continued.load_into(model, self.earlier)

    def save(self, model: Any) -> None:
        """Leave the tuned model in the job's folder."""
        adapter = METHODS[self.config.method].adapter
        origin: ModelOrigin = {
            "dataset": self.data.get("name", self.config.dataset),
            "continued_from": self.config.init_from or None,
            "init_mode": self.config.init_mode if self.earlier else None,
            # the adapter belongs to the model beside this folder, not to that of the name
            "own_base": adapter and self.job.dir.base.exists(),
            # how it is asked for calls where its template writes none
            "calls": self.data["kind"] != "text"
            and prepare.calls_functions(self.job.home, self.data["fingerprint"]),
        }
        if self.earlier and not adapter:  # loaded from that run's folder, or from one that goes
            origin["base"] = saving.base_of(self.earlier.folder.model)
        if self.course:
            origin["course"] = self.course
        saving.save(model, self.tokenizer, self.config, self.job.dir.model, origin)
        self.job.facts(base=saving.base_of(self.job.dir.model))

    def judge(self, training: Training, stopped: Stopped, rows: TokenRows, split: JudgingSplit) -> Verdict:
        """Save the model, compare it with the base on `rows`, and pass the verdict."""
        job, config = self.job, self.config
        load = prepare.loader(job.home, self.data["fingerprint"], self.data["kind"])
        model = training.release()
        self.save(model)
        labels = LabelEvidence.of_answers(job, config, self.tokenizer, rows.row_ids, self.positions)
        extraction = self.extraction(rows, load)
        gathering = self.gathering(model, rows, load, extraction)
        tuned = gathering.of(model, "the tuned model")
        job.facts(judged_seconds=gathering.pace.passes)
        secrets = canary_exposure.measure(
            job, config, self.tokenizer, self.data["kind"], model, gathering.pace
        )
        tuned_labels = labels and labels.score(model, "the tuned model")
        probes = self.questions.of_base(gathering.probes)
        of_base = gathering.as_base(probes, models.weights_folder(self.source))
        if continued.starts_at_base(config):
            with base_model(model) as untuned:
                base = of_base.of(untuned, "the base model")
                base_labels = labels and labels.score(untuned, "the base model")
        elif METHODS[config.method].adapter:
            self.take_over(model)
            base = gathering.of(model, "the model of the earlier run")
            base_labels = labels and labels.score(model, "the model of the earlier run")
        else:
            del model  # memory holds one model
            gc.collect()
            model = models.load_model(config, self.source, str(self.device), self.dtype)
            base = of_base.of(model, "the base model")
            base_labels = labels and labels.score(model, "the base model")
        judged = JudgedRun(training, stopped, split, base, tuned, gathering.swapped)
        document = self.conclude(judged, gathering, extraction)
        document["canaries"] = secrets
        if extraction:
            document["duplicates"] = duplicate_effect.judge(job, self.data["fingerprint"], base, tuned)
        if config.probes:
            document["weights"] = weight_change(job, config, self.source, model)
        if labels and tuned_labels and base_labels:
            class_verdict.add_labels(document, labels.report(split, tuned_labels, base_labels))
        return document

    def gathering(
        self, model: Any, rows: TokenRows, load: Load, extraction: ExtractionRun | None
    ) -> Gathering:
        """What base and tuned model are asked; `rows` are held out, `model` is the tuned one."""
        count, seed = self.config.sample_prompts, self.split.split_seed
        return Gathering(
            job=self.job,
            config=self.config,
            tokenizer=self.tokenizer,
            objective=self.objective,
            rows=rows,
            prompts=choose_prompts(self.tokenizer, rows, load, count, seed),
            probes=self.questions.probes(model),
            pace=JudgingPace(self.job),
            extraction=extraction,
            tasks=self.questions.tasks,
            swapped=swap_prompts_of(self.job.order, self.config, rows, load, self.positions),
        )

    def conclude(self, run: JudgedRun, gathering: Gathering, extraction: ExtractionRun | None) -> Verdict:
        """The verdict with what was forgotten, the rows and items that it rests on left beside it."""
        base, tuned, tasks = run.base, run.tuned, gathering.tasks
        evidence.settle(tasks, base, tuned)
        evidence.write_items(self.job, [*gathering.probes, *(tasks.probes if tasks else ())])
        evidence.write(self.job, run.split, base, tuned, gathering.prompts)
        document = self.verdict(run, extraction)
        earlier, failed = row_verdict.earlier_step(self.config, run), tasks.failed if tasks else None
        evidence.add_forgetting(document, base, tuned, self.config, earlier, failed, run.training.parameters)
        return document

    def extraction(self, rows: TokenRows, load: Load) -> ExtractionRun | None:
        """What asks for rows from memory; `rows` are held out, `load` has their words."""
        if not self.config.probes:
            return None
        return ExtractionRun(self.job, self.tokenizer, self.questions.seen.rows, rows, load)

    def verdict(self, run: JudgedRun, extraction: ExtractionRun | None) -> Verdict:
        """What the evidence says."""
        return row_verdict.judge(self.config, run, extraction)
