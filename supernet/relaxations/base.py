"""What a relaxation is: architecture parameters in, weights for every operation on every edge out.

Shape suffixes: L cells, E edges, O operations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from supernet.spaces.base import LEFT_OUT

Parameters = Mapping[str, Tensor]
HALVES = ("weights", "architecture", "evaluation")
"""Who asks for edge weights: either half-step, or whoever evaluates the supernet or derives a genotype."""


@dataclass(frozen=True)
class EdgeWeights:
    """Weights of one pass through the supernet.

    Attributes:
        weights: (E, O), the same for all cells, or (L, E, O), one set a cell.
        active_EO: which operations are computed. Known on the host, so that choosing what to compute never
            waits for a device; an operation that is not active, or not allowed any more, counts as zero whatever
            its weight.
        extra_skip: (E) or (L, E), weight of one more identity on every edge (DARTS-, arXiv:2009.01027).
        partial: k of partial channels (PC-DARTS, arXiv:1907.05737): operations see the first C / k channels of
            a node, the others pass by, and every node's channels are shuffled in k groups. 1 leaves them whole.
        bypass: (E) or (L, E), weight of the channels that pass by; 1 if None.

    Raises:
        ValueError: `active_EO` is of another shape than the weights.
    """

    weights: Tensor
    active_EO: tuple[tuple[bool, ...], ...]
    extra_skip: Tensor | None = None
    partial: int = 1
    bypass: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.weights.shape[-2:])
        if len(self.active_EO) != shape[0] or any(len(row) != shape[1] for row in self.active_EO):
            raise ValueError(f"active_EO: got {len(self.active_EO)} edges; give one mark for each of {shape} weights")

    @property
    def mean_EO(self) -> Tensor:
        """Weights (E, O), the mean over cells if each has its own: what figures show and discretizers read."""
        return self.weights if self.weights.dim() == 2 else self.weights.mean(dim=0)

    @classmethod
    def dense(cls, weights: Tensor) -> EdgeWeights:
        """Every operation active."""
        num_edges, num_operations = weights.shape[-2:]
        return cls(weights, ((True,) * num_operations,) * num_edges)

    @classmethod
    def one_hot(cls, choice_E: list[int], num_operations: int, dtype: torch.dtype | None = None) -> EdgeWeights:
        """One operation an edge with weight one; only it is active, and none where the choice is `LEFT_OUT`.

        Raises:
            ValueError: another choice outside [0, num_operations).
        """
        if not all(0 <= choice < num_operations or choice == LEFT_OUT for choice in choice_E):
            raise ValueError(f"choice: got {choice_E}; give operations from 0 to {num_operations - 1}")
        rows = tuple(tuple(position == choice for position in range(num_operations)) for choice in choice_E)
        return cls(torch.tensor(rows, dtype=dtype or torch.get_default_dtype()), rows)

    def backwards(self, soft_EO: Tensor) -> EdgeWeights:
        """The same values with the derivatives of others (a straight-through estimate)."""
        return replace(self, weights=self.weights.detach() + (soft_EO - soft_EO.detach()))

    def allowed(self, allowed_EO: tuple[tuple[bool, ...], ...]) -> EdgeWeights:
        """Those of them that are still allowed."""
        marks = tuple(
            tuple(active and may for active, may in zip(row, own, strict=True))
            for row, own in zip(self.active_EO, allowed_EO, strict=True)
        )
        return replace(self, active_EO=marks)

    def of_cell(self, cell: int) -> EdgeWeights:
        """Those of one cell: (E, O), and (E)."""
        return self.each(lambda value, dims: value if value.dim() == dims else value[cell])

    def of_only_cell(self, who: str) -> EdgeWeights:
        """Those of a network whose operations nothing goes past: the first cell's.

        Args:
            who: the networks, for the message.

        Raises:
            ValueError: extra skips or partial channels.
        """
        if self.extra_skip is not None or self.partial > 1:
            raise ValueError(f"edge weights: {who} have neither extra skips nor partial channels")
        return self.of_cell(0)

    def of_edges(self, first: int, last: int) -> EdgeWeights:
        """Those of the edges first to last - 1: the rows of one kind of cell."""
        mine = slice(first, last)
        found = replace(self, weights=self.weights[..., mine, :], active_EO=self.active_EO[mine])
        return replace(
            found,
            extra_skip=None if self.extra_skip is None else self.extra_skip[..., mine],
            bypass=None if self.bypass is None else self.bypass[..., mine],
        )

    def to(self, device: torch.device) -> EdgeWeights:
        """The same weights on another device; gradients flow back."""
        return self.each(lambda value, dims: value.to(device, non_blocking=True))

    def detach(self) -> EdgeWeights:
        """The same weights without their history."""
        return self.each(lambda value, dims: value.detach())

    def each(self, change: Callable[[Tensor, int], Tensor]) -> EdgeWeights:
        """All tensors changed by a function, which also gets the dimensions that a tensor of one cell has."""
        skip, bypass = self.extra_skip, self.bypass
        return replace(
            self,
            weights=change(self.weights, 2),
            extra_skip=None if skip is None else change(skip, 1),
            bypass=None if bypass is None else change(bypass, 1),
        )


def opened(params: Parameters, allowed_EO: Sequence[Sequence[bool]] | None) -> Parameters:
    """Architecture parameters with minus infinity for operations that are not allowed; None allows all."""
    if allowed_EO is None:
        return params
    closed_EO = ~torch.tensor(allowed_EO)
    return {**params, "alpha_EO": params["alpha_EO"].masked_fill(closed_EO, -math.inf)}


def probabilities(alpha_EO: Tensor, temperature: float = 1.0) -> Tensor:
    """softmax(alpha / temperature) over the operations of an edge; zero for those that are not allowed."""
    shifted_EO = alpha_EO - alpha_EO.detach().amax(dim=-1, keepdim=True)  # before dividing, which may overflow
    return torch.softmax(shifted_EO / temperature, dim=-1)


def gumbel(alpha_EO: Tensor, generator: torch.Generator) -> Tensor:
    """log softmax(alpha) plus standard Gumbel noise: the largest of an edge is a draw by softmax(alpha), the K largest
    are draws without replacement (Kool et al. 2019, arXiv:1903.06059)."""
    noise_EO = -torch.empty_like(alpha_EO, requires_grad=False).exponential_(generator=generator).log()
    return torch.log_softmax(alpha_EO, dim=-1) + noise_EO


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Torch's global generator of the CPU follows from another one inside, and is as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield


class Temperature:
    """A temperature that moves linearly with the progress of a search.

    Raises:
        ValueError: one of the two is not positive.
    """

    def __init__(self, start: float, end: float) -> None:
        for name, value in (("temperature", start), ("temperature_end", end)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}: got {value}; give a number above 0")
        self.start, self.end = start, end

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


class Relaxation(ABC):
    """From architecture parameters to edge weights; stateless, so a checkpoint need not know it.

    The engine calls `init_params` once at the start, the relaxation itself once a half-step, and `expected`
    whenever the supernet is evaluated or a genotype is derived. Parameters of operations that are not allowed any
    more are minus infinity.
    """

    trains_architecture = True  # False: what it gives does not depend on the parameters

    def __init__(self, init_scale: float = 1e-3) -> None:
        if not 0 <= init_scale < math.inf:
            raise ValueError(f"init_scale: got {init_scale}; give a standard deviation of 0 or more")
        self.init_scale = init_scale

    def init_params(self, shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
        """New architecture parameters on the CPU, init_scale * N(0, 1); a method may add tensors of its own.

        Args:
            shapes: name to shape, as the space asks for them; ``alpha_EO`` always.
            generator: the source of randomness.
        """
        return {name: self.init_scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    def paths(self, half: str) -> int:
        """How many elements a call returns; each is a pass of the batch, and budgets count them all."""
        return 1

    @abstractmethod
    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        """Edge weights for one half-step: one element as a rule, several where gradients of paths are summed.

        Args:
            params: the architecture parameters, on the CPU.
            progress: share of the search that is done, in [0, 1]; drives schedules such as temperatures.
            generator: the source of randomness for sampling methods.
            half: ``weights`` or ``architecture``, the half-step that asks.
        """

    @abstractmethod
    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        """What is evaluated and derived from, without sampling, with all that passes have beside the weights: extra
        skips, partial channels, weights a cell."""

    def settle(self, params: Parameters, before: Mapping[str, Tensor]) -> None:
        """After an update of the parameters, in place and without gradients; `before` is what they were, and what they
        were updated by stands in their `.grad`."""
        return


class Around(Relaxation):
    """Another relaxation, each of whose edge weights is changed."""

    def __init__(self, inner: Relaxation) -> None:
        super().__init__(inner.init_scale)
        self.inner, self.trains_architecture = inner, inner.trains_architecture

    def init_params(self, shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
        return self.inner.init_params(shapes, generator)

    def paths(self, half: str) -> int:
        return self.inner.paths(half)

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        return [self.changed(found, params, progress) for found in self.inner(params, progress, generator, half)]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return self.changed(self.inner.expected(params, progress), params, progress)

    def settle(self, params: Parameters, before: Mapping[str, Tensor]) -> None:
        self.inner.settle(params, before)

    @abstractmethod
    def changed(self, found: EdgeWeights, params: Parameters, progress: float) -> EdgeWeights:
        """What the other relaxation gave, changed."""
