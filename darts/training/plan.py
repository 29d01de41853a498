"""What a retraining trains on what, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darts.tasks.base import Task
from darts.training.model import About, sizes_of
from darts.training.recipe import Recipe
from darts.training.result import SCRATCH
from supernet.size import NetworkSize
from supernet.spaces.base import Genotype, Space


@dataclass(frozen=True)
class Plan:
    """What is trained on what, and how.

    Attributes:
        space, genotype, size: of the network.
        task: the data of the training; its second part is looked at after every epoch where `watches`.
        final: the data of the judgement.
        judged_on: what those are, in words.
        recipe, seed: of the training.
        space_node: the space as a config has it.
        origin: of the weights that it begins with, in words.
        bfloat16: see `darts.training.fit.fit_step`.
        identity: by name, the settings and data that it goes on with after a stop, or not at all.
        checkpoint_minutes: working time between checkpoints inside an epoch.
        checkpoints: how many are kept: the last, and those before it.
        retries, retry_rate: where a number is no longer finite, it goes back to the last checkpoint so often, each time
            with all learning rates times this factor.
        groups: of a batch, see `darts.training.groups.Groups`.
    """

    space: Space
    genotype: Genotype
    size: NetworkSize
    task: Task
    final: Task
    watches: bool
    judged_on: str
    recipe: Recipe
    seed: int
    identity: Mapping[str, str]
    space_node: Mapping[str, Any]
    origin: str = SCRATCH
    bfloat16: bool = False
    checkpoint_minutes: float = 5.0
    checkpoints: int = 2
    retries: int = 0
    retry_rate: float = 0.5
    groups: int | None = None

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.recipe.epochs * self.task.steps_per_epoch

    def about(self, judged: Mapping[str, Any] | None = None) -> About:
        """What a file of the network says of it."""
        size, inputs = sizes_of(self.size), self.task.inputs()
        return About(
            str(self.genotype), self.space_node, size, self.origin, self.task.name, inputs, judged, self.task.takes
        )
