"""Everything a search changes while it runs: what a checkpoint holds, and nothing else changes.

Shape suffixes: E edges, O operations.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from darts.run import ranks
from darts.run.seeding import make_generator, torch_noise
from darts.search.compute import Compute
from darts.search.diverging import NonFiniteLoss
from darts.search.regularizers.base import Regularizer
from darts.tasks.base import Batch, Task
from darts.training.groups import Groups, Network
from supernet.relaxations.base import EdgeWeights, Relaxation, opened
from supernet.spaces.base import Space

Optimizers = Callable[[Any], torch.optim.Optimizer]


class SearchState:
    """Network weights, architecture parameters, optimizers, generators, position in data and schedule.

    Args:
        space: what can be found.
        network: its supernet, on the task's device.
        relaxation: from architecture parameters to edge weights.
        task: batches, loss and metric.
        weight_optimizer: makes the optimizer of the network's parameters, which it is given.
        arch_optimizer: makes the one of the architecture parameters, a dict by name, which it is given.
        regularizers: terms added to the architecture's objective.
        seed: decides every random choice of the search.
        compute: how the network is evaluated; plainly in float32 if None.
        groups: how a batch is evaluated; one a process if None.
        plugins: packages with parts of the user's own.
    """

    def __init__(
        self,
        space: Space,
        network: nn.Module,
        relaxation: Relaxation,
        task: Task,
        weight_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        arch_optimizer: Callable[[dict[str, Tensor]], torch.optim.Optimizer],
        regularizers: Sequence[Regularizer] = (),
        seed: int = 0,
        compute: Compute | None = None,
        groups: Groups | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        self.compute, self.groups = compute or Compute(network), groups or Groups(network)
        self.space, self.network, self.relaxation, self.task = space, network, relaxation, task
        self.regularizers, self.seed, self.plugins = tuple(regularizers), seed, tuple(plugins)
        self.device = self.compute.device
        self.sampling = make_generator(seed, "sampling")
        self.params = relaxation.init_params(space.architecture_shapes, make_generator(seed, "architecture"))
        self.initial_alphas = {name: value.tolist() for name, value in self.params.items()}
        for value in self.params.values():
            value.requires_grad_()
        self.allowed_EO = space.allowed_EO  # operations; all if None
        self.partial: int | None = None  # k of partial channels, in place of the relaxation's
        self.weight_optimizer = weight_optimizer(network.parameters())
        self.arch_optimizer = arch_optimizer(self.params)
        self.planned_steps = 0
        self.ends: dict[str, int] = {}  # the step before which each phase ends; by their shares of the steps if empty
        self.stopped_early = ""  # why, if a phase ended before its time
        self.moving_steps = 0  # of those planned, up to the last one that moves the supernet; all if 0
        self.step = 0
        self.phase = ""
        self.phase_progress = 0.0
        self.found: str | None = None  # genotype of a phase, until another one ends
        self.standing: dict[str, Any] | None = None  # how its candidates stand, see `SearchResult`
        self.images = 0
        self.evaluation_images = 0
        self.evaluated: tuple[float, float] | None = None  # what `evaluate` gave, while nothing has moved since
        self.train_loss_sum, self.train_loss_count = 0.0, 0  # of the epoch under way
        self.seconds = {"total": 0.0, "training": 0.0, "evaluation": 0.0}
        self.history: list[dict[str, Any]] = []
        self.rate = 1.0  # factor of all learning rates
        self.rolled_back: list[dict[str, Any]] = []  # see `SearchResult`

    @property
    def progress(self) -> float:
        """Share that is done of the steps up to the last one that moves the supernet, in [0, 1]; schedules hang on
        it."""
        return min(1.0, self.step / max(1, self.moving_steps or self.planned_steps))

    def allow(self, allowed_EO: Sequence[Sequence[bool]]) -> None:
        """Keep these operations alone from now on; for phases that shrink the space.

        Raises:
            ValueError: another shape, or an edge without any.
        """
        marks = tuple(tuple(bool(mark) for mark in row) for row in allowed_EO)
        shape = tuple(self.params["alpha_EO"].shape)
        if len(marks) != shape[0] or not all(len(row) == shape[1] and any(row) for row in marks):
            raise ValueError(f"allowed: got {marks}; give {shape} marks, at least one an edge")
        self.allowed_EO = None if all(map(all, marks)) else marks

    def edge_weights(self, half: str) -> list[EdgeWeights]:
        """What the relaxation gives a half-step now, on the network's device.

        Raises:
            ValueError: other than as many paths as it announced.
        """
        found = self.relaxation(opened(self.params, self.allowed_EO), self.progress, self.sampling, half)
        if len(found) != (announced := self.relaxation.paths(half)):
            raise ValueError(f"relaxation: it gave {len(found)} paths to {half}; its paths() says {announced}")
        return [self.placed(weights) for weights in found]

    def expected_weights(self) -> EdgeWeights:
        """What the supernet is evaluated with, without sampling, without history, on the CPU."""
        with torch.no_grad():
            return self._narrowed(self.relaxation.expected(opened(self.params, self.allowed_EO), self.progress))

    def placed(self, weights: EdgeWeights) -> EdgeWeights:
        """On the network's device, without operations that are not allowed."""
        return self._narrowed(weights).to(self.device)

    def _narrowed(self, weights: EdgeWeights) -> EdgeWeights:
        """As phases have narrowed the operations, and widened what goes through them."""
        if self.partial is not None:
            weights = replace(weights, partial=self.partial)
        return weights if self.allowed_EO is None else weights.allowed(self.allowed_EO)

    def loss(self, batch: Batch, path: EdgeWeights, part: str, alone: bool = True) -> Tensor:
        """The task's loss of one path; counts the images and insists on a finite value.

        Args:
            batch: inputs and targets.
            path: one element of `edge_weights`.
            part: of the search, for messages.
            alone: whether its backward pass comes before the next forward pass.

        Raises:
            NonFiniteLoss: the value is infinite or NaN.
        """
        path = path.each(lambda value, dims: self.groups.shared(value))

        def of_part(network: Network, part: Batch) -> Tensor:
            inputs, targets = part
            return self.task.loss(self.compute.logits(inputs, path, alone, network), targets)

        loss = self.groups.mean(of_part, *batch)
        self.images += len(batch[1])
        if not math.isfinite(value := loss.item()):
            raise NonFiniteLoss(f"the {part} is {value}")
        return loss

    @torch.no_grad()
    def answered(self, batch: Batch, path: EdgeWeights) -> tuple[float, float]:
        """Loss and mean score of a batch under one path, as training evaluates it; counts the images."""

        def of_part(network: Network, part: Batch) -> Tensor:
            inputs, targets = part
            outputs = self.compute.logits(inputs, path, network=network)
            return torch.stack([self.task.loss(outputs, targets), self.task.score(outputs, targets) / len(targets)])

        self.images += len(batch[1])
        loss, score = self.groups.mean(of_part, *batch).tolist()
        return loss, score

    def noise(self, state: tuple[Tensor, list[Tensor]] | None = None) -> tuple[Tensor, list[Tensor]]:
        """State of everything that a pass may draw from: sampling, and torch's own generators for layers such as
        dropout; put back, if given."""
        if state is not None:
            self.sampling.set_state(state[0])
            torch_noise(self.device, state[1])
        return self.sampling.get_state(), torch_noise(self.device)

    def regularization(self) -> Tensor | float:
        """Sum of all terms that depend on the architecture parameters alone."""
        return sum(
            term(opened(self.params, self.allowed_EO), self.relaxation, self.progress) for term in self.regularizers
        )

    def evaluate(
        self, batches: int | None = None, allowed_EO: Sequence[Sequence[bool]] | None = None
    ) -> tuple[float, float]:
        """Loss and metric of the network that is trained, on the architecture part of the data.

        Where the relaxation trains weights alone there is no mixture that was trained: then every batch takes a path of
        its own, drawn as training draws them and the same in every evaluation.

        Args:
            batches: how many of its batches, always the first ones; all if None.
            allowed_EO: operations that are computed, with the weights they have; all that are allowed if None.
        """

        def judged(one: tuple[Batch, EdgeWeights]) -> tuple[float, float, int]:
            (inputs, targets), weights = one
            outputs = self.compute.logits(inputs, weights)
            loss, score = self.task.loss(outputs, targets).item(), self.task.score(outputs, targets).item()
            return loss * len(targets), score, len(targets)

        self.network.eval()
        chosen = itertools.islice(self.task.evaluation_batches(), batches)
        with torch.no_grad():
            rows = ranks.spread(zip(chosen, self._evaluated(allowed_EO), strict=False), judged)
        self.network.train()
        loss_sum, score, items = (sum(column) for column in zip(*rows, strict=True))
        self.evaluation_images += int(items)
        return loss_sum / items, self.task.per_item * score / items

    def _evaluated(self, allowed_EO: Sequence[Sequence[bool]] | None) -> Iterator[EdgeWeights]:
        """Edge weights of one batch after another, without end."""
        allowed = None if allowed_EO is None else tuple(map(tuple, allowed_EO))
        if self.relaxation.trains_architecture:
            weights = self.expected_weights()
            return itertools.repeat((weights if allowed is None else weights.allowed(allowed)).to(self.device))
        generator, params = make_generator(self.seed, "evaluation"), opened(self.params, allowed or self.allowed_EO)
        drawn = (self.relaxation(params, self.progress, generator, "weights")[0] for _ in itertools.count())
        return map(self.placed, drawn)

    def mean_train_loss(self) -> float:
        """Of the epoch under way; where no weights were trained in it, of the last one that did."""
        if not self.train_loss_count and self.history:
            last: float = self.history[-1]["train_loss"]
            return last
        return self.train_loss_sum / max(1, self.train_loss_count)

    def is_finite(self) -> bool:
        """Whether all weights and architecture parameters are finite."""
        tensors = [*self.network.parameters(), *self.params.values()]
        return all(bool(value.isfinite().all()) for value in tensors)

    def shared(self) -> list[Tensor]:
        """What the processes of a run have to have in common: weights, statistics, parameters, generators."""
        kept = [*self.network.state_dict().values(), *self.params.values()]
        return [*kept, self.sampling.get_state(), torch.get_rng_state()]

    _counters = (
        "planned_steps", "step", "phase", "phase_progress", "images", "evaluation_images", "train_loss_sum",
        "train_loss_count", "allowed_EO", "found", "standing", "evaluated", "ends", "moving_steps",
        "stopped_early", "rate", "rolled_back", "partial",
    )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, strings, lists and dicts."""
        state: dict[str, Any] = {name: getattr(self, name) for name in self._counters}
        return state | {
            "seconds": dict(self.seconds),
            "history": list(self.history),
            "network": self.network.state_dict(),
            "params": {name: value.detach() for name, value in self.params.items()},
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "sampling": self.sampling.get_state(),
            **self.task.state_dict(),
            "noise": torch_noise(self.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        for name in self._counters:
            setattr(self, name, state[name])
        self.seconds, self.history = dict(state["seconds"]), list(state["history"])
        self.network.load_state_dict(state["network"])
        with torch.no_grad():
            for name, value in self.params.items():
                value.copy_(state["params"][name])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        self.sampling.set_state(state["sampling"])
        self.task.load_state_dict(state)
        torch_noise(self.device, state["noise"])

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Whatever happens inside is undone at the end."""
        before = copy.deepcopy(self.state_dict())
        try:
            yield
        finally:
            self.load_state_dict(before)
