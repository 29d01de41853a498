"""Where candidates are trained: in this process, in several of this machine, or on a Ray cluster.

A candidate whose process dies has lost that attempt; the others go on.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import socket
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from darts.run.errors import UserError, reason
from darts.training.worker import Job, Site, Trained, train

# A server, where there is one, has imported torch when a process is wanted, and has computed nothing yet.
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["darts.training.worker"])


class Died(Exception):
    """The process that trained a candidate is gone."""


class Executor(ABC):
    """Runs trainings, several at a time, each called from a thread of its own.

    Args:
        site: what they share.
        workers: how many there are at a time.
        address: of a cluster.

    Raises:
        UserError: there is none.
    """

    @abstractmethod
    def __init__(self, site: Site, workers: int, address: str | None) -> None: ...

    @abstractmethod
    def run(self, job: Job) -> Trained:
        """One training, from its begin to its end.

        Raises:
            Died: its process did.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends what is under way."""


class Serial(Executor):
    """One after the other, in this process."""

    def __init__(self, site: Site, workers: int, address: str | None) -> None:
        self.site, self.turn = site, threading.Lock()

    def run(self, job: Job) -> Trained:
        with self.turn:
            return train(self.site, job)

    def close(self) -> None:
        return


class _Process:
    """A pool of one process of the standard library's, so that a death is known to be the candidate's own."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, CONTEXT, _begin)
        self.pid = self.pool.submit(os.getpid).result()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
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


class Processes(Executor):
    """In processes of this machine, begun when they are needed."""

    def __init__(self, site: Site, workers: int, address: str | None) -> None:
        self.site, self.closing = site, False
        self.idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self.alive: set[_Process] = set()

    def run(self, job: Job) -> Trained:
        try:
            process = self.idle.get_nowait()
        except queue.Empty:
            process = self._started()
        try:
            found = process.pool.submit(train, self.site, job).result()
        except BrokenProcessPool:
            self.alive.discard(process)
            process.pool.shutdown()
            raise Died("it was killed, or ran out of memory") from None
        self.idle.put(process)
        return found

    def _started(self) -> _Process:
        if self.closing:
            raise Died("the run ends")
        try:
            process = _Process()
        except BrokenProcessPool:
            raise Died("it could not begin") from None
        self.alive.add(process)
        return process

    def close(self) -> None:
        self.closing = True
        for process in list(self.alive):
            process.end()
        self.alive.clear()


class Ray(Executor):
    """On a Ray cluster: a local one of so many workers, or that of an address.

    Data and, where children inherit weights, the run folder have to be found under the same path on all machines.
    """

    def __init__(self, site: Site, workers: int, address: str | None) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "evaluator.executor: got ray, which is not installed; pip install 'darts-supernet[ray]', or give "
                "evaluator.executor=process"
            ) from None
        own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        try:
            _reach(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"evaluator.address: no Ray cluster at {address} ({reason(error)}); start one with ray start --head, "
                "or leave the address out for one on this machine"
            ) from None
        self.ray, self.site = ray, ray.put(site)
        gpus = 1 if site.device.type == "cuda" else 0
        self.train = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(train)

    def run(self, job: Job) -> Trained:
        errors = self.ray.exceptions
        try:
            found: Trained = self.ray.get(self.train.remote(self.site, job))
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise Died(reason(error)) from None
        return found

    def close(self) -> None:
        self.ray.shutdown()


def _reach(address: str | None) -> None:
    """Look whether somebody listens there, which Ray itself tries for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = (address or "").rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


EXECUTORS: dict[str, type[Executor]] = {"serial": Serial, "process": Processes, "ray": Ray}
