"""A larger part of the channels goes through the operations: what they have learnt is copied into what had no part yet.

Shape suffixes: T targets of one source node, C channels, S new ones of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from supernet.cell import SearchCell
from supernet.operations import FactorizedReduce
from supernet.single import is_plain
from supernet.stacked import StackedConvBN

Fill = Callable[[Tensor], None]
"""Copies within a tensor: of a weight, or of what an optimizer keeps for it."""


def widenings(network: nn.Module, before: int, after: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Fill]]:
    """For partial channels of 1 / `after` in place of 1 / `before`: every tensor of the operations that changes, and
    how. A channel that joins gets the weights of one that was drawn among those before (Net2WiderNet, Chen et al. 2016,
    arXiv:1511.05641, without its division by how often a channel was drawn, since what the new channels carry is no
    copy; as DrNAS, arXiv:2006.10355, section 3.3). Operations that are no row of layers see zeros for channels that
    are not there, and stay as they are.

    Args:
        network: with search cells.
        before, after: parts of the channels, k; both divide the channels.
        generator: of the draws.
    """
    for cell in network.modules():
        if not isinstance(cell, SearchCell):
            continue
        old, new = cell.channels // before, cell.channels // after
        taken_S = torch.randint(old, (new - old,), generator=generator)
        rows = _filling(old, new, taken_S)
        for module in (*cell.stacked.values(), *cell.single.values(), *cell.shared.values()):
            if isinstance(module, StackedConvBN):
                yield from _stack(module, rows)
            elif isinstance(module, FactorizedReduce):
                yield from _halves(module, old, new, rows, generator)
            elif is_plain(module):
                for layer in module:  # type: ignore[attr-defined]
                    yield from _layer(layer, rows)


Rows = Callable[[Tensor, int], None]


def _filling(old: int, new: int, taken_S: Tensor) -> Rows:
    """Fills the places old to new - 1 of a dimension from those taken."""

    def fill(value: Tensor, dim: int) -> None:
        value.narrow(dim, old, new - old).copy_(value.index_select(dim, taken_S.to(value.device)))

    return fill


def _of_convolution(rows: Rows, columns: Rows | None) -> Fill:
    def fill(weight: Tensor) -> None:
        rows(weight, 0)
        if columns is not None:
            columns(weight, 1)

    return fill


def _layer(layer: nn.Module, rows: Rows) -> Iterator[tuple[Tensor, Fill]]:
    if isinstance(layer, nn.Conv2d):
        yield layer.weight, _of_convolution(rows, rows if layer.groups == 1 else None)
        if layer.bias is not None:
            yield layer.bias, lambda value: rows(value, 0)
    elif isinstance(layer, nn.BatchNorm2d):
        for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            if value is not None:
                yield value, lambda value: rows(value, 0)


def _stack(stack: StackedConvBN, rows: Rows) -> Iterator[tuple[Tensor, Fill]]:
    def of_weight(value: Tensor) -> None:
        by_target = value.unflatten(0, (stack.num_targets, stack.channels))
        rows(by_target, 1)
        rows(by_target, 2)

    yield stack.weight, of_weight
    for value in (stack.running_mean, stack.running_var):
        if value is not None:
            yield value, lambda value: rows(value.unflatten(0, (stack.num_targets, stack.channels)), 1)


def _halves(
    module: FactorizedReduce, old: int, new: int, columns: Rows, generator: torch.Generator
) -> Iterator[tuple[Tensor, Fill]]:
    """The first outputs of both convolutions are used, so that what follows them moves."""
    halves = [(old - old // 2, new - new // 2), (old // 2, new // 2)]
    taken = [torch.randint(max(1, few), (many - few,), generator=generator) for few, many in halves]
    for layer, (few, many), taken_S in zip((module.even, module.odd), halves, taken, strict=True):
        yield layer.weight, _of_convolution(_filling(few, many, taken_S) if few else _untouched, columns)
    first = halves[0][0]
    places_C = torch.cat([torch.arange(first), taken[0], first + torch.arange(halves[1][0]), first + taken[1]])

    def moved(value: Tensor) -> None:
        value[:new] = value[places_C.clamp(max=old - 1).to(value.device)]

    norm: nn.BatchNorm2d = module.norm  # type: ignore[assignment]
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if value is not None:
            yield value, moved


def _untouched(value: Tensor, dim: int) -> None:
    """There is nothing that could be copied."""
