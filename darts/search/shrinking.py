"""Phases that take operations away from the supernet until one an edge is left.

Shape suffixes: B batch, C channels, H height, W width, E edges, O operations.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from darts.run import ranks
from darts.search.inherited import some_batches
from darts.search.phases import Bilevel, Phase, Steps, WarmUp
from darts.search.state import SearchState
from supernet.cell import SearchCell
from supernet.norm import held_statistics
from supernet.spaces.base import Genotype
from supernet.widening import widenings

Marks = list[list[bool]]


class Shrinking(Phase):
    """Takes operations away at moments spread evenly over the phase, the first at its start, and trains in between. One
    operation an edge is left at the last moment, and is what the search has found."""

    chooses = True

    @abstractmethod
    def moments(self, marks: Marks) -> int:
        """How often something is taken away from all operations."""

    @abstractmethod
    def shrink(self, state: SearchState, marks: Marks) -> None:
        """Unmark some of the operations that are left."""

    @abstractmethod
    def train(self, state: SearchState, steps: Steps) -> dict[str, float]:
        """One step of training with what is left."""

    def enter(self, state: SearchState) -> None:
        self.done = 0

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        self._shrink(state, 1 + int(state.phase_progress * self.moments(left(state))))
        return self.train(state, steps)

    def exit(self, state: SearchState) -> Genotype:
        self._shrink(state, self.moments(left(state)))
        weights_EO = state.expected_weights().mean_EO
        return state.space.strongest(weights_EO.masked_fill(~torch.tensor(left(state)), -torch.inf).tolist())

    def _shrink(self, state: SearchState, due: int) -> None:
        while self.done < min(due, self.moments(left(state))):
            marks = left(state)
            self.shrink(state, marks)
            state.allow(marks)
            self.done += 1

    def state_dict(self) -> dict[str, Any]:
        return {"done": getattr(self, "done", 0)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state.get("done", 0)


def left(state: SearchState) -> Marks:
    """Which operations are allowed now."""
    if state.allowed_EO is not None:
        return [list(row) for row in state.allowed_EO]
    return [[True] * len(row) for row in state.params["alpha_EO"].tolist()]


class MeasuredShrinking(Shrinking, WarmUp):
    """Measures on the architecture part what to take away, and trains the weights alone in between.

    Args:
        share: see `Phase`.
        batches: of that part, on which it measures; all of it if None.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, share: float = 1.0, batches: int | None = None) -> None:
        super().__init__(share)
        self.batches = some_batches(batches)

    def train(self, state: SearchState, steps: Steps) -> dict[str, float]:
        return WarmUp.step(self, state, steps)


class Projection(MeasuredShrinking):
    """Perturbation-based selection (Wang et al. 2021, DARTS-PT, arXiv:2108.04392, algorithm 1): edge after edge, in
    random order, keeps the operation without which the supernet loses most accuracy; the weights are fine-tuned in
    between.

    Args:
        share, batches: see `MeasuredShrinking`.
    """

    def moments(self, marks: Marks) -> int:
        return len(marks)

    def shrink(self, state: SearchState, marks: Marks) -> None:
        open_E = [edge for edge, row in enumerate(marks) if sum(row) > 1]
        if not open_E:
            return
        edge = open_E[int(torch.randint(len(open_E), (), generator=state.sampling))]
        without: dict[int, tuple[float, float]] = {}
        for operation in (place for place, mark in enumerate(marks[edge]) if mark):
            rest = [[mark and (e, o) != (edge, operation) for o, mark in enumerate(row)] for e, row in enumerate(marks)]
            loss, value = state.evaluate(self.batches, rest)
            without[operation] = (state.task.metric.worth(value), -loss)
        kept = min(without, key=without.__getitem__)
        marks[edge] = [operation == kept for operation in range(len(marks[edge]))]


class Pruning(Shrinking, Bilevel):
    """Every edge drops the operation of the smallest weight, again and again; weights and architecture are trained in
    between (the schedule of progressive shrinking in ASAP, Noy et al. 2020, arXiv:1904.04123, without its threshold).

    Args:
        share: see `Phase`.
    """

    def moments(self, marks: Marks) -> int:
        return len(marks[0]) - 1

    def shrink(self, state: SearchState, marks: Marks) -> None:
        _drop_largest(marks, (-state.expected_weights().mean_EO).tolist())

    def train(self, state: SearchState, steps: Steps) -> dict[str, float]:
        return Bilevel.step(self, state, steps)


class Widening(WarmUp):
    """Every edge keeps its strongest operations, and a larger part of the channels goes through them from now on, with
    weights copied from those that are trained; the phase itself trains the weights alone (the second stage of DrNAS,
    Chen et al. 2021, arXiv:2006.10355, section 3.3).

    Args:
        share: see `Phase`.
        operations: that stay on every edge.
        k: of the relaxation's partial channels, a divisor of what it was before; as it was if None.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, share: float = 1.0, operations: int = 4, k: int | None = None) -> None:
        super().__init__(share)
        for name, number in (("operations", operations), ("k", 1 if k is None else k)):
            if number < 1:
                raise ValueError(f"{name}: got {number}; give 1 or more")
        self.operations, self.k = operations, k

    def fits(self, state: SearchState) -> None:
        before = state.expected_weights().partial
        least = min((cell.channels for cell in state.network.modules() if isinstance(cell, SearchCell)), default=1)
        if self.k is not None and (self.k > before or least % self.k):
            raise ValueError(
                f"k: got {self.k}; give a divisor of the {least} channels, at most {before}, which the relaxation has "
                "(relaxation=partial_channels and partial_dirichlet have relaxation.k)"
            )

    def enter(self, state: SearchState) -> None:
        marks, light_EO = left(state), (-state.expected_weights().mean_EO).tolist()
        for row, light_O in zip(marks, light_EO, strict=True):
            while sum(row) > self.operations:
                _drop_largest([row], [light_O])
        before = state.expected_weights().partial
        state.allow(marks)
        if self.k is None or self.k == before:
            return
        state.partial = self.k
        with torch.no_grad():
            for value, fill in widenings(state.network, before, self.k, state.sampling):
                fill(value)
                for name, kept in state.weight_optimizer.state.get(value, {}).items():
                    if name != "step" and kept is not None and kept.shape == value.shape:
                        fill(kept)


class InformationPruning(MeasuredShrinking):
    """Every edge drops the operation whose output says least, again and again; the weights are trained in between (He
    et al. 2024, IS-DARTS, arXiv:2312.12648, section 3.2). There are no architecture parameters in it.

    Args:
        share, batches: see `MeasuredShrinking`.
    """

    def moments(self, marks: Marks) -> int:
        return len(marks[0]) - 1

    def shrink(self, state: SearchState, marks: Marks) -> None:
        _drop_largest(marks, emptiness(state, self.batches).tolist())


def _drop_largest(marks: Marks, values_EO: list[list[float]]) -> None:
    for row, values_O in zip(marks, values_EO, strict=True):
        if sum(row) > 1:
            row[max((place for place, mark in enumerate(row) if mark), key=values_O.__getitem__)] = False


@torch.no_grad()
def emptiness(state: SearchState, batches: int | None = None) -> Tensor:
    """IS-DARTS' measure (E, O) of the operations' outputs: the mean over images, pixels and cells of 3 (C - 1) / C over
    the fourth power of the deviation among channels. Infinite for an output of zeros."""
    weights, network = state.expected_weights().to(state.device), state.network
    sums = torch.zeros(weights.weights.shape[-2:], dtype=torch.float64)
    passes = 0

    def measure(cell: SearchCell, arguments: tuple[Any, ...], output: Tensor) -> None:
        nonlocal passes
        reference, (inputs, weights_EO, *_) = cell.reference(), arguments
        handles = [
            operation.register_forward_hook(
                lambda _, __, out_BCHW, place=(edge, position): sums.__setitem__(place, sums[place] + _empty(out_BCHW))
            )
            for edge, mixed in enumerate(reference.edges)
            for position, operation in enumerate(mixed.candidates)  # type: ignore[arg-type, union-attr]
        ]
        reference(inputs, weights_EO)
        for handle in handles:
            handle.remove()
        passes += 1

    hooks = [layer.register_forward_hook(measure) for layer in network.modules() if isinstance(layer, SearchCell)]
    with held_statistics(network.train()):
        for inputs, _ in itertools.islice(state.task.evaluation_batches(), batches):
            network(inputs, weights)
    for hook in hooks:
        hook.remove()
    return ranks.from_first(sums / passes)


def _empty(output_BCHW: Tensor) -> float:
    channels = output_BCHW.shape[1]
    variance_BHW = output_BCHW.double().var(dim=1)
    return float((3 * (channels - 1) / channels / variance_BHW**2).mean())
