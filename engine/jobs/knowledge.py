"""What the models of a run are asked beside its own held-out rows, while it trains and afterwards, and the
general rows that it may train on so as not to forget."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from engine.data.render import Rows
from engine.evaluation import data_probes, general
from engine.evaluation.probes import Probe
from engine.job import Job
from engine.jobs import general_rows
from engine.tuning import models
from engine.tuning.methods import base_model
from engine.tuning.objectives import Objective
from engine.tuning.probing import Probing, Seen
from engine.tuning.replay import Replay
from store.config import TrainConfig
from store.methods import METHODS


class Knowledge:
    """Of one run. speaks: its models have words, so that they can be asked; with a classification head in
    place of them they can't. positions: the most tokens that the model sees."""

    def __init__(
        self,
        job: Job,
        config: TrainConfig,
        tokenizer: Any,
        source: str,
        positions: int | None,
        *,
        speaks: bool = True,
    ) -> None:
        self.job, self.config, self.tokenizer = job, config, tokenizer
        self.source, self.positions, self.speaks = source, positions, speaks
        self.own: list[Probe] | None = None
        self.asked: list[Probe] = []  # data sets of the user's

    @cached_property
    def general(self) -> list[Probe]:
        """What the model should still know afterwards."""
        if not self.config.probes or not self.speaks:
            return []
        self.job.facts(suite=general.fingerprint())
        return [make(self.tokenizer, self.positions) for make in (general.prose, general.questions)]

    def probing(self, train: Rows, validation: Rows, objective: Objective) -> Probing:
        """What is measured while it trains: as many training rows as validation rows, some of `general`."""
        self.seen = Seen(train, objective, len(validation))
        some = [probe.part(general.LIGHT[probe.name]) for probe in self.general]
        if not self.config.probes:
            return Probing(self.job, self.config, [])
        self.asked = self._data_sets(train)
        return Probing(self.job, self.config, [[self.seen], some, [*map(data_probes.light, self.asked)]])

    def _data_sets(self, train: Rows) -> list[Probe]:
        """The data sets that the run is to leave as they are known."""
        sources = self.job.order.get("probes") or []
        if not self.config.probe_datasets or not self.speaks:
            return []
        gone = len(self.config.probe_datasets) - len(sources)
        if gone:
            self.job.alert(f"Of the data sets that were to be probes {gone} are gone.")
        trained = self.job.order["dataset"]["fingerprint"], train.row_ids
        found = data_probes.find(
            self.job, self.config, self.tokenizer, self.positions, sources, trained=trained
        )
        data_probes.tell(self.job, found)
        return [one.probe for one in found if one.probe]

    def probes(self, model: Any) -> list[Probe]:
        """What base and tuned model are asked; `model` is the tuned one."""
        if not self.config.probes:
            return []
        if self.own is None:
            with base_model(model) as untuned:
                self.hear(untuned)
        return [*self.general, *self.asked, *(self.own or ()), self.seen]

    def hear(self, untuned: Any) -> None:
        """Let the base model write texts of its own, once for every base: they are a probe too."""
        self.own = []
        if self.general:
            folder = models.weights_folder(self.source)
            self.own = [general.own_texts(self.job, untuned, self.tokenizer, folder)]

    def replayed(self, model: Any, held: tuple[str, np.ndarray], train_rows: int) -> Replay | None:
        """General rows to train beside those of the data set; the base model may have to write them. held:
        fingerprint and held-out rows, of which none is trained on."""
        if not self.config.replay_share:
            return None
        adapter = METHODS[self.config.method].adapter
        with base_model(model) if adapter else nullcontext(model) as untuned:
            base = general_rows.Base(untuned, self.tokenizer, self.source, self.positions)
            return general_rows.gather(self.job, self.config, base, held, train_rows)
