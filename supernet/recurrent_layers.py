"""Networks of recurrent layers, and a mixture of all kinds, depths and widths with shared weights.

Shape suffixes: B batch, L steps, C columns, H numbers of the widest state, K targets, E genes, O values of all genes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.alike import take_alike
from supernet.genomes import GENES, RecurrentGenome
from supernet.relaxations.base import EdgeWeights
from supernet.size import NetworkSize

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def activated(name: str, x_BH: Tensor) -> Tensor:
    """By name."""
    return x_BH.tanh() if name == "tanh" else x_BH.relu() if name == "relu" else x_BH


def drawn(network: nn.Module, generator: torch.Generator | None) -> None:
    """Uniform weights within one over the root of what they sum over, and biases of zero, but 1 for an LSTM's gate that
    forgets (Jozefowicz et al. 2015)."""
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
        else:
            bound = parameter.shape[1] ** -0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        if "bias_ih" in name and "lstm" in name:
            width = len(parameter) // GATES["lstm"]
            with torch.no_grad():
                parameter[width : 2 * width] = 1


class LayersNetwork(nn.Module):
    """Of one genome; `forward` takes series (B, L, C).

    Args:
        genome: kind, layers, width, dropout, activation.
        size: C in_channels and K num_classes; its channels and cells say nothing here.
    """

    def __init__(self, genome: RecurrentGenome, size: NetworkSize) -> None:
        super().__init__()
        self.genome = genome
        widths = [size.in_channels] + [genome.width] * genome.layers
        kind = LAYERS[genome.kind]
        self.layers = nn.ModuleDict(
            {
                f"{genome.kind}{place}": kind(a, b, batch_first=True)
                for place, (a, b) in enumerate(itertools.pairwise(widths))
            }
        )
        self.dropout = nn.Dropout(genome.dropout)
        self.classifier = nn.Linear(genome.width, size.num_classes)

    def init_weights(self, generator: torch.Generator | None) -> None:
        """See `drawn`."""
        drawn(self, generator)

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Answers (B, K) after all steps."""
        for layer in self.layers.values():
            x_BLC = self.dropout(layer(x_BLC)[0])
        answer_BK: Tensor = self.classifier(activated(self.genome.activation, x_BLC[:, -1]))
        return answer_BK

    def inherit(self, parent: nn.Module) -> None:
        """Copy the tensors of another network that have the same name and shape here."""
        take_alike(self, parent)


class LayersSuperNet(nn.Module):
    """The mixture: the answers of all kinds, each the mixture of what its layers give; widths share the first numbers
    of the widest state, which a weighted mask leaves or takes away.

    Args:
        values: of every gene, in the order of their architecture parameters.
        size: C in_channels and K num_classes.
        generator: source of the initial weights; torch's global one if None.
    """

    num_cells = 1
    passes_by: tuple[str, ...] = ()  # what of `EdgeWeights` goes past operations here
    batch_norm = None

    def __init__(
        self, values: Mapping[str, Sequence[Any]], size: NetworkSize, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.values, self.network_size = values, size
        widest, deepest = max(values["width"]), max(values["layers"])
        widths = [size.in_channels] + [widest] * deepest
        self.layers = nn.ModuleDict()
        for kind in values["kind"]:
            for place, (a, b) in enumerate(itertools.pairwise(widths)):
                self.layers[f"{kind}{place}"] = LAYERS[kind](a, b)
        self.classifiers = nn.ModuleDict({kind: nn.Linear(widest, size.num_classes) for kind in values["kind"]})
        drawn(self, generator)

    def forward(self, x_BLC: Tensor, edge_weights: EdgeWeights) -> Tensor:
        """Answers (B, K) of the mixture.

        Raises:
            ValueError: extra skips or partial channels, which have no meaning here.
        """
        mine = edge_weights.of_only_cell("recurrent networks")
        shares: dict[str, list[tuple[Any, Tensor]]] = {}
        start = 0
        for gene, row, active in zip(GENES, mine.weights, mine.active_EO, strict=True):
            values = enumerate(self.values[gene], start)
            shares[gene] = [(value, row[place]) for place, value in values if active[place]]
            start += len(self.values[gene])
        steps_H = torch.arange(max(self.values["width"]), device=x_BLC.device)
        mask_H = mixture(shares["width"], lambda width: (steps_H < width).to(x_BLC.dtype))
        deepest = max(layers for layers, _ in shares["layers"])

        def answer(kind: str) -> Tensor:
            depths, values_LBC = [], x_BLC.transpose(0, 1)
            for place in range(deepest):
                found_LBH = masked(self.layers[f"{kind}{place}"], values_LBC, mask_H, kind)  # type: ignore[arg-type]
                values_LBC = mixture(shares["dropout"], partial(F.dropout, found_LBH, training=self.training))
                depths.append(values_LBC[-1])
            last_BH = mixture(shares["layers"], lambda layers: depths[layers - 1])
            features_BH = mixture(shares["activation"], lambda name: activated(name, last_BH))
            answer_BK: Tensor = self.classifiers[kind](features_BH)
            return answer_BK

        return mixture(shares["kind"], answer)

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Nothing: narrow states leave rows of a gradient of zero behind, which weight decay alone moves."""
        return []

    def inherit(self, genotype: RecurrentGenome) -> LayersNetwork:
        """The network of one genome with a copy of the first rows and columns of the weights."""
        network = LayersNetwork(genotype, self.network_size).to(next(self.parameters()))
        with torch.no_grad():
            for name, layer in network.layers.items():
                for part, own in layer.named_parameters():
                    whole: Tensor = getattr(self.layers[name], part)
                    gates = GATES[genotype.kind]
                    rows = whole.unflatten(0, (gates, -1))[:, : genotype.width]
                    kept = rows if own.dim() == 1 else rows[:, :, : own.shape[1]]
                    own.copy_(kept.reshape(own.shape))
            classifier: nn.Linear = self.classifiers[genotype.kind]  # type: ignore[assignment]
            network.classifier.weight.copy_(classifier.weight[:, : genotype.width])
            network.classifier.bias.copy_(classifier.bias)
        return network.train(self.training)


def mixture(shares: Sequence[tuple[Any, Tensor]], of: Callable[[Any], Tensor]) -> Tensor:
    """The weighted sum of what a function makes of each value."""
    return torch.stack([weight * of(value) for value, weight in shares]).sum(dim=0)


def masked(layer: nn.RNNBase, x_LBC: Tensor, mask_H: Tensor, kind: str) -> Tensor:
    """A layer whose state is multiplied by a mask after every step, (L, B, H)."""
    w_ih, w_hh, b_ih, b_hh = (getattr(layer, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    inputs_LBG = F.linear(x_LBC, w_ih, b_ih)
    state_BH = x_LBC.new_zeros(x_LBC.shape[1], layer.hidden_size)
    memory_BH, found = state_BH, []
    for input_BG in inputs_LBG.unbind(0):
        own_BG = F.linear(state_BH, w_hh, b_hh)
        if kind == "rnn":
            state_BH = (input_BG + own_BG).tanh()
        elif kind == "gru":
            (ir, iz, inew), (hr, hz, hnew) = input_BG.chunk(3, -1), own_BG.chunk(3, -1)
            update_BH = (iz + hz).sigmoid()
            new_BH = (inew + (ir + hr).sigmoid() * hnew).tanh()
            state_BH = new_BH + update_BH * (state_BH - new_BH)
        else:
            i, f, g, o = (input_BG + own_BG).chunk(4, -1)
            memory_BH = mask_H * (f.sigmoid() * memory_BH + i.sigmoid() * g.tanh())
            state_BH = o.sigmoid() * memory_BH.tanh()
        state_BH = mask_H * state_BH
        found.append(state_BH)
    return torch.stack(found)
