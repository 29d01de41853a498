"""A run of a command, made by a program: what it left, and how it shows itself in a notebook."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.command.base import INTERRUPTED, commands
from darts.command.quoting import in_quotes
from darts.command.words import asked
from darts.run.folder import chosen_run_dir
from darts.run.lock import release

if TYPE_CHECKING:
    from darts.blackbox.result import BaselineResult
    from darts.search.result import SearchResult
    from darts.training.result import RetrainResult

Options = Mapping[str, Any] | None
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+")


@dataclass(frozen=True)
class Run:
    """A finished run; in a notebook it shows its lines and pictures.

    Attributes:
        folder: of all that it left.
        text: what the command prints.
        result: field by field its result.json; None for a comparison.
        rows: of a comparison, one a method.
    """

    folder: Path
    text: str
    result: SearchResult | BaselineResult | RetrainResult | None = None
    rows: list[dict[str, str]] = field(default_factory=list)

    @property
    def cell(self) -> str:
        """What a search found, or what was trained; of several seeds of a baseline the best by what they saw.

        Raises:
            ValueError: a comparison has none.
        """
        from darts.blackbox.result import BaselineResult

        if self.result is None:
            raise ValueError("a comparison has no cell of its own; its rows have")
        if isinstance(self.result, BaselineResult):
            return max(self.result.finals(), key=lambda point: point.signal).cell
        return self.result.cell

    @property
    def figures(self) -> dict[str, Path]:
        """Name to file of the pictures."""
        return {path.stem: path for path in sorted((self.folder / "figures").glob("*.png"))}

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        shown = [f"<pre>{html.escape(self.text)}</pre>"]
        for name, path in self.figures.items():
            data = base64.b64encode(path.read_bytes()).decode()
            shown.append(f'<img alt="{html.escape(name)}" style="max-width: 100%" src="data:image/png;base64,{data}">')
        return "\n".join(shown)


def place(run: Run | str | os.PathLike[str]) -> str:
    """The folder of a run, or the path that was given."""
    return str(run.folder) if isinstance(run, Run) else os.fspath(run)


def data(dataset: str | os.PathLike[str]) -> dict[str, Any]:
    """Settings of a data set by its name or the folder of its images."""
    name = os.fspath(dataset)
    if isinstance(dataset, os.PathLike) or os.sep in name or Path(name).is_dir():
        return {"dataset": "image_folder", "dataset.root": name}
    return {"dataset": name}


def done(
    command: str,
    given: Mapping[str, Any],
    options: Options,
    run_dir: str | os.PathLike[str] | None,
    words: Sequence[str] = (),
) -> tuple[Path, str]:
    """The folder of a run of a command, and what it printed."""
    folder = chosen_run_dir(None if run_dir is None else os.fspath(run_dir), command)
    settings = {**given, **(options or {}), "run_dir": str(folder)}
    call = asked(commands()[command], [*words, *(f"{key}={value_text(value)}" for key, value in settings.items())])
    assert not isinstance(call, int)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            status = call[0].run(call[1])
    finally:
        release()
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return folder, printed.getvalue()


def value_text(value: Any) -> str:
    """A value as the command line has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{value_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(value_text, value)) + "]"
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if text and set(text) <= PLAIN:
        return text
    return in_quotes(text)
