"""The curves of a run, as TensorBoard reads them.

torch's SummaryWriter writes from a thread of its own: on a full disk that thread dies with a traceback, and what it had
not written yet is missing though a checkpoint says it was. Here an event is with the operating system, or its error is
raised, when the call returns.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.run.files import naming

if TYPE_CHECKING:
    from torch import Tensor


class Curves:
    """Writes events to run_dir/tensorboard; a run that goes on does so in the same curves.

    Args:
        run_dir: of the run.
        step: after which it goes on; what earlier files hold of later ones is void.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = run_dir / "tensorboard"
        earlier = sorted(folder.glob("events.out.tfevents.*"))  # read in this order: the later, the greater
        last = max((int(number) for file in earlier if (number := file.name.split(".")[3]).isdecimal()), default=0)
        self.path = folder / f"events.out.tfevents.{max(int(time.time()), last + 1):010d}"
        self.event = Event
        with naming(self.path):
            folder.mkdir(exist_ok=True)
            self.records = RecordWriter(self.path.open("ab"))
        self._add(0, file_version="brain.Event:2")
        if earlier:
            self._add(step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        from torch.utils.tensorboard.summary import scalar

        self._add(step, summary=scalar(name, value))  # type: ignore[no-untyped-call]

    def histogram(self, name: str, values: Tensor, step: int) -> None:
        """How values are distributed."""
        from torch.utils.tensorboard.summary import histogram

        self._add(step, summary=histogram(name, values.detach().cpu().numpy(), bins="auto"))  # type: ignore[no-untyped-call]

    def image(self, name: str, image_HW: Tensor, step: int) -> None:
        """A picture in shades of grey, values from 0 to 1."""
        from torch.utils.tensorboard.summary import image

        self._add(step, summary=image(name, image_HW, dataformats="HW"))  # type: ignore[no-untyped-call]

    def text(self, name: str, text: str, step: int) -> None:
        """Words, in Markdown."""
        from torch.utils.tensorboard.summary import text as words

        self._add(step, summary=words(name, text))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Nothing more comes."""
        with naming(self.path):
            self.records.close()

    def _add(self, step: int, **content: Any) -> None:
        event = self.event(step=step, wall_time=time.time(), **content)
        with naming(self.path):
            self.records.write(event.SerializeToString())
            self.records.flush()
