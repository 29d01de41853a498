"""The command `darts profile`: what a network costs on this device."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from darts.command.base import Call, Command
from darts.run.errors import UserError


class ProfileCommand(Command):
    """Counts from shapes, and measures time and memory of forward passes."""

    name, place = "profile", 26
    help = "what a network costs here: parameters, FLOPs, time and memory of a pass"
    usage = """usage: darts profile model=RUN_DIR|FILE [batches=[1,64]] [table=true] [key=value ...]
       darts profile cell=CELL [network.channels=16] [network.image_size=32] [key=value ...]

Batch normalisation is folded into the convolutions first, as darts export does; fold=false leaves it.
"""

    def run(self, call: Call) -> int:
        import torch

        from darts.models.opening import open_model
        from darts.models.profiling import all_measured, counted, parameters_of
        from darts.report.export_report import profile_lines
        from darts.report.text import print_lines
        from darts.run.devices import check_threads, choose_device, threads_of
        from darts.run.environment import environment
        from darts.run.files import write_text
        from darts.run.folder import check_own, chosen_run_dir, make_run_dir, write_config
        from darts.run.parts import Problems, build_one, check_arguments
        from darts.tasks.sizes import check_network
        from supernet.folding import folded
        from supernet.size import NetworkSize

        settings, problems = call.settings, Problems()
        plugins, built = settings["plugins"], dict[str, Any]()
        if (settings["model"] is None) == (settings["cell"] is None):
            raise UserError("model, cell: give one of them: model=RUN_DIR of a trained network, or cell='...'")
        with problems.of("device"):
            built["device"] = choose_device(str(settings["device"]))
        with problems.of("engine"):
            check_threads(settings["engine"]["threads"])
        numbers = settings["batches"] if isinstance(settings["batches"], list) else [settings["batches"]]
        for name, values in (("batches", numbers), ("repeats", [settings["repeats"]])):
            if not values or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in values):
                problems.lines.append(f"{name}: got {settings[name]!r}; give 1 or more")
        if settings["model"] is not None:
            model = open_model(Path(settings["model"]), "model", settings["weights"], plugins)
            network, size, cell, space = model.network, model.about.network_size, model.genotype, model.space
        else:
            space = build_one(settings, "space", plugins)
            with problems.of("network"):
                check_arguments(NetworkSize, settings["network"], "network")
                size = NetworkSize(**settings["network"])
                check_network(space, size.channels, size.cells)
            with problems.of("cell"):
                cell = space.parse(settings["cell"])
            problems.stop()
            torch.manual_seed(0)
            network = space.network(cell, size)
        problems.stop()
        folder = chosen_run_dir(settings["run_dir"], self.name)
        check_own(folder, self.name, ("batches", "repeats"))
        network = network.eval()
        shape = partial(size.input_shape, space.takes)
        counts = counted(network, shape)
        content = {
            "cell": str(cell), "network": space.size_text(size), "params": parameters_of(network),
            "flops": space.cost(cell, size).flops, "flops_by_operator": counts["flops"],
            "activations": counts["activations"], "folded": settings["fold"],
        }  # fmt: skip
        with threads_of(settings["engine"]["threads"]):
            found = all_measured(
                folded(network) if settings["fold"] else network, shape, numbers, settings["repeats"], built["device"]
            )
            content |= {"timing": [asdict(one) for one in found], "versions": environment(built["device"])}
        if not folder.exists():
            make_run_dir(folder, self.name, [])
        write_config(settings, folder)
        write_text(folder / "profile.json", json.dumps(content, indent=1) + "\n")
        if settings["table"]:
            print(counts["table"])
        print_lines(profile_lines(content, folder))
        return 0
