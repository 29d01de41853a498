"""Samplers of Optuna over the decisions that make a cell (Akiba et al. 2019, arXiv:1907.10902); extra `optuna`."""

from __future__ import annotations

import warnings
from typing import Any

from darts.blackbox.methods.base import FAILED, Baseline, Candidate
from supernet.spaces.base import Genotype

SAMPLERS = ("tpe", "gp", "nsga2")


class OptunaSampler(Baseline):
    """Each decision is a categorical parameter.

    Args:
        sampler: ``tpe`` (Bergstra et al. 2011, NeurIPS), ``gp`` (Gaussian-process Bayesian optimisation; its time a
            proposal grows with the cube of the answers) or ``nsga2`` (Deb et al. 2002).
        options: further arguments of Optuna's sampler.
    """

    requires = ("decided", "choices")

    def __init__(self, sampler: str = "tpe", options: dict[str, Any] | None = None) -> None:
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler: got {sampler!r}; allowed are {', '.join(SAMPLERS)}")
        try:
            import optuna
        except ImportError:
            raise ValueError(f"sampler: {sampler} needs Optuna; pip install 'darts-supernet[optuna]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sampler, self.options = sampler, dict(options or {})

    def setup(self) -> None:
        import optuna

        classes: dict[str, Any] = {
            "tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler, "nsga2": optuna.samplers.NSGAIISampler,
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = classes[self.sampler](seed=self.rng.getrandbits(31), **self.options)
        maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        self.study = optuna.create_study(directions=[maximize, minimize][: self.objectives], sampler=sampler)
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            f"decision_{place}": optuna.distributions.CategoricalDistribution(range(count))
            for place, count in enumerate(self.space.choices)
        }
        self.trials: dict[int, optuna.Trial] = {}

    def propose(self) -> Genotype:
        trial = self.study.ask(self.distributions)
        self.trials[self.asked] = trial
        return self.space.decided([trial.params[name] for name in self.distributions])

    def observe(self, candidate: Candidate, value: float) -> None:
        import optuna

        trial = self.trials.pop(candidate.number)
        if value == FAILED:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, value if candidate.price is None else [value, candidate.price])
