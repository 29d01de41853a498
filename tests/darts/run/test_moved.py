"""Class names of version 0.1, as they stand in the configs of its run folders, mean the classes of today."""

from __future__ import annotations

import inspect

import pytest

from darts.run import moved
from darts.run.errors import UserError
from darts.run.parts import allowed_class

# Every _target_ of the configs that version 0.1 came with.
TARGETS = [
    "darts.arch_steps.first_order.FirstOrder",
    "darts.arch_steps.unrolled.Unrolled",
    "darts.baselines.bohb.BOHB",
    "darts.baselines.genetic.Genetic",
    "darts.baselines.grid_search.GridSearch",
    "darts.baselines.local_search.LocalSearch",
    "darts.baselines.mcts.MonteCarloTreeSearch",
    "darts.baselines.optuna_sampler.OptunaSampler",
    "darts.baselines.pareto_evolution.ParetoEvolution",
    "darts.baselines.ppo.ProximalPolicy",
    "darts.baselines.predictor.PredictorGuided",
    "darts.baselines.q_learning.QLearning",
    "darts.baselines.random_search.RandomSearch",
    "darts.baselines.regularized_evolution.RegularizedEvolution",
    "darts.baselines.reinforce.Reinforce",
    "darts.baselines.simulated_annealing.SimulatedAnnealing",
    "darts.baselines.successive_halving.Hyperband",
    "darts.baselines.successive_halving.SuccessiveHalving",
    "darts.datasets.digits.Digits",
    "darts.datasets.fake.Fake",
    "darts.datasets.image_folder.ImageFolder",
    "darts.datasets.vision.Vision",
    "darts.discretizers.argmax.Argmax",
    "darts.evaluators.supernet.SupernetEvaluator",
    "darts.evaluators.table.TableEvaluator",
    "darts.evaluators.train.TrainEvaluator",
    "darts.evaluators.zero_cost.ZeroCostEvaluator",
    "darts.monitors.progress.ProgressMonitor",
    "darts.monitors.tensorboard.TensorBoardMonitor",
    "darts.objectives.flops.Flops",
    "darts.objectives.latency.Latency",
    "darts.objectives.params.Params",
    "darts.oracle.analog.AnalogOracle",
    "darts.oracle.auto.AutoOracle",
    "darts.oracle.csv.CsvOracle",
    "darts.oracle.nats.NatsOracle",
    "darts.oracle.none.NoOracle",
    "darts.phases.Bilevel",
    "darts.phases.WarmUp",
    "darts.regularizers.beta_decay.BetaDecay",
    "darts.regularizers.expected_flops.ExpectedFlops",
    "darts.weight_steps.sgd.SGDStep",
    "supernet.relaxations.single_path.SinglePath",
    "supernet.relaxations.softmax.Softmax",
    "supernet.search_space.SearchSpace",
]
OTHER_NAMES = {"SearchSpace": "CellSpace", "ExpectedFlops": "ExpectedCost"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_class_of_version_0_1_is_found_where_it_stands_today(target: str) -> None:
    found, name = allowed_class(target, "part"), target.rsplit(".", 1)[-1]
    assert inspect.isclass(found)
    assert found.__name__ == OTHER_NAMES.get(name, name)
    today = f"{found.__module__}.{found.__qualname__}"
    assert moved.now(target) == today, "runs of then and of now are compared by this name"
    assert moved.now(today) == today


@pytest.mark.parametrize(
    "target",
    [
        "mine.darts.phases.Bilevel",
        "darts.phases_of_mine.Bilevel",
        "darts.datasetsfake.Fake",
        "supernet.search_space.SearchSpaces",
        "supernet.search_space",
        "Bilevel",
        "",
    ],
)
def test_other_names_stay_as_they_are(target: str) -> None:
    assert moved.now(target) == target


def test_what_is_not_there_is_named_as_it_was_given() -> None:
    with pytest.raises(UserError, match=r"^phases\.mine\._target_: 'darts\.phases\.Gone' is not a class of"):
        allowed_class("darts.phases.Gone", "phases.mine")
    with pytest.raises(UserError, match=r"name it with plugins=\[mine\]"):
        allowed_class("mine.phases.Bilevel", "phases.mine")
