"""Code from outside: modules that the user names. Nothing that is read from a file decides what is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from balrl.errors import UserError, first_line

_IMPORTED: dict[str, None] = {}


def imported_modules() -> tuple[str, ...]:
    """Return the modules that the user named, for processes that need them, too."""
    return tuple(_IMPORTED)


def import_modules(names: Iterable[str], option: str = "--import") -> None:
    """Import modules that the user named, in order; the current folder is importable then.

    Raises:
        UserError: when one cannot be imported.
    """
    for name in names:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            import_module(name)
            _IMPORTED[name] = None
        except Exception as error:  # whatever it is, it is in the user's module
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"{option} {name}: it cannot be imported: {reason}") from error


def check_imported(names: Iterable[str], whose: str) -> None:
    """Raise a `UserError` for a module that a file asks for and the user has not named.

    Args:
        names: of the modules.
        whose: what asks for them.
    """
    missing = [name for name in names if name not in sys.modules]
    if missing:
        again = " ".join(f"--import {name}" for name in missing)
        raise UserError(f"{whose} was made with {again}: name it again (a file does not choose what code runs)")


def check_task_module(env_id: str) -> None:
    """Raise a `UserError` for ``module:Task-v0`` unless the user has had that module imported."""
    module, colon, task = env_id.partition(":")
    if colon and module not in sys.modules:
        raise UserError(
            f"environment '{env_id}' asks for the module '{module}', which nobody named: if you trust it, pass "
            f"--import {module} (in Python: import it) and --env {task}"
        )


def load_object(path: str, option: str) -> Any:
    """Return what ``MODULE:NAME`` from the command line names.

    Raises:
        UserError: when there is no such thing.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UserError(f"{option} {path}: expected MODULE:NAME")
    import_modules([module], option)
    found = getattr(sys.modules[module], name, None)
    if found is None:
        raise UserError(f"{option} {path}: module '{module}' has no '{name}'")
    return found
