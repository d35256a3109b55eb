"""Tables and pictures of an over-optimisation study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from balrl.evaluation import bootstrap_interval
from balrl.report.curves import COLORS
from balrl.report.figures import drawn
from balrl.studies.fits import fit_best_of_n, fit_policy

Result = dict[str, Any]
Array = NDArray[np.float64]
LAST = 0.1
"""Share of a PPO run whose mean is its final score."""
TITLES = {"best-of-n": "best-of-n", "ppo": "PPO, KL coefficient 0"}


def final_gold(result: Result) -> float:
    """Return the gold of the largest n, or of the last tenth of a PPO run."""
    gold = result["curve"]["gold"]
    return float(gold[-1] if result["optimizer"] == "best-of-n" else np.mean(gold[-max(1, int(LAST * len(gold))) :]))


def drop(result: Result) -> float:
    """Return how far gold falls from its peak to the end: 0 without over-optimisation.

    A PPO curve is smoothed over a tenth of its length first, or noise would make every peak higher than the end.
    """
    gold = np.asarray(result["curve"]["gold"])
    if result["optimizer"] == "best-of-n":
        return float(gold.max() - gold[-1])
    width = max(1, int(LAST * len(gold)))
    smooth = np.convolve(gold, np.ones(width) / width, "valid")
    return float(smooth.max() - smooth[-1])


def select(results: Sequence[Result], **wanted: Any) -> list[Result]:
    """Return the results with these values, by seed."""
    found = [r for r in results if all(r[key] == value for key, value in wanted.items())]
    return sorted(found, key=lambda r: r["seed"])


def table(results: Sequence[Result]) -> list[str]:
    """Return Markdown: final gold of every objective and its difference from the single model's, paired by seed."""
    lines = [
        "| optimiser | wrong labels | KL coefficient | objective | seeds | final gold | minus single's | "
        "fall from the peak | KL at the end | fitted α, β |",
        "| --- " * 10 + "|",
    ]
    keys = sorted({(r["optimizer"], r["flip"], r["kl_coefficient"]) for r in results})
    for optimizer, flip, coefficient in keys:
        group = select(results, optimizer=optimizer, flip=flip, kl_coefficient=coefficient)
        single = {r["seed"]: final_gold(r) for r in group if r["objective"] == "single"}
        for name in dict.fromkeys(r["objective"] for r in group):
            rows = select(group, objective=name)
            gains = [final_gold(r) - single[r["seed"]] for r in rows if r["seed"] in single]
            fits = [fitted(r) for r in rows]
            lines.append(
                f"| {optimizer} | {flip:.0%} | {coefficient:g} | {name} | {len(rows)} | "
                f"{interval([final_gold(r) for r in rows])} | {'—' if name == 'single' else interval(gains)} | "
                f"{interval([drop(r) for r in rows])} | {np.mean([r['curve']['kl'][-1] for r in rows]):.1f} | "
                f"{np.mean([f[0] for f in fits]):.2f}, {np.mean([f[1] for f in fits]):.2f} |"
            )
    return lines


def fitted(result: Result) -> tuple[float, float]:
    """Return α and β of Gao et al.'s curve for one result."""
    distance, gold = np.sqrt(np.clip(result["curve"]["kl"], 0, None)), np.asarray(result["curve"]["gold"])
    fit = fit_best_of_n if result["optimizer"] == "best-of-n" else fit_policy
    return fit(distance, gold - gold[0])[:2]


def interval(values: Sequence[float], style: str = ".2f") -> str:
    """Return the mean and its 95 % bootstrap interval over seeds, numbers in a format of Python's."""
    if len(values) < 2:
        return f"{values[0]:{style}}" if len(values) else "—"
    low, high = bootstrap_interval([values], np.mean)
    return f"{np.mean(values):{style}} [{low:{style}}, {high:{style}}]"


def draw_curves(results: Sequence[Result], path: Path) -> None:
    """Draw gold and proxy against √KL, a panel for each optimiser and share of wrong labels."""
    shown = [r for r in results if r["kl_coefficient"] == 0]
    optimizers, flips = ([*dict.fromkeys(r[key] for r in shown)] for key in ("optimizer", "flip"))
    with drawn(path, 4.6 * len(flips) + 1.6, 3.6 * len(optimizers)) as figure:
        axes = figure.subplots(len(optimizers), len(flips), squeeze=False, sharey="row")
        names = list(dict.fromkeys(r["objective"] for r in shown))
        for axis, (optimizer, flip) in zip(axes.flat, ((o, f) for o in optimizers for f in sorted(flips)), strict=True):
            for index, name in enumerate(names):
                rows = select(shown, optimizer=optimizer, flip=flip, objective=name)
                if rows:
                    _curve(axis, rows, COLORS[index], name)
            axis.axhline(0, color="#999999", linewidth=0.7)
            axis.set_title(f"{TITLES[optimizer]}, {flip:.0%} wrong labels", loc="left", fontsize=10)
            _dress(axis, "√KL from the initial policy, √nat", "gold — and proxy ·· per episode")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)


def draw_penalties(results: Sequence[Result], path: Path) -> None:
    """Draw PPO's final gold against the KL coefficient, a panel for each share of wrong labels."""
    shown = [r for r in results if r["optimizer"] == "ppo"]
    if not shown:
        return
    flips = sorted({r["flip"] for r in shown})
    coefficients = sorted({r["kl_coefficient"] for r in shown})
    with drawn(path, 4.6 * len(flips) + 1.6, 3.4) as figure:
        axes = figure.subplots(1, len(flips), squeeze=False, sharey=True)
        for axis, flip in zip(axes[0], flips, strict=True):
            for index, name in enumerate(dict.fromkeys(r["objective"] for r in shown)):
                points = [select(shown, flip=flip, objective=name, kl_coefficient=c) for c in coefficients]
                finals = [[final_gold(r) for r in rows] for rows in points if rows]
                x = np.arange(len(finals)) + 0.08 * (index - 2)
                axis.plot(x, [np.mean(f) for f in finals], "o-", color=COLORS[index], label=name, linewidth=1.4)
                bounds = [bootstrap_interval([f], np.mean) if len(f) > 1 else (f[0], f[0]) for f in finals]
                axis.vlines(x, *np.asarray(bounds).T, color=COLORS[index], linewidth=1.0)
            axis.set_xticks(range(len(coefficients)), [f"{c:g}" for c in coefficients])
            axis.axhline(0, color="#999999", linewidth=0.7)
            axis.set_title(f"PPO, {flip:.0%} wrong labels", loc="left", fontsize=10)
            _dress(axis, "KL coefficient", "final gold per episode")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)


def write_report(results: Sequence[Result], out: Path) -> Path:
    """Write ``report.md``, ``curves.png`` and ``penalties.png`` into a folder; return the first."""
    draw_curves(results, out / "curves.png")
    draw_penalties(results, out / "penalties.png")
    hours = sum(r["seconds"] for r in results) / 3600
    page = out / "report.md"
    pictures = ["![Gold and proxy against √KL](curves.png)", "", "![Final gold of PPO](penalties.png)"]
    told = f"{len(results)} curves, {hours:.1f} core-hours. Means over seeds with 95 % bootstrap intervals."
    page.write_text("\n".join(["# Over-optimisation", "", told, "", *table(results), "", *pictures, ""]))
    return page


def _curve(axis: Axes, rows: Sequence[Result], color: str, name: str) -> None:
    """Draw the mean over seeds of gold, with its range, and of the proxy."""
    distance = np.sqrt(np.clip([r["curve"]["kl"] for r in rows], 0, None)).mean(0)
    gold, proxy = (np.asarray([r["curve"][key] for r in rows]) for key in ("gold", "proxy"))
    axis.plot(distance, gold.mean(0), color=color, label=name, linewidth=1.6)
    axis.fill_between(distance, gold.min(0), gold.max(0), color=color, alpha=0.12, linewidth=0)
    axis.plot(distance, proxy.mean(0) - proxy.mean(0)[0], ":", color=color, linewidth=1.1)


def _dress(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x, fontsize=9)
    if axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axis.set_ylabel(y, fontsize=9)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
