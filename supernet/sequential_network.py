"""The network of a genome: convolutions with batch normalisation one after the other, and two fully connected layers.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from supernet.alike import take_alike
from supernet.convolution import convolution
from supernet.genomes import Genome
from supernet.norm import norm_factory
from supernet.size import NetworkSize

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "swish": nn.SiLU, "gelu": nn.GELU}
HIDDEN = 64


class SequentialNetwork(nn.Module):
    """Layer after layer of a genome.

    Args:
        genome: the layers.
        size: inputs and classes; its channels and cells say nothing here.
        batch_norm: see `supernet.norm`.

    Raises:
        ValueError: images of which two reductions leave less than a pixel.
    """

    def __init__(self, genome: Genome, size: NetworkSize, batch_norm: str = "running") -> None:
        super().__init__()
        if size.image_size < 4:
            raise ValueError(f"image_size: got {size.image_size}; two reductions need 4 pixels, give 4 or more")
        self.genome, norm = genome, norm_factory(batch_norm, affine=True)
        channels, layers = size.in_channels, []
        for layer in genome.layers:
            stride = 2 if layer.reduces else 1
            made = convolution(channels, layer.filters, layer.kernel, stride)
            layers.append(nn.Sequential(made, norm(layer.filters), ACTIVATIONS[layer.activation]()))
            channels = layer.filters
        self.layers = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels, HIDDEN)
        self.classifier = nn.Linear(HIDDEN, size.num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.classifier(self.hidden(self.layers(x_BCHW).mean(dim=(2, 3))).relu())

    def inherit(self, parent: nn.Module) -> None:
        """Copy the tensors of another network that have the same place and shape here."""
        take_alike(self, parent)
