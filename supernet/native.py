"""The passes of `supernet.passes` compiled for this processor: native.cpp through ctypes.

They are compiled where they are first used, with the C++ compiler that is there ($CXX, else c++), and kept in the
user's cache ($XDG_CACHE_HOME, else ~/.cache), by source, compiler and processor. Where that does not work, torch's
operators serve, and one line in the log says so.

Shape suffixes: P pixels of all images, C channels, S channels of all targets that a convolution serves.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from supernet.passes import Passes, Term
from supernet.user_cache import user_cache

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-fopenmp")
NAMES = {torch.float32: "float", torch.float64: "double"}


@cache
def native_passes() -> NativePasses | None:
    """The compiled passes; None, after one line in the log, where they cannot be had."""
    try:
        return NativePasses(ctypes.CDLL(str(_built())))
    except (OSError, subprocess.SubprocessError) as problem:
        reason = str(getattr(problem, "stderr", None) or problem).strip().splitlines()[0]
        logging.getLogger(__name__).warning(
            "No compiled kernels, so the search step runs on PyTorch's operators, which is slower (%s). "
            "engine.native=false leaves out the attempt and this notice.",
            reason,
        )
        return None


def _built() -> Path:
    """The library, compiled if it is not in the cache."""
    _share_threads()
    compiler = os.environ.get("CXX", "c++")
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True, timeout=60).stdout
    key = "\n".join([SOURCE.read_text(), *FLAGS, version, _processor()])
    name = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    folder = user_cache()
    if not (library := folder / name).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed when complete: others may be at it too
            parts = [str(Path(scratch, part)) for part in ("native.o", "native.so")]
            for words in ([*FLAGS, "-c", str(SOURCE), "-o", parts[0]], ["-shared", parts[0], "-o", parts[1]]):
                subprocess.run([compiler, *words], check=True, capture_output=True, text=True, timeout=300)
            Path(parts[1]).replace(library)
    return library


def _share_threads() -> None:
    """Make torch's own OpenMP library the one that the kernels find: two of them would fight for the cores."""
    if sys.platform != "linux":
        raise OSError(f"they are built on Linux, not on {platform.system()}")
    found = re.search(r"/\S*lib(?:gomp|iomp5|omp)\S*\.so\S*", Path("/proc/self/maps").read_text())
    if found is None:
        raise OSError("torch here has no OpenMP library")
    ctypes.CDLL(found.group(), ctypes.RTLD_GLOBAL)


def _processor() -> str:
    """What -march=native looks at."""
    text = Path("/proc/cpuinfo").read_text()
    lines = [re.search(rf"^{name}\s*:.*", text, re.MULTILINE) for name in ("model name", "flags", "Features")]
    return "\n".join([platform.machine(), *(line.group() for line in lines if line)])


def _rows(x_PC: Tensor) -> tuple[ctypes.c_void_p, int]:
    if x_PC.stride(1) != 1 and x_PC.shape[1] > 1:
        raise ValueError(f"columns must lie side by side; got strides {x_PC.stride()}")
    return ctypes.c_void_p(x_PC.data_ptr()), x_PC.stride(0)


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))


def _strides(matrices: Sequence[Tensor]) -> ctypes.Array[ctypes.c_long]:
    return (ctypes.c_long * len(matrices))(*(_rows(matrix)[1] for matrix in matrices))


class NativePasses(Passes):
    """On the CPU, in float32 or float64, all arguments alike. The bits do not depend on the number of threads."""

    def __init__(self, library: ctypes.CDLL) -> None:
        long, pointer, threads = ctypes.c_long, ctypes.c_void_p, ctypes.c_int
        signatures = {
            "combine": [long, long, long, *[pointer] * 5, long, pointer, long, pointer, long, threads],
            "products": [long, long, pointer, long, long, pointer, pointer, pointer, threads],
            "gram": [long, long, pointer, long, pointer, long, pointer, pointer, threads],
            "moments": [long, long, pointer, long, pointer, pointer, threads],
            "pool": [long, long, long, long, pointer, pointer, ctypes.c_int, threads],
        }
        self.functions = {}
        for (name, arguments), (dtype, suffix) in (
            (signature, kind) for signature in signatures.items() for kind in NAMES.items()
        ):
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes, function.restype = arguments, None
            self.functions[name, dtype] = function

    def _call(self, name: str, dtype: torch.dtype, *arguments: object) -> None:
        self.functions[name, dtype](*arguments, torch.get_num_threads())

    def combine(
        self,
        out_PC: Tensor,
        terms: Sequence[Term],
        constant_C: Tensor | None = None,
        mask_PC: Tensor | None = None,
        after: Sequence[Term] = (),
    ) -> None:
        every = [*terms, *after]
        values = [term.value_PC for term in every]
        pixels, columns = out_PC.shape
        # held until the call returns, like `constant`
        scales = [None if term.by.ndim > 1 else term.by.expand(columns).contiguous() for term in every]
        matrices = [term.by.contiguous() if term.by.ndim > 1 else None for term in every]
        constant = [None if constant_C is None else constant_C.contiguous()]
        mask, mask_stride = (None, 0) if mask_PC is None else _rows(mask_PC)
        self._call(
            "combine", out_PC.dtype, pixels, columns, len(every), _pointers(values), _strides(values),
            _pointers(scales), _pointers(matrices), _pointers(constant)[0], len(terms), mask, mask_stride,
            *_rows(out_PC),
        )  # fmt: skip

    def products(
        self, left_PC: Tensor, by_channel: Sequence[Tensor], whole: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        others = [*by_channel, *whole]
        pixels, columns = left_PC.shape
        sums_KC = left_PC.new_empty(1 + len(others), columns)
        self._call(
            "products", left_PC.dtype, pixels, columns, *_rows(left_PC), len(others), _pointers(others),
            _strides(others), sums_KC.data_ptr(),
        )  # fmt: skip
        total, *found = sums_KC.unbind(0)
        return total, found[: len(by_channel)], [values.sum() for values in found[len(by_channel) :]]

    def gram(self, left_PC: Tensor, right_PC: Tensor) -> Tensor:
        if left_PC.shape[1] > 32:  # where the BLAS is as fast
            return super().gram(left_PC, right_PC)
        return self._gram(left_PC, right_PC, None)

    def _gram(self, left_PC: Tensor, right_PC: Tensor, shift_C: Tensor | None) -> Tensor:
        pixels, columns = left_PC.shape
        out_CC = left_PC.new_empty(columns, columns)
        shift = None if shift_C is None else shift_C.data_ptr()
        self._call("gram", left_PC.dtype, pixels, columns, *_rows(left_PC), *_rows(right_PC), shift, out_CC.data_ptr())
        return out_CC

    def moments(self, x_PS: Tensor) -> tuple[Tensor, Tensor]:
        pixels, columns = x_PS.shape
        mean, var = x_PS.new_empty(columns), x_PS.new_empty(columns)
        self._call("moments", x_PS.dtype, pixels, columns, *_rows(x_PS), mean.data_ptr(), var.data_ptr())
        return mean, var

    def covariance(self, x_PC: Tensor) -> tuple[Tensor, Tensor]:
        mean, _ = self.moments(x_PC)
        return mean, self._gram(x_PC, x_PC, mean) / len(x_PC)

    def pool(self, x_BCHW: Tensor, transposed: bool = False) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        out_BCHW = torch.empty_like(x_BCHW)
        self._call(
            "pool", x_BCHW.dtype, batch, height, width, channels, x_BCHW.data_ptr(), out_BCHW.data_ptr(), transposed
        )
        return out_BCHW
