"""From a node of settings to an object: the arguments of the class that `_target_` names.

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
from typing import Any

from hydra.utils import get_class

from darts.run import moved
from darts.run.errors import UserError, reason

PREFIXES = ("darts", "supernet")
BASES = {  # of the parts at a place of a config: where the class is defined that they derive from
    "space": "supernet.spaces.base",
    "relaxation": "supernet.relaxations.base",
    "task": "darts.tasks.base",
    "dataset": "darts.tasks.datasets.base",
    "weight_step": "darts.search.weight_steps.base",
    "arch_step": "darts.search.arch_steps.base",
    "discretizer": "darts.search.discretizers.base",
    "regularizer": "darts.search.regularizers.base",
    "monitor": "darts.search.monitors.base",
    "phases": "darts.search.phases",
    "early_stopping": "darts.search.early_stopping",
    "baseline": "darts.blackbox.methods.base",
    "evaluator": "darts.blackbox.evaluators.base",
    "objective": "darts.blackbox.objectives.base",
    "oracle": "darts.oracle.base",
}
SEVERAL = ("regularizer", "monitor", "phases")  # places that hold parts by name


class Problems:
    """Collects what is wrong with a config, to say it all at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def of(self, prefix: str = "") -> Iterator[None]:
        """Notes mistakes of the block; `prefix` goes before argument names, if there is one."""
        try:
            yield
        except UserError as error:
            self.lines.append(str(error))
        except ValueError as error:
            self.lines.append(_placed(prefix, error))

    def stop(self) -> None:
        """Raise if there were any.

        Raises:
            UserError: all problems, one a line.
        """
        if self.lines:
            raise UserError("\n".join(dict.fromkeys(self.lines)))


def _placed(prefix: str, error: ValueError) -> str:
    """The message, with the path of the argument that it names, or of the part."""
    name = str(error).split(":")[0]
    joint = "." if name.replace(", ", "").isidentifier() else ": "
    return f"{prefix}{joint}{error}" if prefix else str(error)


def build_part(settings: Mapping[str, Any], path: str, plugins: Sequence[str] = ()) -> Any:
    """The object that `_target_` and its arguments describe; an argument with a `_target_` is such an object itself.

    Args:
        settings: one node of the config.
        path: where it stands, for messages.
        plugins: packages allowed beside our own.

    Raises:
        UserError: a target that is not allowed, or arguments that do not fit.
        ValueError: the class refuses a value.
    """
    target = settings.get("_target_") if isinstance(settings, Mapping) else None
    if not isinstance(target, str):
        raise UserError(f"{path}: it has no _target_; choose one of its group, {path}=NAME")
    builder = allowed_class(target, path, plugins)
    arguments = {key: value for key, value in settings.items() if key != "_target_"}
    for key, value in arguments.items():
        if isinstance(value, Mapping) and "_target_" in value:
            _check_inner(builder, key, value, path, plugins)
            try:
                arguments[key] = build_part(value, f"{path}.{key}", plugins)
            except ValueError as error:
                raise UserError(_placed(f"{path}.{key}", error)) from None
    check_arguments(builder, arguments, path)
    return builder(**arguments)


def _check_inner(
    builder: Callable[..., Any], key: str, settings: Mapping[str, Any], path: str, plugins: Sequence[str]
) -> None:
    """Refuse a part as an argument, unless it is of the class that the argument's type says.

    Raises:
        UserError: the argument is no part, or one of another kind.
    """
    hint = _hints(builder).get(key)
    found = allowed_class(str(settings["_target_"]), f"{path}.{key}", plugins)
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if inspect.isclass(kind) and inspect.isabstract(kind)]
    if not (inspect.isclass(found) and issubclass(found, tuple(kinds))):
        raise UserError(f"{path}.{key}: got a {settings['_target_']}, which does not belong there; leave it out")


def _hints(builder: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)  # type: ignore[misc]


def allowed_class(target: str, path: str, plugins: Sequence[str] = ()) -> Callable[..., Any]:
    """The class of that name, if it is defined in an allowed package and is what belongs at that place.

    Raises:
        UserError: another package, no such class, something that is no class, or one of another kind.
    """
    allowed = (*PREFIXES, *plugins)
    message = f"{path}._target_: {target!r} is not a class of {', '.join(allowed)}; "
    if target.split(".")[0] not in allowed:
        raise UserError(message + f"if it is your own package, name it with plugins=[{target.split('.')[0]}]")
    try:
        found: Callable[..., Any] = get_class(moved.now(target))
    except Exception as error:  # Hydra wraps whatever the import raised
        raise UserError(message + reason(error)) from None
    if found.__module__.split(".")[0] not in allowed:
        raise UserError(message + f"it is {found.__module__}.{found.__qualname__}")
    group, *inside = path.split(".")
    base = BASES.get(group) if len(inside) == (group in SEVERAL) else None
    if base is not None and base not in {parent.__module__ for parent in getattr(found, "__mro__", ())}:
        raise UserError(f"{path}._target_: {target!r} is no {group}; choose one, {group}=NAME")
    return found


def check_arguments(builder: Callable[..., Any], arguments: Mapping[str, Any], path: str = "") -> None:
    """Names and plain types of arguments, which stand at a path of the config, against the signature.

    Raises:
        UserError: all that does not fit.
    """
    problems, prefix = [], f"{path}." if path else ""
    parameters = inspect.signature(builder).parameters
    hints = _hints(builder)
    for name, value in arguments.items():
        if name not in parameters:
            problems.append(f"unknown option {prefix}{name}; {path} takes {', '.join(parameters)}")
        elif not _fits(value, hints.get(name, Any)):
            problems.append(f"{prefix}{name}: got {value!r}; give {_words(hints[name])}")
    if problems:
        raise UserError("\n".join(problems))


NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def _words(hint: Any) -> str:
    """A type, as one says it to people."""
    if hint in NAMES:
        return NAMES[hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_words, typing.get_args(hint)))
    origin = typing.get_origin(hint)
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return "a list, each " + " or ".join(map(_words, typing.get_args(hint)[:1]))
    return str(getattr(hint, "__name__", hint))


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


def build_one(settings: Mapping[str, Any], group: str, plugins: Sequence[str] = ()) -> Any:
    """The part of one group, where nothing else can be wrong.

    Raises:
        UserError: settings that do not fit.
    """
    problems = Problems()
    part = None
    with problems.of(group):
        part = build_part(settings[group], group, plugins)
    problems.stop()
    return part
