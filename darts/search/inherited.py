"""What a single cell is worth with the weights that it inherits from a supernet."""

from __future__ import annotations

import torch

from darts.search.compute import Compute
from darts.tasks.base import Task
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights
from supernet.spaces.base import Genotype, Space


def some_batches(batches: int | None) -> int | None:
    """An option that says how many of the evaluation's batches are used.

    Raises:
        ValueError: fewer than one.
    """
    if batches is not None and batches < 1:
        raise ValueError(f"batches: got {batches}; give 1 or more, or null for all")
    return batches


@torch.no_grad()
def inherited(compute: Compute, space: Space, task: Task, genotype: Genotype, batches: int | None = None) -> float:
    """The task's metric of a genotype's path, the higher the better, on the architecture part of the data.

    Every batch is normalised with its own statistics, whatever the supernet did: running ones are of no one genotype.

    Args:
        compute: evaluates the supernet.
        space: what the genotype is of.
        task: the data.
        genotype: the cell.
        batches: how many of the evaluation's batches; always the first ones. All if None.
    """
    path = EdgeWeights.one_hot(list(space.path(genotype)), len(space.candidates)).to(task.device)
    training = compute.network.training
    with held_statistics(compute.network.train()):
        value = task.judge(lambda inputs: compute.logits(inputs, path), batches)
    compute.network.train(training)
    return task.metric.worth(value)
