"""Samplers of Optuna over the decisions that make a cell (Akiba et al. 2019, arXiv:1907.10902); extra `optuna`."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from darts.blackbox.methods.base import FAILED, Baseline, Candidate
from darts.run.storage import storing
from supernet.spaces.base import Genotype

SAMPLERS = ("tpe", "gp", "nsga2")


class OptunaSampler(Baseline):
    """Each decision is a categorical parameter.

    Where a database is shared, trials of other machines count as well; what was asked for here before a stop is found
    there again by its number. Seeds have to differ between machines.

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
        self.storage: str | None = None
        self.name: str | None = None

    def share(self, storage: str, name: str) -> None:
        self.storage, self.name = storage, name

    def setup(self) -> None:
        import optuna

        classes: dict[str, Any] = {
            "tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler, "nsga2": optuna.samplers.NSGAIISampler,
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.own = self.rng.getrandbits(31)  # tells seeds apart
            sampler = classes[self.sampler](seed=self.own, **self.options)
        maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        with self._storing():
            self.study = optuna.create_study(
                directions=[maximize, minimize][: self.objectives], sampler=sampler, study_name=self.name,
                storage=self.storage, load_if_exists=True,
            )  # fmt: skip
            known = self.study.get_trials(deepcopy=False) if self.storage else []
        self.before = {one.user_attrs["number"]: one for one in known if one.user_attrs.get("run") == self.own}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            f"decision_{place}": optuna.distributions.CategoricalDistribution(range(count))
            for place, count in enumerate(self.space.choices)
        }
        self.trials: dict[int, int] = {}

    def _storing(self) -> AbstractContextManager[None]:
        return nullcontext() if self.storage is None else storing(self.storage)

    def propose(self) -> Genotype:
        trial: Any = self.before.get(self.asked)
        if trial is None:
            with self._storing():
                trial = self.study.ask(self.distributions)
                if self.storage is not None:
                    trial.set_user_attr("run", self.own)
                    trial.set_user_attr("number", self.asked)
        self.trials[self.asked] = trial.number
        return self.space.decided([trial.params[name] for name in self.distributions])

    def observe(self, candidate: Candidate, value: float) -> None:
        import optuna

        trial = self.trials.pop(candidate.number)
        failed = optuna.trial.TrialState.FAIL if value == FAILED else None
        values = None if failed else value if candidate.price is None else [value, candidate.price]
        with self._storing():
            self.study.tell(trial, values, state=failed, skip_if_finished=candidate.number in self.before)
