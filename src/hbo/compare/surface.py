"""A response surface: the held-out loss of each dataset as a function of the shares that a run was trained at.

Of dataset i at the shares r: `c_i + a_i f(r_i) + s_i f(r_i)² + Σ_j≠i b_ij f(r_j)`, where f is a power of the share. A
loss falls with the rows that were seen as a power of their number, whose exponent is unknown; power 0 is the logarithm.
The square lets the loss rise again where few rows are seen too often, and the other terms are what datasets do for each
other. Mixing laws (arXiv 2403.16952) have an exponential there, which has no steep end at small shares and no closed
form. Here all terms add up over datasets, so that the best shares are found exactly.

The coefficients are ridge estimates. Power and strengths, one of a dataset's own share and one of all else, are those
with the least error in predicting each run from the others (leave one out).

K datasets, N runs, M mixtures, B replicates, P terms, F forms, G steps of a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from hbo.arrays import Floats, Ints

_POWERS = (-0.5, 0.0, 0.5)
_OWN, _OTHER = (1e-3, 1e-2, 1e-1, 1.0), (1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Form:
    """A power of the shares, and how strongly the coefficients are held near 0."""

    power: float
    own: float
    other: float


FORMS = tuple(Form(*each) for each in product(_POWERS, _OWN, _OTHER))


def bent(share: Floats, power: float) -> Floats:
    """f: the falling power of a share, 0 at the whole.

    Example:
        >>> bent(np.array([1.0, 0.25]), 1.0).tolist()
        [0.0, 3.0]
    """
    found: Floats = -np.log(share) if power == 0 else (share**-power - 1) / power
    return found


class Surfaces:
    """Surfaces over the same runs' shares, fitted to any number of losses at once.

    Args:
        share_NK: The shares of each run.
    """

    def __init__(self, share_NK: Floats) -> None:
        self.share_NK = share_NK
        self._terms = [_Terms(share_NK, form) for form in FORMS]

    def fit(self, loss_BNK: Floats) -> Fitted:
        """The fit to each replicate of the losses, with the form that predicts it best."""
        error_FB = np.array([_squares(terms.left_out(loss_BNK)) for terms in self._terms])
        form_B = error_FB.argmin(axis=0)
        fitted_BNK, left_BNK = np.empty_like(loss_BNK), np.empty_like(loss_BNK)
        for f in np.unique(form_B):
            chosen = form_B == f
            fitted_BNK[chosen] = self._terms[f].at_runs(loss_BNK[chosen])
            left_BNK[chosen] = self._terms[f].left_out(loss_BNK[chosen])
        return Fitted(self._terms, form_B, loss_BNK, fitted_BNK, left_BNK)


class Fitted:
    """Surfaces that are fitted."""

    def __init__(
        self, terms: list[_Terms], form_B: Ints, loss_BNK: Floats, fitted_BNK: Floats, left_BNK: Floats
    ) -> None:
        self._terms, self.form_B, self._loss_BNK = terms, form_B, loss_BNK
        self.fitted_BNK, self.left_BNK = fitted_BNK, left_BNK

    def parts(self, share_KG: Floats) -> Floats:
        """What share g of dataset j contributes to the mean loss over datasets, (B, K, G); their sum is that loss."""
        found = np.empty((len(self.form_B), self._loss_BNK.shape[2], share_KG.shape[-1]))
        for f in np.unique(self.form_B):
            chosen = self.form_B == f
            found[chosen] = self._terms[f].parts(self._loss_BNK[chosen], share_KG)
        return found

    def mean_loss(self, share_MK: Floats) -> Floats:
        """The mean loss over datasets at some mixtures, (B, M)."""
        found: Floats = self.parts(share_MK.T).sum(axis=1)
        return found


class _Terms:
    """The terms of one form at the runs' shares; what is estimated is linear in the losses."""

    def __init__(self, share_NK: Floats, form: Form) -> None:
        self.form = form
        plain_NK = bent(share_NK, form.power)
        self.middle_K, self.scale_K = plain_NK.mean(axis=0), np.maximum(plain_NK.std(axis=0), 1e-12)
        x_NK = (plain_NK - self.middle_K) / self.scale_K
        self.square_K = (x_NK**2).mean(axis=0)
        runs, datasets = x_NK.shape
        self.estimate_KPN = np.empty((datasets, datasets + 1, runs))
        self.hat_KNN = np.empty((datasets, runs, runs))
        for i in range(datasets):
            x_NP = np.column_stack([x_NK, x_NK[:, i] ** 2 - self.square_K[i]])
            strength_P = np.full(datasets + 1, form.other)
            strength_P[i] = form.own
            # The columns have mean 0, so that the mean of the losses is the constant, which nothing shrinks.
            self.estimate_KPN[i] = np.linalg.solve(x_NP.T @ x_NP + runs * np.diag(strength_P), x_NP.T)
            self.hat_KNN[i] = x_NP @ self.estimate_KPN[i] + 1 / runs

    @cached_property
    def _kept_KN(self) -> Floats:
        found: Floats = np.maximum(1 - np.diagonal(self.hat_KNN, axis1=1, axis2=2), 1e-6)
        return found

    def at_runs(self, loss_BNK: Floats) -> Floats:
        """The surfaces at the runs' own shares, (B, N, K)."""
        found: Floats = np.einsum("knm,bmk->bnk", self.hat_KNN, loss_BNK)
        return found

    def left_out(self, loss_BNK: Floats) -> Floats:
        """What each run is off the surface that is fitted to all others, (B, N, K)."""
        found: Floats = (loss_BNK - self.at_runs(loss_BNK)) / self._kept_KN.T
        return found

    def parts(self, loss_BNK: Floats, share_KG: Floats) -> Floats:
        x_KG = (bent(share_KG, self.form.power) - self.middle_K[:, None]) / self.scale_K[:, None]
        slope_BKP = np.einsum("kpn,bnk->bkp", self.estimate_KPN, loss_BNK)
        found: Floats = slope_BKP[:, :, :-1].sum(axis=1)[:, :, None] * x_KG
        found = found + slope_BKP[:, :, -1][:, :, None] * (x_KG**2 - self.square_K[:, None])
        found += loss_BNK.mean(axis=(1, 2))[:, None, None]
        return found / len(x_KG)


def _squares(value_BNK: Floats) -> Floats:
    found: Floats = np.sum(value_BNK**2, axis=(1, 2))
    return found


def lowest(part_BKG: Floats, least: int) -> Ints:
    """The steps of each dataset, (B, K), that sum to the last step and whose parts sum to the least.

    Exact: dataset by dataset, the best way to have spent each number of steps so far.

    Args:
        part_BKG: What each number of steps, from 0 on, adds.
        least: Steps that each dataset has at the least.

    Example:
        >>> lowest(np.array([[[0.0, 1.0, 9.0], [5.0, 1.0, 0.0]]]), 0).tolist()
        [[0, 2]]
    """
    replicates, datasets, steps = part_BKG.shape
    best_BG = np.full((replicates, steps), np.inf)
    best_BG[:, 0] = 0.0
    choice_KBG = np.zeros((datasets, replicates, steps), dtype=np.int64)
    for k in range(datasets):
        next_BG = np.full_like(best_BG, np.inf)
        for step in range(least, steps - least * (datasets - 1)):
            with_BG = best_BG[:, : steps - step] + part_BKG[:, k, step, None]
            better = with_BG < next_BG[:, step:]
            next_BG[:, step:][better] = with_BG[better]
            choice_KBG[k][:, step:][better] = step
        best_BG = next_BG
    left_B, found_BK = np.full(replicates, steps - 1), np.empty((replicates, datasets), dtype=np.int64)
    for k in reversed(range(datasets)):
        found_BK[:, k] = choice_KBG[k][np.arange(replicates), left_B]
        left_B = left_B - found_BK[:, k]
    return found_BK
