"""From the settings of `darts retrain` to a training; all problems of a config are reported together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from darts.run.checkpoint import check_kept, check_retries
from darts.run.devices import check_threads, choose_device, fast_at_bfloat16
from darts.run.errors import UserError
from darts.run.parts import Problems, build_part, check_arguments
from darts.run.seeding import make_generator, set_determinism
from darts.run.settings import fixed
from darts.tasks.base import Task
from darts.tasks.build import build_task
from darts.tasks.datasets.base import Source
from darts.tasks.final import final_parts
from darts.tasks.sizes import check_inputs, check_network
from darts.training.fit import initialised
from darts.training.model import Model
from darts.training.plan import Plan
from darts.training.recipe import Recipe
from darts.training.result import SCRATCH
from darts.training.retraining import Retraining
from darts.training.transfer import take_over
from darts.training.watchers import ConsoleWatcher, TensorBoardWatcher
from supernet.spaces.base import Genotype, Space

PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class Engine:
    """How a retraining runs.

    Attributes:
        deterministic: deterministic algorithms, or the fastest.
        checkpoint_minutes: between checkpoints inside an epoch.
        checkpoints: how many are kept.
        retries, retry_rate: see `Plan`.
        threads: of the CPU, or None for torch's choice.
        groups: of a batch, see `darts.training.groups.Groups`.
        precision: float32 or bfloat16 of training steps; ``auto`` takes bfloat16 where the device is fast at it.
    """

    deterministic: bool = True
    checkpoint_minutes: float = 5.0
    checkpoints: int = 2
    retries: int = 0
    retry_rate: float = 0.5
    threads: int | None = None
    precision: str = "float32"
    groups: int | None = None

    def __post_init__(self) -> None:
        check_threads(self.threads)
        check_kept(self.checkpoints)
        check_retries(self.retries, self.retry_rate)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: got {self.precision!r}; allowed are {', '.join(PRECISIONS)}")
        if not self.checkpoint_minutes >= 0:
            raise ValueError(f"checkpoint_minutes: got {self.checkpoint_minutes}; give 0 (every step) or more")


@dataclass(frozen=True)
class Network:
    """Size of the network: channels of the first stage, cells a stage."""

    channels: int = 16
    cells: int = 5

    def __post_init__(self) -> None:
        for name, number in (("channels", self.channels), ("cells", self.cells)):
            if number < 1:
                raise ValueError(f"{name}: got {number}; give 1 or more")


def carries_signal(space: Space, genotype: Genotype) -> bool:
    """Whether anything of an image reaches the classifier; of spaces without wiring, or whose genotypes
    leave edges out, it is taken for granted."""
    if "supernet" not in space.abilities or not space.every_edge:
        return True
    path, place = space.path(genotype), 0
    for cell in space.cells.values():
        own = path[place : place + len(cell.edges)]
        place += len(cell.edges)
        used_E = [cell.candidates[choice] != "none" for choice in own]
        if not any(used and live for used, live in zip(used_E, cell.live(used_E), strict=True)):
            return False
    return True


class Tasks(NamedTuple):
    """The data of a training, and those of its judgement; see `darts.training.retraining.Plan`."""

    task: Task
    final: Task
    watches: bool
    judged_on: str


def tasks_of(settings: Mapping[str, Any], dataset: Source, seed: int, device: torch.device) -> Tasks:
    """What `darts retrain` trains and judges on.

    Raises:
        UserError, ValueError: data that cannot be read, or options that do not fit.
    """
    data = dict(settings["data"])
    parts = final_parts(dataset, data.pop("held_out", None))
    options: dict[str, Any] = {"seed": seed, "device": device}
    task = final = build_task(settings, parts.on_the_way(), data, "data")(**options)
    if parts.watches:
        final = build_task(settings, parts.at_the_end(), data, "data")(**options)
    return Tasks(task, final, parts.watches, parts.judged_on)


def build_retraining(settings: Mapping[str, Any], run_dir: Path, start: Model | None = None) -> Retraining:
    """The whole training that a config describes.

    Args:
        settings: of `darts retrain`.
        run_dir: where checkpoints go.
        start: a network whose weights it begins with.

    Raises:
        UserError: all problems of the config, one a line.
    """
    problems, built = Problems(), dict[str, Any]()
    plugins, seed = settings["plugins"], settings["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        problems.lines.append(f"seed: got {seed!r}; give a whole number from 0 to 2^63 - 1")
        seed = 0
    for name in ("space", "dataset"):
        with problems.of(name):
            built[name] = build_part(settings[name], name, plugins)
    for name, kind in (("network", Network), ("engine", Engine), ("recipe", Recipe)):
        with problems.of(name):
            check_arguments(kind, settings[name], name)
            built[name] = kind(**settings[name])
    with problems.of():
        built["device"] = choose_device(str(settings["device"]))
    if "space" in built:
        with problems.of():
            if not isinstance(settings["cell"], str):
                raise ValueError("cell: none was given; give cell='...', or run=RUN_DIR of a search")
            try:
                built["genotype"] = built["space"].parse(settings["cell"])
            except ValueError as error:
                raise ValueError(f"cell: {error}") from None
            if not settings["force"] and not carries_signal(built["space"], built["genotype"]):
                raise ValueError(
                    f"cell: got {settings['cell']}; nothing of an image reaches its output, so it can only learn how "
                    "often each class occurs; give another one, or force=true to train it all the same"
                )
    if "genotype" in built and "network" in built:
        with problems.of("network"):
            space, genotype, network = built["space"], built["genotype"], built["network"]
            check_network(space, network.channels, network.cells, genotype)
    problems.stop()
    engine: Engine = built["engine"]
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    set_determinism(engine.deterministic)
    with problems.of("data"):
        built["tasks"] = tasks_of(settings, built["dataset"], seed, built["device"])
    with problems.of():
        if "tasks" in built:
            check_inputs(built["space"], built["tasks"].task)
    problems.stop()
    torch.manual_seed(seed)
    tasks: Tasks = built["tasks"]
    task = tasks.task
    size = task.network_size(network.channels, network.cells)
    made = space.network(genotype, size)
    with problems.of("recipe"):
        built["recipe"].prepare(made)
    problems.stop()
    initialised(made, make_generator(seed, "initial weights"))
    backbone, origin = frozenset[str](), SCRATCH
    if start is not None:
        backbone = take_over(made, start.network)
        if not backbone & {name for name, _ in made.named_parameters()}:
            raise UserError(
                f"init: nothing of its network ({start.about.network_size}) fits into this one ({size}); leave out "
                "network.channels, or give that of the other one"
            )
        origin = f"began with {len(backbone)} of {len(made.state_dict())} tensors {start.about.origin}"
    made.to(built["device"]).to(memory_format=torch.channels_last)
    identity = fixed(settings) | {f"data {name}": value for name, value in tasks.final.identity.items()}
    plan = Plan(
        space, genotype, size, task, tasks.final, tasks.watches, tasks.judged_on,
        built["recipe"], seed, identity, settings["space"], origin,
        engine.precision == "bfloat16" or (engine.precision == "auto" and fast_at_bfloat16(built["device"])),
        engine.checkpoint_minutes,
        engine.checkpoints,
        engine.retries,
        engine.retry_rate,
        engine.groups,
    )  # fmt: skip
    if task.steps_per_epoch < 1:
        raise UserError("data.batch_size: an epoch has no full batch; give a smaller one")
    with problems.of("engine"):
        built["training"] = Retraining(plan, made, run_dir, [ConsoleWatcher(), TensorBoardWatcher()], backbone)
    problems.stop()
    training: Retraining = built["training"]
    return training
