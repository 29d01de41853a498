"""From the settings of a command to a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from darts.run.parts import allowed_class, check_arguments
from darts.tasks.base import Task
from darts.tasks.datasets.base import Dataset, smaller

CLASSIFICATION = {"_target_": "darts.tasks.classification.Classification"}


def build_task(
    settings: Mapping[str, Any], dataset: Dataset, options: Mapping[str, Any], path: str
) -> Callable[..., Task]:
    """A function that makes the task when it is told `seed` and `device`.

    Args:
        settings: of the command; configs of version 0.1 have no `task` and classify.
        dataset: where the data come from.
        options: further arguments of the task, such as `split` and `batch_size`; and `resolution`, the side that images
            are resized to if they are larger.
        path: where they stand in the config, for messages.

    Raises:
        UserError: no task of an allowed package, or arguments that do not fit.
        ValueError: a resolution that is no positive number.
    """
    options = dict(options)
    dataset = smaller(dataset, options.pop("resolution", None))
    node = settings.get("task") or CLASSIFICATION
    own = {key: value for key, value in node.items() if key != "_target_"}
    task = allowed_class(str(node.get("_target_")), "task", settings["plugins"])
    check_arguments(task, own, "task")
    check_arguments(task, options, path)
    return partial(task, dataset, **own, **options)
