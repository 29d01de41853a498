"""The loss of a batch in groups, each with batch statistics of its own, shared out among the processes of a run.

With one process and one group it is the loss, and nothing else happens. With K processes each evaluates its part of
the groups, and loss and gradients are those of the whole batch on all of them: what is differentiated goes through
`_Shared` on its way into the network, and the loss through `_Summed` on its way out. Each is the other's transpose, so
derivatives of any order are right, whoever takes them.

Shape suffix: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from darts.run import ranks
from darts.run.seeding import torch_noise

Network = Callable[..., Any]


class _Shared(torch.autograd.Function):
    """Tensors that are the same in all processes, on their way to where each does something else with them."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # what no group used has no gradient, which is the same everywhere
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [gradient for gradient in gradients if gradient is not None]
        found = iter(_Summed.apply(*there)) if there else iter(())
        return tuple(None if gradient is None else next(found) for gradient in gradients)


class _Summed(torch.autograd.Function):
    """The sum over the processes, the same in all of them."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(ranks.summed(values))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [gradient for gradient in gradients if gradient is not None]
        found = iter(_Shared.apply(*there)) if there else iter(())
        return tuple(None if gradient is None else next(found) for gradient in gradients)


class Groups:
    """How the batches of a training are evaluated.

    Args:
        network: whose parameters are trained.
        count: groups of a batch, as many items in each as can be; as many as there are processes if None.

    Raises:
        ValueError: fewer groups than processes.
    """

    def __init__(self, network: nn.Module, count: int | None = None) -> None:
        least = ranks.size()
        self.network, self.count = network, least if count is None else count
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < least:
            raise ValueError(
                f"groups: got {count!r}; give {least} or more, one a process at least, or null for {least}"
            )

    def check(self, batch_size: int) -> None:
        """Refuse batches that have fewer items than there are groups.

        Raises:
            ValueError: they do.
        """
        if batch_size < self.count:
            raise ValueError(
                f"groups: got {self.count} of a batch of {batch_size}; give at most as many, or larger batches"
            )

    def shared(self, value: Tensor) -> Tensor:
        """A tensor that the network computes with beside its parameters, such as edge weights."""
        if ranks.size() == 1 or not value.requires_grad:
            return value
        return _Shared.apply(value)[0]  # type: ignore[no-any-return]

    def mean(self, of_part: Callable[[Network, Any], Tensor], *batch_B: Tensor) -> Tensor:
        """The mean over a batch, of its loss for example.

        Args:
            of_part: the mean over a part of it, by the network that it is given.
            batch_B: inputs, targets and whatever else has a row an item.
        """
        if self.count == 1:
            return of_part(self.network, batch_B)
        network, items = self._network(), len(batch_B[0])
        parts = list(zip(*(value.tensor_split(self.count) for value in batch_B), strict=True))
        bounds = [self.count * rank // ranks.size() for rank in (ranks.rank(), ranks.rank() + 1)]
        means = []
        with self._noise() as noise, self._statistics() as statistics:
            for number in range(*bounds):
                share = len(parts[number][0]) / items
                noise(number)
                means.append(share * of_part(network, parts[number]))
                statistics(share)
        total = torch.stack(means).sum(dim=0)
        return total if ranks.size() == 1 else _Summed.apply(total)[0]  # type: ignore[no-any-return]

    def _network(self) -> Network:
        """As a function whose gradients are the sums over all processes."""
        trained = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        if ranks.size() == 1 or not trained or not torch.is_grad_enabled():
            return self.network
        shared = dict(zip(trained, _Shared.apply(*trained.values()), strict=True))
        return lambda *arguments: functional_call(self.network, shared, arguments)

    @contextmanager
    def _noise(self) -> Iterator[Callable[[int], None]]:
        """Layers that draw, such as dropout, draw for each group by its number, wherever it is evaluated."""
        device = next(self.network.parameters()).device
        seed = int(torch.randint(2**62, ()))
        before = torch_noise(device)

        def of_group(number: int) -> None:
            torch.manual_seed(seed + number)

        yield of_group
        torch_noise(device, before)

    @contextmanager
    def _statistics(self) -> Iterator[Callable[[float], None]]:
        """Running statistics move by the mean of what the groups would move them by, all from the same ones."""
        kept = [value.data for value in self.network.buffers() if self.network.training]  # backward passes hold them
        before = [value.clone() for value in kept]
        moved = [torch.zeros_like(value) for value in kept]

        def of_group(share: float) -> None:
            for value, old, sum_ in zip(kept, before, moved, strict=True):
                if value.is_floating_point():
                    sum_ += share * (value - old)
                else:
                    sum_.copy_(value - old)  # counts of batches
                value.copy_(old)

        yield of_group
        floating = [place for place, value in enumerate(kept) if value.is_floating_point()]
        if floating:
            for place, total in zip(floating, ranks.summed([moved[place] for place in floating]), strict=True):
                moved[place] = total
        for value, old, by in zip(kept, before, moved, strict=True):
            value.copy_(old + by)
