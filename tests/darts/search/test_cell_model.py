"""The model of many trainings, against plain conditioning of normal distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from darts.search.cell_model import EDGE, NEAR, RANGE, Path, liking, posterior

FLAT = 1e7  # variance of the constant of a group


def prior(one: Path, other: Path) -> float:
    """Covariance of two losses, in units of the noise."""
    same = sum(x == y for x, y in zip(one, other, strict=True))
    return EDGE * same + NEAR * math.exp((same - len(one)) / RANGE)


def matrix(ones: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> Tensor:
    return torch.tensor([[prior(one, other) for other in others] for one in ones], dtype=torch.float64)


def test_it_is_the_posterior_of_normal_distributions() -> None:
    """Mean and covariance of differences; groups have a nearly flat prior there, the noise the variance that is most
    likely, found by a search over a grid."""
    generator = torch.Generator().manual_seed(0)
    paths = [tuple(torch.randint(3, (2,), generator=generator).tolist()) for _ in range(12)]
    groups = [place % 3 for place in range(12)]
    losses = (torch.rand(12, generator=generator, dtype=torch.float64) * 0.5).tolist()
    asked = [*dict.fromkeys(paths), (0, 0), (2, 2)]
    found = posterior(list(zip(paths, groups, losses, strict=True)), asked)
    least = [min(v for v, g in zip(losses, groups, strict=True) if g == own) for own in groups]
    y = torch.tensor([a - b for a, b in zip(losses, least, strict=True)], dtype=torch.float64)
    middles = [np.median([float(v) for v, g in zip(y, groups, strict=True) if g == own]) for own in range(3)]
    y = y.clamp(max=2 * float(np.median(middles)))
    own = torch.tensor([[float(g == h) for h in groups] for g in groups], dtype=torch.float64)
    known = matrix(paths, paths) + FLAT * own + torch.eye(12, dtype=torch.float64)
    cross = matrix(asked, paths)
    weights = torch.linalg.solve(known, y)
    mean = cross @ weights
    torch.testing.assert_close(found.mean_A - found.mean_A[0], mean - mean[0], rtol=0, atol=1e-6)
    contrasts = torch.eye(len(asked), dtype=torch.float64)[1:] - torch.eye(len(asked), dtype=torch.float64)[0]
    spread = matrix(asked, asked) - cross @ torch.linalg.solve(known, cross.T)
    logs = torch.linspace(-8, 2, 20_001, dtype=torch.float64).exp()  # variance of the noise
    likelihood = -0.5 * ((12 - 3) * logs.log() + float(y @ weights) / logs)
    noise = float(logs[likelihood.argmax()])
    ours, theirs = (contrasts @ value @ contrasts.T for value in (found.covariance_AA, noise * spread))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-6)


def test_groups_stand_apart_and_means_over_them_count() -> None:
    """Three cells that differ on one edge, in groups whose losses lie far apart: their order is that of the means of
    differences, which no single group has; a fourth is foreseen from its operations and from what lies near."""
    a, b, c, d = (0, 0), (1, 0), (2, 0), (2, 1)
    rows = [(a, 0, 1.00), (b, 0, 0.95), (c, 0, 0.99), (a, 1, 5.00), (b, 1, 5.04), (c, 1, 4.94)]
    a_mean, b_mean, c_mean, one, other = posterior(rows, [a, b, c, (0, 1), (0, 2)]).mean_A.tolist()
    assert c_mean < b_mean < a_mean
    assert one == pytest.approx(other, abs=1e-9), "nothing is known of the second edge"
    c_mean, d_mean, a_mean, one = posterior([*rows, ((0, 1), 1, 4.9)], [c, d, a, (0, 1)]).mean_A.tolist()
    assert d_mean < c_mean, "what helps one cell is expected to help another"
    assert one < a_mean


def test_what_was_seen_often_is_known_better_and_diverged_trainings_count_as_bad_ones() -> None:
    rows = [((0, 0), group, 1.0) for group in range(6)] + [((1, 1), group, 1.02) for group in range(6)]
    rows += [((2, 2), 0, math.inf), ((3, 3), 0, 9.0), ((4, 4), 5, 1.01)]
    asked = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    found = posterior(rows, asked)
    mean = found.mean_A.tolist()
    assert mean[0] == min(mean)
    assert mean[0] < mean[2] == pytest.approx(mean[3], abs=1e-9), "how bad they are does not matter"

    def variance(one: int, other: int) -> float:
        covariance = found.covariance_AA
        return float(covariance[one, one] + covariance[other, other] - 2 * covariance[one, other])

    assert variance(0, 1) < 0.5 * variance(0, 4)
    nothing = posterior([((0, 0), 0, math.inf), ((1, 1), 0, math.inf)], asked)
    assert nothing.mean_A.tolist() == [0.0] * 5


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_how_bad_the_bad_ones_are_does_not_matter(scale: float) -> None:
    """Many trainings of good cells, some of bad ones, which are 1 or 100 worse: the good ones are judged alike, in any
    unit of the losses."""
    generator = torch.Generator().manual_seed(0)
    good = [(0, 0, edge) for edge in range(5)]

    def judged(worse: float) -> Tensor:
        noise = torch.Generator().manual_seed(1)
        rows = []
        for group in range(8):
            chance = (0.02 * torch.randn(7, generator=noise, dtype=torch.float64)).tolist()
            rows += [(path, group, scale * (1 + 0.03 * path[2] + e)) for path, e in zip(good, chance, strict=False)]
            rows += [
                (path, group, scale * (worse + e)) for path, e in zip([(3, 3, 3), (4, 4, 4)], chance[5:], strict=True)
            ]
        order = torch.randperm(len(rows), generator=generator).tolist()
        return posterior([rows[place] for place in order], good).mean_A / scale

    near, far = judged(2.0), judged(101.0)
    torch.testing.assert_close(near - near[0], far - far[0], rtol=0, atol=1e-3)
    assert near.argsort().tolist() == list(range(5))


def test_draws_have_the_mean_and_the_covariance() -> None:
    rows = [((0, 0), 0, 1.0), ((1, 0), 0, 1.05), ((0, 1), 0, 1.1), ((1, 1), 1, 2.0), ((0, 0), 1, 1.9)]
    found = posterior(rows, [(0, 0), (1, 1), (2, 2)])
    draws_DA = found.draws(200_000, torch.Generator().manual_seed(0))
    error = found.covariance_AA.diagonal().sqrt().max().item() / math.sqrt(200_000)
    assert (draws_DA.mean(dim=0) - found.mean_A).abs().max() < 4 * error
    torch.testing.assert_close(draws_DA.T.cov(), found.covariance_AA, rtol=0.02, atol=1e-4)
    assert torch.equal(draws_DA[:9], found.draws(200_000, torch.Generator().manual_seed(0))[:9])


def test_what_was_expected_before_fades_as_trainings_are_made() -> None:
    """It decides between two cells that no training tells apart; against many trainings it loses."""
    asked = [(0, 0), (1, 1)]

    def expected(path_E: Path) -> float:
        return -0.03 if tuple(path_E) == (1, 1) else 0.0

    elsewhere = [(path, group, 2.0 + 0.1 * (path == (3, 3))) for group in range(4) for path in [(2, 2), (3, 3)]]
    found, blank = posterior(elsewhere, asked, expected), posterior(elsewhere, asked)
    differences = [float(one.mean_A[1] - one.mean_A[0]) for one in (found, blank)]
    assert differences[0] - differences[1] == pytest.approx(-0.03 * 2.0)
    torch.testing.assert_close(found.covariance_AA, blank.covariance_AA)
    against = [(path, group, 1.0 + 0.02 * (path == (1, 1))) for group in range(40) for path in asked]
    assert posterior(against[:2], asked, expected).mean_A.argmin() == 1
    assert posterior(against, asked, expected).mean_A.argmin() == 0


def test_liking_is_the_standardised_logarithm_of_the_weights() -> None:
    weights_EO = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]], dtype=torch.float64)
    liked = liking(weights_EO)
    logs = [[math.log(w) for w in row] for row in weights_EO.tolist()]
    centered = [[value - sum(row) / 3 for value in row] for row in logs]
    deviation = math.sqrt(sum(value**2 for row in centered for value in row) / 6)
    assert liked((2, 1)) == pytest.approx((centered[0][2] + centered[1][1]) / deviation)
    assert liked((0, 0)) == pytest.approx((centered[0][0] + centered[1][0]) / deviation)
    even = liking(torch.full((2, 3), 1 / 3))
    assert {even(path) for path in [(0, 0), (1, 2), (2, 2)]} == {0.0}
    assert math.isfinite(liking(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))((0, 0))), "a closed operation"
