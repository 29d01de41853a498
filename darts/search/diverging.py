"""What is said where a number of a search is no longer finite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from darts.run.checkpoint import checkpoint_path
from darts.run.errors import UserError
from darts.run.folder import resuming

if TYPE_CHECKING:
    from darts.search.state import SearchState


class NonFiniteLoss(UserError):
    """A loss, a weight or an architecture parameter became infinite or NaN; the message says in which part.

    Attributes:
        where: the step and the part alone.
    """

    where = ""
    everywhere = True


def diverged(
    state: SearchState, step: int, what: str, run_dir: Path | None, checkpointed_step: int, retries: int
) -> NonFiniteLoss:
    """The error, with the step and the part, and how to mend it.

    Args:
        state: of the search.
        step: that it happened in, from 1.
        what: happened.
        run_dir, checkpointed_step: where the last checkpoint is, below 0 if there is none.
        retries: that were allowed.
    """
    where = f"step {step} of {state.planned_steps} ({state.phase}): {what}"
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
