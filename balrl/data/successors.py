"""Next observations of data that store states alone, or lack them where episodes were cut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from balrl.data.dataset import Array


def with_successors(columns: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
    """Return columns whose every row has its true successor, and how many rows were left out because they had none.

    Without ``next_observations`` that is the row behind, where it is of the same episode; with them a row has none that
    repeats its own observation at an episode's cut end, as some writers have it. Then the row before is the one that is
    cut. What follows on a row that terminates does not matter: it repeats its own observation.

    Args:
        columns: `observations`, `terminated`, ``truncated`` (ends that are not the task's), others of as many rows.
    """
    observations, terminated, truncated = (columns[key] for key in ("observations", "terminated", "truncated"))
    if "next_observations" in columns:
        following = columns["next_observations"]
        unknown = truncated & (following == observations).all(-1)
    else:
        following, unknown = np.concatenate([observations[1:], observations[-1:]]), truncated
    cut = truncated & ~unknown
    cut[:-1] |= unknown[1:] & ~(terminated | truncated)[:-1]
    following = np.where(terminated[:, None], observations, following)
    whole = {**columns, "next_observations": following, "truncated": cut}
    return {key: values[~unknown] for key, values in whole.items()}, int(unknown.sum())
