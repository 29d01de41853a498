"""From the settings of a command to a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from darts.run.errors import UserError
from darts.run.parts import allowed_class, check_arguments
from darts.tasks.base import Task
from darts.tasks.datasets.base import Dataset, Source, smaller

OTHER = {"images": "task=classification", "series": "task=sequence_regression"}  # for what a data set gives
CLASSIFICATION = {"_target_": "darts.tasks.classification.Classification"}


def build_task(
    settings: Mapping[str, Any], dataset: Source, options: Mapping[str, Any], path: str
) -> Callable[..., Task]:
    """A function that makes the task when it is told `seed` and `device`.

    Args:
        settings: of the command; configs of version 0.1 have no `task` and classify.
        dataset: where the data come from.
        options: further arguments of the task, such as `split` and `batch_size`, of which those that are 0 or null need
            not be known to it; and `resolution`, the side that images
            are resized to if they are larger.
        path: where they stand in the config, for messages.

    Raises:
        UserError: no task of an allowed package, or arguments that do not fit.
        ValueError: a resolution that is no positive number.
    """
    options = dict(options)
    node = settings.get("task") or CLASSIFICATION
    own = {key: value for key, value in node.items() if key != "_target_"}
    task: Any = allowed_class(str(node.get("_target_")), "task", settings["plugins"])
    if task.takes != dataset.gives:
        raise UserError(
            f"task: {task.__name__} takes {task.takes}, and {dataset.name} gives {dataset.gives}; choose "
            f"{OTHER[dataset.gives]}, or another data set"
        )
    resolution = options.pop("resolution", None)
    if isinstance(dataset, Dataset):
        dataset = smaller(dataset, resolution)
    elif resolution is not None:
        raise ValueError(f"resolution: got {resolution}; it is for images, and {dataset.name} gives {dataset.gives}")
    known = inspect.signature(task).parameters
    options = {name: value for name, value in options.items() if value or name in known}  # 0 asks for nothing
    check_arguments(task, own, "task")
    check_arguments(task, options, path)
    return partial(task, dataset, **own, **options)
