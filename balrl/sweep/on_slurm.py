"""A sweep as array jobs of a Slurm cluster, by submitit."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from balrl.errors import UserError, first_line
from balrl.sweep.folder import SweepFolder
from balrl.sweep.remote import Order, Report, carry_out, order_of

PAUSE = 5.0
"""Seconds between questions to Slurm's controller."""
ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


class SlurmAttempt:
    """What a job calls. At a preemption or before its time limit, it saves and is queued again, to go on."""

    def __call__(self, order: Order) -> Report:
        """Carry an order out."""
        queue_again = signal.getsignal(signal.SIGUSR2)
        asked = False

        def save(*_: Any) -> None:
            nonlocal asked
            asked = True
            os.kill(os.getpid(), signal.SIGTERM)  # which stops a run in order

        signal.signal(signal.SIGUSR2, save)
        report = carry_out(order)
        if asked and report.outcome == "stopped" and callable(queue_again):
            queue_again(signal.SIGUSR2, None)
        return report

    def checkpoint(self, order: Order) -> Any:
        """Say what is to be done when the job is queued again: the same, from where it stands."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, order)

    __submitit_checkpoint__ = checkpoint


class SlurmJobs:
    """Attempts as jobs of a cluster: an array for what can begin, and one more for what starts from it.

    The jobs go on when this process ends; another finds what they have done in the folder.

    Args:
        folder: of the sweep, seen by every node under the same path.
        jobs: of an array at a time.
        pack: seeds that are trained together.
        minutes: time limit of a job; a run that takes longer is queued again.
        cpus, gpus: of a job.
        memory: of a job in GB; 0: Slurm's own.
        partition: Slurm's own by default.
        cluster: ``slurm``, or submitit's ``local``, which runs jobs on this machine.
    """

    def __init__(
        self,
        folder: SweepFolder,
        jobs: int | None = None,
        pack: int = 1,
        minutes: int = 240,
        cpus: int = 1,
        gpus: int = 0,
        memory: int = 0,
        partition: str | None = None,
        cluster: str = "slurm",
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                f"--executor slurm needs submitit: pip install 'balrl[slurm]' ({first_line(error)})"
            ) from error
        self.folder, self._packs = folder, folder.packs(pack)
        more = {"slurm_max_num_timeout": 1_000_000} if cluster == "slurm" else {}  # a run may be as long as it likes
        try:
            self.executor = submitit.AutoExecutor(folder.path / "logs" / "slurm", cluster=cluster, **more)
        except RuntimeError as error:
            raise UserError(f"there is no Slurm on this machine: {first_line(error)}") from error
        chosen = {"timeout_min": minutes, "cpus_per_task": cpus, "name": f"balrl-{folder.path.name}"}
        chosen |= {"mem_gb": memory} if memory else {}
        chosen |= {"gpus_per_node": gpus} if gpus else {}
        slurm: dict[str, Any] = {"slurm_array_parallelism": jobs or 256}
        slurm |= {"slurm_partition": partition} if partition else {}
        self._options = {**chosen, **(slurm if cluster == "slurm" else {})}
        self._cluster = cluster
        self._pending: list[Any] = []
        self._jobs: set[str] | None = None
        self._asked = -math.inf

    def run(self, look: Callable[[], None], until: float | None = None) -> bool:
        """Submit until nothing is left; return False if the time was up before.

        Args:
            look: called twice a second.
            until: as `time.monotonic`.

        Raises:
            UserError: when a node cannot do what it is asked to, or Slurm refuses.
        """
        while until is None or time.monotonic() < until:
            if not self._pending:
                standings = self.folder.standings()
                if not any(s.state in ("open", "running", "waiting") for s in standings.values()):
                    return True
                first, then = (
                    [p for p in self._packs if any(standings[n].state == s for n in p)] for s in ("open", "waiting")
                )
                self._submit(first)
                self._submit(then, after=self._pending)
            self._pending = [job for job in self._pending if not self._is_over(job)]
            look()
            time.sleep(0.5)
        return False

    def _submit(self, packs: list[list[str]], after: list[Any] | None = None) -> None:
        if not packs or (after is not None and not after):
            return  # what it waits for is somebody else's
        options = dict(self._options)
        if self._cluster == "slurm":
            options["slurm_dependency"] = None
        if after and self._cluster == "slurm":
            options["slurm_dependency"] = "afterany:" + ":".join(sorted({job.job_id.split("_")[0] for job in after}))
        elif after:
            return  # they are submitted when nothing is pending any more
        self.executor.update_parameters(**options)
        made = [order_of(self.folder, pack) for pack in packs]
        self._asked, self._jobs = -math.inf, None
        try:
            self._pending = [*self._pending, *self.executor.map_array(SlurmAttempt(), made)]
        except Exception as error:  # submitit has its own, and passes on what sbatch says
            raise UserError(f"Slurm does not take the jobs: {first_line(error)}") from error

    def _queued(self) -> set[str] | None:
        """Return the jobs that wait or run, asked for anew every few seconds; None while the controller does not say.

        Not every cluster has ``sacct``, which submitit would ask.
        """
        if time.monotonic() - self._asked > PAUSE:
            command = ["squeue", "--noheader", "--array", "--states=all", "--me", "--format=%F_%K %T"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:  # else the controller is busy: ask again
                lines = [line.split() for line in done.stdout.splitlines()]
                self._jobs = {name.removesuffix("_N/A") for name, state in lines if state not in ENDED}
                self._asked = time.monotonic()
        return self._jobs

    def _is_over(self, job: Any) -> bool:
        if not job.paths.result_pickle.exists():
            if self._cluster != "slurm":
                return bool(job.done())
            queued = self._queued()
            return queued is not None and job.job_id not in queued
        try:
            report = job.result()
        except Exception:  # it was cancelled, or its node was lost: the folder knows how far it came
            return True
        if report.outcome == "refused":
            raise UserError(report.error)
        return True
