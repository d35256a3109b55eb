"""An attempt on another machine: what a Ray task or a Slurm job does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from balrl.errors import UserError
from balrl.run.imports import import_modules
from balrl.run.presets import TrainConfig
from balrl.settings import validate
from balrl.sweep.folder import SweepFolder, open_sweep
from balrl.sweep.plan import Planned
from balrl.sweep.work import attempt


class Order(NamedTuple):
    """What a machine is asked to do: plain data, so that it needs not plan the whole sweep for one run.

    Attributes:
        folder: of the sweep, on storage that all machines share.
        runs: configurations by name.
        parents: names of the runs that they start from.
        retry: failures in a row that set a run aside.
        imports: modules to import first.
    """

    folder: str
    runs: dict[str, dict[str, Any]]
    parents: dict[str, str | None]
    retry: int
    imports: tuple[str, ...] = ()


class Report(NamedTuple):
    """What became of an order.

    Attributes:
        outcome: as `balrl.sweep.work.attempt` returns it; ``skipped`` where nothing was left to do; ``refused`` where
            this machine cannot do it.
        error: why it is refused.
    """

    outcome: str
    error: str = ""


def order_of(folder: SweepFolder, names: Iterable[str]) -> Order:
    """Return the order to make attempts at some runs of a sweep."""
    runs = {name: folder.plan[name].config.model_dump(mode="json") for name in names}
    parents = {name: folder.plan[name].parent for name in runs}
    return Order(str(folder.path), runs, parents, folder.retry, folder.imports)


def carry_out(order: Order) -> Report:
    """Make an attempt at what is still open of an order, in this process; say what happens in the sweep's logs."""
    from rich.console import Console

    from balrl.watch.display import RichDisplay

    host = socket.gethostname()
    try:
        import_modules(order.imports)
        plan = {
            name: Planned(name, validate(TrainConfig, config, f"run {name}"), order.parents[name], {})
            for name, config in order.runs.items()
        }
        folder = open_sweep(Path(order.folder), retry=order.retry, imports=order.imports, plan=plan)
        names = [name for name, standing in folder.standings().items() if standing.state == "open"]
        if not names:
            return Report("skipped")
        with (folder.path / "logs" / f"{host}-{os.getpid()}.log").open("a", encoding="utf-8") as log:
            return Report(attempt(folder, names, RichDisplay(Console(file=log))))
    except UserError as error:
        return Report("refused", f"on {host}: {error}")
    except OSError as error:
        return Report("refused", f"on {host}: cannot read or write: {error}")
