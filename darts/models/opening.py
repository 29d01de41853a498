"""A trained network by the folder of the run that made it, or by its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from darts.models.formats.safetensors import read_safetensors
from darts.run.errors import UserError
from darts.run.folder import read_config, resuming
from darts.search.build import build_search
from darts.search.result import SearchResult
from darts.search.state import SearchState
from darts.training.fit import evaluate
from darts.training.model import About, Model, judged_by, load_model, model_path, sizes_of
from supernet.operations import NormalisedPool

WEIGHTS = {"last": "model.pt", "best": "best.pt"}
CALIBRATION = 50  # batches, at most


def open_model(path: Path, option: str, weights: str = "last", plugins: Sequence[str] = ()) -> Model:
    """A network with its weights, on the CPU.

    Args:
        path: folder of a retraining or of a search, or a .safetensors or .pt file.
        option: what the user gave, for messages.
        weights: of a retraining: ``last``, which were judged, or ``best`` by the images that were held out.
        plugins: packages with parts of the user's own.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights: got {weights!r}; allowed are {', '.join(WEIGHTS)}")
    if path.is_file():
        if path.suffix == ".safetensors":
            return read_safetensors(path, option, plugins)
        if path.suffix != ".pt":
            raise UserError(
                f"{option}: got {path}; give the folder of a run, or a .safetensors file; darts predict takes .onnx too"
            )
        return load_model(path, option, plugins)
    if not path.exists():
        raise UserError(f"{option}: there is no {path}; give the folder of a run, or a file of a model")
    stored = read_config(path, "retrain or darts search", ("space", "network", "data"), option)
    if "recipe" not in stored:
        return inherited_model(path, stored, plugins)
    file = model_path(path).with_name(WEIGHTS[weights])
    if not file.is_file():
        mend = (
            f"finish it with: {resuming(path, 'retrain')}"
            if weights == "last"
            else "nothing was held out to choose by; give weights=last, or retrain with data.held_out=0.1"
        )
        raise UserError(f"{option}: {path} holds no {file.name}; {mend}")
    return load_model(file, option, plugins)


def inherited_model(folder: Path, stored: dict[str, Any], plugins: Sequence[str] = ()) -> Model:
    """The cell of a finished search with the supernet's weights; see `with_statistics`.

    Raises:
        UserError: no finished search, or its data are not what they were.
    """
    result = SearchResult.read(folder / "result.json")
    search = build_search(stored | {"plugins": list(plugins), "device": "cpu", "monitor": {}}, folder)
    search.resume()
    state = search.state
    if not hasattr(state.network, "inherit"):
        raise UserError(
            f"run: the supernet of {folder} gives no networks of single cells; darts retrain run={folder} does"
        )
    genotype = state.space.parse(result.cell)
    options = stored["network"]
    size = state.task.network_size(options["channels"], options["cells"])
    inherited: nn.Module = state.network.inherit(genotype)  # type: ignore[operator]
    if any(isinstance(module, NormalisedPool) for module in inherited.modules()):
        raise UserError(
            f"run: the search of {folder} normalised poolings, which networks of this space do not, so its weights "
            f"are of no use to one; train it: darts retrain run={folder}"
        )
    network = state.space.network(genotype, size)
    with_statistics(network, inherited, state)
    images = f"the architecture part of {state.task.name}"
    judged = judged_by(state.task.metric, evaluate(network, state.task), images)
    about = About(
        result.cell, stored["space"], sizes_of(size), "inherited from the supernet of a search", state.task.name,
        state.task.inputs(), judged, state.task.takes,
    )  # fmt: skip
    return Model(network.eval(), about, state.space, genotype)


@torch.no_grad()
def with_statistics(network: nn.Module, inherited: nn.Module, state: SearchState) -> None:
    """Give a network of running statistics the weights of one that may have none, and the statistics of one epoch of
    the weights' part: the mean over at most so many batches (Guo et al. 2020, arXiv:1904.00420, section 3.4).

    Scales and shifts that the inherited network does not have are 1 and 0.
    """
    network.load_state_dict(inherited.state_dict(), strict=False)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    network.train()
    for _ in range(min(CALIBRATION, state.task.steps_per_epoch)):
        network(state.task.train.next()[0])
    network.eval()
