"""A command once for each combination of values, through Hydra's sweepers and launchers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darts.command import config
from darts.command.base import INTERRUPTED, Call, Command
from darts.command.quoting import quoted
from darts.run.errors import UserError
from darts.run.folder import chosen_run_dir, read_config
from darts.run.lock import release
from darts.run.settings import anchored, differing, fixed


def sweep(command: Command, overrides: list[str], own_configs: Path | None) -> int:
    """Run one job for each combination of values, each in run_dir/OVERRIDES, through Hydra's launcher.

    Raises:
        UserError: a mistake in the command line, or in a job; the other jobs have run.
    """
    parsed = config.parse_overrides(overrides)
    folders = config.config_folders(parsed, own_configs)
    home = config.primary_file(command.name, folders).parent
    config.explain(command.name, parsed, folders)
    roots = [word for word in overrides if word.startswith("run_dir=")]
    given = next((override.value() for override in reversed(parsed) if override.key_or_group == "run_dir"), None)
    folder = chosen_run_dir(None if given is None else str(given), command.name)
    root = roots[-1] if roots else quoted(f"run_dir={folder}")
    constant = ["run_dir", *(override.key_or_group for override in parsed if not override.is_sweep_override())]
    excluded = ",".join(f"'{name}'" for name in constant)
    sys.argv = [
        "darts",
        "--multirun",
        *[override for override in overrides if not override.startswith("run_dir=")],
        *config.search_path_override([folder for folder in folders if folder != home]),
        root,
        root.replace("run_dir=", "hydra.sweep.dir=", 1),
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
    ]

    def job(settings: Any) -> int:
        return one_job(command, settings)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's own printer
    try:
        hydra.main(config_path=str(home), config_name=command.name, version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        text = " ".join(str(error).split())
        if "Could not find 'hydra/launcher/" in text:
            extra = "ray" if "launcher/ray" in text else "cluster"
            text = f"cluster: its launcher is not installed; pip install 'darts-supernet[{extra}]'"
        raise UserError(text) from None
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        raise UserError(
            "cluster: this is no machine of a Slurm cluster (there is no srun); start it on a login node, or try the "
            "sweep out here with cluster=slurm_here"
        ) from None
    return 0


def one_job(command: Command, composed: Any) -> int:
    """One run of a sweep."""
    hydra_config = HydraConfig.get()
    parsed = config.parse_overrides(list(hydra_config.overrides.task))
    settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    config.load_plugins(settings["plugins"])
    choices = dict(hydra_config.runtime.choices)
    settings = config.completed({str(key): value for key, value in settings.items()}, command.name, choices, parsed)
    name = hydra_config.job.override_dirname.replace("/", "_") or str(hydra_config.job.num)
    folder = Path(settings["run_dir"]) / name
    print(f"--- {name}", file=sys.stderr)
    call = Call(settings, {override.key_or_group for override in parsed}, run_dir=folder)
    try:
        if (folder / "config.yaml").is_file():
            call = going_on(command, call, folder)
        status = command.run(call)
    except UserError as error:  # the other jobs run all the same; the sweep reports the first failure at its end
        print(f"darts: {name}: {error}", file=sys.stderr)
        raise UserError(f"{name} failed, see above") from None
    finally:
        release()
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def going_on(command: Command, call: Call, folder: Path) -> Call:
    """The call that goes on with a job of an earlier start of the sweep, or reports it again if it is finished.

    Raises:
        UserError: the folder holds a run of other settings.
    """
    stored = read_config(folder, command.name, (), "run_dir")
    if other := differing(fixed(stored), fixed(anchored(command.kept(call)))):
        raise UserError(
            f"run_dir: {folder} holds a run with other settings ({'; '.join(other)}); choose another folder"
        )
    return Call(call.settings | {"resume": str(folder)}, {"resume"}, own_configs=call.own_configs)
