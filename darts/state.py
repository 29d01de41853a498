"""Everything a search changes while it runs: what a checkpoint holds, and nothing else changes.

Shape suffixes: E edges, O operations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from darts.batches import Batch
from darts.compute import Compute
from darts.errors import UserError
from darts.regularizers.base import Regularizer
from darts.seeding import make_generator
from darts.task import Classification
from supernet.network import SuperNet
from supernet.relaxations.base import EdgeWeights, Relaxation

if TYPE_CHECKING:
    from darts.arch_steps.base import ArchStep
    from darts.weight_steps.base import WeightStep


class NonFiniteLoss(UserError):
    """A loss became infinite or NaN; the message says in which part."""


class SearchState:
    """Network weights, architecture parameters, optimizers, generators, position in data and schedule.

    Args:
        network: the supernet, on its device.
        relaxation: from architecture parameters to edge weights.
        task: batches, loss and metric.
        weight_step, arch_step: make the two optimizers.
        regularizers: terms added to the architecture's objective.
        seed: decides every random choice of the search.
        compute: how the network is evaluated; plainly in float32 if None.
    """

    def __init__(
        self,
        network: SuperNet,
        relaxation: Relaxation,
        task: Classification,
        weight_step: WeightStep,
        arch_step: ArchStep,
        regularizers: Sequence[Regularizer] = (),
        seed: int = 0,
        compute: Compute | None = None,
    ) -> None:
        self.compute = compute or Compute(network)
        self.network, self.relaxation, self.task = network, relaxation, task
        self.regularizers = tuple(regularizers)
        self.device = network.classifier.weight.device
        self.sampling = make_generator(seed, "sampling")
        self.params = relaxation.init_params(network.architecture_shapes, make_generator(seed, "architecture"))
        for value in self.params.values():
            value.requires_grad_()
        self.weight_optimizer = weight_step.make_optimizer(network.parameters())
        self.arch_optimizer = arch_step.make_optimizer(self.params.values())
        self.planned_steps = 0
        self.step = 0
        self.phase = ""
        self.images = 0
        self.evaluation_images = 0
        self.train_loss_sum, self.train_loss_count = 0.0, 0  # of the epoch under way
        self.seconds = {"total": 0.0, "training": 0.0, "evaluation": 0.0}
        self.history: list[dict[str, Any]] = []

    @property
    def progress(self) -> float:
        """Share of the search that is done, in [0, 1]."""
        return self.step / max(1, self.planned_steps)

    def edge_weights(self) -> list[EdgeWeights]:
        """What the relaxation gives now, on the network's device."""
        return [weights.to(self.device) for weights in self.relaxation(self.params, self.progress, self.sampling)]

    def expected_weights(self) -> Tensor:
        """Weights (E, O) without sampling, without history, on the CPU."""
        with torch.no_grad():
            return self.relaxation.expected(self.params)

    def loss(self, batch: Batch, paths: list[EdgeWeights], part: str) -> Tensor:
        """Sum over paths of the task's loss; counts the images and insists on a finite value.

        Raises:
            NonFiniteLoss: the value is infinite or NaN; `part` says where.
        """
        images_BCHW, labels_B = batch
        total = torch.zeros((), device=self.device)
        for edge_weights in paths:
            logits_BK = self.compute.logits(images_BCHW, edge_weights, alone=len(paths) == 1)
            total = total + self.task.loss(logits_BK, labels_B)
            self.images += len(labels_B)
        if not math.isfinite(value := total.item()):
            raise NonFiniteLoss(f"the {part} is {value}")
        return total

    def regularization(self) -> Tensor | float:
        """Sum of all terms that depend on the architecture parameters alone."""
        return sum(term(self.params, self.relaxation, self.progress) for term in self.regularizers)

    def evaluate(self) -> tuple[float, float]:
        """Loss and accuracy (%) of the mixture on the architecture part of the data."""
        weights = EdgeWeights.dense(self.expected_weights()).to(self.device)
        self.network.eval()
        loss_sum, correct, images = 0.0, 0, 0
        with torch.no_grad():
            for images_BCHW, labels_B in self.task.evaluation_batches():
                logits_BK = self.compute.logits(images_BCHW, weights)
                loss_sum += self.task.loss(logits_BK, labels_B).item() * len(labels_B)
                correct += int(self.task.correct(logits_BK, labels_B))
                images += len(labels_B)
        self.network.train()
        self.evaluation_images += images
        return loss_sum / images, 100.0 * correct / images

    def is_finite(self) -> bool:
        """Whether all weights and architecture parameters are finite."""
        tensors = [*self.network.parameters(), *self.params.values()]
        return all(bool(value.isfinite().all()) for value in tensors)

    _counters = ("planned_steps", "step", "phase", "images", "evaluation_images", "train_loss_sum", "train_loss_count")

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
            "train": self.task.train.state_dict(),
            "valid": self.task.valid.state_dict(),
            "torch_rng": torch.get_rng_state(),  # for candidate operations that draw from it, such as dropout
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
        self.task.train.load_state_dict(state["train"])
        self.task.valid.load_state_dict(state["valid"])
        torch.set_rng_state(state["torch_rng"])

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Whatever happens inside is undone at the end."""
        before = copy.deepcopy(self.state_dict())
        try:
            yield
        finally:
            self.load_state_dict(before)
