"""Hyperparameters of a training, and the cell's own decisions with them, chosen by what was held out.

The trials of a study lie in a database (Optuna), which several processes and machines may share; one that is stopped is
begun again by the next that asks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.run.errors import UserError, reason
from darts.run.parts import build_one
from darts.run.signals import StopRequest
from darts.run.storage import storing
from darts.training.build import build_retraining
from darts.training.fit import Diverged, FitMonitor, FitState, evaluate, fit
from supernet.spaces.base import Space, require

if TYPE_CHECKING:
    import optuna

ALLOWED = ("recipe", "data", "network")  # groups of settings that may be tuned
CELL = "cell"  # of a trial, as what it was trained with
DECISION = "decision {}"
THIRD = 3  # of the trials that got as far go on, after a ninth of the epochs, a third, and so on


@dataclass(frozen=True)
class Parameter:
    """One setting that is tuned.

    Attributes:
        key: dotted, such as ``recipe.lr``.
        choices: to choose from; or
        low, high, log: a range, whole numbers if both ends are, on a log axis.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def suggested(self, trial: optuna.Trial) -> Any:
        """A value for a trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


def parameters_of(node: Mapping[str, Any], prefix: str = "") -> list[Parameter]:
    """Of nested settings, each of which is ``{choices: [...]}`` or ``{low: A, high: B, log: true}``.

    Raises:
        ValueError: something else, or an empty range.
    """
    found = []
    for name, value in node.items():
        key = f"{prefix}{name}"
        if value is None:  # taken out
            continue
        if not isinstance(value, Mapping) or (not prefix and name not in ALLOWED):
            raise ValueError(f"parameters.{key}: got {value!r}; tune settings of {', '.join(ALLOWED)}, or give null")
        if not value.keys() & {"choices", "low", "high"}:
            found += parameters_of(value, f"{key}.")
            continue
        choices, log = value.get("choices"), value.get("log")
        low, high = value.get("low", math.nan), value.get("high", math.nan)
        if choices:
            found.append(Parameter(key, tuple(choices)))
            continue
        numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high))
        if not numbers or not low < high or (log and low <= 0):
            raise ValueError(
                f"parameters.{key}: got {dict(value)}; give choices=[...], or low below high, above 0 with log"
            )
        found.append(Parameter(key, (), low, high, bool(log)))
    return found


def with_values(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with other values at dotted keys.

    Raises:
        ValueError: a key that there is not.
    """
    changed = copy.deepcopy(dict(settings))
    for key, value in values.items():
        *groups, name = key.split(".")
        node: Any = changed
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name not in node:
            raise ValueError(f"parameters.{key}: darts retrain has no such setting")
        node[name] = value
    return changed


class _Reporter(FitMonitor):
    """Tells the study what was held out after every epoch, and ends what promises nothing."""

    def __init__(self, trial: optuna.Trial, training: Any, stop: StopRequest) -> None:
        self.trial, self.training, self.stop, self.values = trial, training, stop, list[float]()
        self.pruned = False

    def on_epoch(self, state: FitState) -> bool:
        task = self.training.plan.task
        worth = task.metric.worth(evaluate(state.judged, task))
        self.values.append(worth)
        self.trial.report(worth, state.step // task.steps_per_epoch)
        self.pruned = self.trial.should_prune()
        return not self.pruned and not self.stop.made


@dataclass(frozen=True)
class Study:
    """What is tuned, and where its trials are.

    Attributes:
        settings: of `darts retrain`, for everything that is not tuned.
        parameters: that are.
        cell: tune the cell's decisions too; the first trial has the given one.
        storage: URL of a database, see Optuna's documentation.
        name: of the study in it.
        seed: of the sampler.
    """

    settings: Mapping[str, Any]
    parameters: Sequence[Parameter]
    cell: bool
    storage: str
    name: str
    seed: int

    def open(self) -> optuna.Study:
        """The study, made if it is not there.

        Raises:
            UserError: Optuna is not installed, or the database cannot be opened.
        """
        try:
            import optuna
        except ImportError:
            raise UserError("darts tune needs Optuna; install it with: pip install 'darts-supernet[optuna]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        first = max(1, int(self.settings["recipe"]["epochs"]) // THIRD**2)
        try:
            study = optuna.create_study(
                study_name=self.name, storage=self.storage, direction="maximize", load_if_exists=True,
                pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=THIRD),
            )  # fmt: skip
            begun = len(study.get_trials(deepcopy=False))  # whoever joins draws otherwise than those before
            study.sampler = optuna.samplers.TPESampler(seed=self.seed + begun, constant_liar=True)
            return study
        except Exception as error:  # of SQLAlchemy, of its drivers, or of Optuna
            raise UserError(
                f"storage: {self.storage} cannot be opened ({type(error).__name__}: {reason(error)})"
            ) from None

    def run(self, count: int, folder: Path, told: Callable[[Any, str], None], stop: StopRequest) -> bool:
        """Make trials until the study has so many that ended; whether it has.

        Args:
            count: trials, those of other processes among them.
            folder: for what a training writes.
            told: hears of every trial that ended, with a word on how.
            stop: asked after every epoch.

        Raises:
            UserError: the database is full, or gone.
        """
        import optuna

        study, space = self.open(), build_one(self.settings, "space", self.settings["plugins"])
        if self.cell:
            require(space, ["choices", "decided"], "cell=true")
        ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)
        with storing(self.storage):
            while len(study.get_trials(deepcopy=False, states=ended)) < count:
                trial = study.ask()
                words = self._trial(trial, study, space, folder, stop)
                if stop.made:
                    return False
                told(trial, words)
        return True

    def _trial(self, trial: optuna.Trial, study: optuna.Study, space: Space, folder: Path, stop: StopRequest) -> str:
        import optuna

        values = {parameter.key: parameter.suggested(trial) for parameter in self.parameters}
        cell = self.settings["cell"]
        if self.cell:
            given = space.decisions(space.parse(cell))
            first = trial.number == 0
            decided = [
                given[place] if first else trial.suggest_int(DECISION.format(place), 0, options - 1)
                for place, options in enumerate(space.choices)
            ]
            cell = str(space.decided(decided))
        trial.set_user_attr(CELL, cell)
        state = optuna.trial.TrialState
        try:
            training = build_retraining(with_values(self.settings, values | {"cell": cell}), folder)
            reporter = _Reporter(trial, training, stop)
            fit(training.network, training.plan.task, training.plan.recipe, training.state, [reporter])
        except (Diverged, UserError) as error:
            study.tell(trial, state=state.FAIL)
            return f"failed: {error}"
        if stop.made:
            study.tell(trial, state=state.FAIL)
            return "stopped"
        if reporter.pruned:
            study.tell(trial, state=state.PRUNED)
            return f"ended after {len(reporter.values)} epochs"
        study.tell(trial, reporter.values[-1])
        return "complete"


def content_of(study: optuna.Study, metric: Mapping[str, Any]) -> dict[str, Any]:
    """What tune.json holds: every trial that began, and the best of those that were trained to their end."""
    sign = 1 if metric["higher_is_better"] else -1
    trials: list[dict[str, Any]] = [
        {
            "number": trial.number, "state": trial.state.name.lower(), "cell": trial.user_attrs.get(CELL),
            "value": None if trial.value is None else sign * trial.value,
            "epochs": len(trial.intermediate_values),
            "settings": {name: value for name, value in trial.params.items() if "." in name},
        }
        for trial in study.get_trials(deepcopy=False)
    ]  # fmt: skip
    whole = [trial for trial in trials if trial["state"] == "complete"]
    best = max(whole, key=lambda trial: (sign * trial["value"], -trial["number"])) if whole else None
    return {"kind": "tune", "metric": dict(metric), "best": best, "trials": trials}
