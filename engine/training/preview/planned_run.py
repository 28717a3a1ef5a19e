"""A planned run as the basis of queries: model, tokenizer, rows, and the costs of configs.

Only the tokenizer is loaded; the weight files are checked once. Token counts come from the cache that
training uses too; in a data set with more than `WHOLE` rows a sample is counted. Rows and the objective for
rehearsing a step are those of the config's task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from engine.data import canaries, training_rows
from engine.data.training_rows import ClassRows, SplitRows, load_class_rows
from engine.evaluation import classifier_evaluation
from engine.evaluation.probes import configured_probes, replay_rows
from engine.models import loading, saved_models, weight_files
from engine.models.batching import count_replay_rows
from engine.models.bundled import ensure_bundled_model
from engine.models.classification import ClassObjective
from engine.models.forward import answer_likelihood
from engine.models.hardware import choose_dtype
from engine.models.losses import Objective, TokenObjective
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import WHOLE
from engine.training.costs.footprint import Rehearsal
from engine.training.costs.run_costs import (
    ConfigCost,
    CostBasis,
    CostSampleRows,
    LabelPrompts,
    measure_process_gib,
)
from engine.training.preference import PreferenceObjective, ReferenceLogps
from engine.worker.job import WorkerJob
from engine.worker.machine_load import OtherLoad
from store.data import dataset_files
from store.data.config import CostQuery
from store.training.train_config import TrainConfig

HELD_OUT_ROWS = 500  # rows of each held-out part counted in a large data set
LOOK, LAUNCH_LOOK = 5.0, 100.0  # seconds for checking weight values, in each preview and at the launch
LABEL_SAMPLE_ROWS = 20  # held-out rows that decide whether responses are labels

TokeniseAtLimit = Callable[[int], dict[str, training_rows.TokenisedPart]]


class PlannedRun:
    """A query's {"config", "fingerprint", "split"} and its rows.

    split: the split's settings; dealt: row ids of each part; whole: tokens of the counted rows; parts: the
    same, truncated to `limit` tokens; classes: for classification, otherwise None. Raises if the query can't
    be answered, for example without such a model or without rows.
    """

    def __init__(self, job: WorkerJob) -> None:
        self.other_work = OtherLoad()
        asked, home = CostQuery.parse(job.config), job.home
        config = TrainConfig.parse(asked.config)
        self.job, self.fingerprint, self.config = job, asked.fingerprint, config
        if config.model in loading.BUNDLED:
            ensure_bundled_model(config.model, home)
        source = loading.resolve_model(config.model, home)
        self.earlier = saved_models.find_earlier_run(home, config)
        self.architecture = loading.load_config_for(config, source)
        self.tokenizer = loading.load_tokenizer(source, chat_template=config.chat_template)
        self.device = torch.device(job.device)
        process = measure_process_gib(self.device)
        self.kind = training_rows.read_row_kind(home, self.fingerprint)
        self.split = asked.split
        self.dealt = training_rows.assign_parts(home, self.fingerprint, asked.split, config)
        self.positions = training_rows.count_positions(self.architecture, config)
        self.classes: ClassRows | None = None
        cut = self._read_classes() if config.task == "classification" else self._read_answers()
        self.look = weight_files.check_weights(
            source,
            self.architecture,
            home,
            headed=self.classes is not None,
            seconds=LAUNCH_LOOK if asked.launch else LOOK,
        )
        self.limit = training_rows.choose_max_length(config, self.whole["train"], self.positions)
        if config.task == "sft":
            self.whole["train"] = canaries.plant(self.tokenizer, config, self.kind, self.whole["train"])
            self.limit = canaries.extend_max_length(config, self.whole["train"], self.limit)
        self.parts = cut(self.limit)
        rows = {name: len(ids) for name, ids in self.dealt.items()}
        rows["train"] += canaries.count_canaries(config)
        costed = CostSampleRows(rows, self.parts, cut, self._objective(), self._labels(), self._general())
        self.costs = CostBasis(job, self.architecture, costed, process)
        self.costs.probed = self._probed()

    def cost(self, config: TrainConfig) -> ConfigCost:
        """Return the costs of `config`, resolved for these rows and this model.

        Raises: ConfigError if its method can't be used with it.
        """
        dtype = choose_dtype(config.dtype, self.device)
        rows = len(self.dealt["train"])
        rehearsal = Rehearsal(self.architecture, config.resolved(rows), dtype, self.device.type)
        resolved = config.resolved(rows, round(rehearsal.counts.total))
        return ConfigCost(self.costs, resolved, rehearsal)

    def _read_answers(self) -> TokeniseAtLimit:
        """Read rows whose responses are trained, alone or in pairs."""
        job, whole = self.job, self._counted(self.dealt)
        self.whole: dict[str, TokenRows] = training_rows.tokenise(
            job.home, self.config, self.tokenizer, SplitRows(self.fingerprint, self.kind, whole)
        )
        return lambda limit: {
            name: training_rows.truncate_rows(rows, limit) for name, rows in self.whole.items()
        }

    def _read_classes(self) -> TokeniseAtLimit:
        """Read labeled rows, from all rows of the split, so that class counts are those of training."""
        dealt = SplitRows(self.fingerprint, self.kind, self.dealt)
        rows = load_class_rows(self.job.home, self.config, self.tokenizer, dealt, counted=self._counted)
        self.classes, self.whole, self.dealt = rows, rows.whole, rows.kept
        self.architecture = loading.name_labels(
            self.architecture, rows.labels.names, self.tokenizer.pad_token_id
        )
        return lambda limit: rows.cut(self.tokenizer, limit)

    def _general(self) -> TokenRows | None:
        """Return general rows as the run would replay them; None without replay."""
        rows = len(self.dealt["train"]) + canaries.count_canaries(self.config)
        config, positions = self.config.resolved(len(self.dealt["train"])), self.positions
        if not config.replay_share or config.task != "sft":
            return None
        held = self.fingerprint, np.concatenate([self.dealt[part] for part in training_rows.PARTS[1:]])
        order = replay_rows.ReplayOptions(count_replay_rows(config, rows), held, positions)
        source = self.job.config.get("replay")
        return replay_rows.estimate_replay(self.job.home, config, self.tokenizer, source, order)

    def _probed(self) -> np.ndarray:
        """Count the tokens of data sets used as probes, for each time they are measured."""
        sources = self.job.config.get("probes") or []
        if not sources or not self.config.probes or self.classes:
            return np.zeros(2)
        probes = configured_probes.load_dataset_probes(
            self.job, self.config, self.tokenizer, self.positions, sources
        )
        return configured_probes.count_tokens(probes)

    def _objective(self) -> Objective:
        if self.classes:
            return ClassObjective(self.classes.labels, self.tokenizer.pad_token_id)
        if self.config.task == "dpo":
            return PreferenceObjective(self.config, ReferenceLogps.unknown(list(self.whole.values())))
        return TokenObjective()

    def _labels(self) -> LabelPrompts | None:
        """Return the labels that causal models score after the run, if any."""
        if loading.is_encoder(self.architecture):
            return None
        if self.classes:
            names = self.classes.labels.names
        else:
            held_out = np.concatenate(
                [self.dealt[part][:LABEL_SAMPLE_ROWS] for part in training_rows.PARTS[1:]]
            )
            answered_labels = classifier_evaluation.find_answer_labels(
                self.job.home, self.fingerprint, self.kind, self.dealt, held_out
            )
            names = answered_labels[0].names if answered_labels else []
        if not 0 < len(names) <= answer_likelihood.MAX_LABELS or self.config.task == "dpo":
            return None
        # a classifier needs the scores of the untuned model, a generating model those before and after
        # training
        return LabelPrompts(
            answer_likelihood.count_label_tokens(self.tokenizer, names), 1 if self.classes else 2
        )

    def _counted(self, dealt: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the rows whose tokens are counted: all of them, or a sample of a large data set."""
        if dataset_files.open_rows(self.job.home, self.fingerprint).metadata.num_rows <= WHOLE:
            return dict(dealt)
        train = dealt["train"]
        if len(train) > WHOLE:
            train = np.sort(np.random.default_rng(0).choice(train, WHOLE, replace=False))
        held_out = {name: dealt[name][:HELD_OUT_ROWS] for name in training_rows.PARTS[1:]}
        return {"train": train, **held_out}
