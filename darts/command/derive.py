"""The command `darts derive`: the cell of a run, of any epoch, with any discretizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darts.command.base import Call, Command
from darts.run.errors import UserError


class DeriveCommand(Command):
    """Prints a cell string, and nothing else, on standard output."""

    name, place = "derive", 40
    help = "print the cell of a run, of any epoch, with any discretizer"
    usage = """usage: darts derive run=RUN_DIR [epoch=K] [discretizer=NAME] [discretizer.KEY=VALUE]

Prints the cell string alone.
"""

    def run(self, call: Call) -> int:
        from darts.run.checkpoint import newest_checkpoint
        from darts.run.errors import understood
        from darts.run.folder import read_config, resuming
        from darts.run.parts import Problems, build_part
        from darts.run.typed import check_plain
        from darts.search.result import CONFIG_KEYS, SearchResult
        from darts.search.verdict import recorded_weights

        settings, given = call.settings, call.given
        if settings["run"] is None:
            raise UserError("run: darts derive needs a run folder; give run=RUN_DIR")
        folder = Path(settings["run"])
        stored = read_config(folder, "search", CONFIG_KEYS, "run")
        file = folder / "result.json"
        if file.is_file():
            result = SearchResult.read(file)
            history, planned = result.history, result.planned_steps
        else:
            file, content = newest_checkpoint(folder, "run")
            with understood(file, "search"):
                history, planned = content["state"].get("history", []), content["state"].get("planned_steps", 0)
                check_plain(history)
        if not history:
            raise UserError(f"run: {folder} has not finished an epoch yet; go on with: {resuming(folder, 'search')}")
        with understood(file, "search"):
            record = history[-1]
            if settings["epoch"] is not None:
                by_epoch = {record["epoch"]: record for record in history}
                if settings["epoch"] not in by_epoch:
                    raise UserError(f"epoch: got {settings['epoch']}; {folder} has {min(by_epoch)} to {max(by_epoch)}")
                record = by_epoch[settings["epoch"]]
            cell = record["cell"]
        if not any(key.split(".")[0] == "discretizer" for key in given):
            print(cell)
            return 0
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
        if not parts["relaxation"].trains_architecture:
            name = type(parts["relaxation"]).__name__
            raise UserError(
                f"discretizer: {name} trains shared weights alone, so this run's architecture parameters mean nothing; "
                f"leave discretizer out for the cell that its last phase chose: darts derive run={folder}"
            )
        with understood(file, "search"), problems.of("discretizer"):
            print(parts["discretizer"](recorded_weights(record, parts["relaxation"], planned), parts["space"]))
        problems.stop()
        return 0
