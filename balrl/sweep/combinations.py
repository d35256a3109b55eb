"""The combinations of what a sweep varies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from balrl.sweep.spec import Axis, Choices, Range, SweepConfig


def combinations(spec: SweepConfig) -> list[dict[str, Any]]:
    """Return settings for every combination: lists each with each, and each of those with every sample.

    Samples are of all that is sampled together, and the same for the same sweep.
    """
    if not isinstance(spec.vary, dict):
        return [dict(one) for one in spec.vary] or [{}]
    listed = {key: axis for key, axis in spec.vary.items() if isinstance(axis, list)}
    grid = [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]
    samples = _samples(spec, {key: axis for key, axis in spec.vary.items() if key not in listed})
    return [{**one, **other} for one in grid for other in samples]


def _samples(spec: SweepConfig, axes: Mapping[str, Axis]) -> list[dict[str, Any]]:
    if not axes:
        return [{}]
    if spec.sampler == "sobol":
        from scipy.stats.qmc import Sobol

        power = math.ceil(math.log2(spec.samples))  # a whole power of two is balanced, and its beginning is nearly
        points = Sobol(len(axes), rng=np.random.default_rng(spec.sampler_seed)).random_base2(power)[: spec.samples]
    else:
        points = np.random.default_rng(spec.sampler_seed).random((spec.samples, len(axes)))
    return [
        {key: value_at(axis, float(u)) for (key, axis), u in zip(axes.items(), point, strict=True)} for point in points
    ]


def value_at(axis: Axis, share: float) -> Any:
    """Return the value that lies at a share in [0, 1) of an axis.

    Real numbers have six digits: they stand in file names and tables, and are the same everywhere.
    """
    if not isinstance(axis, Range):
        values = axis.choices if isinstance(axis, Choices) else axis
        return values[int(share * len(values))]
    low, high = (axis.low, axis.high + 1) if axis.whole else (axis.low, axis.high)
    value = (
        math.exp(math.log(low) + share * (math.log(high) - math.log(low))) if axis.log else low + share * (high - low)
    )
    return min(int(value), int(axis.high)) if axis.whole else float(f"{value:.6g}")
