"""What single black-box methods promise, beside the conformance suite: against brute force and closed forms."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from darts.baselines.base import FAILED, Baseline, Candidate
from darts.baselines.bohb import BOHB
from darts.baselines.genetic import Genetic
from darts.baselines.grid_search import GridSearch
from darts.baselines.local_search import LocalSearch
from darts.baselines.mcts import MonteCarloTreeSearch
from darts.baselines.ppo import Controller, ProximalPolicy
from darts.baselines.q_learning import QLearning
from darts.baselines.regularized_evolution import RegularizedEvolution
from darts.baselines.reinforce import Reinforce
from darts.baselines.simulated_annealing import SimulatedAnnealing
from darts.baselines.successive_halving import Hyperband, SuccessiveHalving
from supernet.genotype import Genotype
from supernet.search_space import SearchSpace


def started(baseline: Baseline, evaluations: int = 100, fidelities: Sequence[int] = (200,), seed: int = 0) -> Baseline:
    baseline.start(SearchSpace(), random.Random(seed), evaluations, fidelities)
    return baseline


def value(genotype: Genotype) -> float:
    return 80 + random.Random(str(genotype)).random() * 10


@settings(max_examples=60, deadline=None)
@given(
    population=st.integers(1, 12),
    sample=st.integers(1, 6),
    remove=st.sampled_from(["oldest", "worst", "none"]),
    seed=st.integers(0, 10**6),
)
def test_evolution_removes_the_oldest_the_worst_or_none(population: int, sample: int, remove: str, seed: int) -> None:
    """Members, by a list of everything that was ever told."""
    evolution = RegularizedEvolution(population, sample, remove)
    started(evolution, seed=seed)
    everyone: list[tuple[float, int, Genotype]] = []
    rng = random.Random(seed)
    for _ in range(40):
        (candidate,) = evolution.ask()
        if candidate.number >= population:  # a child differs from some member in one edge
            assert any(
                sum(a != b for a, b in zip(candidate.genotype.operations, member.operations, strict=True)) == 1
                for _, _, member in everyone
            )
        answer = rng.choice([rng.random(), FAILED])
        evolution.tell(candidate, None if answer == FAILED else answer)
        everyone.append((answer, candidate.number, candidate.genotype))
        if remove == "worst" and len(everyone) > population:
            everyone.remove(min(everyone))
        elif remove == "oldest":
            everyone = everyone[-population:]
        assert evolution.members == everyone
        assert evolution.ranked == sorted(everyone)


def test_a_tournament_of_all_takes_the_best() -> None:
    evolution = RegularizedEvolution(5, 200)
    started(evolution)
    for number in range(5):
        evolution.tell(evolution.ask()[0], float(number))
    best = evolution.members[-1][2]
    for _ in range(20):
        (candidate,) = evolution.ask()
        assert sum(a != b for a, b in zip(candidate.genotype.operations, best.operations, strict=True)) == 1


@pytest.mark.parametrize(("population", "sample"), [(10, 3), (7, 1), (1, 4), (100, 10)])
def test_a_tournament_is_won_as_if_its_members_were_drawn_one_by_one(population: int, sample: int) -> None:
    """Chi-square against max of drawn ranks: k of n with probability (k / n)^S - ((k - 1) / n)^S."""
    evolution = RegularizedEvolution(population, sample)
    started(evolution, seed=1)
    ranks = list(range(population))
    random.Random(2).shuffle(ranks)
    for rank in ranks:
        evolution.tell(evolution.ask()[0], float(rank))
    draws = 20_000
    won = Counter(int(evolution.winner()[0]) for _ in range(draws))
    expected = [draws * (((k + 1) / population) ** sample - (k / population) ** sample) for k in range(population)]
    likely = [k for k in range(population) if expected[k] >= 5]
    misfit = sum((won[k] - expected[k]) ** 2 / expected[k] for k in likely)
    assert misfit <= stats.chi2.isf(1e-4, max(1, len(likely) - 1))
    assert sum(won[k] for k in range(population) if k not in likely) <= 40


def test_genetic_elite_stays_and_is_not_asked_again() -> None:
    genetic = Genetic(population=10, elite=3)
    started(genetic)
    for generation in range(1, 5):
        while genetic.asked < 10 + 7 * (generation - 1):
            (candidate,) = genetic.ask()
            genetic.tell(candidate, value(candidate.genotype))
        assert len(genetic.members) == 3
        assert [member[0] for member in genetic.members] == sorted((p[0] for p in genetic.parents), reverse=True)[:3]


def test_a_grid_as_large_as_the_space_visits_every_cell_once() -> None:
    grid = started(GridSearch(), 15_625)
    assert len({candidate.genotype for candidate in grid.ask(20_000)}) == 15_625
    grid = started(GridSearch(), 100)
    places = sorted(SearchSpace().index(candidate.genotype) for candidate in grid.ask(200))
    gaps = {b - a for a, b in pairwise([*places, places[0] + 15_625])}
    assert gaps == {156, 157}


def climb(start: Genotype) -> Genotype:
    """Steepest ascent by brute force."""
    space = SearchSpace()
    while value(best := max(space.neighbours(start), key=value)) > value(start):
        start = best
    return start


def test_local_search_ends_every_climb_where_brute_force_does() -> None:
    search = LocalSearch()
    started(search)
    starts: list[Genotype] = []
    tops: list[Genotype] = []
    for _ in range(400):
        fresh = search.centre is None
        (candidate,) = search.ask()
        if fresh:
            starts.append(candidate.genotype)
        before = search.centre
        search.tell(candidate, value(candidate.genotype))
        if before is not None and search.centre is None:
            tops.append(max(search.known, key=lambda cell: value(cell) if cell in seen(before) else -1))
    assert len(tops) > 2
    assert [climb(start) for start in starts[: len(tops)]] == tops


def seen(centre: Genotype) -> set[Genotype]:
    return {centre, *SearchSpace().neighbours(centre)}


def test_annealing_takes_losses_with_the_boltzmann_probability() -> None:
    annealing = SimulatedAnnealing(hot=2.0, cold=2.0)
    taken = 0
    for seed in range(4000):
        started(annealing, seed=seed)
        first, second = annealing.ask(2)
        annealing.tell(first, 90.0)
        annealing.tell(second, 89.0)
        assert annealing.state is not None
        taken += annealing.state[0] == 89.0
    assert taken / 4000 == pytest.approx(np.exp(-0.5), abs=4 * 0.0078)


def test_reinforce_follows_the_policy_gradient() -> None:
    """One step against autograd and torch's Adam; a first reward moves nothing, for it is its own average."""
    reinforce = Reinforce(lr=0.1, momentum=0.5)
    started(reinforce)
    first, second = reinforce.ask(2)
    reinforce.tell(first, 80.0)
    assert all(not logits.any() for logits in reinforce.logits)
    reinforce.tell(second, 90.0)
    theta = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.1)
    decisions = torch.tensor(SearchSpace().decisions(second.genotype))
    for advantage in (0.0, 90 - 85):
        optimizer.zero_grad()
        (-advantage * theta.log_softmax(1)[range(6), decisions].sum()).backward()
        optimizer.step()
    torch.testing.assert_close(torch.stack(reinforce.logits), theta.detach())


def test_the_controller_gives_the_probability_of_what_it_draws() -> None:
    """Over all 15,625 cells probabilities sum to one, and the entropy is their expected surprise."""
    space = SearchSpace(3)
    controller = Controller(space.choices, 4, torch.Generator().manual_seed(1)).double()
    decisions = torch.tensor([space.decisions(genotype) for genotype in space])
    with torch.no_grad():
        same, logs, _ = controller(decisions, len(decisions))
        drawn, drawn_logs, _ = controller(None, 50, torch.Generator().manual_seed(2))
    assert torch.equal(same, decisions)
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    places = [space.index(space.decided(row.tolist())) for row in drawn]
    torch.testing.assert_close(drawn_logs, logs[places])


def test_ppo_moves_towards_what_pays() -> None:
    ppo = ProximalPolicy(batch=20, lr=0.02)
    started(ppo, 400)
    counts = []
    for _ in range(400):
        (candidate,) = ppo.ask()
        count = candidate.genotype.operations.count("nor_conv_3x3")
        counts.append(count)
        ppo.tell(candidate, float(count))
    assert np.mean(counts[-60:]) > np.mean(counts[:60]) + 1


def test_q_learning_finds_the_values_of_a_known_chain() -> None:
    """With every cell told often and a full step, a value is the best reward that can follow."""
    q = QLearning(step=1.0, replay=0)
    space = SearchSpace(2, ["a", "b", "c"])
    q.start(space, random.Random(0), 10, (1,))
    for place, genotype in enumerate(space):
        q.tell(Candidate(place, genotype, 1), 10.0 * place)
    assert q.values[0][0] == pytest.approx([0.0, 0.1, 0.2])
    space = SearchSpace(3, ["a", "b"])
    q.start(space, random.Random(0), 10, (1,))
    rewards = {genotype: float(random.Random(str(genotype)).random()) for genotype in space}
    for _ in range(6):
        for genotype in sorted(space, key=lambda cell: rewards[cell]):
            q.tell(Candidate(0, genotype, 1), 100 * rewards[genotype])
    best = max(space, key=lambda cell: rewards[cell])
    assert max(q.values[0][0]) == pytest.approx(rewards[best])


def test_tree_search_counts_visits_and_prefers_what_pays() -> None:
    tree = MonteCarloTreeSearch()
    started(tree, 600)
    for _ in range(600):
        (candidate,) = tree.ask()
        tree.tell(candidate, 50.0 + 40 * (candidate.genotype.operations[0] == "nor_conv_3x3"))
    assert tree.root.visits == 600
    assert sum(child.visits for child in tree.root.children.values()) == 600
    good = tree.root.children[3]
    assert good.visits > 300
    assert good.total / good.visits == pytest.approx(90)


def test_tree_search_forgets_the_placeholder_of_an_open_candidate() -> None:
    tree = MonteCarloTreeSearch()
    started(tree)
    several = tree.ask(9)
    for candidate, reward in zip(several, (40.0, 90, 60, 70, 30, 80, 50, 65, 55), strict=True):
        tree.tell(candidate, reward)
    assert tree.root.total == pytest.approx(540)


@pytest.mark.parametrize("eta", [2.0, 3.0, 4.0])
def test_halving_keeps_the_best_of_every_length(eta: float) -> None:
    halving = SuccessiveHalving(eta=eta, cells=2)
    started(halving, 1000, (1, 5, 25))
    numbers = [round(2 * eta**power) for power in (2, 1, 0)]
    asked: list[Candidate] = []
    for count, length in zip(numbers, (1, 5, 25), strict=True):
        candidates = halving.ask(count)
        assert {candidate.epochs for candidate in candidates} == {length}
        if asked:
            best = sorted(asked, key=lambda c: -value(c.genotype))[:count]
            assert {c.genotype for c in candidates} == {c.genotype for c in best}
        for candidate in reversed(candidates):
            halving.tell(candidate, value(candidate.genotype))
        asked = candidates
    assert not halving.brackets


def test_hyperband_begins_at_every_length_in_turn() -> None:
    hyperband = Hyperband(eta=2, cells=1)
    started(hyperband, 1000, (1, 5, 25))
    lengths = []
    for _ in range(7 + 3 + 1 + 7):
        (candidate,) = hyperband.ask()
        lengths.append(candidate.epochs)
        hyperband.tell(candidate, value(candidate.genotype))
    assert lengths == [1] * 4 + [5] * 2 + [25] + [5] * 2 + [25] + [25] + [1] * 4 + [5] * 2 + [25]


def test_halving_needs_two_lengths() -> None:
    with pytest.raises(ValueError, match="several lengths of training"):
        started(SuccessiveHalving(), 10, (200,))


def test_bohb_proposes_what_the_better_density_likes() -> None:
    bohb = BOHB(random=0.0)
    started(bohb, 1000, (12, 200))
    for number, genotype in enumerate(random.Random(1).sample(list(SearchSpace()), 300)):
        bohb.seen[200].append(
            (float(genotype.operations.count("nor_conv_3x3")), number, SearchSpace().decisions(genotype))
        )
    drawn: NDArray[np.int64] = np.array([bohb.new_cell().operations.count("nor_conv_3x3") for _ in range(50)])
    assert drawn.mean() > 3
