"""What is said where a number of a search is no longer finite."""

from __future__ import annotations

from pathlib import Path

from darts.run.checkpoint import checkpoint_path
from darts.run.errors import Everywhere
from darts.run.folder import resuming


class NonFiniteLoss(Everywhere):
    """A loss, a weight or an architecture parameter became infinite or NaN; the message says in which part.

    Attributes:
        where: the step and the part alone.
    """

    where = ""


def diverged(
    step: int, of: int, phase: str, what: str, run_dir: Path | None, checkpointed_step: int, retries: int
) -> NonFiniteLoss:
    """The error, with the step and the part, and how to mend it.

    Args:
        step, of: that it happened in, from 1, and how many there are.
        phase: that the step belongs to.
        what: happened.
        run_dir, checkpointed_step: where the last checkpoint is, below 0 if there is none.
        retries: that were allowed.
    """
    where = f"step {step} of {of} ({phase}): {what}"
    kept, mend = "no checkpoint was written", ""
    if run_dir is not None and checkpointed_step >= 0:
        kept = f"the checkpoint of step {checkpointed_step} is kept in {checkpoint_path(run_dir)}"
        again = resuming(run_dir, "search")
        mend = f"go on from it with smaller learning rates: {again} engine.retries={retries + 1}; or "
    error = NonFiniteLoss(
        f"{where}; {kept}. To mend it, {mend}start anew with lower weight_step.lr or arch_step.lr, or "
        "weight_step.grad_clip=5"
    )
    error.where = where
    return error
