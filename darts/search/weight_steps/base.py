"""What a weight step is: one update of the network weights on a training batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from darts.search.state import SearchState
from darts.tasks.base import Batch
from supernet.relaxations.base import EdgeWeights, Relaxation


@contextmanager
def resting(state: SearchState, paths: Sequence[EdgeWeights]) -> Iterator[None]:
    """An optimizer's step inside leaves alone what no path computed, its buffers too.

    Parameters without a gradient rest anyway. Edges that leave a node share one tensor, though, and rows of it that a
    sampled path leaves out have a gradient of zero, which momentum and weight decay would move.
    """
    kept = [(parameter, rows, parameter.detach()[rows]) for parameter, rows in state.network.resting(paths)]  # type: ignore[operator]
    buffers = [{name: value[rows] for name, value in _buffers(state, parameter).items()} for parameter, rows, _ in kept]
    yield
    with torch.no_grad():
        for (parameter, rows, before), known in zip(kept, buffers, strict=True):
            parameter[rows] = before
            for name, value in _buffers(state, parameter).items():
                value[rows] = known.get(name, 0.0)  # type: ignore[assignment]  # made in this step: as if unused


def _buffers(state: SearchState, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
    """Those of the optimizer that have a value for every value of a parameter."""
    found = state.weight_optimizer.state.get(parameter, {})
    return {name: v for name, v in found.items() if isinstance(v, torch.Tensor) and v.shape == parameter.shape}


def backward(
    state: SearchState, batch: Batch, paths: Sequence[EdgeWeights], part: str, extra: torch.Tensor | float = 0.0
) -> float:
    """Add the gradients of all paths' summed losses, and of a further term, to `.grad` of whatever needs one; returns
    the mean loss. One backward pass a path, with the memory of one."""
    losses = 0.0
    for place, path in enumerate(paths):
        loss = state.loss(batch, path, part)
        losses += loss.item()
        objective = loss if place else loss + extra
        shared = path.weights.requires_grad and place + 1 < len(paths)  # edge weights of several share a small graph
        objective.backward(retain_graph=shared)  # type: ignore[no-untyped-call]
        del loss, objective  # the graph of the network goes with them
    return losses / len(paths)


class WeightStep(ABC):
    """One update of the network weights; the architecture parameters need no gradient meanwhile.

    The engine calls `make_optimizer` once, `schedule` at the start of every step, whatever is updated in it,
    and the object itself in every phase that trains weights.
    """

    def passes(self, relaxation: Relaxation) -> int:
        """Forward passes of a batch in one call, for budgets in images."""
        return relaxation.paths("weights")

    @abstractmethod
    def make_optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of the network weights; the state owns it."""

    @abstractmethod
    def schedule(self, state: SearchState) -> None:
        """Set the learning rate for the share of the search that is done."""

    @abstractmethod
    def update(self, state: SearchState, paths: Sequence[EdgeWeights]) -> None:
        """Move the weights by the gradients that they have, of these passes, and clear them."""

    @abstractmethod
    def __call__(self, state: SearchState, train_batch: Batch, valid_batch: Batch | None) -> dict[str, float]:
        """Update the weights.

        Returns:
            ``train_loss``, and whatever else is worth a curve.

        Raises:
            NonFiniteLoss: the training loss is infinite or NaN.
        """
