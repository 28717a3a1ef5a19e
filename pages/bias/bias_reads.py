"""What the views of bias checks read."""

from __future__ import annotations

from pages.shared import reads
from pages.shared.session import client, kept_for
from store.documents.shipping.bias_details import BiasCheck, BiasSummary
from store.documents.tables.job import Job
from store.queries.bias import checks
from store.queries.shipping import classifiers
from store.queries.shipping.classifiers import ListedClassifier


@kept_for(reads.CALM, most=32)
def check(job_id: str) -> BiasCheck:
    return checks.get(client(), job_id)


@kept_for(reads.LIVE, most=32)
def listed(run_id: str = "", evaluation_id: str = "") -> list[BiasSummary]:
    """Of a run, or with groups of an evaluation, newest first."""
    return checks.listed(client(), run_id=run_id, evaluation_id=evaluation_id)


@kept_for(reads.LIVE, most=32)
def unfinished(run_id: str = "", evaluation_id: str = "") -> list[Job]:
    return checks.unfinished(client(), run_id=run_id, evaluation_id=evaluation_id)


@kept_for(reads.CALM, most=4)
def choosable() -> list[ListedClassifier]:
    """Classifiers that can judge continuations."""
    return classifiers.listed(client())
