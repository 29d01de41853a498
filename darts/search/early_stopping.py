"""When training the architecture should end before its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from darts.run.errors import UserError
from darts.search.state import SearchState


class EarlyStopping:
    """Watches one number of the epochs' records: a loss, a metric, or what a monitor measures.

    Any of the rules given ends the phase; the architecture parameters go back to those of the best epoch.

    Args:
        watch: name of the number, such as valid_loss or eigenvalue.
        better: ``low`` or ``high``.
        patience: epochs without a better value; the best epoch is the one with the best value.
        growth: the mean of the last `window` values is so many times that of the `window` values `window` epochs before
            (R-DARTS, arXiv:1909.09656, section 4.3: 1 / 0.75); the best epoch is the one `window` epochs ago.
        window: epochs of that mean.
        limit: a value that must not be passed, to the worse side; the best epoch is the last one on this side.

    Raises:
        ValueError: a value out of range, or no rule.
    """

    def __init__(
        self,
        watch: str,
        better: str = "low",
        patience: int | None = None,
        growth: float | None = None,
        window: int = 5,
        limit: float | None = None,
    ) -> None:
        if better not in ("low", "high"):
            raise ValueError(f"better: got {better!r}; allowed are low, high")
        if patience is None and growth is None and limit is None:
            raise ValueError("patience, growth, limit: got none; give at least one rule")
        if patience is not None and patience < 1:
            raise ValueError(f"patience: got {patience}; give 1 epoch or more")
        if growth is not None and not growth > 1:
            raise ValueError(f"growth: got {growth}; give a factor above 1")
        if growth is not None and better == "high":
            raise ValueError("growth: got one for a number that should be high; give better=low, or another rule")
        if window < 1:
            raise ValueError(f"window: got {window}; give 1 epoch or more")
        self.watch, self.better, self.patience = watch, better, patience
        self.growth, self.window, self.limit = growth, window, limit

    def verdict(self, history: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
        """After an epoch, the place of the best record and why to stop, or None to go on.

        Raises:
            UserError: no record has the number.
        """
        known = [(place, value) for place, record in enumerate(history) if (value := self._of(record)) is not None]
        if not known:
            names = sorted({*history[-1].get("measured", {}), *(k for k, v in history[-1].items() if type(v) is float)})
            raise UserError(
                f"early_stopping.watch: got {self.watch!r}; what was recorded is {', '.join(names)}. "
                "Add the monitor that measures it, monitor=[progress,NAME]"
            )
        sign = 1 if self.better == "low" else -1
        values = [sign * value for _, value in known]
        if self.limit is not None and values[-1] > sign * self.limit:
            inside = [place for (place, _), value in zip(known, values, strict=True) if value <= sign * self.limit]
            return (inside or [known[0][0]])[-1], f"{self.watch} {known[-1][1]:.4g} passed the limit {self.limit:g}"
        best = min(range(len(values)), key=values.__getitem__)
        if self.patience is not None and len(values) - 1 - best >= self.patience:
            return known[best][
                0
            ], f"{self.watch} has not been better than {known[best][1]:.4g} for {self.patience} epochs"
        if self.growth is not None and len(values) >= 2 * self.window:
            now = math.fsum(values[-self.window :]) / self.window
            before = math.fsum(values[-2 * self.window : -self.window]) / self.window
            if before > 0 and now > self.growth * before:
                place = known[-1 - self.window][0]
                return place, f"{self.watch} grew to {now / before:.2f} times what it was {self.window} epochs ago"
        return None

    def applies(self, state: SearchState, begin: int) -> bool:
        """Whether to end the phase that began after step `begin`; then the architecture is that of its best epoch."""
        records = [record for record in state.history if record["step"] > begin]
        if (verdict := self.verdict(records)) is None:
            return False
        best, last = records[verdict[0]]["epoch"], records[-1]["epoch"]
        state.stopped_early = f"{verdict[1]} (epoch {last}); the architecture is that of epoch {best}"
        with torch.no_grad():
            for name, value in state.params.items():
                value.copy_(torch.tensor(records[verdict[0]]["alphas"][name]))
        state.evaluated = None
        return True

    def _of(self, record: Mapping[str, Any]) -> float | None:
        value = record.get("measured", {}).get(self.watch, record.get(self.watch))
        return float(value) if isinstance(value, int | float) else None
