"""A trained network and what has to be known to use it; its file holds both, as tensors and plain values.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts.run.checkpoint import load_checkpoint, save_checkpoint
from darts.run.errors import UserError, reason
from darts.run.parts import build_part
from darts.run.typed import check_plain, check_types
from darts.tasks.base import Metric
from darts.tasks.batches import Normalizer
from darts.tasks.sizes import check_network
from supernet.shapes import of_shapes
from supernet.size import NetworkSize
from supernet.spaces.base import Genotype, Space

MODEL = "model.pt"
TRAINING_ALONE = "auxiliary."
LARGEST = 2**13  # side of an image, which is what the largest that is decoded has


def model_path(run_dir: Path) -> Path:
    """Where a retraining keeps the network that was judged."""
    return run_dir / "checkpoints" / MODEL


@dataclass(frozen=True)
class About:
    """Of a network, beside its weights; every file of a model holds it as plain values.

    Attributes:
        cell, space: of the network; the space as a config has it.
        size: `NetworkSize`, by name.
        origin: of the weights, in words.
        trained_on: the data.
        inputs: see `darts.tasks.base.Task.inputs`.
        judged: {name, unit, value, on} of the metric that the network was judged by; None if it was not.
        takes: what its inputs are, see `supernet.spaces.base.Space`.
    """

    cell: str
    space: Mapping[str, Any]
    size: Mapping[str, int]
    origin: str
    trained_on: str
    inputs: Mapping[str, Any]
    judged: Mapping[str, Any] | None = None
    takes: str = "images"

    @classmethod
    def read(cls, content: object, path: Path, option: str) -> About:
        """From plain values of a file.

        Raises:
            UserError: they are something else.
        """
        try:
            if not isinstance(content, Mapping):
                raise TypeError("it says nothing of itself")
            check_plain(content)
            found = cls(**content)
            found.check()
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{option}: {path} is no model of this program ({reason(error)}); give one of its"
            ) from None
        return found

    def check(self) -> None:
        """Refuse values of other kinds than they should be.

        Raises:
            TypeError, ValueError, KeyError, AttributeError, OverflowError: they are.
        """
        check_types(self, About, "about")
        NetworkSize(**self.size)
        for name, number in self.size.items():
            if type(number) is not int or number < 1:
                raise ValueError(f"size, {name}: {number!r}")
        if self.takes not in ("images", "series"):
            raise ValueError(f"takes: {self.takes!r}")
        if not self.inputs:
            return
        if self.takes == "series":
            self._check_series()
            return
        classes, side = self.inputs["classes"], self.inputs["decoded_size"]
        if len(classes) != self.size["num_classes"] or not all(isinstance(name, str) for name in classes):
            raise ValueError("classes")
        if type(side) is not int or not 1 <= side <= LARGEST:
            raise ValueError(f"decoded_size: {side!r}")
        for name, least in (("mean", -math.inf), ("deviation", 0.0)):
            values = [float(value) for value in self.inputs[name]]
            if len(values) != self.size["in_channels"] or not all(least < value < math.inf for value in values):
                raise ValueError(name)

    def _check_series(self) -> None:
        columns, targets = list(self.inputs["columns"]), list(self.inputs["targets"])
        if len(columns) != self.size["in_channels"] or not all(isinstance(name, str) for name in columns):
            raise ValueError("columns")
        if len(targets) != self.size["num_classes"] or not set(targets) <= set(columns):
            raise ValueError("targets")
        horizon = self.inputs["horizon"]
        if self.inputs["window"] != self.size["image_size"] or type(horizon) is not int or horizon < 1:
            raise ValueError("window, horizon")
        for name, least in (("mean", -math.inf), ("deviation", 0.0)):
            values = [float(value) for value in self.inputs[name]]
            if len(values) != len(columns) or not all(least < value < math.inf for value in values):
                raise ValueError(name)

    def input_shape(self, batch: int) -> tuple[int, ...]:
        """Of a batch of inputs."""
        return self.network_size.input_shape(self.takes, batch)

    def stored(self) -> dict[str, Any]:
        """As `read` takes it."""
        return asdict(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a classifier."""
        return tuple(self.inputs["classes"])

    @property
    def network_size(self) -> NetworkSize:
        """Of the network."""
        return NetworkSize(**self.size)

    def check_classifier(self, who: str) -> None:
        """Refuse what does not answer with classes of images.

        Raises:
            UserError: it does not.
        """
        if not self.inputs or self.takes != "images":
            raise UserError(f"model: {who} needs a classifier of images; this model is of {self.trained_on}")

    def normalizer(self, device: torch.device) -> Normalizer:
        """From bytes to what the network takes."""
        mean_C, deviation_C = (torch.tensor(self.inputs[name]) for name in ("mean", "deviation"))
        return Normalizer(mean_C, deviation_C, device)


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, on the CPU, with what has to be known of it."""

    network: nn.Module
    about: About
    space: Space
    genotype: Genotype

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Probabilities (B, K) of images as bytes."""
        device = next(self.network.parameters()).device
        logits_BK: Tensor = self.network(self.about.normalizer(device)(images_BCHW.to(device)))
        return logits_BK.softmax(dim=1)


def save_model(path: Path, network: nn.Module, about: About) -> None:
    """Write weights and what has to be known of them; a second classifier served the training alone."""
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith(TRAINING_ALONE)
    }
    save_checkpoint(path, {"about": about.stored(), "weights": weights})


def load_model(path: Path, option: str, plugins: Sequence[str] = ()) -> Model:
    """Read what `save_model` wrote; nothing in the file is executed.

    Args:
        path: the file.
        option: what the user gave, for messages.
        plugins: packages with parts of the user's own.

    Raises:
        UserError: no file, a broken or foreign one, or weights that do not fit.
    """
    content = load_checkpoint(path, option)
    return assembled(content.get("about"), content.get("weights"), path, option, plugins)


def assembled(about: object, weights: object, path: Path, option: str, plugins: Sequence[str] = ()) -> Model:
    """A model from the two things that a file holds.

    Raises:
        UserError: they do not fit each other, or are something else.
    """
    known = About.read(about, path, option)
    size = known.network_size
    try:
        space: Space = build_part(known.space, "space", plugins)
        genotype = space.parse(known.cell)
        check_network(space, size.channels, size.cells, genotype)
        check_fit(of_shapes(lambda: space.network(genotype, size)), weights, path, option)  # before memory is taken
        network = space.network(genotype, size)
    except ValueError as error:
        raise UserError(f"{option}: {path} describes no network ({reason(error)}); give an intact file") from None
    network.load_state_dict(check_fit(network, weights, path, option))
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(network, known, space, genotype)


def check_fit(network: nn.Module, weights: object, path: Path, option: str) -> dict[str, Tensor]:
    """The weights of a file, if they are a network's.

    Raises:
        UserError: names or shapes that are not; the first few are named.
    """
    own = network.state_dict()
    given = weights if isinstance(weights, Mapping) else {}
    odd = [f"{name} is missing" for name in own if not isinstance(given.get(name), Tensor)]
    odd += [f"{name} is unknown" for name in given if name not in own]
    odd += [
        f"{name} has the shape {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if isinstance(given.get(name), Tensor) and given[name].shape != own[name].shape
    ]
    if odd:
        more = f"; and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise UserError(
            f"{option}: the weights in {path} do not fit the network that it describes ({'; '.join(odd[:3])}{more}); "
            "give an intact file"
        )
    return dict(given)


def judged_by(metric: Metric, value: float, images: str) -> dict[str, Any]:
    """As `About` holds a judgement."""
    return {"name": metric.name, "unit": metric.unit, "value": value, "on": images}


def sizes_of(size: NetworkSize) -> dict[str, int]:
    """As `About` holds a size."""
    return asdict(size)
