"""Channels that join the operations get weights of channels that were there; everything else stays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from supernet.cell import SearchCell
from supernet.norm import norm_factory
from supernet.operations import FactorizedReduce
from supernet.spaces.base import Space
from supernet.spaces.cells import CellSpace
from supernet.spaces.darts_cells import DartsCells
from supernet.widening import widenings

CHANNELS, BEFORE, AFTER = 12, 6, 3  # 2 channels, then 4
OLD, NEW = CHANNELS // BEFORE, CHANNELS // AFTER


def kernels(operation: nn.Module) -> list[tuple[torch.Tensor, int, int]]:
    """Every convolution's weight with how many rows of it took part, and how many take part now."""
    if isinstance(operation, FactorizedReduce):
        return [(layer.weight, OLD // 2, NEW // 2) for layer in (operation.even, operation.odd)]
    return [(layer.weight, OLD, NEW) for layer in operation.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("space", [CellSpace(4), DartsCells()], ids=["cells", "darts_cells"])
def test_new_channels_are_copies_of_old_ones(space: Space) -> None:
    """By the plain form of the cells, module after module, one convolution for itself."""
    for kind, wiring in space.cells.items():
        cell = SearchCell(wiring, CHANNELS, norm_factory("running", affine=kind == "reduce"))
        noise = torch.Generator().manual_seed(0)
        for value in cell.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=noise))
        was = cell.reference()
        with torch.no_grad():
            for value, fill in widenings(cell, BEFORE, AFTER, torch.Generator().manual_seed(1)):
                fill(value)
        for old, now in zip(was.edges, cell.reference().edges, strict=True):
            for operation, after in zip(old.candidates, now.candidates, strict=True):
                for (before_w, few, many), (after_w, _, _) in zip(kernels(operation), kernels(after), strict=True):
                    wide = before_w.shape[1] > 1
                    assert torch.equal(after_w[:few, :OLD], before_w[:few, :OLD])
                    assert torch.equal(after_w[many:, :OLD], before_w[many:, :OLD])
                    assert not wide or torch.equal(after_w[many:, NEW:], before_w[many:, NEW:])
                    rows = [tuple(row.flatten().tolist()) for row in before_w[:few, :OLD]]
                    assert all(tuple(row.flatten().tolist()) in rows for row in after_w[few:many, :OLD])
                    if wide:
                        columns = [tuple(column.flatten().tolist()) for column in after_w[:many, :OLD].unbind(1)]
                        joined = after_w[:many, OLD:NEW].unbind(1)
                        assert all(tuple(column.flatten().tolist()) in columns for column in joined)
                    assert not torch.equal(after_w[few:many], before_w[few:many])


def test_a_channel_brings_its_statistics_along() -> None:
    """Rows of a convolution and running statistics of what follows come from one channel."""
    cell = SearchCell(DartsCells().cells["reduce"], CHANNELS, norm_factory("running", affine=False))
    for module in cell.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.arange(CHANNELS))
        if isinstance(module, FactorizedReduce):
            for layer, start in ((module.even, 0), (module.odd, OLD - OLD // 2)):
                layer.weight.data.copy_((start + torch.arange(len(layer.weight))).view(-1, 1, 1, 1))
        elif isinstance(module, nn.Sequential):
            for layer in module:
                if isinstance(layer, nn.Conv2d):
                    layer.weight.data.copy_(torch.arange(CHANNELS).view(-1, 1, 1, 1))
    before = copy.deepcopy(cell)
    with torch.no_grad():
        for value, fill in widenings(cell, BEFORE, AFTER, torch.Generator().manual_seed(3)):
            fill(value)
    seen = 0
    for module in cell.modules():
        if isinstance(module, FactorizedReduce):
            rows = torch.cat([module.even.weight[: NEW // 2, 0, 0, 0], module.odd.weight[: NEW // 2, 0, 0, 0]])
            assert torch.equal(rows, module.norm.running_mean[:NEW])
            seen += 1
        elif isinstance(module, nn.Sequential) and isinstance(module[-1], nn.BatchNorm2d) and len(module) > 2:
            assert torch.equal(module[-2].weight[:, 0, 0, 0], module[-1].running_mean)
            seen += 1
    assert seen > 10
    assert len(list(before.parameters())) == len(list(cell.parameters()))
