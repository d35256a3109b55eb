"""Logged data larger than memory: a packed file, mapped, whose coming rows a thread reads ahead."""

from __future__ import annotations

import mmap
import queue
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.replay import ReplayBuffer

AHEAD = 8
"""Updates that rows are read for in advance."""
LONGEST_TURN = 10
"""Updates after which what they draw must repeat to be foreseen."""


def mapped_storage(rows: int, width: int, folder: Path) -> Tensor:
    """Return ``[rows, width]`` float32 zeros in a new file, which is gone when nothing uses it any more.

    Raises:
        UserError: when the file cannot be made there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="balrl-") as file:
            file.truncate(rows * width * 4)
            array = np.memmap(file, np.float32, "r+", shape=(rows, width))
    except OSError as error:
        size = rows * width * 4 / 2**30
        raise UserError(f"data.disk: cannot make a file of {size:.1f} GiB in '{folder}': {error.strerror}") from error
    if hasattr(mmap, "MADV_RANDOM"):
        array._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]  # neighbours of a row are not needed with it
    return torch.from_numpy(array)


class Prefetcher:
    """Reads the rows that coming updates will draw, in a thread, so that they do not wait for the disk.

    Random numbers are a function of seed and position, and updates draw equally many, or in turns (a policy's step with
    every second one): what the next ones will draw is known. A wrong guess (at a change of phase, say) costs a little
    reading and changes nothing.

    Args:
        replay: mapped.
        stream: that updates draw from.
    """

    def __init__(self, replay: ReplayBuffer, stream: RandomStream) -> None:
        self.replay, self.stream = replay, stream
        self._last, self._asked = 0, 0
        self._steps: list[int] = []
        self._length = 0
        self._wanted: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def expect(self, rows: int, offsets: Sequence[int] = (0,)) -> None:
        """Tell that an update is about to be made.

        Args:
            rows: that it draws at a time.
            offsets: how many random numbers after its beginning it draws them.
        """
        position = int(self.stream.position)
        step = position - self._last
        if step <= 0:
            self._asked, self._steps = position, []  # the first update, or another sequence
        else:
            self._steps = [*self._steps, step][-2 * LONGEST_TURN :]
        begin, turn = position, self._turn()
        if len(turn) != self._length:
            self._asked, self._length = position, len(turn)  # what was asked for was guessed otherwise
        for ahead in range(AHEAD if turn else 0):
            begin += turn[ahead % len(turn)]
            if begin > self._asked:
                self._asked = begin
                for offset in offsets:
                    self._wanted.put((begin + offset, rows))
        self._last = position

    def _turn(self) -> list[int]:
        """Return how much the next updates draw, one after another: the shortest turn that all the last ones fit."""
        steps = self._steps
        lengths = range(1, len(steps) // 2 + 1)
        fits = (n for n in lengths if steps[n:] == steps[:-n])
        return steps[-next(fits, 1) :]

    def close(self) -> None:
        """End the thread."""
        self._wanted.put(None)
        self._thread.join()

    def rows_at(self, position: int, rows: int) -> Tensor:
        """Return the rows that a draw at a position of the stream gives."""
        ahead = RandomStream(0)
        ahead.key.copy_(self.stream.key)
        ahead.position.fill_(position)
        return ahead.integers(len(self.replay), rows)

    def _read(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            self.replay.gather(self.rows_at(*wanted))
