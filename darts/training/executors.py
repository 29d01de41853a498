"""Where trainings happen: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

import torch

from darts.run.errors import reason
from darts.training.workers import Died, Executor, Found, Made, Worker

# A server, where there is one, has imported torch when a process is wanted, and has computed nothing yet.
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["darts.training.worker", "darts.training.short"])


MINUTE = 60.0
NO_CLUSTER = "no Ray cluster at {} ({}); start one with ray start --head, or leave ray_address out for a local one"


class _Here(Worker[Made]):
    def __init__(self, make: Callable[[], Made]) -> None:
        self.made = make()

    def call(self, function: Callable[..., Found], *args: Any) -> Found:
        return function(self.made, *args)

    def end(self) -> None:
        return


class Here(Executor[Made]):
    """In this process, in the threads that call."""

    dies = False

    def started(self) -> Worker[Made]:
        return _Here(self.make)


class _Process(Worker[Made]):
    """A pool of one process of the standard library's, so that a death is known to be the worker's own. What it is told
    and answers is pickled here: the pool would hand tensors over in shared memory, which a killed process keeps."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self.pool, self.lock, self.gone = ProcessPoolExecutor(1, CONTEXT, _begin), threading.Lock(), False
        try:
            self.pid = self.pool.submit(_make, pickle.dumps(make)).result()
        except BrokenProcessPool:
            raise Died("it could not begin") from None

    def call(self, function: Callable[..., Found], *args: Any) -> Found:
        wanted = pickle.dumps((function, args))
        try:
            with self.lock:
                if self.gone:
                    raise Died("it has ended")
                answer = self.pool.submit(_call, wanted)
            found: Found = pickle.loads(answer.result())
        except (BrokenProcessPool, CancelledError):
            self.gone = True
            raise Died("it was killed, or ran out of memory") from None
        return found

    def end(self) -> None:
        with self.lock:  # a pool closes badly twice at a time
            if not self.gone:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGTERM)
            self.gone = True
            self.pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A pool's process would wait for ever for the jobs of a search that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


_made: Any = None  # of this process, where it is a worker's


def _make(make: bytes) -> int:
    global _made
    _made = pickle.loads(make)()
    return os.getpid()


def _call(wanted: bytes) -> bytes:
    function, args = pickle.loads(wanted)
    return pickle.dumps(function(_made, *args))


class Processes(Executor[Made]):
    """In processes of this machine."""

    def started(self) -> Worker[Made]:
        return _Process(self.make)


class _Actor(Worker[Made]):
    def __init__(self, ray: Any, make: Callable[[], Made], gpus: int) -> None:
        self.ray, errors = ray, ray.exceptions
        self.deaths = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)
        self.actor = ray.remote(num_cpus=1, num_gpus=gpus)(_Here).remote(make)
        while not ray.wait([self.actor.__ray_ready__.remote()], timeout=MINUTE)[0]:
            logging.getLogger(__name__).warning("A worker waits for room in the Ray cluster; others use it.")

    def call(self, function: Callable[..., Found], *args: Any) -> Found:
        try:
            found: Found = self.ray.get(self.actor.call.remote(function, *args))
        except self.deaths as error:
            raise Died(reason(error)) from None
        return found

    def end(self) -> None:
        self.ray.kill(self.actor)


class Ray(Executor[Made]):
    """On a Ray cluster: a local one of so many workers, or that of an address.

    Files that trainings read or write have to be found under the same path on all machines.
    """

    @classmethod
    def reach(cls, address: str | None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ValueError(
                "executor: got ray, which is not installed; pip install 'darts-supernet[ray]', or give executor=process"
            )
        host, _, port = (address or "").rpartition("/")[2].rpartition(":")
        try:  # Ray itself tries for minutes
            if host and port.isdecimal():
                socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise ValueError(NO_CLUSTER.format(address or "this machine", reason(error))) from None

    def connect(self, workers: int, address: str | None, device: torch.device) -> int:
        import ray

        own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        self.ray, self.gpus = ray, int(device.type == "cuda")
        self.found = ray.is_initialized()  # in a notebook, for example
        try:
            if not self.found:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(NO_CLUSTER.format(address or "this machine", reason(error))) from None
        kind = "GPU" if self.gpus else "CPU"
        room = int(ray.cluster_resources().get(kind, 0))
        if not room:
            raise ValueError(
                f"executor: the Ray cluster at {address or 'this machine'} has no {kind}; give another one"
            )
        return min(workers, room)

    def started(self) -> Worker[Made]:
        return _Actor(self.ray, self.make, self.gpus)

    def close(self) -> None:
        super().close()
        if not self.found:
            self.ray.shutdown()


EXECUTORS: dict[str, type[Executor[Any]]] = {"serial": Here, "process": Processes, "ray": Ray}


def check_executor(name: str, allowed: Iterable[str]) -> None:
    """Refuse names that there are none of.

    Raises:
        ValueError: it is one.
    """
    if name not in allowed:
        raise ValueError(f"executor: got {name!r}; allowed are {', '.join(allowed)}")


def check_address(address: str | None, names: Iterable[str | None]) -> None:
    """Refuse that of a Ray cluster where none of the executors is on one.

    Raises:
        ValueError: it is so.
    """
    if address is not None and "ray" not in names:
        raise ValueError(
            f"ray_address: got {address}, where nothing runs on Ray; leave it out, or give executor=ray to "
            "phases.finalists of a search, or to evaluator=train of a baseline"
        )
