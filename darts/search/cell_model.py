"""What many short trainings of cells say together.

Shape suffixes: N observations, A cells asked for, G groups, E edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from darts.search.paths import Path

WORST = float("inf")  # loss of a training that diverged
LARGEST = 2.0  # by how much a loss is worse than the best of its group, at most, over what is usual in a group
EDGE, NEAR, RANGE = 0.25, 0.5, 2.0  # variances over that of the noise, of an edge's operation and of what lies near


def liking(weights_EO: Tensor) -> Callable[[Path], float]:
    """How much a mixture likes a path: the sum of the logarithms of its edge weights, whose deviation over all
    operations is made one; 0 for all paths if the weights are equal."""
    log_EO = weights_EO.double().clamp(min=1e-6).log()
    log_EO = log_EO - log_EO.mean(dim=-1, keepdim=True)
    deviation = float(log_EO.square().mean().sqrt())
    table = (log_EO / deviation if deviation > 1e-9 else 0 * log_EO).tolist()
    return lambda path_E: sum(row[choice] for row, choice in zip(table, path_E, strict=True))


@dataclass(frozen=True)
class Posterior:
    """A normal distribution of losses, up to a constant.

    Attributes:
        mean_A, covariance_AA: of the cells asked for, float64.
    """

    mean_A: Tensor
    covariance_AA: Tensor

    def draws(self, number: int, generator: torch.Generator) -> Tensor:
        """Losses (number, A) that may be the true ones, each row a draw of its own."""
        values_A, vectors_AA = torch.linalg.eigh(self.covariance_AA)
        noise_DA = torch.randn(number, len(values_A), generator=generator, dtype=torch.float64)
        return self.mean_A + noise_DA * values_A.clamp(min=0).sqrt() @ vectors_AA.T


def posterior(
    rows: Sequence[tuple[Path, int, float]], asked: Sequence[Path], before: Callable[[Path], float] = lambda path_E: 0.0
) -> Posterior:
    """What observations say of cells, seen or not: a Gaussian process (Rasmussen & Williams 2006, section 2.7).

    A loss is the sum of a constant of its group, an effect of every operation on its edge, one that cells share the
    more the fewer edges they differ on, and noise. Constants of groups are free, so differences within a group count
    alone; the variance of the noise is that of greatest likelihood, the others are in proportion to it: they were
    chosen by the likelihood of losses of NAS-Bench-201 cells on CIFAR-10, without their accuracies.

    Args:
        rows: path, group and loss of every observation, at least one.
        asked: paths.
        before: what a loss was expected to be before it was observed, over the best losses.
    """
    groups = {group: place for place, group in enumerate(dict.fromkeys(group for _, group, _ in rows))}
    best = {group: min(loss for _, other, loss in rows if other == group) for group in groups}
    worse = [loss - best[group] if loss < WORST else WORST for _, group, loss in rows]
    middle = [median(w for w, (_, other, _) in zip(worse, rows, strict=True) if other == group) for group in groups]
    usual = median(value for value in middle if value < WORST) if min(middle) < WORST else 0.0
    y_N = torch.tensor([min(value, LARGEST * usual) for value in worse], dtype=torch.float64)
    member_NG = torch.zeros(len(rows), len(groups), dtype=torch.float64)
    member_NG[range(len(rows)), [groups[group] for _, group, _ in rows]] = 1
    seen_NE, asked_AE = torch.tensor([list(path_E) for path_E, *_ in rows]), torch.tensor([list(p) for p in asked])
    inverse_NN = torch.linalg.inv(_kernel(seen_NE, seen_NE) + torch.eye(len(rows), dtype=torch.float64))
    within_NG = inverse_NN @ member_NG
    precision_NN = inverse_NN - within_NG @ torch.linalg.solve(member_NG.T @ within_NG, within_NG.T)
    cross_AN = _kernel(asked_AE, seen_NE)
    noise = y_N @ precision_NN @ y_N / max(1, len(rows) - len(groups))
    covariance_AA = _kernel(asked_AE, asked_AE) - cross_AN @ precision_NN @ cross_AN.T
    level = max((abs(loss) for loss in best.values() if loss < WORST), default=0.0)
    before_N, before_A = (
        level * torch.tensor([before(path_E) for path_E in paths], dtype=torch.float64)
        for paths in ([path_E for path_E, *_ in rows], asked)
    )
    return Posterior(before_A + cross_AN @ precision_NN @ (y_N - before_N), noise * covariance_AA)


def _kernel(one_AE: Tensor, other_NE: Tensor) -> Tensor:
    same_AN = (one_AE[:, None] == other_NE[None]).sum(dim=-1).double()
    return EDGE * same_AN + NEAR * ((same_AN - one_AE.shape[-1]) / RANGE).exp()
