"""Strengths of systems from counts of outcomes: Bradley and Terry's model with ties after Davidson (1970).

With d the strength of the left system less that of the right one, and of covariates what they add to it, the
left one wins, the right one wins and neither does in proportions e^(d/2) : e^(-d/2) : nu. A tie is an outcome
of its own: counted as half a win either way it shrinks strengths. The likelihood is concave; Newton's steps
are taken for many sets of counts at once. A ridge of 1e-5 keeps a system finite that always wins. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-5
STEPS, CONVERGED = 100, 1e-7
LONGEST = 2.0  # step, in any one parameter
HALVINGS = 8
NEAR = 0.5  # a step that is no longer needs no look at the likelihood
MOST = 80.0  # log odds, beyond which nothing differs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """What a row of counts is of: x [rows, k] multiplies the k coefficients into d; `penalty` [k] is the
    inverse variance of the normal prior about 0 of each."""

    x: Floats
    penalty: Floats

    @property
    def products(self) -> Floats:
        """x times x' of each row [rows, k * k]."""
        rows, k = self.x.shape
        return (self.x[:, :, None] * self.x[:, None, :]).reshape(rows, k * k)


@dataclass(frozen=True)
class Fit:
    """coefficients [sets, k], and log nu [sets]."""

    coefficients: Floats
    log_nu: Floats


def chances(d: Floats, log_nu: Floats) -> Floats:
    """Of the left one's win, the right one's, and a tie [..., 3]."""
    logits = np.stack(np.broadcast_arrays(d / 2, -d / 2, log_nu), axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    odds = np.exp(logits)
    shares: Floats = odds / odds.sum(axis=-1, keepdims=True)
    return shares


def _lead_and_ties(d: Floats, log_nu: Floats) -> tuple[Floats, Floats]:
    """The chance of the left one's win less that of the right one's, and that of a tie."""
    left = np.exp(np.clip(d, -MOST, MOST) / 2)
    right, nu = 1 / left, np.exp(np.clip(log_nu, -MOST, MOST))
    whole = left + right + nu
    return (left - right) / whole, nu / whole


def fit(design: Design, counts: Floats, start: Fit | None = None, *, converged: float = CONVERGED) -> Fit:
    """The most likely coefficients of each set of counts [sets, rows, 3]: wins of the left system, of the
    right one, ties. They need not be whole numbers."""
    sets, k = len(counts), design.x.shape[1]
    theta = np.zeros((sets, k + 1))
    if start is not None:
        theta[:, :k], theta[:, k] = start.coefficients, start.log_nu  # one for all sets, or one each
    penalty = np.append(design.penalty, RIDGE)
    products = design.products
    going = np.arange(sets)
    for _ in range(STEPS):
        part = counts if len(going) == sets else counts[going]
        step = _step(design, products, part, theta[going], penalty)
        far = np.abs(step).max(axis=1)
        long = np.flatnonzero(far > NEAR)  # elsewhere a whole step can't lose
        if len(long):
            step[long] *= _shortened(design, part[long], theta[going[long]], step[long], penalty)[:, None]
        theta[going] += step
        going = going[far > converged]
        if not len(going):
            break
    return Fit(theta[:, :k], theta[:, k])


def _step(design: Design, products: Floats, counts: Floats, theta: Floats, penalty: Floats) -> Floats:
    """Newton's step for each set, no longer than LONGEST."""
    gradient, information = derivatives(design, products, counts, theta, penalty)
    step = np.linalg.solve(information, gradient[..., None])[..., 0]
    step /= np.maximum(1.0, np.abs(step).max(axis=1) / LONGEST)[:, None]
    return np.asarray(step, np.float64)


def derivatives(
    design: Design, products: Floats, counts: Floats, theta: Floats, penalty: Floats
) -> tuple[Floats, Floats]:
    """The gradient [sets, k + 1] and the information [sets, k + 1, k + 1] of the penalised likelihood."""
    k = design.x.shape[1]
    total = counts.sum(axis=2)
    lead, tied = _lead_and_ties(theta[:, :k] @ design.x.T, theta[:, k:])
    gradient = np.empty_like(theta)
    gradient[:, :k] = ((counts[..., 0] - counts[..., 1] - total * lead) / 2) @ design.x
    gradient[:, k] = (counts[..., 2] - total * tied).sum(axis=1)
    gradient -= penalty * theta
    information = np.empty((len(theta), k + 1, k + 1))
    information[:, :k, :k] = ((total * (1 - tied - lead * lead) / 4) @ products).reshape(-1, k, k)
    information[:, :k, k] = information[:, k, :k] = -((total * tied * lead) / 2) @ design.x
    information[:, k, k] = (total * tied * (1 - tied)).sum(axis=1)
    information += np.diag(penalty)
    return gradient, information


def _shortened(design: Design, counts: Floats, theta: Floats, step: Floats, penalty: Floats) -> Floats:
    """The part of each step to take: one that loses likelihood is halved."""
    reached = _likelihood(design, counts, theta, penalty)
    length = np.ones(len(theta))
    for _ in range(HALVINGS):
        ahead = _likelihood(design, counts, theta + length[:, None] * step, penalty)
        worse = ahead < reached - 1e-9 * (1 + np.abs(reached))
        if not worse.any():
            break
        length[worse] /= 2
    return length


def _likelihood(design: Design, counts: Floats, theta: Floats, penalty: Floats) -> Floats:
    k = design.x.shape[1]
    d = theta[:, :k] @ design.x.T
    log_nu = theta[:, k:]
    logs = np.logaddexp(np.logaddexp(d / 2, -d / 2), log_nu)
    reached = ((counts[..., 0] - counts[..., 1]) * d / 2).sum(axis=1) + (counts[..., 2] * log_nu).sum(axis=1)
    whole: Floats = reached - (counts.sum(axis=2) * logs).sum(axis=1) - (penalty * theta**2).sum(axis=1) / 2
    return whole


def influence(design: Design, counts: Floats, fitted: Fit, rows: Ints, outcomes: Ints) -> Floats:
    """By how much each rating moves the coefficients and log nu [ratings, k + 1]; `rows` of the
    design, `outcomes` 0, 1 or 2. `counts` [rows, 3] are those that `fitted` was fitted to, alone."""
    theta = np.append(fitted.coefficients[0], fitted.log_nu[0])[None]
    penalty = np.append(design.penalty, RIDGE)
    _, information = derivatives(design, design.products, counts[None], theta, penalty)
    lead, tied = (part[0] for part in _lead_and_ties(theta[:, :-1] @ design.x.T, theta[:, -1:]))
    sign = np.array([1.0, -1.0, 0.0])[outcomes]
    score = np.empty((len(rows), theta.shape[1]))
    score[:, :-1] = ((sign - lead[rows]) / 2)[:, None] * design.x[rows]
    score[:, -1] = (outcomes == 2) - tied[rows]
    moved: Floats = np.linalg.solve(information[0], score.T).T
    return moved
