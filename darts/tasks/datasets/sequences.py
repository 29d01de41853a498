"""Series that are made by a rule: the adding problem, and a noisy chaotic one.

Shape suffixes: N items, L steps, T steps of the whole series.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from darts.run.seeding import make_generator
from darts.tasks.datasets.windows import SeriesParts, SeriesSource, TimeSeries, Windows, check_split


class Adding(SeriesSource):
    """The adding problem (Hochreiter & Schmidhuber 1997, section 5.4): of a row of numbers drawn uniformly from [0, 1]
    two are marked, one in each half; the target is their sum. Who always answers 1 has a mean squared error of 1/6.

    Args:
        length: steps of a row.
        items: rows for weights and architecture; a quarter as many are kept for the judgement.
        seed: of the numbers.

    Raises:
        ValueError: fewer than 2 steps or 16 rows.
    """

    def __init__(self, length: int = 30, items: int = 4000, seed: int = 0) -> None:
        super().__init__(f"adding problem, {length} steps")
        if length < 2 or items < 16:
            raise ValueError(f"length, items: got {length} and {items}; give at least 2 steps and 16 rows")
        self.length, self.items, self.seed = length, items, seed

    def load(self, split: float) -> SeriesParts:
        check_split(split)
        count = self.items + self.items // 4
        generator = make_generator(self.seed, "adding problem")
        values_NL = torch.rand(count, self.length, generator=generator)
        half = self.length // 2
        marks_NL = torch.zeros(count, self.length)
        for first, last in ((0, half), (half, self.length)):
            chosen_N = torch.randint(first, last, (count,), generator=generator)
            marks_NL[torch.arange(count), chosen_N] = 1
        rows = Windows(torch.stack([values_NL, marks_NL], dim=2), (values_NL * marks_NL).sum(dim=1, keepdim=True))
        ends = (0, round(split * self.items), self.items, count)
        train, valid, test = (Windows(*(part[first:last] for part in rows)) for first, last in itertools.pairwise(ends))
        return SeriesParts(train, valid, test)


class MackeyGlass(TimeSeries):
    """A chaotic series with noise (Mackey & Glass 1977): x' = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x, by the
    fourth-order Runge-Kutta method with steps of 0.1, one value a unit of time after 300 units.

    Args:
        steps: values of the series.
        tau: the delay; chaotic from 17.
        noise: deviation of what is added to each value, as a share of that of the series.
        window, horizon: see `TimeSeries`.
        seed: of noise and first values.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self, steps: int = 3000, tau: int = 17, noise: float = 0.05, window: int = 24, horizon: int = 6, seed: int = 0
    ) -> None:
        super().__init__(f"Mackey-Glass series, tau {tau}, {horizon} steps ahead", window, horizon)
        if steps < 100 or tau < 1 or not 0 <= noise < 10:
            raise ValueError(
                f"steps, tau, noise: got {steps}, {tau} and {noise}; give 100 or more, 1 or more, and 0 or more"
            )
        self.steps, self.tau, self.noise, self.seed = steps, tau, noise, seed

    def table(self) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
        generator = make_generator(self.seed, "Mackey-Glass")
        begin = (1.2 + 0.2 * (torch.rand(1, dtype=torch.float64, generator=generator) - 0.5)).item()
        per, dropped = 10, 300  # steps a unit of time, units before the first value
        delay, h = per * self.tau, 1 / per
        x = [begin] * (delay + 1)

        def slope(now: float, before: float) -> float:
            return 0.2 * before / (1 + before**10) - 0.1 * now

        for _ in range(per * (self.steps + dropped)):
            now, before, later = x[-1], x[-1 - delay], x[-delay]
            middle = (before + later) / 2
            k1 = slope(now, before)
            k2 = slope(now + h / 2 * k1, middle)
            k3 = slope(now + h / 2 * k2, middle)
            x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(now + h * k3, later)))
        values_T = torch.tensor(x[delay + per * dropped :: per][: self.steps], dtype=torch.float64)
        spread_T = torch.randn(self.steps, dtype=torch.float64, generator=generator)
        noisy_T1 = (values_T + self.noise * values_T.std() * spread_T)[:, None]
        return noisy_T1, ("x",), ("x",)
