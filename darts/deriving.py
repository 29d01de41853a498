"""The command `darts derive`: the cell of a run, of any epoch, with any discretizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from darts.checkpoint import checkpoint_path, load_checkpoint
from darts.errors import UserError
from darts.parts import Problems, build_part
from darts.results import SearchResult
from darts.run_folder import read_config, resuming


def derive_command(settings: dict[str, Any], given: set[str]) -> int:
    """Print a cell string, and nothing else, on standard output.

    Raises:
        UserError: no run, no such epoch, or a discretizer that does not fit.
    """
    if settings["run"] is None:
        raise UserError("run: darts derive needs a run folder; give run=RUN_DIR")
    folder = Path(settings["run"])
    stored = read_config(folder, "run")
    if (folder / "result.json").is_file():
        history = SearchResult.read(folder / "result.json").history
    else:
        history = load_checkpoint(checkpoint_path(folder), "run").get("state", {}).get("history", [])
    if not history:
        raise UserError(f"run: {folder} has not finished an epoch yet; go on with: {resuming(folder)}")
    record = history[-1]
    if settings["epoch"] is not None:
        by_epoch = {record["epoch"]: record for record in history}
        if settings["epoch"] not in by_epoch:
            raise UserError(f"epoch: got {settings['epoch']}; {folder} has {min(by_epoch)} to {max(by_epoch)}")
        record = by_epoch[settings["epoch"]]
    node = stored["discretizer"]
    if "discretizer" in given:
        node = settings["discretizer"]
    elif isinstance(node, dict):  # single options change the run's own one
        changed = {key.split(".")[1] for key in given if key.startswith("discretizer.")}
        node = node | {key: settings["discretizer"][key] for key in changed}
    problems = Problems()
    parts: dict[str, Any] = {}
    for name in ("space", "relaxation", "discretizer"):
        with problems.of(name):
            parts[name] = build_part(node if name == "discretizer" else stored[name], name, settings["plugins"])
    problems.stop()
    params = {name: torch.tensor(value) for name, value in record["alphas"].items()}
    with problems.of("discretizer"):
        print(parts["discretizer"](parts["relaxation"].expected(params), parts["space"]))
    problems.stop()
    return 0
