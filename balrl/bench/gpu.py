"""Whether a GPU does what the CPU does, and how fast: everything that can only be known where there is one.

The results are one JSON file, written after each check, so that what was interrupted goes on; `page` makes a page of
it.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from balrl.bench.envs import bench_envs, own_envs
from balrl.bench.population import bench_population
from balrl.bench.updates import KINDS, Subject, per_second
from balrl.config import Precision
from balrl.errors import UserError, first_line
from balrl.execution.precision import check_precision
from balrl.execution.updates import BLOCK, EagerUpdates, GraphUpdates, Updates, choose_updates
from balrl.run.registry import make_env

Result = dict[str, Any]
TOLERANCE = 1e-3
"""Largest relative difference from the CPU's numbers that rounding explains, after so few updates or one step."""


class Size(NamedTuple):
    """How much is done.

    Attributes:
        updates: compared of each kind.
        seconds: of each measurement.
        rounds: of the population's.
        worlds: numbers of them.
        members: of the population.
        tasks: how many of balrl's own; None: all.
        minutes: of learning.
        preset: that learns.
        settings: of it.
    """

    updates: int
    seconds: float
    rounds: int
    worlds: tuple[int, ...]
    members: int
    tasks: int | None
    minutes: float
    preset: str
    settings: Mapping[str, str]


WHOLE = Size(60, 2.0, 3, (1024, 4096, 16384), 8, None, 5.0, "sac/locomotion-gpu", {"num_envs": "4096"})
"""Meant for 20 minutes on a GPU, the simulator's and the compiler's first compilations left out; not timed on one."""
SMALL = Size(
    3,
    0.02,
    1,
    (8,),
    2,
    2,
    0.1,
    "sac/point-maze",
    {"warmup.steps": "200", "finetune.steps": "400", "finetune.eval_every": "200"},
)
"""Seconds on a CPU: shows that the command works."""


def checks(device: torch.device, size: Size, folder: Path) -> Iterator[tuple[str, Callable[[], Result]]]:
    """Yield the name of each check and what makes it; first what no GPU may have run yet.

    Args:
        device: that is checked.
        size: how much of everything.
        folder: for the run that learns.
    """
    for kind in KINDS:
        yield f"updates of {kind} are the CPU's", partial(same_updates, kind, device, size.updates)
    tasks = own_envs()[: size.tasks]
    for task in tasks:
        yield f"a step of {task} is the CPU's", partial(same_step, task, device)
    for kind in KINDS:
        yield f"updates of {kind} per second", partial(update_rates, kind, device, size.seconds)
    for task in tasks:
        yield f"steps of {task} per second", partial(step_rates, task, device, size)
    yield (
        f"{size.members} seeds of iql as one",
        partial(bench_population, "iql", size.members, device, size.rounds, size.seconds),
    )
    yield f"{size.preset} for {size.minutes:g} minutes", partial(learn, device, size, folder)


def run_checks(
    device: torch.device, size: Size, file: Path, say: Callable[[str], None], only: Sequence[str] | None = None
) -> dict[str, Result]:
    """Make the checks that a file does not have yet, adding each to it; return all.

    Args:
        device: that is checked.
        size: how much of everything.
        file: of the results.
        say: hears the name of each check as it begins.
        only: checks whose name holds one of these; None: all.

    Raises:
        UserError: when the file is of another device, or no check is called so.
    """
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    about = {"device": name, "torch": torch.__version__}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"about": about}
    if found["about"] != about:
        raise UserError(f"'{file}' is of {found['about']}, this is {about}: pass another --out")
    every = dict(checks(device, size, file.parent))
    wanted = {name: make for name, make in every.items() if not only or any(text in name for text in only)}
    if not wanted:
        names = "; ".join(every)
        raise UserError(f"no check's name holds {' or '.join(repr(o) for o in only or ())}; there are: {names}")
    for check, make in wanted.items():
        if check in found:
            continue
        say(check)
        try:
            found[check] = make()
        except Exception as error:  # what fails is a result, and the other checks are still worth having
            found[check] = {"failed": f"{type(error).__name__}: {first_line(error)}"}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def same_updates(kind: str, device: torch.device, count: int) -> Result:
    """Return the largest relative difference of an agent's tensors after updates made in different ways.

    ``cpu``: on the CPU against the device, both as written. ``captured`` and ``compiled``: on the device, against as
    written; captured updates are the same operations, and must not differ at all.
    """

    def after(how: Callable[[Subject], Updates] | None, where: torch.device) -> Subject:
        subject = Subject(kind, "off", where)
        if how is not None:
            subject.updates = how(subject)
        subject.run(count)
        return subject

    notices: list[str] = []
    written = after(None, device)
    result: Result = {"updates": count, "cpu": _difference(written, after(None, torch.device("cpu")))}
    if device.type == "cuda":
        captured = after(lambda s: GraphUpdates(s.agent, notices.append, EagerUpdates()), device)
        result["captured"] = _difference(captured, written)
    compiled = after(lambda s: choose_updates("on", s.agent, 1, notices.append), device)
    result["compiled"] = _difference(compiled, written)
    result["notices"] = [n for n in notices if n.startswith("updates run")]
    differences = [result["cpu"], result["compiled"]]
    result["ok"] = max(differences) < TOLERANCE and result.get("captured", 0.0) == 0.0 and not result["notices"]
    return result


def _difference(one: Subject, other: Subject) -> float:
    worst = 0.0
    states = one.agent.state_dict(), other.agent.state_dict()
    for key, x in states[0].items():
        x, y = x.detach().cpu().double(), states[1][key].detach().cpu().double()
        worst = max(worst, float((x - y).abs().max() / (y.abs().max() + 1e-3)))
    return worst


def same_step(task: str, device: torch.device, worlds: int = 16) -> Result:
    """Return the largest differences of one step from equal states, on the CPU and on the device."""
    host, there = make_env(task, worlds, "cpu"), make_env(task, worlds, device)
    host.reset(seed=0)
    there.reset(seed=0)
    actions = torch.from_numpy(host.action_space.sample())
    for _ in range(3):
        host.step(actions)
    state, own = host.state_dict(), there.state_dict()  # type: ignore[attr-defined]
    there.load_state_dict(own | {key: value for key, value in state.items() if key != "generator"})  # type: ignore[attr-defined]
    ends = []
    for env in (host, there):
        _, rewards, terminated, _, infos = env.step(actions)
        ends.append([x.cpu().double() for x in (infos["final_obs"], rewards, terminated)])
        env.close()
    names = ("observations", "rewards", "terminated")
    result: Result = {
        name: float((x - y).abs().max() / (y.abs().max() + 1.0)) for name, x, y in zip(names, *ends, strict=True)
    }
    return result | {"ok": max(result.values()) < TOLERANCE}


def update_rates(kind: str, device: torch.device, seconds: float) -> Result:
    """Return updates per second as written, captured, compiled (and captured), and so in other precisions."""
    ways: dict[str, Subject] = {"written": Subject(kind, "off", device)}
    if device.type == "cuda":
        ways["captured"] = Subject(kind, "off", device)
        ways["captured"].updates = GraphUpdates(ways["captured"].agent)
    precisions: dict[str, Precision] = {"compiled": "float32", "compiled, tf32": "tf32", "compiled, bf16": "bf16-mixed"}
    for name, precision in precisions.items():
        try:
            check_precision(precision, device)
        except UserError:
            continue
        ways[name] = Subject(kind, "on", device, precision)
    rates = {}
    for name, subject in ways.items():
        subject.run(1 + BLOCK)  # compiled and captured here, alone and as a block
        rates[name] = per_second(subject.run, seconds, device)
    return rates


def step_rates(task: str, device: torch.device, size: Size) -> Result:
    """Return environment steps per second by the number of worlds, with a policy that acts."""
    lines = bench_envs([task], size.worlds, device, size.seconds)
    return {str(line.num_envs): line.policy for line in lines if line.engine == "balrl"}


def learn(device: torch.device, size: Size, folder: Path) -> Result:
    """Return the learning curve of a preset that is stopped after some minutes."""
    from balrl.run.presets import load_config
    from balrl.run.start_and_resume import prepare_run, run_to_its_end, start_run
    from balrl.watch.display import Display

    path = folder / "learning"
    shutil.rmtree(path, ignore_errors=True)  # of a check that did not come to its end
    settings = {"device": str(device), "tracking.wandb": "off", **size.settings}
    config = load_config(size.preset, settings=settings)
    trainer = start_run(config, prepare_run(config, path, Display()), path)
    timer = threading.Timer(60 * size.minutes, lambda: setattr(trainer.components.stop, "requested", True))
    timer.start()
    try:
        run_to_its_end(trainer)
    finally:
        timer.cancel()
    state = trainer.state
    return {
        "steps": [e["env_steps"] for e in state.evaluations],
        "returns": [e["return_mean"] for e in state.evaluations],
        "env_steps": state.env_steps,
        "updates": state.updates,
    }


def page(found: Mapping[str, Any]) -> str:
    """Return the results as a page in Markdown."""
    about = found["about"]
    lines = ["# On a GPU", "", f"`balrl bench gpu` on {about['device']}, torch {about['torch']}.", ""]
    lines += ["| check | result |", "| --- | --- |"]
    for check, result in found.items():
        if check != "about":
            lines.append(f"| {check} | {_told(result)} |")
    return "\n".join(lines) + "\n"


def _told(result: Mapping[str, Any]) -> str:
    if "failed" in result:
        return f"**failed**: {result['failed']}"
    if "ok" in result:
        numbers = ", ".join(f"{key} {value:.1e}" for key, value in result.items() if isinstance(value, float))
        rest = "; ".join(result.get("notices", []))
        return f"{'as it should be' if result['ok'] else '**differs**'}: {numbers}{'; ' + rest if rest else ''}"
    if "ratio" in result:
        return f"{result['ratio']:.1f}× one after another"
    if "returns" in result:
        curve = ", ".join(f"{r:,.0f} at {s:,}" for s, r in zip(result["steps"], result["returns"], strict=True))
        return f"{result['env_steps']:,} steps, {result['updates']:,} updates; return {curve}"
    return ", ".join(f"{key}: {value:,.0f}" for key, value in result.items())
