"""One network trained from scratch, kept on the way, and judged once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts.run import ranks
from darts.run.checkpoint import (
    check_identity,
    fitting,
    going_on_from,
    keep_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    say_back,
)
from darts.run.environment import environment
from darts.run.signals import Interrupted, StopRequest
from darts.run.together import Clock, check_same
from darts.training.fit import Diverged, FitMonitor, FitState, evaluate, fit
from darts.training.groups import Groups
from darts.training.judging import answers, calibration, confusion, mistakes
from darts.training.model import judged_by, model_path, save_model
from darts.training.plan import Plan
from darts.training.result import SCRATCH, RetrainResult

WORST = 24  # mistakes that are kept


def mistakes_path(run_dir: Path) -> Path:
    """Where a retraining keeps the images of its worst mistakes."""
    return run_dir / "checkpoints" / "mistakes.pt"


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    state = {"backbone": (), "rate": 1.0, **content["state"]}
    return {"origin": SCRATCH, "rolled_back": [], **content, "state": state}


class Retraining(FitMonitor):
    """A training that can be stopped at any step.

    Args:
        plan: see there.
        network: new, on the task's device.
        run_dir: where checkpoints go.
        watchers: told of every epoch's record.
        backbone: see `FitState`.
    """

    def __init__(
        self, plan: Plan, network: nn.Module, run_dir: Path, watchers: Sequence[Watcher] = (),
        backbone: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.plan, self.network, self.run_dir, self.watchers = plan, network, run_dir, watchers
        self.state = self._begun(backbone)
        self.history: list[dict[str, Any]] = []
        self.seconds = {"total": 0.0, "training": 0.0, "checkpoints": 0.0, "judging": 0.0}
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.stop = StopRequest("step")
        self.kept = -1
        self.rolled_back: list[dict[str, Any]] = []  # see `RetrainResult`

    def _begun(self, backbone: frozenset[str]) -> FitState:
        plan, groups = self.plan, Groups(self.network, self.plan.groups)
        groups.check(plan.task.batch_size)
        return FitState(self.network, plan.task, plan.recipe, plan.seed, backbone, groups)

    @property
    def told(self) -> Sequence[Watcher]:
        """The watchers, in the first process."""
        return self.watchers if ranks.first() else ()

    def run(self) -> RetrainResult | None:
        """Train to the end, and judge, which the first process does for all.

        Raises:
            Interrupted: asked to stop; the checkpoint is written.
            Diverged: a loss or weight is no longer finite; the last checkpoint is kept, see `roll_back`.
        """
        self.clock, self.due = time.perf_counter(), Clock(self.plan.checkpoint_minutes)
        for watcher in self.told:
            watcher.on_start(self)
        try:
            with self.stop.listening():
                self._keep()
                fit(self.network, self.plan.task, self.plan.recipe, self.state, [self], self.plan.bfloat16)
        finally:
            for watcher in self.told:
                watcher.on_end()
        return self._judged() if ranks.first() else None

    def on_step(self, state: FitState, loss: Tensor) -> None:
        self.loss_sum += loss.detach().double().cpu()
        self._spend("training")
        for watcher in self.told:
            watcher.on_step(self)
        epoch_ends = state.step % self.plan.task.steps_per_epoch == 0
        self.keeps, self.stops = self.due.met(self.seconds, self.stop, self.clock, epoch_ends)
        if not epoch_ends:
            self._keep_or_stop()

    def on_epoch(self, state: FitState) -> bool:
        steps = self.plan.task.steps_per_epoch
        record = {
            "epoch": state.step // steps,
            "step": state.step,
            "lr": state.rate * self.plan.recipe.learning_rate((state.step - 1) / self.plan.steps),
            "train_loss": float(self.loss_sum) / steps,
        }
        self.loss_sum.zero_()
        if self.plan.watches:
            record["watched"] = evaluate(state.judged, self.plan.task)
            self.network.train()
        self.history.append(record)
        self._spend("judging")
        check_same(self.run_dir, len(self.history), state.groups.count, state.shared)
        if ranks.first() and self.plan.watches and self.best_epoch == record["epoch"]:
            judged = judged_by(self.plan.task.metric, record["watched"], "images held out")
            save_model(self.run_dir / "checkpoints" / "best.pt", state.judged, self.plan.about(judged))
        for watcher in self.told:
            watcher.on_epoch(self, record)
        self._keep_or_stop()
        return True

    def _keep_or_stop(self) -> None:
        """Write a checkpoint if it is time, or if this is the last step."""
        if self.keeps or self.stops or self.state.step == self.plan.steps:
            self._keep()
        if self.stops and self.state.step < self.plan.steps:
            raise Interrupted

    @property
    def best_epoch(self) -> int | None:
        """The first of the best epochs by what was watched."""
        if not self.plan.watches or not self.history:
            return None
        worth = self.plan.task.metric.worth
        return int(max(self.history, key=lambda record: (worth(record["watched"]), -record["epoch"]))["epoch"])

    def _judged(self) -> RetrainResult:
        plan, state = self.plan, self.state
        outputs, targets = answers(state.judged, plan.final)
        value = plan.final.per_item * float(plan.final.score(outputs, targets)) / len(targets)
        self._spend("judging")
        cost = plan.space.cost(plan.genotype, plan.size)
        result = RetrainResult(
            cell=str(plan.genotype), seed=plan.seed, params=cost.params, flops=cost.flops,
            network_size=plan.space.size_text(plan.size),
            trained_on=plan.task.name, judged_on=plan.judged_on, test=value,
            epochs=state.step // plan.task.steps_per_epoch, steps=state.step, images=state.step * plan.task.batch_size,
            history=self.history, best_epoch=self.best_epoch,
            metric=plan.task.metric.stored(), origin=plan.origin, rolled_back=self.rolled_back,
            precision="bfloat16" if plan.bfloat16 else "float32",
            versions=environment(plan.task.device), seconds=dict(self.seconds),
            timing={"images_per_second": state.step * plan.task.batch_size / max(1e-9, self.seconds["training"])},
        )  # fmt: skip
        if names := getattr(plan.final, "classes", ()):
            probabilities_NK = outputs.softmax(dim=1)
            table_KK = confusion(probabilities_NK, targets)
            found = calibration(probabilities_NK, targets)
            result.confusion = table_KK.tolist()
            result.classes = [
                {"name": name, "images": sum(row), "accuracy": 100 * row[place] / max(1, sum(row))}
                for place, (name, row) in enumerate(zip(names, result.confusion, strict=True))
            ]
            result.calibration_error, result.calibration_bins = found.error, [list(one) for one in found.bins]
            result.mistakes = self._mistakes(probabilities_NK, targets, names)
        save_model(
            model_path(self.run_dir), state.judged, plan.about(judged_by(plan.task.metric, value, plan.judged_on))
        )
        return result

    def _mistakes(self, probabilities_NK: Tensor, labels_N: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
        """The worst of them, whose images go into a file."""
        found = mistakes(probabilities_NK, labels_N, WORST)
        places = torch.tensor([one.place for one in found], dtype=torch.long)
        save_checkpoint(mistakes_path(self.run_dir), {"images": self.plan.final.pictures(places)})
        return [
            {
                "label": names[one.label], "answer": names[one.answer],
                "label_probability": one.label_probability, "answer_probability": one.answer_probability,
            }
            for one in found
        ]  # fmt: skip

    def resume(self) -> None:
        """Go on from the run folder's checkpoint.

        Raises:
            UserError: no checkpoint, a broken one, or one of other settings or data.
        """
        path, content = newest_checkpoint(self.run_dir, upgrades={1: _from_1})
        with fitting(path):
            check_identity(content, self.plan.identity, path)
            self.state = self._begun(frozenset(content["state"]["backbone"]))
            self.plan = replace(self.plan, origin=content["origin"])
            self.state.load_state_dict(content["state"])
            self.history, self.seconds = content["history"], content["seconds"]
            self.loss_sum, self.rolled_back = content["loss_sum"], content["rolled_back"]
        going_on_from(path)
        self.kept = self.state.step

    def roll_back(self, error: Diverged) -> None:
        """Go back to the last checkpoint, with smaller learning rates; then `run` goes on.

        Raises:
            Diverged: the error, where there is no checkpoint or that was done so often as the plan says.
        """
        if self.kept < 0 or len(self.rolled_back) >= self.plan.retries:
            raise error
        rate, before = self.plan.retry_rate * self.state.rate, self.rolled_back
        self.resume()
        self.state.rate = rate
        self.rolled_back = [*before, {"why": str(error), "step": self.state.step, "rate": rate}]
        self.kept = -1  # so that this is on the disk before the next step
        say_back(self.rolled_back, self.plan.retries)

    def _keep(self) -> None:
        if self.state.step != self.kept:
            if not all(bool(value.isfinite().all()) for value in self.network.parameters()):
                raise Diverged(f"a weight is not finite at step {self.state.step} of {self.plan.steps}")
            content = {
                "environment": environment(self.plan.task.device), "identity": dict(self.plan.identity),
                "state": self.state.state_dict(), "history": self.history, "seconds": self.seconds,
                "loss_sum": self.loss_sum, "origin": self.plan.origin, "rolled_back": self.rolled_back,
            }  # fmt: skip
            if ranks.first():
                keep_checkpoint(self.run_dir, content, self.state.step, self.kept, self.plan.checkpoints)
            self.kept = self.state.step
        begun = self.clock
        self._spend("checkpoints")
        self.due.keeping(begun, self.clock)

    def _spend(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self.clock
        self.seconds["total"] += now - self.clock
        self.clock = now


class Watcher:
    """Looks on; override what is wanted."""

    def on_start(self, training: Retraining) -> None:
        """Before the first step, of a resumed one too."""

    def on_step(self, training: Retraining) -> None:
        """After every step."""

    def on_epoch(self, training: Retraining, record: Mapping[str, Any]) -> None:
        """After every epoch, with its record."""

    def on_end(self) -> None:
        """After the last step, whatever ended it."""
