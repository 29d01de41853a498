"""How good a trained network is on images that it never saw.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darts.tasks.base import Task

BINS = 15  # of confidence, as in the paper


@torch.no_grad()
def answers(network: nn.Module, task: Task) -> tuple[Tensor, Tensor]:
    """Outputs and targets of the task's second part, on the CPU, with the network in evaluation mode."""
    training = network.training
    network.eval()
    pairs = [(network(inputs).float().cpu(), targets.cpu()) for inputs, targets in task.evaluation_batches()]
    network.train(training)
    outputs, targets = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(targets)


@dataclass(frozen=True)
class Calibration:
    """Confidence beside accuracy.

    Attributes:
        error: expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3), percent: the mean over images of
            the distance between confidence and accuracy in their bin.
        bins: (images, mean confidence, accuracy) of the bins that hold some, in order of confidence, the last two in
            percent.
    """

    error: float
    bins: list[tuple[int, float, float]]


def calibration(probabilities_NK: Tensor, labels_N: Tensor) -> Calibration:
    """How far the probability of the likeliest class is the share of right answers."""
    confidence_N, answer_N = probabilities_NK.double().max(dim=1)
    right_N = (answer_N == labels_N).double()
    bin_N = (confidence_N * BINS).ceil().long().clamp(1, BINS)
    bins = []
    for place in bin_N.unique().tolist():
        members = bin_N == place
        mean, share = float(confidence_N[members].mean()), float(right_N[members].mean())
        bins.append((int(members.sum()), 100 * mean, 100 * share))
    error = sum(count * abs(mean - share) for count, mean, share in bins) / len(labels_N)
    return Calibration(error, bins)


@dataclass(frozen=True)
class Mistake:
    """An image that was given the wrong class; probabilities in percent.

    Attributes:
        place: in the task's evaluation.
        label, answer: class numbers.
        label_probability, answer_probability: that the network gave them.
    """

    place: int
    label: int
    answer: int
    label_probability: float
    answer_probability: float


def mistakes(probabilities_NK: Tensor, labels_N: Tensor, count: int) -> list[Mistake]:
    """The images whose own class got the least, at most `count` of those that were given another class."""
    sure_N, answer_N = probabilities_NK.max(dim=1)
    own_N = probabilities_NK.gather(1, labels_N[:, None])[:, 0]
    wrong = (answer_N != labels_N).nonzero().flatten()
    chosen = wrong[own_N[wrong].argsort(stable=True)[:count]].tolist()
    return [
        Mistake(
            place, int(labels_N[place]), int(answer_N[place]), 100 * float(own_N[place]), 100 * float(sure_N[place])
        )
        for place in chosen
    ]


def confusion(probabilities_NK: Tensor, labels_N: Tensor) -> Tensor:
    """Images by class (rows) and answer (columns), (K, K)."""
    classes = probabilities_NK.shape[1]
    return torch.bincount(labels_N * classes + probabilities_NK.argmax(dim=1), minlength=classes**2).reshape(
        classes, classes
    )
