"""From a spec to a worker that answers: a model that writes, a classifier, or an encoder."""

from __future__ import annotations

import gc
import os

import torch

from engine.serving.protocol.app import Answerer
from engine.serving.worker import loading
from engine.serving.worker.answering import WorkerAnswers
from engine.serving.worker.batch import Batch
from engine.serving.worker.classifying import ClassifierAnswers, is_classifier, load_classifier
from engine.serving.worker.embedding import EncoderAnswers, is_plain_encoder, load_encoder
from store.documents.serving.backend import BackendSpec


def open_worker(spec: BackendSpec) -> Answerer:
    """Load what the spec names. Raises what loading raises."""
    torch.set_num_threads(spec["threads"] or len(os.sched_getaffinity(0)))
    if is_classifier(spec):
        return ClassifierAnswers(load_classifier(spec), spec)
    if is_plain_encoder(spec):
        return EncoderAnswers(load_encoder(spec))
    loaded = loading.load(spec)
    gc.collect()
    batch = Batch(loaded.forward, rows=spec["max_streams"], tokens=spec["max_tokens"])
    batch.start()
    return WorkerAnswers(loaded, batch, spec)
