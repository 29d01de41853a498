"""Whether a network fits into this machine, asked before one is made."""

from __future__ import annotations

import random

from darts.run.memory import check_weights
from darts.tasks.base import Task
from supernet.shapes import of_shapes
from supernet.size import NetworkSize
from supernet.spaces.base import Genotype, Space


def check_inputs(space: Space, task: Task) -> None:
    """Refuse networks that do not take what a task gives.

    Raises:
        ValueError: they do not.
    """
    if space.takes != task.takes:
        raise ValueError(
            f"space: networks of {type(space).__name__} take {space.takes}, and the task gives {task.takes}; choose "
            "another space, or task= and dataset= that go with it"
        )


def check_network(space: Space, channels: int, cells: int, genotype: Genotype = None) -> None:
    """Refuse a size whose weights do not fit into memory.

    Args:
        space: of the network.
        channels, cells: its size.
        genotype: one at random if None; how large a network is its size says, more than its genotype.

    Raises:
        ValueError: they do not.
    """
    example = space.sample(random.Random(0)) if genotype is None else genotype
    check_weights(lambda few: of_shapes(lambda: space.network(example, NetworkSize(channels, few))), channels, cells)
