"""All chains of a space in one network: every block holds all of its candidates.

Shape suffixes: E blocks, O candidates, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from supernet.chain import ChainPlan
from supernet.genomes import Blocks
from supernet.mobile_network import Chain, MobileNetwork, block
from supernet.norm import norm_factory
from supernet.relaxations.base import EdgeWeights, seeded
from supernet.size import NetworkSize
from supernet.skeleton import init_weights


class MobileSuperNet(Chain):
    """A chain whose every block is a weighted sum of all candidates.

    Args:
        operations: names of the candidates, the first is ``skip``.
        plan: the chain.
        size: inputs and classes.
        batch_norm: ``batch`` or ``running`` statistics, see `supernet.norm`.
        generator: source of the initial weights; torch's global one if None.
    """

    num_cells = 1
    passes_by: tuple[str, ...] = ()  # what of `EdgeWeights` goes past operations here

    def __init__(
        self, operations: Sequence[str], plan: ChainPlan, size: NetworkSize, batch_norm: str = "batch",
        generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        norm = norm_factory(batch_norm, affine=False)
        with seeded(generator) if generator is not None else nullcontext():
            super().__init__(plan, size, norm)
            self.blocks = nn.ModuleList()
            for place in plan.places:
                names = [name for name in operations if name != "skip" or place.residual]
                self.blocks.append(nn.ModuleDict({n: block(n, place, norm, plan.stabilised) for n in names}))
        self.operations, self.network_size, self.batch_norm = tuple(operations), size, batch_norm
        init_weights(self, generator)
        self.to(memory_format=torch.channels_last)

    def forward(self, x_BCHW: Tensor, edge_weights: EdgeWeights) -> Tensor:
        """Logits (B, K) of the mixture.

        Raises:
            ValueError: extra skips or partial channels, which have no meaning here.
        """
        mine, x_BCHW = edge_weights.of_only_cell("chains"), self.begun(x_BCHW)
        for candidates, weights_O, active_O in zip(self.blocks, mine.weights, mine.active_EO, strict=True):
            terms = [
                weight * candidates[name](x_BCHW)  # type: ignore[index, operator]
                for name, weight, active in zip(self.operations, weights_O, active_O, strict=True)
                if active and name in candidates  # type: ignore[operator]
            ]
            x_BCHW = terms[0] if len(terms) == 1 else torch.stack(terms).sum(dim=0)
        return self.ended(x_BCHW)

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Nothing: candidates share no tensors."""
        return []

    def inherit(self, genotype: Blocks) -> MobileNetwork:
        """The network of one genotype with a copy of the weights, and this network's normalisation."""
        network = MobileNetwork(genotype, self.plan, self.network_size, self.batch_norm, affine=False)
        network.to(self.classifier.weight)
        for name in ("stem", "first", "head", "classifier"):
            getattr(network, name).load_state_dict(getattr(self, name).state_dict())
        for mine, theirs, chosen in zip(self.blocks, network.blocks, genotype.names, strict=True):
            theirs.load_state_dict(mine[chosen].state_dict())  # type: ignore[index, union-attr]
        return network.train(self.training)
