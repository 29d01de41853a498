"""Modules of shapes alone, for whoever asks how large they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Module = TypeVar("Module", bound=nn.Module)
DRAWS = {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}


class _Undrawn(TorchFunctionMode):
    """Initial values are not drawn: on the meta device there are none, and asking for them takes most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def of_shapes(make: Callable[[], Module]) -> Module:
    """What `make` makes, on torch's meta device."""
    with torch.device("meta"), _Undrawn():
        return make()
