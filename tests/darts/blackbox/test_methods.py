"""What single black-box methods promise, beside the conformance suite: against brute force and closed forms; and which
spaces each of them can search."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from darts.blackbox.evaluators.base import Context, Evaluator
from darts.blackbox.loop import BlackBox
from darts.blackbox.methods.base import FAILED, Baseline, Candidate
from darts.blackbox.methods.bohb import BOHB
from darts.blackbox.methods.genetic import Genetic
from darts.blackbox.methods.grid_search import GridSearch
from darts.blackbox.methods.local_search import LocalSearch
from darts.blackbox.methods.mcts import MonteCarloTreeSearch
from darts.blackbox.methods.ppo import Controller, ProximalPolicy
from darts.blackbox.methods.q_learning import QLearning
from darts.blackbox.methods.random_search import RandomSearch
from darts.blackbox.methods.regularized_evolution import RegularizedEvolution
from darts.blackbox.methods.reinforce import Reinforce
from darts.blackbox.methods.simulated_annealing import SimulatedAnnealing
from darts.blackbox.methods.successive_halving import Hyperband, SuccessiveHalving
from darts.blackbox.runs import prepare
from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.parts import build_part
from supernet.genotype import Genotype
from supernet.size import Cost, NetworkSize
from supernet.spaces.base import ABILITIES, Space
from supernet.spaces.cells import CellSpace
from supernet.spaces.sequential_cnn import SequentialCnn


def started(baseline: Baseline, evaluations: int = 100, fidelities: Sequence[int] = (200,), seed: int = 0) -> Baseline:
    baseline.start(CellSpace(), random.Random(seed), evaluations, fidelities)
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
    places = sorted(CellSpace().index(candidate.genotype) for candidate in grid.ask(200))
    gaps = {b - a for a, b in pairwise([*places, places[0] + 15_625])}
    assert gaps == {156, 157}


def climb(start: Genotype) -> Genotype:
    """Steepest ascent by brute force."""
    space = CellSpace()
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
    return {centre, *CellSpace().neighbours(centre)}


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
    decisions = torch.tensor(CellSpace().decisions(second.genotype))
    for advantage in (0.0, 90 - 85):
        optimizer.zero_grad()
        (-advantage * theta.log_softmax(1)[range(6), decisions].sum()).backward()
        optimizer.step()
    torch.testing.assert_close(torch.stack(reinforce.logits), theta.detach())


def test_the_controller_gives_the_probability_of_what_it_draws() -> None:
    """Over all 15,625 cells probabilities sum to one, and the entropy is their expected surprise."""
    space = CellSpace(3)
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
    space = CellSpace(2, ["a", "b", "c"])
    q.start(space, random.Random(0), 10, (1,))
    for place, genotype in enumerate(space):
        q.tell(Candidate(place, genotype, 1), 10.0 * place)
    assert q.values[0][0] == pytest.approx([0.0, 0.1, 0.2])
    space = CellSpace(3, ["a", "b"])
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
    for number, genotype in enumerate(random.Random(1).sample(list(CellSpace()), 300)):
        bohb.seen[200].append(
            (float(genotype.operations.count("nor_conv_3x3")), number, CellSpace().decisions(genotype))
        )
    drawn: NDArray[np.int64] = np.array([bohb.new_cell().operations.count("nor_conv_3x3") for _ in range(50)])
    assert drawn.mean() > 3


# --- Which spaces a method can search


class Bare(Space):
    """What a space has at least, taken from the cells of 3 nodes."""

    whole = CellSpace(3)

    def parse(self, text: str) -> Genotype:
        return self.whole.parse(text)

    def sample(self, rng: random.Random) -> Genotype:
        return self.whole.sample(rng)

    def describe(self) -> dict[str, Any]:
        return {"bare": 3}

    def cost(self, genotype: Genotype, size: NetworkSize) -> Cost:
        return self.whole.cost(genotype, size)

    def network(self, genotype: Genotype, size: NetworkSize, batch_norm: str = "running") -> torch.nn.Module:
        return self.whole.network(genotype, size, batch_norm)


class Words(Space):
    """One to four letters. The first decision is how many; every other one is a letter, the last of them a vowel."""

    def options(self, decisions: Sequence[int]) -> int:
        if not decisions:
            return 4
        return (2 if len(decisions) == decisions[0] + 1 else 3) if len(decisions) < decisions[0] + 2 else 0

    def decided(self, decisions: Sequence[int]) -> str:
        assert decisions, "an empty row"
        assert all(0 <= choice < self.options(decisions[:place]) for place, choice in enumerate(decisions))
        assert self.options(decisions) == 0, "an incomplete row"
        return "".join("aeb"[choice] for choice in decisions[1:])

    def parse(self, text: str) -> str:
        if not 1 <= len(text) <= 4 or not set(text) <= set("aeb") or text[-1] == "b":
            raise ValueError(f"word {text!r}: give one to four of a, e and b, the last no b")
        return text

    def sample(self, rng: random.Random) -> str:
        return "".join([*rng.choices("aeb", k=rng.randrange(4)), rng.choice("ae")])

    def describe(self) -> dict[str, Any]:
        return {"letters": "aeb"}

    def cost(self, genotype: str, size: NetworkSize) -> Cost:
        return Cost(len(genotype), len(genotype))

    def network(self, genotype: str, size: NetworkSize, batch_norm: str = "running") -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(size.num_classes))


class Numbers(Bare):
    """Genotypes 0 to 26; the lower the better."""

    def parse(self, text: str) -> int:
        return int(text)

    def sample(self, rng: random.Random) -> int:
        return rng.randrange(27)

    def describe(self) -> dict[str, Any]:
        return {"below": 27}


class Counting(Evaluator):
    """Values by a function; notes what it was asked."""

    def __init__(self, worth: Any, fidelities: tuple[int, ...] = (1,)) -> None:
        super().__init__(None)
        self.worth, self.fidelities = worth, fidelities
        self.asked: list[Any] = []

    def open(self, context: Context) -> None:
        return None

    def value(self, genotype: Any, epochs: int) -> float:
        self.asked.append((genotype, epochs))
        return float(self.worth(genotype))

    def images(self, epochs: int) -> int:
        return epochs

    def describe(self) -> dict[str, Any]:
        return {"name": "counting", "signal": "counting"}


CONFIGS = Path(__file__).parents[3] / "configs" / "baseline"
ON_ANY_SPACE = {"random_search", "successive_halving", "hyperband"}
NEEDS = {
    "local_search": {"neighbours"},
    "regularized_evolution": {"mutate"},
    "pareto_evolution": {"mutate"},
    "simulated_annealing": {"mutate"},
    "genetic": {"mutate", "crossover"},
    "predictor": {"mutate", "encode"},
    "grid_search": {"size"},
    "mcts": {"decided"},
    **{name: {"choices", "decided"} for name in ("bohb", "gp", "nsga2", "tpe", "ppo", "q_learning", "reinforce")},
}
OF_ABILITY = {  # what a space that has an ability overrides
    "neighbours": ("neighbours",),
    "mutate": ("mutate",),
    "crossover": ("crossover",),
    "encode": ("encode",),
    "size": ("size", "genotype", "index"),
    "decided": ("decided", "options"),
    "choices": ("choices", "decisions"),
}


def method(name: str, **changes: Any) -> Baseline:
    """A method by its YAML, small enough for a few evaluations."""
    node = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    small = {"population": 4, "elite": 1, "sample": 2, "start": 5, "batch": 3, "trees": 3, "children": 10, "draws": 4}
    built: Baseline = build_part(node | {key: v for key, v in (small | changes).items() if key in node}, name)
    return built


def able(*abilities: str) -> Space:
    """A space with these abilities and no others."""
    members = [member for ability in abilities for member in OF_ABILITY[ability]]

    def borrowed(member: str) -> Any:
        if isinstance(getattr(Space, member), property):
            return property(lambda self: getattr(self.whole, member))
        return lambda self, *arguments: getattr(self.whole, member)(*arguments)

    made: Space = type("Able", (Bare,), {member: borrowed(member) for member in members})()
    assert made.abilities == set(abilities)
    return made


def test_every_method_has_its_needs_stated_here() -> None:
    assert NEEDS.keys() | ON_ANY_SPACE | {"given"} == {file.stem for file in CONFIGS.glob("*.yaml")}
    assert not NEEDS.keys() & ON_ANY_SPACE


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_space_that_lacks_what_a_method_needs_is_refused_before_the_method_is_asked(name: str) -> None:
    evaluator = Counting(lambda cell: 1.0, (1, 3))
    for lacking in NEEDS[name]:
        space = able(*(NEEDS[name] - {lacking}))
        with pytest.raises(ValueError, match=rf"needs .*\b{ABILITIES[lacking]}.*, which the space Able lacks"):
            BlackBox(method(name), space, evaluator, 12).run(0)
    assert evaluator.asked == []


@pytest.mark.parametrize("name", sorted([*NEEDS, *ON_ANY_SPACE]))
def test_what_a_method_says_it_needs_is_all_it_needs(name: str) -> None:
    evaluator = Counting(lambda cell: value(cell), (1, 3))
    run = BlackBox(method(name, swap=0, inversion=0), able(*NEEDS.get(name, set())), evaluator, 12).run(0)
    assert len(evaluator.asked) >= 12
    assert run.trajectory


@pytest.mark.parametrize("name", ["genetic", "regularized_evolution"])
def test_mutations_that_a_space_lacks_are_refused_and_those_it_has_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"mutations: got 'twist'; Able has mutate"):
        method(name, mutations={"twist": 0.5}).start(able("mutate", "crossover"), random.Random(0), 12, (1,))


@pytest.mark.parametrize("name", ["genetic", "regularized_evolution"])
def test_the_mutations_that_are_asked_for_are_taken_as_often_and_every_child_says_which_made_it(name: str) -> None:
    space, chances = SequentialCnn(most_layers=5), {"filters": 0.3, "swap": 0.1}
    made = method(name, mutations=chances, population=10, **({"crossover": 0.0} if name == "genetic" else {}))
    made.start(space, random.Random(0), 4000, (1,))
    ways: Counter[str | None] = Counter()
    for _ in range(4000):
        (candidate,) = made.ask()
        ways[candidate.made_by] += 1
        made.tell(candidate, float(len(str(candidate.genotype))))
    children = sum(count for way, count in ways.items() if way is not None)
    assert ways[None] == 10
    if name == "genetic":  # one after the other, each for itself
        expected = {"filters": 0.27, "swap": 0.07, "filters+swap": 0.03, "copy": 0.63}
    else:
        expected = {"filters": 0.75, "swap": 0.25}
    assert {way for way in ways if way is not None} == expected.keys()
    for way, share in expected.items():
        assert ways[way] / children == pytest.approx(share, abs=4 * (share * (1 - share) / children) ** 0.5)


def test_given_cells_are_evaluated_in_their_order_and_what_finding_them_took_counts() -> None:
    cells = [str(CellSpace().genotype(index)) for index in (7, 3, 7)]
    evaluator = Counting(lambda cell: float(cell.index(CellSpace().operations)), (1,))
    run = BlackBox(method("given", cells=cells, upfront=1000), CellSpace(), evaluator, 9).run(0)
    assert [str(cell) for cell, _ in evaluator.asked] == cells
    assert (run.stopped_by, run.trajectory[-1].cell) == ("exhausted", cells[0])
    plain = BlackBox(method("given", cells=cells), CellSpace(), evaluator, 9).run(0)
    assert run.images - plain.images == 1000
    for wrong, message in (([], "cells: got none"), (["|none~0|"], "cells: cell")):
        with pytest.raises(ValueError, match=message):
            method("given", cells=wrong).start(CellSpace(), random.Random(0), 9, (1,))


def settings_of(space: type[Space], name: str) -> dict[str, Any]:
    """Those of `darts baseline` on a space of this module."""
    package = __name__.split(".")[0]
    chosen = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    return composed() | {
        "baseline": chosen,
        "label": name,
        "space": {"_target_": f"{__name__}.{space.__name__}"},
        "plugins": [package],
    }


@cache
def composed() -> dict[str, Any]:
    return compose_config("baseline", ["evaluator=zero_cost", "dataset=fake", "oracle=none"])


@pytest.mark.parametrize(
    ("space", "can"), [(Bare, ON_ANY_SPACE), (Words, ON_ANY_SPACE | {"mcts"})], ids=["bare", "words"]
)
def test_whoever_is_refused_is_told_which_methods_can_search_the_space(space: type[Space], can: set[str]) -> None:
    for name in sorted(NEEDS.keys() - can):
        with pytest.raises(UserError) as caught:
            prepare(settings_of(space, name))
        (line,) = str(caught.value).splitlines()
        assert f"{name} needs " in line
        assert f"which the space {space.__name__} lacks" in line
        assert line.partition("; these can search it: ")[2].split(", ") == sorted(can)
    for name in sorted(can - {"successive_halving", "hyperband"}):  # those want several lengths of training
        assert prepare(settings_of(space, name)).search.space == space()


def test_tree_search_draws_complete_rows_of_a_space_whose_rows_differ_in_length() -> None:
    """`Words.decided` refuses any other row. The first four candidates begin with each length once."""
    worth = {"ebba": 90.0, "ebbe": 70.0, "ebe": 50.0}
    evaluator = Counting(lambda word: worth.get(word, 10.0 + len(word)))
    tree = MonteCarloTreeSearch()
    run = BlackBox(tree, Words(), evaluator, 400).run(0)
    words = [word for word, _ in evaluator.asked]
    assert run.evaluations == len(words) == 400
    assert sorted(map(len, words[:4])) == [1, 2, 3, 4]
    assert {Words().parse(word) for word in words} == set(words)
    assert run.trajectory[-1].cell == "ebba"
    assert words[-200:].count("ebba") > 100, "it stays where it pays"
    assert tree.root.visits == 400
    assert {choice: child.visits for choice, child in tree.root.children.items()} == {
        length - 1: count for length, count in Counter(map(len, words)).items()
    }


def test_tree_search_reaches_every_row_of_a_small_space() -> None:
    """With much exploration, all 2 (1 + 3 + 9 + 27) words."""
    evaluator = Counting(lambda word: 50.0)
    BlackBox(MonteCarloTreeSearch(exploration=100.0), Words(), evaluator, 1500).run(0)
    assert len({word for word, _ in evaluator.asked}) == 80


@pytest.mark.parametrize("halving", [SuccessiveHalving(eta=3.0, cells=1), Hyperband(eta=3.0, cells=1)])
def test_a_genotype_may_be_any_value_even_one_that_counts_as_false(
    halving: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of three numbers is trained on, also where it is 0."""
    space, drawn = Numbers(), iter([5, 0, 7, *[9] * 9])
    monkeypatch.setattr(space, "sample", lambda rng: next(drawn))
    halving.start(space, random.Random(0), 100, (1, 3))
    first = halving.ask(3)
    assert [candidate.genotype for candidate in first] == [5, 0, 7]
    for candidate in first:
        halving.tell(candidate, -float(candidate.genotype))
    (kept,) = halving.ask()
    assert (kept.genotype, kept.epochs) == (0, 3)


def test_random_search_needs_nothing_but_samples() -> None:
    evaluator = Counting(lambda number: 26 - number)
    run = BlackBox(RandomSearch(), Numbers(), evaluator, 200).run(0)
    assert {number for number, _ in evaluator.asked} == set(range(27))
    assert (run.trajectory[-1].cell, run.trajectory[-1].signal) == ("0", 26)
