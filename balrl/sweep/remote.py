"""An attempt on another machine: what a Ray task or a Slurm job does."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

from balrl.errors import UserError
from balrl.run.imports import import_modules
from balrl.sweep.folder import open_sweep
from balrl.sweep.work import attempt


class Order(NamedTuple):
    """What a machine is asked to do; plain, so that any version can read it.

    Attributes:
        folder: of the sweep, on storage that all machines share.
        names: of the runs.
        retry: failures in a row that set a run aside.
        imports: modules to import first.
    """

    folder: str
    names: tuple[str, ...]
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


def carry_out(order: Order) -> Report:
    """Make an attempt at what is still open of an order, in this process; say what happens in the sweep's logs."""
    from rich.console import Console

    from balrl.watch.display import RichDisplay

    host = socket.gethostname()
    try:
        import_modules(order.imports)
        folder = open_sweep(Path(order.folder), retry=order.retry, imports=order.imports)
        names = [name for name in order.names if folder.standing(name).state == "open"]
        if not names:
            return Report("skipped")
        with (folder.path / "logs" / f"{host}-{os.getpid()}.log").open("a", encoding="utf-8") as log:
            return Report(attempt(folder, names, RichDisplay(Console(file=log))))
    except UserError as error:
        return Report("refused", f"on {host}: {error}")
    except OSError as error:
        return Report("refused", f"on {host}: cannot read or write: {error}")
