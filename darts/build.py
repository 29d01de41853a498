"""From settings to objects: a part's settings are the arguments of the class that `_target_` names.

Hydra's own `instantiate` is not used: it calls any function of any package and resolves `${...}` once more, and
settings may come from a run folder that somebody else wrote. Here `_target_` must name a class of an allowed
package, names and types of the values must fit, values are taken as they are, and all problems are reported together.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class

from darts.budget import Budget
from darts.compute import Compute
from darts.devices import choose_device
from darts.errors import UserError, reason
from darts.oracle.base import Oracle
from darts.phases import Steps
from darts.search_loop import Search
from darts.seeding import make_generator, set_determinism
from darts.state import SearchState
from darts.task import Classification
from supernet.network import SuperNet

PREFIXES = ("darts", "supernet")


class Problems:
    """Collects what is wrong with a config, to say it all at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def of(self, prefix: str) -> Iterator[None]:
        """Notes mistakes of the block; `prefix` goes before argument names."""
        try:
            yield
        except UserError as error:
            self.lines.append(str(error))
        except ValueError as error:
            name = str(error).split(":")[0]
            self.lines.append(f"{prefix}{'.' if name.replace(', ', '').isidentifier() else ': '}{error}")

    def stop(self) -> None:
        """Raise if there were any.

        Raises:
            UserError: all problems, one a line.
        """
        if self.lines:
            raise UserError("\n".join(dict.fromkeys(self.lines)))


def build_part(settings: Mapping[str, Any], path: str, plugins: Sequence[str] = ()) -> Any:
    """The object that `_target_` and its arguments describe.

    Args:
        settings: one node of the config.
        path: where it stands, for messages.
        plugins: packages allowed beside our own.

    Raises:
        UserError: a target that is not allowed, or arguments that do not fit.
        ValueError: the class refuses a value.
    """
    target = settings.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{path}: it has no _target_; choose one of its group, {path}=NAME")
    builder = allowed_class(target, path, plugins)
    arguments = {key: value for key, value in settings.items() if key != "_target_"}
    check_arguments(builder, arguments, path)
    return builder(**arguments)


def allowed_class(target: str, path: str, plugins: Sequence[str] = ()) -> Callable[..., Any]:
    """The class of that name, if it is defined in an allowed package.

    Raises:
        UserError: another package, no such class, or something that is no class.
    """
    allowed = (*PREFIXES, *plugins)
    message = f"{path}._target_: {target!r} is not a class of {', '.join(allowed)}; "
    if target.split(".")[0] not in allowed:
        raise UserError(message + f"if it is your own package, name it with plugins=[{target.split('.')[0]}]")
    try:
        found: Callable[..., Any] = get_class(target)
    except Exception as error:  # Hydra wraps whatever the import raised
        raise UserError(message + reason(error)) from None
    if found.__module__.split(".")[0] not in allowed:
        raise UserError(message + f"it is {found.__module__}.{found.__qualname__}")
    return found


def check_arguments(builder: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> None:
    """Names and plain types of arguments against the signature.

    Raises:
        UserError: all that does not fit.
    """
    problems = []
    parameters = inspect.signature(builder).parameters
    hints = typing.get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)  # type: ignore[misc]
    for name, value in arguments.items():
        if name not in parameters:
            problems.append(f"unknown option {path}.{name}; {path} takes {', '.join(parameters)}")
        elif not _fits(value, hints.get(name, Any)):
            wanted = getattr(hints[name], "__name__", None) or str(hints[name]).replace("collections.abc.", "")
            problems.append(f"{path}.{name}: got {value!r}; give {wanted}")
    if problems:
        raise UserError("\n".join(problems))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can stand for a type; anything that YAML cannot say is left to the class."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    origin = typing.get_origin(hint)
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(_fits(v, a) for v in value for a in typing.get_args(hint)[:1])
    return True


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
        precision, recompute, compile, cuda_graphs: see `darts.compute.Compute`.
    """

    order: str = "architecture_first"
    deterministic: bool = True
    checkpoint_minutes: float = 5.0
    threads: int | None = None
    precision: str = "float32"
    recompute: str = "none"
    compile: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads: got {self.threads}; give 1 or more, or null")


def build_oracle(settings: Mapping[str, Any], plugins: Sequence[str] = ()) -> Oracle:
    """Where known accuracies come from; opens nothing.

    Raises:
        UserError: settings that do not fit.
    """
    problems = Problems()
    oracle: Oracle | None = None
    with problems.of("oracle"):
        oracle = build_part(settings, "oracle", plugins)
    problems.stop()
    assert oracle is not None
    return oracle


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
        compute = Compute(network, engine.precision, engine.recompute, engine.compile, engine.cuda_graphs)
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
