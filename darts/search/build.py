"""From the settings of `darts search` to a search; all problems of a config are reported together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darts.run.devices import check_threads, choose_device
from darts.run.errors import UserError
from darts.run.memory import check_weights
from darts.run.parts import Problems, build_part, check_arguments
from darts.run.seeding import make_generator, set_determinism
from darts.run.settings import fixed
from darts.search.budget import Budget
from darts.search.compute import CHOICES, Compute
from darts.search.loop import Search
from darts.search.phases import Steps
from darts.search.state import SearchState
from darts.tasks.build import build_task
from darts.tasks.sizes import check_inputs
from darts.training.executors import check_address
from darts.training.groups import Groups
from supernet.shapes import of_shapes
from supernet.size import NetworkSize
from supernet.spaces.base import Space, require

PARTS = ("space", "dataset", "relaxation", "weight_step", "arch_step", "discretizer", "oracle")
SECTIONS = ("network", "data", "budget", "engine", "phases")


def check_sections(settings: Mapping[str, Any]) -> None:
    """Whether everything that a search needs is there, before its values are looked at.

    Raises:
        UserError: all that is not.
    """
    problems = [
        f"{name}: got {settings.get(name)!r}; "
        + (f"choose one, {name}=NAME" if name in PARTS else f"give {name}.KEY=VALUE")
        for name in (*PARTS, *SECTIONS)
        if not isinstance(settings.get(name), dict)
    ]
    for group in ("phases", "regularizer", "monitor"):
        nodes = settings.get(group)
        if isinstance(nodes, dict):
            problems += [f"{group}.{k}: got {v!r}; give its class" for k, v in nodes.items() if not isinstance(v, dict)]
        elif nodes and group != "phases":
            problems.append(f"{group}: got {nodes!r}; choose with {group}=[NAME,NAME]")
    plugins = settings.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(name, str) and name for name in plugins):
        problems.append(f"plugins: got {plugins!r}; give a list of packages, plugins=[NAME]")
    if problems:
        raise UserError("\n".join(problems))


@dataclass(frozen=True)
class Engine:
    """How the loop runs.

    Attributes:
        order: which half-step comes first.
        deterministic: deterministic algorithms, or the fastest.
        checkpoint_minutes: between checkpoints inside an epoch.
        checkpoints: how many are kept.
        retries, retry_rate: see `Search`.
        threads: of the CPU, or None for torch's choice.
        precision, recompute, native, compile, cuda_graphs: see `darts.search.compute.Compute`.
        groups: of a batch, see `darts.training.groups.Groups`.
    """

    order: str = "architecture_first"
    deterministic: bool = True
    checkpoint_minutes: float = 5.0
    checkpoints: int = 2
    retries: int = 0
    retry_rate: float = 0.5
    threads: int | None = None
    precision: str = "float32"
    recompute: str = "none"
    native: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    groups: int | None = None

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}: got {value!r}; allowed are {', '.join(allowed)}")


@dataclass(frozen=True)
class Network:
    """Size and statistics of the supernet.

    Attributes:
        channels, cells: see `supernet.size.NetworkSize`.
        batch_norm: ``batch`` or ``running`` statistics, see `supernet.norm`.
    """

    channels: int = 16
    cells: int = 1
    batch_norm: str = "batch"


def build_search(settings: Mapping[str, Any], run_dir: Path | None) -> Search:
    """The whole search that a config describes.

    Raises:
        UserError: all problems of the config, one a line.
    """
    check_sections(settings)
    problems = Problems()
    plugins, seed = settings["plugins"], settings.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        problems.lines.append(f"seed: got {seed!r}; give a whole number from 0 to 2^63 - 1")
        seed = 0
    built: dict[str, Any] = {}
    for name in PARTS:
        with problems.of(name):
            built[name] = build_part(settings[name], name, plugins)
            if name == "oracle":  # looked for, not opened, and forgotten here
                built.pop(name).check()
    if settings.get("early_stopping") is not None:
        with problems.of("early_stopping"):
            built["early_stopping"] = build_part(settings["early_stopping"], "early_stopping", plugins)
    for group in ("regularizer", "monitor", "phases"):
        built[group] = {}
        for name, node in (settings.get(group) or {}).items():
            with problems.of(f"{group}.{name}"):
                built[group][name] = build_part(node, f"{group}.{name}", plugins)
    for name, options in (("budget", Budget), ("engine", Engine)):
        with problems.of(name):
            check_arguments(options, settings[name], name)
            built[name] = options(**settings[name])
    device = torch.device("cpu")
    with problems.of("device"):
        device = choose_device(str(settings["device"]))
    engine = built.get("engine", Engine())
    with problems.of("engine"):
        built["steps"] = Steps(built.get("weight_step"), built.get("arch_step"), engine.order)  # type: ignore[arg-type]
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    set_determinism(engine.deterministic, engine.compile)
    space: Space | None = built.get("space")
    if space is not None:
        with problems.of("space"):
            require(space, ["supernet"], "darts search", "; darts baseline searches it")
        if "supernet" not in space.abilities:
            space = None
    if space is not None:
        for name, phase in built["phases"].items():
            with problems.of(f"phases.{name}"):
                require(space, phase.requires if phase.share else (), type(phase).__name__)
                if phase.share:
                    phase.check(space)
    active, relaxation = [phase for phase in built["phases"].values() if phase.share], built.get("relaxation")
    if relaxation is not None and active and not any(phase.chooses for phase in active):
        trained = relaxation.trains_architecture and any(phase.trains_architecture for phase in active)
        with problems.of("phases"):
            if not trained:
                why = f"{type(relaxation).__name__} trains weights alone" if not relaxation.trains_architecture else ""
                raise ValueError(
                    f"nothing would choose a cell, {why or 'no phase trains the architecture'}; "
                    "give phases.evolution.share=1, or another phase that judges cells"
                )
    if space is not None and "discretizer" in built:
        with problems.of("discretizer"):
            built["discretizer"](torch.zeros(space.architecture_shapes["alpha_EO"]), space)
    with problems.of("network"):
        check_arguments(Network, settings["network"], "network")
        built["network"] = Network(**settings["network"])
        if space is not None:
            network_of, size = space.supernet, built["network"]
            check_weights(
                lambda cells: of_shapes(lambda: network_of(NetworkSize(size.channels, cells), size.batch_norm)),
                size.channels, size.cells,
            )  # fmt: skip
    with problems.of("data"):
        if "dataset" in built:
            built["task"] = build_task(settings, built["dataset"], settings["data"], "data")(seed=seed, device=device)
    with problems.of():
        if space is not None and "task" in built:
            check_inputs(space, built["task"])
    problems.stop()

    assert space is not None
    torch.manual_seed(seed)  # for candidate operations that draw from torch's own generator
    task, options = built["task"], built["network"]
    size = task.network_size(options.channels, options.cells)
    network = space.supernet(size, options.batch_norm, make_generator(seed, "network")).to(device)
    with problems.of("engine"):
        compute = Compute(
            network, engine.precision, engine.recompute, engine.native, engine.compile, engine.cuda_graphs
        )
        groups = Groups(network, engine.groups)
        groups.check(task.batch_size)
        if groups.count > 1 and engine.cuda_graphs:
            raise ValueError(f"cuda_graphs: got true with {groups.count} groups a batch; give false")
    problems.stop()
    steps: Steps = built["steps"]
    with problems.of("arch_step"):
        built["state"] = SearchState(
            space, network, built["relaxation"], task, steps.weights.make_optimizer, steps.architecture.make_optimizer,
            list(built["regularizer"].values()), seed, compute, groups, plugins,
        )  # fmt: skip
    problems.stop()
    with problems.of("relaxation"):
        wanted = built["state"].expected_weights()
        asked = [
            name for name, on in (("partial", wanted.partial > 1), ("extra_skip", wanted.extra_skip is not None)) if on
        ]
        if lacking := [name for name in asked if name not in getattr(network, "passes_by", asked)]:
            raise ValueError(
                f"{type(relaxation).__name__} lets values go past the operations ({lacking[0]}), which the supernet of "
                f"{type(space).__name__} cannot; choose another"
            )
        if options.channels % (partial := built["state"].expected_weights().partial):
            raise ValueError(f"it splits channels by {partial}; give a divisor of network.channels={options.channels}")
    for name, phase in built["phases"].items():
        with problems.of(f"phases.{name}"):
            if phase.share:
                phase.fits(built["state"])
    with problems.of("engine"):
        built["search"] = Search(
            built["state"], steps, built["phases"], built["discretizer"], built["budget"],
            list(built["monitor"].values()), run_dir, engine.checkpoint_minutes, built.get("early_stopping"),
            fixed(settings) | {f"data {name}": value for name, value in task.identity.items()},
            engine.checkpoints, engine.retries, engine.retry_rate,
        )  # fmt: skip
    problems.stop()
    search: Search = built["search"]
    with problems.of("budget"):
        search.check_budget()
    problems.stop()
    return search


def ready_search(settings: Mapping[str, Any], run_dir: Path | None) -> Search:
    """The same, of a search that is to run here and now.

    Raises:
        UserError: all problems of the config, one a line; or what it runs on is not there.
    """
    search, problems, address = build_search(settings, run_dir), Problems(), settings.get("ray_address")
    phases = search.schedule.phases
    with problems.of():
        check_address(address, [phase.executor for phase in phases.values()])
    for name, phase in phases.items():
        with problems.of(f"phases.{name}"):
            phase.reach(search.state, address)
    problems.stop()
    return search
