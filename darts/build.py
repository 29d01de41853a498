"""From the settings of `darts search` to a search; all problems of a config are reported together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darts.budget import Budget
from darts.compute import CHOICES, Compute
from darts.devices import choose_device
from darts.errors import UserError
from darts.oracle.base import Oracle
from darts.parts import Problems, build_part, check_arguments
from darts.phases import Steps
from darts.search_loop import Search
from darts.seeding import make_generator, set_determinism
from darts.state import SearchState
from darts.task import Classification
from supernet.network import SuperNet

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
        threads: of the CPU, or None for torch's choice.
        precision, recompute, native, compile, cuda_graphs: see `darts.compute.Compute`.
    """

    order: str = "architecture_first"
    deterministic: bool = True
    checkpoint_minutes: float = 5.0
    threads: int | None = None
    precision: str = "float32"
    recompute: str = "none"
    native: bool = True
    compile: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads: got {self.threads}; give 1 or more, or null")
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}: got {value!r}; allowed are {', '.join(allowed)}")


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
            if isinstance(built[name], Oracle):
                built[name].check()
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
    set_determinism(engine.deterministic)
    if "space" in built:
        with problems.of("discretizer"):
            if "discretizer" in built:
                shape = (len(built["space"].edges), len(built["space"].operations))
                built["discretizer"](torch.zeros(shape), built["space"])
    with problems.of("network"):
        check_arguments(SuperNet, settings["network"], "network")
        if "space" in built:
            with torch.device("meta"):  # refuses sizes and unknown operations; nothing is computed
                SuperNet(built["space"], **settings["network"])
    with problems.of("data"):
        check_arguments(Classification, settings["data"], "data")
        if "dataset" in built:
            built["task"] = Classification(built["dataset"], **settings["data"], seed=seed, device=device)
    problems.stop()

    torch.manual_seed(seed)  # for candidate operations that draw from torch's own generator
    task = built["task"]
    network = SuperNet(
        built["space"],
        **settings["network"],
        num_classes=task.num_classes,
        in_channels=task.in_channels,
        generator=make_generator(seed, "network"),
    ).to(device)
    with problems.of("engine"):
        compute = Compute(
            network, engine.precision, engine.recompute, engine.native, engine.compile, engine.cuda_graphs
        )
    problems.stop()
    state = SearchState(
        network, built["relaxation"], task, built["weight_step"], built["arch_step"],
        list(built["regularizer"].values()), seed, compute,
    )  # fmt: skip
    with problems.of("engine"):
        built["search"] = Search(
            state, built["steps"], built["phases"], built["discretizer"], built["budget"],
            list(built["monitor"].values()), run_dir, engine.checkpoint_minutes, seed,
            {
                "batch_norm": settings["network"]["batch_norm"],
                "split": settings["data"]["split"],
                "order": engine.order,
                "architecture_trained": any(p.share > 0 and p.trains_architecture for p in built["phases"].values()),
                "deterministic": engine.deterministic,
                "precision": engine.precision,
            },
        )  # fmt: skip
    problems.stop()
    search: Search = built["search"]
    with problems.of("budget"):
        search.check_budget()
    problems.stop()
    return search
