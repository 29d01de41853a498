"""Values from shared weights: a cell's accuracy in a supernet that was trained once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from darts.checkpoint import checkpoint_path, load_checkpoint
from darts.compute import Compute
from darts.datasets.base import Dataset
from darts.devices import choose_device
from darts.evaluators.base import Evaluator
from darts.oracle.base import Table
from darts.parts import build_part
from darts.run_folder import read_config
from darts.task import Classification
from supernet.genotype import Genotype
from supernet.network import SuperNet
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights
from supernet.search_space import SearchSpace


class SupernetEvaluator(Evaluator):
    """Accuracy (%) of a cell with the weights of a `darts search` run, on the architecture part of that run's images
    (Single Path One-Shot, Guo et al. 2020, arXiv:1904.00420, section 3.3; weights of any relaxation will do).

    Every batch is normalised with its own statistics, whatever the run did: running ones are of no single cell. All
    seeds share the weights, and each run is charged for the images that trained them.

    Args:
        run: folder of the search; its last checkpoint is read.
        truth: see `Evaluator`.
    """

    slow = True

    def __init__(self, run: str, truth: str | None = "auto") -> None:
        super().__init__(truth)
        self.run = Path(run)

    def open(self, space: SearchSpace, table: Table | None, dataset: Dataset) -> None:
        stored = read_config(self.run, "evaluator.run", "search")
        theirs = {name: stored["space"][name] for name in ("num_nodes", "operations")}
        if theirs != space.describe():
            raise ValueError(f"run: {self.run} is of another space, {theirs}; choose that one with space=")
        content = load_checkpoint(checkpoint_path(self.run), "evaluator.run")
        device = choose_device("auto")
        self.images_of = build_part(stored["dataset"], "evaluator.run: dataset")
        self.task = Classification(self.images_of, **stored["data"], seed=stored["seed"], device=device)
        network = SuperNet(
            space, **stored["network"], num_classes=self.task.num_classes, in_channels=self.task.in_channels
        ).to(device)
        network.load_state_dict(content["state"]["network"])
        self.compute, self.device, self.space = Compute(network, native=True), device, space
        self.upfront, self.steps = content["state"]["images"], content["state"]["step"]

    def value(self, genotype: Genotype, epochs: int) -> float:
        path = EdgeWeights.one_hot(list(self.space.decisions(genotype)), len(self.space.operations)).to(self.device)
        network = self.compute.network.train()
        with torch.no_grad(), held_statistics(network):
            correct = [
                self.task.correct(self.compute.logits(images_BCHW, path), labels_B)
                for images_BCHW, labels_B in self.task.evaluation_batches()
            ]
        return 100 * float(torch.stack(correct).sum()) / self.task.sizes[1]

    def images(self, epochs: int) -> int:
        return self.task.sizes[1]

    def describe(self) -> dict[str, Any]:
        network = self.compute.network
        return {
            "name": "supernet",
            "signal": f"shared weights after {self.steps} steps, architecture part of {self.images_of.name}",
            "network": f"C={network.channels}, N={network.cells}",
        }
