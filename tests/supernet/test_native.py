"""The compiled passes: against numpy in float64, and where there is no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.native import native_passes
from supernet.passes import Passes, Term, rows

SIZES = [(2, 1), (3, 5), (127, 8), (128, 16), (1000, 24), (77, 33), (40, 70), (513, 64), (9, 144)]  # pixels, columns
RUN = """
import torch
from supernet.native import native_passes
passes = native_passes()
x = torch.arange(12.0).view(4, 3)
print("none" if passes is None else passes.moments(x)[0].tolist())
"""


@pytest.fixture
def native() -> Passes:
    passes = native_passes()
    if passes is None:
        pytest.skip("no compiled kernels: a C++ compiler is needed")
    return passes


def drawn(pixels: int, columns: int, dtype: torch.dtype, stride: int = 0, seed: int = 0) -> Tensor:
    """A matrix whose rows lie `stride` apart."""
    numbers = np.random.default_rng(seed).standard_normal((pixels, columns + stride))
    return torch.from_numpy(numbers).to(dtype)[:, :columns]


def exact(x: Tensor) -> NDArray[np.float64]:
    return x.double().numpy()


def close(mine: Tensor, theirs: NDArray[np.float64]) -> None:
    tolerance = 1e-11 if mine.dtype == torch.float64 else 2e-4
    np.testing.assert_allclose(exact(mine), theirs, rtol=tolerance, atol=tolerance * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("pixels", "columns"), SIZES)
def test_combinations(native: Passes, pixels: int, columns: int, dtype: torch.dtype) -> None:
    a, b, c = (drawn(pixels, columns, dtype, stride, seed) for stride, seed in ((0, 1), (3, 2), (columns, 3)))
    mask, matrix = drawn(pixels, columns, dtype, 1, 4), drawn(columns, columns, dtype, 2, 5)
    scale, constant = drawn(1, columns, dtype, 0, 6)[0], drawn(1, columns, dtype, 0, 7)[0]
    number = torch.tensor(-0.7, dtype=dtype)
    out = drawn(pixels, columns, dtype, 5, 8)
    beside = out.storage_offset(), out.untyped_storage().clone()
    native.combine(out, [Term(a, scale), Term(b, matrix)], constant, mask, [Term(c, number), Term(a, matrix)])
    inside = exact(constant) + exact(a) * exact(scale) + exact(b) @ exact(matrix)
    after = exact(c) * -0.7 + exact(a) @ exact(matrix)
    close(out, np.where(exact(mask) > 0, inside, 0) + after)
    untouched = torch.tensor([], dtype=dtype).set_(beside[1], 0, (pixels, columns + 5))[:, columns:]
    assert torch.equal(out.as_strided((pixels, 5), (columns + 5, 1), columns), untouched)
    native.combine(out, [Term(c, scale)])
    close(out, exact(c) * exact(scale))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("pixels", "columns"), SIZES)
def test_sums(native: Passes, pixels: int, columns: int, dtype: torch.dtype) -> None:
    a, b, c = (drawn(pixels, columns, dtype, stride, seed) for stride, seed in ((2, 1), (0, 2), (columns, 3)))
    total, (product,), (whole,) = native.products(a, [c], [b])
    close(total, exact(a).sum(0))
    close(product, (exact(a) * exact(c)).sum(0))
    close(whole, np.asarray((exact(a) * exact(b)).sum()))
    close(native.gram(a, c), exact(a).T @ exact(c))
    close(native.moments(c)[1], exact(c).var(0))
    mean, covariance = native.covariance(a + 100)
    close(mean, exact(a + 100).mean(0))
    close(covariance, np.cov(exact(a + 100).T, bias=True).reshape(columns, columns))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3), (5, 2), (6, 7)])
@pytest.mark.parametrize("channels", [1, 8, 19])
def test_pooling(native: Passes, size: tuple[int, int], channels: int, dtype: torch.dtype) -> None:
    x, y = (
        drawn(3, channels * size[0] * size[1], dtype, seed=seed)
        .view(3, channels, *size)
        .contiguous(memory_format=torch.channels_last)
        for seed in (1, 2)
    )
    pooled = native.pool(x)
    expected = torch.nn.functional.avg_pool2d(x.double(), 3, 1, 1, count_include_pad=False)
    close(pooled, 9 * expected.numpy())
    left, right = (pooled.double() * y).sum(), (x.double() * native.pool(y, transposed=True)).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-4 if dtype == torch.float32 else 1e-10)


def test_bits_do_not_depend_on_the_number_of_threads(native: Passes) -> None:
    x = drawn(5000, 24, torch.float32)
    image = drawn(1, 24 * 100, torch.float32).view(1, 24, 10, 10).contiguous(memory_format=torch.channels_last)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            out = torch.empty_like(x)
            native.combine(out, [Term(x, x[0])])
            found.append([out, *native.covariance(x), native.products(x, [x], [])[1][0], rows(native.pool(image))])
        finally:
            torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], other, strict=True))


def test_columns_that_do_not_lie_side_by_side_are_refused(native: Passes) -> None:
    with pytest.raises(ValueError, match="side by side"):
        native.moments(drawn(4, 3, torch.float64).T)


def run(cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)} | variables
    return subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=300, check=True
    )


@pytest.mark.parametrize("broken", ["missing", "failing"])
def test_without_a_compiler_one_line_says_so(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = tmp_path / "c++"
    if broken == "failing":
        compiler.write_text("#!/bin/sh\necho 'error: no room' >&2\nexit 1\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    assert native_passes.__wrapped__() is None
    (line,) = "\n".join(caplog.messages).splitlines()
    assert "No compiled kernels" in line
    assert ("no room" if broken == "failing" else "No such file") in line


@pytest.mark.slow
def test_the_kernels_are_compiled_once_a_cache(native: Passes, tmp_path: Path) -> None:
    """Two processes at once, then one whose compiler can only tell its version."""
    words = [sys.executable, "-c", RUN]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=300)[0] for process in both] == ["[4.5, 5.5, 6.5]\n"] * 2
    (library,) = (tmp_path / "darts").iterdir()
    real = os.environ.get("CXX", "c++")
    (compiler := tmp_path / "compiler").write_text(f'#!/bin/sh\ntest "$1" = --version && exec {real} "$@"\nexit 1\n')
    compiler.chmod(0o755)
    assert run(tmp_path, CXX=str(compiler)).stdout == "[4.5, 5.5, 6.5]\n"
    assert list((tmp_path / "darts").iterdir()) == [library]
