"""Bradley-Terry model with ties (Davidson 1970): strengths of systems from outcome counts.

With d the strength of the left system minus that of the right one, plus the contribution of covariates, a
left win, a right win and a tie occur in proportions e^(d/2) : e^(-d/2) : nu. A tie is an outcome of its own:
counting it as half a win for each side would shrink strengths. The likelihood is concave and is maximized by
Newton's method for many sets of counts at once. A design row names two of possibly many systems, so its outer
product is mostly zeros and is stored sparse. A ridge of 1e-5 keeps the strength of a system that always wins
finite. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

RIDGE = 1e-5
STEPS, CONVERGED = 100, 1e-7
MAX_STEP = 2.0  # largest step in any parameter
HALVINGS = 8
SAFE_STEP = 0.5  # steps up to this length don't need a likelihood check
MAX_LOG_ODDS = 80.0  # log odds are clipped here; probabilities don't change beyond

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """Design matrix of the rows of counts.

    x [rows, k] multiplies the k coefficients to give d; `penalty` [k] is the inverse variance of each
    coefficient's normal prior around 0.
    """

    x: Floats
    penalty: Floats

    @cached_property
    def rows(self) -> sparse.csr_array:
        """x as a sparse matrix."""
        return sparse.csr_array(self.x)

    @cached_property
    def products(self) -> sparse.csr_array:
        """Outer product x x' of each row, flattened [rows, k * k]."""
        rows, k = self.x.shape
        lengths = np.diff(self.rows.indptr)
        most = int(lengths.max(initial=0))
        slots = np.minimum(np.arange(most), np.maximum(lengths - 1, 0)[:, None]) + self.rows.indptr[:-1, None]
        there = np.arange(most) < lengths[:, None]
        column = self.rows.indices[slots] if most else np.zeros((rows, 0), np.int64)
        value = np.where(there, self.rows.data[slots], 0.0) if most else np.zeros((rows, 0))
        of_row = np.repeat(np.arange(rows), most * most)
        columns = (column[:, :, None].astype(np.int64) * k + column[:, None, :]).ravel()
        entries = (value[:, :, None] * value[:, None, :]).ravel()
        return sparse.csr_array((entries, (of_row, columns)), shape=(rows, k * k))


@dataclass(frozen=True)
class Fit:
    """Fitted coefficients [sets, k] and log nu [sets]."""

    coefficients: Floats
    log_nu: Floats


def compute_probabilities(d: Floats, log_nu: Floats) -> Floats:
    """Return the probabilities of a left win, a right win and a tie [..., 3]."""
    logits = np.stack(np.broadcast_arrays(d / 2, -d / 2, log_nu), axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    odds = np.exp(logits)
    shares: Floats = odds / odds.sum(axis=-1, keepdims=True)
    return shares


def _compute_lead_and_ties(d: Floats, log_nu: Floats) -> tuple[Floats, Floats]:
    """Return the probability of a left win minus that of a right win, and the probability of a tie."""
    left = np.exp(np.clip(d, -MAX_LOG_ODDS, MAX_LOG_ODDS) / 2)
    right, nu = 1 / left, np.exp(np.clip(log_nu, -MAX_LOG_ODDS, MAX_LOG_ODDS))
    whole = left + right + nu
    return (left - right) / whole, nu / whole


def fit(design: Design, counts: Floats, start: Fit | None = None, *, converged: float = CONVERGED) -> Fit:
    """Return the maximum-likelihood coefficients for each set of counts.

    Counts [sets, rows, 3] are wins of the left system, wins of the right one, and ties; they need not be
    integers.
    """
    sets, k = len(counts), design.x.shape[1]
    theta = np.zeros((sets, k + 1))
    if start is not None:
        theta[:, :k], theta[:, k] = start.coefficients, start.log_nu  # one start for all sets, or one per set
    penalty = np.append(design.penalty, RIDGE)
    going = np.arange(sets)
    for _ in range(STEPS):
        part = counts if len(going) == sets else counts[going]
        step = _compute_newton_step(design, part, theta[going], penalty)
        far = np.abs(step).max(axis=1)
        long = np.flatnonzero(far > SAFE_STEP)  # a shorter full step can't decrease the likelihood
        if len(long):
            step[long] *= _halve_steps(design, part[long], theta[going[long]], step[long], penalty)[:, None]
        theta[going] += step
        going = going[far > converged]
        if not len(going):
            break
    return Fit(theta[:, :k], theta[:, k])


def _compute_newton_step(design: Design, counts: Floats, theta: Floats, penalty: Floats) -> Floats:
    """Return the Newton step for each set, limited to MAX_STEP."""
    gradient, information = compute_derivatives(design, counts, theta, penalty)
    step = np.linalg.solve(information, gradient[..., None])[..., 0]
    step /= np.maximum(1.0, np.abs(step).max(axis=1) / MAX_STEP)[:, None]
    return np.asarray(step, np.float64)


def compute_derivatives(
    design: Design, counts: Floats, theta: Floats, penalty: Floats
) -> tuple[Floats, Floats]:
    """Return the gradient [sets, k + 1] and information [sets, k + 1, k + 1] of the penalized likelihood."""
    k = design.x.shape[1]
    total = counts.sum(axis=2)
    lead, tied = _compute_lead_and_ties(theta[:, :k] @ design.rows.T, theta[:, k:])
    gradient = np.empty_like(theta)
    gradient[:, :k] = ((counts[..., 0] - counts[..., 1] - total * lead) / 2) @ design.rows
    gradient[:, k] = (counts[..., 2] - total * tied).sum(axis=1)
    gradient -= penalty * theta
    information = _assemble_information(
        (total * (1 - tied - lead * lead) / 4) @ design.products,
        -((total * tied * lead) / 2) @ design.rows,
        (total * tied * (1 - tied)).sum(axis=1),
    )
    return gradient, information + np.diag(penalty)


def _assemble_information(of_strengths: Floats, across: Floats, of_ties: Floats) -> Floats:
    """Assemble the information matrix from its blocks [sets, k * k], [sets, k] and [sets]."""
    sets, k = across.shape
    information = np.empty((sets, k + 1, k + 1))
    information[:, :k, :k] = of_strengths.reshape(sets, k, k)
    information[:, :k, k] = information[:, k, :k] = across
    information[:, k, k] = of_ties
    return information


def _evaluate_fit(design: Design, fitted: Fit) -> tuple[Floats, Floats]:
    """Return the lead and the tie probability of each row for a single fit."""
    lead, tied = _compute_lead_and_ties(fitted.coefficients[:1] @ design.rows.T, fitted.log_nu[:1, None])
    return lead[0], tied[0]


def compute_information_of_sets(design: Design, totals: sparse.csr_array, fitted: Fit) -> Floats:
    """Return the information of each set [sets, k + 1, k + 1] at `fitted`, without the prior's.

    `totals` [sets, rows] is the number of ratings of each row.
    """
    lead, tied = _evaluate_fit(design, fitted)
    return _assemble_information(
        (totals.multiply((1 - tied - lead * lead) / 4) @ design.products).toarray(),
        -(totals.multiply(tied * lead / 2) @ design.rows).toarray(),
        np.asarray(totals @ (tied * (1 - tied))),
    )


def _halve_steps(design: Design, counts: Floats, theta: Floats, step: Floats, penalty: Floats) -> Floats:
    """Return the fraction of each step to take, halved while the step decreases the likelihood."""
    reached = _compute_log_likelihood(design, counts, theta, penalty)
    length = np.ones(len(theta))
    for _ in range(HALVINGS):
        ahead = _compute_log_likelihood(design, counts, theta + length[:, None] * step, penalty)
        worse = ahead < reached - 1e-9 * (1 + np.abs(reached))
        if not worse.any():
            break
        length[worse] /= 2
    return length


def _compute_log_likelihood(design: Design, counts: Floats, theta: Floats, penalty: Floats) -> Floats:
    k = design.x.shape[1]
    d = theta[:, :k] @ design.rows.T
    log_nu = theta[:, k:]
    logs = np.logaddexp(np.logaddexp(d / 2, -d / 2), log_nu)
    reached = ((counts[..., 0] - counts[..., 1]) * d / 2).sum(axis=1) + (counts[..., 2] * log_nu).sum(axis=1)
    whole: Floats = reached - (counts.sum(axis=2) * logs).sum(axis=1) - (penalty * theta**2).sum(axis=1) / 2
    return whole


def compute_scores(design: Design, fitted: Fit, rows: Ints, outcomes: Ints) -> Floats:
    """Return the log-likelihood gradient of each rating [ratings, k + 1].

    `rows` are indices into the design; `outcomes` are 0, 1 or 2.
    """
    lead, tied = _evaluate_fit(design, fitted)
    cells = np.empty((len(design.x), 3, design.x.shape[1] + 1))  # few cells; ratings index into them
    for outcome, sign in enumerate((1.0, -1.0, 0.0)):
        cells[:, outcome, :-1] = ((sign - lead) / 2)[:, None] * design.x
        cells[:, outcome, -1] = (outcome == 2) - tied
    every: Floats = cells.reshape(-1, cells.shape[2])[rows * 3 + outcomes]
    return every


def compute_information(design: Design, counts: Floats, fitted: Fit) -> Floats:
    """Return the information of the penalized likelihood at `fitted` [k + 1, k + 1].

    `counts` [rows, 3] are those it was fitted to.
    """
    theta = np.append(fitted.coefficients[0], fitted.log_nu[0])[None]
    whole: Floats = compute_derivatives(design, counts[None], theta, np.append(design.penalty, RIDGE))[1][0]
    return whole
