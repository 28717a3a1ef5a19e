"""All that a gate is judged by: the evidence that the store has for each of its checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from store.config.shipping.gate_config import TITLES, GateConfig
from store.db.named_query import named_query
from store.documents.shipping.gate import CheckEvidence
from store.queries.shipping import aliases, measured_evidence, rated_evidence, run_evidence
from store.queries.shipping.gate_candidates import Candidate, Check, candidate_of, name_of

if TYPE_CHECKING:
    from store.db.database import Queryable


class GateCase(NamedTuple):
    """All that a gate is judged by; each check with its title and its evidence."""

    reference: str
    alias: str
    holder: str | None
    checks: list[tuple[Check, str, CheckEvidence]]


@named_query
def case(db: Queryable, reference: str, alias: str) -> GateCase:
    """A version at the gate of an alias, with the evidence that there is. Raises NotFoundError."""
    candidate = candidate_of(db, reference, alias)
    return case_of(db, candidate, gate_of(db, candidate))


def gate_of(db: Queryable, candidate: Candidate) -> GateConfig:
    """What the alias asks of a version; without a check where nothing was ever set."""
    line = aliases.gate(db, candidate.version["model_id"], candidate.alias)
    return GateConfig.parse(line["config"]) if line else GateConfig()


def case_of(db: Queryable, candidate: Candidate, gate: GateConfig) -> GateCase:
    """A version at any gate, with the evidence that there is."""
    return GateCase(
        candidate.reference,
        candidate.alias,
        name_of(candidate.holder) if candidate.holder else None,
        [
            (check, TITLES[check["check"]], evidence(db, candidate, check))
            for check in gate.document()["checks"]
        ],
    )


def evidence(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    """What one check is judged by."""
    return _EVIDENCE[check["check"]](db, candidate, check)


_EVIDENCE: dict[str, Callable[[Queryable, Candidate, Check], CheckEvidence]] = {
    "not_worse_than": measured_evidence.not_worse,
    "better_on_task": measured_evidence.better,
    "question_above": run_evidence.question,
    "forgetting_under": run_evidence.forgetting,
    "bias_under": run_evidence.bias,
    "calibration_under": measured_evidence.calibration,
    "parity_passed": run_evidence.parity,
    "human_ratings": rated_evidence.human,
    "latency_under": measured_evidence.latency,
}
