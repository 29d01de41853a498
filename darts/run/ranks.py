"""The processes that share one run, as torchrun starts them; a process that nothing started so is alone.

They compute the same on the same numbers, and what one of them alone knows, such as the time, it tells the others. All
of them have to come to each of these functions, in the same order.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

from darts.run.errors import Everywhere, UserError, reason

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")
Item = TypeVar("Item")
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them
_size, _rank = 1, 0


def started() -> bool:
    """Whether torchrun started this process, or something that sets what it sets."""
    return all(name in os.environ for name in NAMES)


def silent() -> bool:
    """Whether what all processes have to say is said by another one."""
    return started() and int(os.environ["RANK"]) > 0


def restarted() -> bool:
    """Whether it did so again, after a process had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def restarts() -> bool:
    """Whether it would."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def size() -> int:
    """How many processes there are."""
    return _size


def rank() -> int:
    """The number of this one, from 0."""
    return _rank


def first() -> bool:
    """Whether this is the one that writes and reports."""
    return _rank == 0


def local() -> int:
    """The number of this one among those of its machine."""
    return int(os.environ["LOCAL_RANK"]) if _size > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that torchrun started know each other: by gloo on CPUs, by NCCL on GPUs. Each has its share
    of the CPU's cores, and all but the first are silent."""
    global _size, _rank
    if int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, number, count = next(dist.rendezvous("env://"))
    # torchrun's store outlives a restart, and with it the addresses of processes that are gone
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backends = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backends, store=store, rank=number, world_size=count)
    _size, _rank = dist.get_world_size(), dist.get_rank()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        if first():
            yield
        else:
            logging.disable(logging.WARNING)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
    finally:
        _size, _rank = 1, 0
        logging.disable(logging.NOTSET)
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process computes as if there were no other one."""
    global _size, _rank
    before = _size, _rank
    _size, _rank = 1, 0
    try:
        yield
    finally:
        _size, _rank = before


@contextmanager
def _reaching() -> Iterator[None]:
    """Inside, this process talks to the others.

    Raises:
        UserError: one of them has ended.
    """
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"process {_rank}: another process of this run has ended ({reason(error)}); what it said before tells why. "
            "The last checkpoint is kept: start the run again with resume=RUN_DIR, or let torchrun do it, with "
            "--max-restarts=N"
        ) from None


def summed(values: Sequence[Tensor]) -> list[Tensor]:
    """The sums over all processes, of tensors on one device; the same bits everywhere."""
    if _size == 1:
        return list(values)
    import torch
    import torch.distributed as dist

    found: list[Any] = [None] * len(values)
    for dtype in dict.fromkeys(value.dtype for value in values):
        places = [place for place, value in enumerate(values) if value.dtype == dtype]
        flat = torch.cat([values[place].reshape(-1) for place in places])  # one message
        with _reaching():
            dist.all_reduce(flat)
        pieces = flat.split([values[place].numel() for place in places])
        for place, piece in zip(places, pieces, strict=True):
            found[place] = piece.view(values[place].shape)
    return found


def from_first(value: Value) -> Value:
    """What the first process has."""
    if _size == 1:
        return value
    import torch
    import torch.distributed as dist

    box = [value]
    with _reaching():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gathered(value: Value) -> list[Value]:
    """What each process has, in their order."""
    if _size == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * _size
    with _reaching():
        dist.all_gather_object(found, value)
    return found


def brought(value: Value) -> list[Value]:
    """What each process has, brought to the first one; elsewhere what this one has. For many tensors, which go as one
    file and not one by one."""
    if _size == 1:
        return [value]
    import torch
    import torch.distributed as dist

    file = io.BytesIO()
    torch.save(value, file)
    parts: list[Any] | None = [None] * _size if first() else None
    with _reaching():
        dist.gather_object(file.getvalue(), parts, dst=0)
    if parts is None:
        return [value]
    # of this run's own processes, which could send anything as it is
    others = [torch.load(io.BytesIO(part), weights_only=False) for part in parts[1:]]
    return [value, *others]


def spread(items: Iterable[Item], measure: Callable[[Item], Value]) -> list[Value]:
    """What `measure` gives of every item, in their order; each process measures a part of them, and what it draws from
    torch's generators on the way is given back."""
    if _size == 1:
        return [measure(item) for item in items]
    import torch

    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        own = [measure(item) if place % _size == _rank else None for place, item in enumerate(items)]
    parts = gathered(own)
    return [parts[place % _size][place] for place in range(len(own))]  # type: ignore[misc]


def agreed(build: Callable[[], Value], in_turn: bool = False) -> Value:
    """What `build` makes, everywhere or nowhere.

    Args:
        build: may itself come to functions of this module, unless in turn.
        in_turn: the others begin when the first is done, which may have downloaded or decoded something for all.

    Raises:
        Everywhere: what the first process that cannot says; alone, whatever `build` raises.
    """
    if _size == 1:
        return build()
    made, problem = None, None
    if in_turn and _rank > 0:
        from_first(None)
    try:
        made = build()
    except UserError as error:
        problem = str(error)
    if in_turn and _rank == 0:
        from_first(None)
    problems = gathered(problem)
    failed = [place for place, told in enumerate(problems) if told is not None]
    if not failed:
        return made  # type: ignore[return-value]
    where = f"process {failed[0]}: " if failed[0] else ""
    raise Everywhere(f"{where}{problems[failed[0]]}")
