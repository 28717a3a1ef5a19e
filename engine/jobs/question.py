"""What a question about a run that is not there yet rests on: model, tokenizer, rows, and the costs of
configs.

Nothing is loaded but the tokenizer. Token counts come from the cache that training uses too; of a data set
with more than `WHOLE` rows a sample is counted."""

from __future__ import annotations

import numpy as np
import torch

from engine.data import dataset
from engine.job import Job
from engine.jobs.convert import ensure
from engine.jobs.costs import Cost, Costs, process_gib
from engine.tuning import models, prepare
from engine.tuning.footprint import Rehearsal
from engine.tuning.precision import choose_dtype
from engine.tuning.tokens import WHOLE
from store.config import Split, TrainConfig


class Question:
    """{"config", "fingerprint", "split"} of an ask. Raises what makes an answer impossible: no such model, no
    rows."""

    def __init__(self, job: Job) -> None:
        asked, home = job.config, job.home
        config = TrainConfig.parse(asked["config"])
        self.job, self.fingerprint, self.said = job, asked["fingerprint"], config
        if config.model in models.BUNDLED:
            ensure(config.model, home)
        source = models.resolve(config.model, home)
        self.architecture = models.load_config(source, trust_remote_code=config.trust_remote_code)
        self.tokenizer = models.load_tokenizer(
            source, trust_remote_code=config.trust_remote_code, chat_template=config.chat_template
        )
        self.device = torch.device(job.device)
        process = process_gib(self.device)
        self.dealt = prepare.deal(home, self.fingerprint, Split.parse(asked["split"]), config)
        self.kind = prepare.kind(home, self.fingerprint)
        self.whole = prepare.tokenise(
            home, config, self.tokenizer, self._counted(), fingerprint=self.fingerprint, kind=self.kind
        )
        self.positions = getattr(self.architecture.get_text_config(), "max_position_embeddings", None)
        self.limit = prepare.fitting(config, self.whole["train"], self.positions)
        self.parts = {name: prepare.cut(rows, self.limit) for name, rows in self.whole.items()}
        rows = {name: len(ids) for name, ids in self.dealt.items()}
        self.costs = Costs(job, self.architecture, rows, self.parts, process)

    def cost(self, config: TrainConfig) -> Cost:
        """The costs of `config`, resolved for these rows and this model. Raises ConfigError where its method
        can't be used with it."""
        dtype = choose_dtype(config.dtype, self.device)
        rehearsal = Rehearsal(self.architecture, config, dtype, self.device.type)
        resolved = config.resolved(len(self.dealt["train"]), round(rehearsal.counts.total))
        return Cost(self.costs, resolved, rehearsal)

    def _counted(self) -> dict[str, np.ndarray]:
        """The rows whose tokens are counted: all of them, or a sample of a large data set."""
        dealt = self.dealt
        if dataset.open_rows(self.job.home, self.fingerprint).metadata.num_rows <= WHOLE:
            return dealt
        train = dealt["train"]
        if len(train) > WHOLE:
            train = np.sort(np.random.default_rng(0).choice(train, WHOLE, replace=False))
        return {"train": train, "validation": dealt["validation"][:500], "test": dealt["test"][:500]}
