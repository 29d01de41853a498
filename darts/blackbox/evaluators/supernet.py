"""Values from shared weights: what a genotype's path through a supernet that was trained once is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darts.blackbox.evaluators.base import Context, Evaluator
from darts.run.checkpoint import fitting, newest_checkpoint
from darts.run.folder import read_config
from darts.run.parts import build_one
from darts.search.build import Network
from darts.search.compute import Compute
from darts.search.inherited import inherited
from darts.search.result import CONFIG_KEYS
from darts.tasks.build import build_task
from supernet.spaces.base import Genotype, require


class SupernetEvaluator(Evaluator):
    """The task's metric of a genotype with the weights of a `darts search` run, on the architecture part of that run's
    data (Single Path One-Shot, Guo et al. 2020, arXiv:1904.00420, section 3.3; weights of any relaxation will do).

    All seeds share the weights, and each run is charged for the images that trained them.

    Args:
        run: folder of the search; its last checkpoint is read.
        truth: see `Evaluator`.
    """

    slow = True

    def __init__(self, run: str, truth: str | None = "auto") -> None:
        super().__init__(truth)
        self.run = Path(run)

    def open(self, context: Context) -> None:
        space, option = context.space, "evaluator.run"
        require(space, ["supernet"], "evaluator=supernet", "; evaluator=train trains its networks")
        stored = read_config(self.run, "search", CONFIG_KEYS, option) | {"plugins": list(context.plugins)}
        theirs = build_one(stored, "space", context.plugins)
        if theirs != space:
            raise ValueError(f"run: {self.run} is of another space, {theirs.describe()}; choose that one with space=")
        path, content = newest_checkpoint(self.run, option)
        dataset = build_one(stored, "dataset", context.plugins)
        make_task = build_task(stored, dataset, stored["data"], f"{option}: data")
        self.task = make_task(seed=stored["seed"], device=context.device)
        options = Network(**stored["network"])
        network = space.supernet(self.task.network_size(options.channels, options.cells), options.batch_norm)
        with fitting(path):
            network.load_state_dict(content["state"]["network"])
            self.upfront, self.steps = content["state"]["images"], content["state"]["step"]
        self.compute, self.space = Compute(network.to(context.device), native=True), space
        self.network = f"C={options.channels}, N={options.cells}"

    def value(self, genotype: Genotype, epochs: int) -> float:
        return inherited(self.compute, self.space, self.task, genotype)

    def images(self, epochs: int) -> int:
        return self.task.sizes[1]

    def describe(self) -> dict[str, Any]:
        return {
            "name": "supernet",
            "signal": f"shared weights after {self.steps} steps, architecture part of {self.task.name}",
            "network": self.network,
        }
