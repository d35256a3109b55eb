"""A sweep in several processes of this machine."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from balrl.errors import EXIT_INTERRUPTED, EXIT_MISTAKE, UserError
from balrl.run.imports import import_modules
from balrl.sweep.folder import SweepFolder, open_sweep
from balrl.sweep.work import Unwell, next_pack, work

GRACE = 60.0
"""Seconds that a process has for saving before it is ended."""


class LocalWorkers:
    """Processes that make attempts at a sweep's runs, each on cores of its own and on one GPU where there is one.

    A process that dies is replaced while something is left to do. When the one that made this object is gone, they save
    and stop.

    Args:
        folder: of the sweep.
        jobs: how many processes.
        pack: seeds that each trains together.
        gpus: identifiers of GPUs, handed out in turns; none on a machine without.
    """

    def __init__(self, folder: SweepFolder, jobs: int, pack: int = 1, gpus: Sequence[str] = ()) -> None:
        self.folder, self.pack, self.gpus = folder, pack, list(gpus)
        self.cores = _shares(sorted(os.sched_getaffinity(0)), jobs)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._packs = folder.packs(pack)

    def run(self, look: Callable[[], None], until: float | None = None) -> bool:
        """Work until nothing is left; return False if the time was up before.

        Args:
            look: called twice a second.
            until: as `time.monotonic`.

        Raises:
            UserError: when a process could not work at all.
        """
        try:
            for slot in range(len(self.cores)):
                self.processes[slot] = self._start(slot)
            while self.processes:
                if until is not None and time.monotonic() >= until:
                    return False
                for slot, process in list(self.processes.items()):
                    code = process.poll()
                    if code is not None:
                        del self.processes[slot]
                        self._check(slot, code)
                        if code != 0 and next_pack(self.folder, self._packs) is not None:
                            self.processes[slot] = self._start(slot)
                look()
                time.sleep(0.5)
            return True
        finally:
            self.stop()

    def stop(self) -> None:
        """Let every process save and stop."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def log(self, slot: int) -> Path:
        """Return the file that a process writes to."""
        return self.folder.path / "logs" / f"worker-{slot}.log"

    def _check(self, slot: int, code: int) -> None:
        if code == EXIT_MISTAKE:
            last = (self.log(slot).read_text(errors="replace").strip().splitlines() or ["(nothing)"])[-1]
            raise UserError(f"a process of the sweep could not work: {last.removeprefix('balrl: ')}")

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        cores = self.cores[slot]
        environment = {"OMP_NUM_THREADS": str(len(cores)), **os.environ}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        command = [sys.executable, "-m", "balrl.sweep.local", str(self.folder.path)]
        command += ["--retry", str(self.folder.retry), "--pack", str(self.pack), "--cores", ",".join(map(str, cores))]
        command += ["--parent", str(os.getpid())]
        command += [part for name in self.folder.imports for part in ("--import", name)]
        log: IO[bytes]
        with self.log(slot).open("ab") as log:  # a group of its own: Ctrl-C reaches them through this process
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _shares(cores: Sequence[int], jobs: int) -> list[list[int]]:
    """Return every job's cores: shares of equal size, or turns where there are more jobs than cores."""
    if jobs >= len(cores):
        return [[cores[slot % len(cores)]] for slot in range(jobs)]
    size = len(cores) // jobs
    return [list(cores[slot * size : (slot + 1) * size]) for slot in range(jobs)]


def _stop_with_parent(parent: int) -> None:
    """Ask this process to save and stop when the one that started it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Be one of these processes."""
    from rich.console import Console

    from balrl.watch.display import RichDisplay

    parser = argparse.ArgumentParser(prog="python -m balrl.sweep.local", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--retry", type=int, required=True)
    parser.add_argument("--pack", type=int, required=True)
    parser.add_argument("--cores", required=True)
    parser.add_argument("--parent", type=int, required=True, help="process that this one ends with")
    parser.add_argument("--import", dest="imported", action="append", default=[])
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    _stop_with_parent(options.parent)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        import_modules(options.imported)
        folder = open_sweep(options.folder, retry=options.retry, imports=options.imported)
        return 0 if work(folder, RichDisplay(Console()), options.pack, leaves=True) else EXIT_INTERRUPTED
    except Unwell:
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UserError as error:
        print(f"balrl: {error}", file=sys.stderr)
    except OSError as error:
        print(f"balrl: cannot read or write: {error}", file=sys.stderr)
    return EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
