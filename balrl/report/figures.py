"""Pictures as files: whole or not there, and names in them as they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from balrl.errors import UserError


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Give a figure to draw on and write it to a PNG; dollars in names are dollars, not formulas.

    Args:
        path: of the file.
        width, height: in inches.

    Raises:
        UserError: when the file cannot be written.
    """
    with rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
        yield figure
        temporary = path.with_name(f".{path.name}.writing")
        try:
            figure.savefig(temporary, format="png")
            os.replace(temporary, path)
        except OSError as error:
            raise UserError(f"cannot write '{path}': {error.strerror}") from error
