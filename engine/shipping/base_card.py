"""What the card of a base model states of itself: license and languages.

Nothing is made up where it is silent, and nothing of it is taken that isn't of the hub's own form.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub import metadata_load

from engine.models import models
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.contract.errors import ModelError
from store.documents.shipping.card import BaseCard

CARD = "README.md"
MAX_BYTES = 2**20
MAX_LANGUAGES = 200
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,99}")
LICENSE_NAME = re.compile(r"[\w][\w .+-]{0,99}")
LINK = re.compile(r"https://[\w./%~#?=&+-]{1,300}")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}|code|multilingual")
UNKNOWN: BaseCard = {"license": None, "license_name": None, "license_link": None, "languages": []}


def read(job: WorkerJob, subject: ExportSubject) -> BaseCard:
    """Of the model beneath, whose card lies beside its weights or on the hub."""
    try:
        file = models.file_of(_source(job, subject), CARD)
        if file is None or file.stat().st_size > MAX_BYTES:
            return UNKNOWN
        return stated(metadata_load(file) or {})
    except (ModelError, OSError, ValueError, RecursionError, yaml.YAMLError):
        return UNKNOWN  # a base that is gone, or a card that is none


def _source(job: WorkerJob, subject: ExportSubject) -> str:
    """Of a model that an earlier run merged, and of whole weights, what all of it was made of."""
    if subject.adapter and not subject.own_base:
        return subject.base(job)
    return models.resolve(subject.config.model, job.home)


def stated(head: dict[str, Any]) -> BaseCard:
    """From the front matter of a card, as far as it is of the hub's form."""
    license_ = _matching(LICENSE, head.get("license"))
    other = license_ == "other"
    named = head.get("language")
    listed = named if isinstance(named, list) else [named]
    languages = [_matching(LANGUAGE, each) for each in listed[:MAX_LANGUAGES]]
    return {
        "license": license_,
        "license_name": _matching(LICENSE_NAME, head.get("license_name")) if other else None,
        "license_link": _matching(LINK, head.get("license_link")) if other else None,
        "languages": [each for each in languages if each],
    }


def _matching(form: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None
