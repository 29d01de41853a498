"""Series: closed forms, windows that never look ahead, an equation integrated a second time, and files with mistakes.

Shape suffixes: N windows, L steps of a window, C columns, K targets, T steps of the whole series.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from torch import Tensor

from darts.run.errors import UserError
from darts.tasks.datasets.sequences import Adding, MackeyGlass
from darts.tasks.datasets.series import CsvSeries
from darts.tasks.datasets.windows import SeriesSource, TimeSeries, Windows, windows
from darts.tasks.final import FinalSeries, final_parts
from darts.tasks.sequence_regression import SequenceRegression

# --- The adding problem


@pytest.mark.parametrize("length", [2, 7, 30])
def test_targets_are_the_sum_of_two_marked_numbers_one_in_each_half(length: int) -> None:
    parts = Adding(length, items=8000).load(0.25)
    assert [len(part.targets_NK) for part in (parts.train, parts.valid, parts.test)] == [2000, 6000, 2000]
    rows = parts.train.joined(parts.valid).joined(parts.test)
    places = [0] * length
    for row, target in zip(rows.inputs_NLC.numpy(), rows.targets_NK.tolist(), strict=True):
        values, marks = row[:, 0], row[:, 1]
        marked = np.flatnonzero(marks)
        assert marks[marked].tolist() == [1, 1]
        assert marked[0] < length // 2 <= marked[1]
        assert target == pytest.approx([values[marked[0]] + values[marked[1]]], abs=1e-6)
        for place in marked:
            places[place] += 1
    for half in (places[: length // 2], places[length // 2 :]):
        share = 1 / len(half)
        assert all(abs(count - 10_000 * share) <= 4 * (10_000 * share * (1 - share)) ** 0.5 for count in half)


def test_who_always_answers_one_has_an_error_of_a_sixth() -> None:
    """The sum less 1 has variance 1/6 and fourth moment 1/15, so its square has the variance 1/15 - 1/36."""
    parts = Adding(10, items=40_000, seed=3).load(0.5)
    for part in (parts.train, parts.valid, parts.test):
        squares_N = (part.targets_NK[:, 0].double() - 1) ** 2
        error = ((1 / 15 - 1 / 36) / len(squares_N)) ** 0.5
        assert abs(float(squares_N.mean()) - 1 / 6) <= 4 * error
        numbers = part.inputs_NLC[..., 0].double()
        assert abs(float(numbers.mean()) - 0.5) <= 4 * (1 / 12 / numbers.numel()) ** 0.5


def test_rows_hang_on_the_seed() -> None:
    once, again, other = (Adding(5, 64, seed).load(0.5).train.inputs_NLC for seed in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


# --- Windows


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_windows_end_before_their_targets_and_none_is_left_out(data: st.DataObject) -> None:
    """Numbers say which step they are of; what changes at the target's step or after it changes no input."""
    steps, length, horizon = (data.draw(st.integers(1, most), label=name) for name, most in
                              (("steps", 30), ("length", 9), ("horizon", 9)))  # fmt: skip
    first = data.draw(st.integers(0, steps), label="first")
    last = data.draw(st.integers(first, steps), label="last")
    values_TC = torch.stack([torch.arange(steps), -torch.arange(steps)], dim=1).float()
    targets_TK = 1000 + torch.arange(steps).float()[:, None]
    found = windows(values_TC, targets_TK, length, horizon, first, last)
    expected = [t for t in range(first, last) if t - horizon - length + 1 >= 0]
    assert found.inputs_NLC.shape == (len(expected), length, 2)
    assert found.targets_NK.flatten().tolist() == [1000 + t for t in expected]
    for target, window in zip(expected, found.inputs_NLC.tolist(), strict=True):
        end = target - horizon
        assert window == [[step, -step] for step in range(end - length + 1, end + 1)]
    for place, target in enumerate(expected):
        later = values_TC.clone()
        later[target:] = 77.0
        again = windows(later, targets_TK, length, horizon, first, last)
        assert torch.equal(again.inputs_NLC[place], found.inputs_NLC[place])


class Table(TimeSeries):
    """A series at hand."""

    def __init__(self, values_TC: Tensor, window: int = 4, horizon: int = 2) -> None:
        super().__init__("table", window, horizon)
        self.values_TC = values_TC

    def table(self) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
        names = tuple("abcdef"[: self.values_TC.shape[1]])
        return self.values_TC, names, (names[1], names[0])


def rising(steps: int = 200) -> Tensor:
    """Three columns: one grows, one is its square, one is constant."""
    step_T = torch.arange(steps, dtype=torch.float64)
    return torch.stack([step_T, step_T**2, torch.full_like(step_T, 5)], dim=1)


def test_scaling_uses_the_weights_part_alone() -> None:
    """Of 200 steps the last 40 are kept; half of the other 160 train the weights, and nothing after them counts."""
    values_TC = rising()
    known = Table(values_TC).load(0.5)
    own = values_TC[:80].numpy()
    mean, deviation = own.mean(axis=0), own.std(axis=0)
    assert known.inputs["mean"] == pytest.approx(mean.tolist())
    assert known.inputs["deviation"][:2] == pytest.approx(deviation[:2].tolist())
    scaled = (values_TC.numpy() - mean) / np.where(deviation > 0, deviation, 1)
    for part, first, last in ((known.train, 5, 80), (known.valid, 80, 160), (known.test, 160, 200)):
        np.testing.assert_allclose(part.targets_NK.numpy(), scaled[first:last, [1, 0]], rtol=1e-5, atol=1e-5)
        for place, target in enumerate(range(first, last)):
            np.testing.assert_allclose(part.inputs_NLC[place].numpy(), scaled[target - 5 : target - 1], atol=1e-5)
    values_TC[80:] *= 1000
    changed = Table(values_TC).load(0.5)
    assert changed.inputs == known.inputs
    assert all(torch.equal(a, b) for a, b in zip(changed.train, known.train, strict=True))
    assert known.train.inputs_NLC[..., 2].count_nonzero() == 0


@pytest.mark.parametrize(("name", "number"), [("window", 0), ("horizon", 0), ("window", 2.0), ("horizon", True)])
def test_windows_of_no_steps_are_refused(name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got {number}; give 1 or more steps"):
        MackeyGlass(**{name: number})


# --- The Mackey-Glass series


@pytest.mark.parametrize(("tau", "seed"), [(17, 0), (17, 1), (30, 0), (8, 0)])
def test_values_follow_the_delayed_equation(tau: int, seed: int) -> None:
    """Tiny Euler steps from a spline through the values before some moment, 25 units on."""
    series_T = MackeyGlass(steps=400, tau=tau, noise=0, seed=seed).table()[0][:, 0].numpy()
    assert 0 < series_T.min() < series_T.max() < 2
    begin, length, per = 200, 25, 1000
    past = CubicSpline(np.arange(begin + 1), series_T[: begin + 1])
    x = past(begin - tau + np.arange(per * tau + 1) / per).tolist()
    for step in range(per * length):
        before = x[step]
        x.append(x[-1] + (0.2 * before / (1 + before**10) - 0.1 * x[-1]) / per)
    found = x[per * tau :: per]
    assert found == pytest.approx(series_T[begin : begin + length + 1].tolist(), abs=5e-3)
    assert np.ptp(found) > 0.05


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    """Beside the same series without noise, within four standard errors."""
    clean, noisy = (MackeyGlass(steps=3000, noise=noise, seed=5).table()[0] for noise in (0.0, 0.25))
    noise = (noisy - clean).flatten() / clean.std()
    assert abs(float(noise.mean())) <= 4 * 0.25 / 3000**0.5
    assert abs(float(noise.std()) - 0.25) <= 4 * 0.25 / (2 * 3000) ** 0.5
    lagged = float((noise[1:] * noise[:-1]).mean()) / 0.25**2
    assert abs(lagged) <= 4 / 3000**0.5


# --- Files

ROWS = [[step, step * 0.5, (step * 7) % 11] for step in range(80)]


def written(path: Path, rows: list[list[Any]], header: str = "a,b,c") -> str:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def changed(row: int, column: int, value: str) -> list[list[Any]]:
    return [[value if (i, j) == (row, column) else cell for j, cell in enumerate(own)] for i, own in enumerate(ROWS)]


def test_columns_come_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(
        b"\xef\xbb\xbf" + b"a, b ,c\r\n" + b"\r\n".join(b"%d, %d,x" % (i, i * i) for i in range(60)) + b"\r\n\r\n"
    )
    values_TC, columns, targets = CsvSeries(str(path), columns=["b", "a"]).table()
    assert (columns, targets) == (("b", "a"), ("a",))
    assert values_TC.tolist() == [[i * i, i] for i in range(60)]
    assert CsvSeries(str(path), columns=["a", "b"], targets=["a"]).table()[2] == ("a",)


MISTAKES: dict[str, tuple[list[list[Any]], str, dict[str, Any], str]] = {
    "gap": (changed(7, 1, ""), "a,b,c", {}, r"dataset\.root: .*line 9, column 'b': got a gap.*dataset\.columns"),
    "short line": ([*ROWS, [1, 2]], "a,b,c", {}, r"dataset\.root: .*line 82, column 'c': got a gap"),
    "text": (changed(0, 2, "n/a"), "a,b,c", {}, r"dataset\.root: .*line 2, column 'c': got 'n/a'"),
    "infinite": (changed(3, 0, "inf"), "a,b,c", {}, r"dataset\.root: .*line 5, column 'a': got 'inf'"),
    "missing column": (ROWS, "a,b,c", {"columns": ["a", "d"]}, r"dataset\.columns: got 'd'; .*has a, b, c"),
    "missing target": (ROWS, "a,b,c", {"targets": ["d"]}, r"dataset\.targets: got 'd'; .*a, b, c"),
    "unseen target": (ROWS, "a,b,c", {"columns": ["a"], "targets": ["c"]}, r"targets: got 'c'.*dataset\.columns"),
    "too few rows": (ROWS[:30], "a,b,c", {}, r"30 rows; .* at least 48; give more rows, or a smaller dataset\.window"),
    "no rows": ([], "a,b,c", {}, r"0 rows; .* give more rows"),
    "long horizon": (ROWS, "a,b,c", {"horizon": 100}, r"80 rows; .*horizon of 100 .* dataset\.horizon"),
    "long window": (ROWS, "a,b,c", {"window": 81}, r"80 rows; windows of 81 .* smaller dataset\.window"),
    "same names": (ROWS, "a,b,a", {}, r"dataset\.root: .*different names"),
    "empty": ([], "", {}, r"dataset\.root: .*no first line"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_file_with_a_mistake_is_one_error_that_names_what_to_change(name: str, tmp_path: Path) -> None:
    rows, header, options, message = MISTAKES[name]
    with pytest.raises(UserError, match=message) as caught:
        CsvSeries(written(tmp_path / "own.csv", rows, header), **options).load(0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00a", b'a,b\n"1,2\n\x00'])
def test_what_is_no_file_of_text_is_one_error(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"^dataset\.root: "):
        CsvSeries(str(tmp_path / "own.csv")).load(0.5)


# --- Parts of the final network


def targets_of(part: Windows) -> set[tuple[float, ...]]:
    return set(map(tuple, part.targets_NK.tolist()))


SOURCES: dict[str, SeriesSource] = {
    "table": Table(rising()),
    "far": Table(rising(), window=7, horizon=11),
    "mackey_glass": MackeyGlass(500),
    "adding": Adding(6, 400),
}


@pytest.mark.parametrize("held_out", [None, 0.0, 0.2])
@pytest.mark.parametrize("name", SOURCES)
def test_final_parts_share_no_target(name: str, held_out: float | None) -> None:
    source = SOURCES[name]
    found = final_parts(source, held_out)
    assert isinstance(found, FinalSeries)
    parts = found.parts
    seen = [targets_of(part) for part in (parts.train, parts.valid, parts.test)]
    assert [len(own) for own in seen] == [len(part.targets_NK) for part in (parts.train, parts.valid, parts.test)]
    assert not any(one & other for one, other in itertools.combinations(seen, 2))
    assert found.watches == bool(held_out) == bool(seen[1])
    tasks = [SequenceRegression(one, 0.5, 16) for one in (found.on_the_way(), found.at_the_end())]
    assert all(targets_of(task.train.windows) == seen[0] for task in tasks)
    assert targets_of(tasks[0].valid.windows) == seen[1 if held_out else 2]
    assert targets_of(tasks[1].valid.windows) == seen[2]


def test_final_networks_are_judged_by_steps_that_no_search_saw() -> None:
    """The second target is the number of the step."""

    def steps_of(part: Windows, about: dict[str, Any]) -> list[int]:
        scaled_N = part.targets_NK[:, 1].double() * about["deviation"][0] + about["mean"][0]
        return [round(step) for step in scaled_N.tolist()]

    source = Table(rising())
    search = source.load(0.5)
    seen = steps_of(search.train.joined(search.valid), search.inputs)
    assert seen == list(range(5, 160))
    for held_out in (None, 0.3):
        parts = final_parts(source, held_out).parts  # type: ignore[union-attr]
        assert steps_of(parts.test, parts.inputs) == list(range(160, 200))
        assert steps_of(parts.train.joined(parts.valid), parts.inputs) == seen


def test_a_share_that_leaves_too_little_names_the_option_that_was_given() -> None:
    with pytest.raises(ValueError, match=r"^held_out: got 0\.01"):
        final_parts(Table(rising()), 0.01)
