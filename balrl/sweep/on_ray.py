"""A sweep on a Ray cluster, or on one that lives on this machine for as long as it is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from balrl.errors import UserError, last_line
from balrl.ray_cluster import connect, import_ray
from balrl.sweep.folder import SweepFolder
from balrl.sweep.remote import Report, carry_out, order_of

GRACE = 60.0
"""Seconds that runs have for saving before they are ended."""


class RayTasks:
    """Attempts as Ray tasks, each on the machine that has room; one whose machine is lost is made again elsewhere.

    The folder of the sweep must be seen by every machine under the same path. A driver that is started again goes on:
    all that it knows is in the folder.

    Args:
        folder: of the sweep.
        address: of the cluster; None: one on this machine alone, which listens to nobody outside.
        jobs: attempts at a time at most.
        pack: seeds that are trained together.
        cpus, gpus: of one attempt; fractions share.
    """

    def __init__(
        self,
        folder: SweepFolder,
        address: str | None = None,
        jobs: int | None = None,
        pack: int = 1,
        cpus: float = 1.0,
        gpus: float = 0.0,
    ) -> None:
        self.ray = import_ray("--executor ray")
        self.folder, self.address, self.jobs = folder, address, jobs
        self.resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._packs = [tuple(pack_of) for pack_of in folder.packs(pack)]
        self._running: dict[Any, tuple[str, ...]] = {}

    def run(self, look: Callable[[], None], until: float | None = None) -> bool:
        """Work until nothing is left; return False if the time was up before.

        Args:
            look: called twice a second.
            until: as `time.monotonic`.

        Raises:
            UserError: when Ray cannot be reached, or a machine of it cannot do what it is asked to.
        """
        connect(self.ray, self.address)
        task = self.ray.remote(max_retries=-1, **self.resources)(carry_out)
        try:
            while until is None or time.monotonic() < until:
                standings = self.folder.standings()
                if not self._running and not any(s.state in ("open", "running", "waiting") for s in standings.values()):
                    return True
                for pack in self._packs:
                    names = tuple(name for name in pack if standings[name].state == "open")
                    at_it = any(set(pack) & set(others) for others in self._running.values())
                    held = any(standings[name].state in ("running", "waiting") for name in pack)
                    if names and not at_it and not held and len(self._running) < self._room():
                        self._running[task.remote(order_of(self.folder, names))] = names
                self._collect(0.5)
                look()
            return False
        finally:
            self._stop()

    def _room(self) -> int:
        """Return how many attempts may be asked for: somewhat more than there is room for, so that none waits."""
        if self.jobs is not None:
            return self.jobs
        return max(2, int(2 * self.ray.cluster_resources().get("CPU", 1) / max(self.resources["num_cpus"], 0.1)))

    def _collect(self, seconds: float) -> None:
        if not self._running:
            time.sleep(seconds)
            return
        for reference in self.ray.wait(list(self._running), num_returns=1, timeout=seconds)[0]:
            del self._running[reference]
            report = self._report(reference)
            if report.outcome == "refused":
                raise UserError(report.error)

    def _report(self, reference: Any) -> Report:
        try:
            found: Report = self.ray.get(reference)
        except self.ray.exceptions.TaskCancelledError:
            return Report("stopped")
        except self.ray.exceptions.RayError as error:
            raise UserError(f"Ray: {last_line(error)}") from error
        return found

    def _stop(self) -> None:
        """Let every attempt save and stop."""
        for reference in self._running:
            self.ray.cancel(reference, force=False)
        if self._running:
            self.ray.wait(list(self._running), num_returns=len(self._running), timeout=GRACE)
        self._running.clear()
        self.ray.shutdown()
