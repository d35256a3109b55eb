"""The one exception that means: the user can mend this."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXIT_MISTAKE = 2
EXIT_DIVERGED = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """A mistake in a file, a path, a setting or a name.

    The message is one line: what was found, what was expected, what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class EnvironmentFault(UserError):
    """A task that returned what no task returns: the run stops, its newest checkpoint is good, the exit code is 4."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; of one that says nothing, as assertions do, where it was."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    name = line.rstrip(": ")
    if name.isidentifier() and name.endswith("Error") and error.__traceback__ is not None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{name} in {Path(where.filename).name}, line {where.lineno}"
    return line


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, which is where one from another process says what was wrong."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else first_line(error)


def shorten(value: Any, length: int = 60) -> str:
    """Return what a value looks like, cut where that is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_text(path: Path, what: str) -> str:
    """Return a text file's contents.

    Raises:
        UserError: when there is no such file, or it is no text.
    """
    if not path.is_file():
        raise UserError(f"no {what} at '{path}': no such file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is no text: the {what} must be a file in UTF-8") from error


def check_target(target: str | Path, suffixes: tuple[str, ...] = ()) -> Path:
    """Return a file to write; raise a `UserError` if it is a folder, its folder is missing, or its ending is wrong."""
    target = Path(target)
    if target.is_dir():
        raise UserError(f"cannot write '{target}': it is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise UserError(f"cannot write '{target}': there is no folder '{target.parent}'")
    if suffixes and target.suffix not in suffixes:
        raise UserError(f"cannot write '{target}': expected a name that ends in {' or '.join(suffixes)}")
    return target


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to `name`, or an empty string."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:  # a nested name is often given without its prefix
        near = [k for k in known if k.rsplit(".", 1)[-1] == name][:1]
    return f"; did you mean '{near[0]}'?" if near else ""
