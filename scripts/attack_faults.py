"""Tasks, disks, terminals and neighbours that fail: what balrl does about each, and what is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attack_inputs import TINY

from tests.faulty_env import FAULTS, FaultyEnv

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ["train", "--preset", "iql/point-maze", *TINY]
ONLINE = {
    "pretrain.updates": 0, "warmup.steps": 6, "finetune.steps": 12, "batch_size": 4, "evaluation.episodes": 1,
    "tracking.wandb": "off", "agent.hidden": [4], "num_envs": 1, "env_kwargs": {}, "environment.step_timeout": 2.0,
    "checkpoint.every": 5,
}  # fmt: skip


def cases(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a case for every fault."""
    world = [{"case": f"{fault}, {policy}", "group": "worlds"} for fault in (*FAULTS, "raises") for policy in POLICIES]
    world += [{"case": f"{fault}, stop", "group": "worlds"} for fault in ("hangs", "reset")]
    others = [{"case": name, "group": group} for group, names in OTHERS.items() for name in names]
    return world + others


def attack(case: dict[str, Any]) -> dict[str, Any]:
    """Commit the fault and return what was wrong with what came of it; ``good`` if nothing was."""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    if case["group"] == "worlds":
        fault, _, policy = case["case"].partition(", ")
        verdict = _faulty_world(fault, policy, folder)
    else:
        verdict = OTHERS[case["group"]][case["case"]](folder)
    return {"case": case["case"], "group": case["group"], "verdict": verdict}


POLICIES = ("stop", "end-episode")


def _faulty_world(fault: str, policy: str, folder: Path) -> str:
    import balrl

    config = balrl.load_config("sac/point-maze", settings={**ONLINE, "environment.on_invalid": policy})
    try:
        result = balrl.train(config, folder / "run", env=lambda: FaultyEnv(fault, episode=1))
    except balrl.EnvironmentFault as error:
        if policy == "end-episode":
            return f"stopped: {error}"
        told = all(word in str(error) for word in ("world 0, step", "stopped at step"))
        saved = any((folder / "run" / "checkpoints").iterdir())
        whole = not saved or all(bool(p.isfinite().all()) for p in balrl.load_agent(folder / "run").parameters())
        return "good" if told and whole else f"told {error}, weights finite: {whole}"
    return "good" if policy == "end-episode" and result.finished else "went on"


def balrl_command(
    arguments: list[str], folder: Path, limit: int | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, whose files may have `limit` bytes."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    environment = {**os.environ, **more.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "balrl", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=restrict,
        **more,
    )


def _one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("balrl: ")]
    if done.returncode != code or "Traceback" in done.stderr or len(lines) != 1:
        return f"exit code {done.returncode}: {done.stderr[-300:]}"
    return "good" if all(word in lines[0] for word in words) else f"said {lines[0]}"


def _full_disk_collecting(folder: Path) -> str:
    collect = [
        "data",
        "collect",
        "--env",
        "balrl/PointMaze-v0",
        "--from",
        "random",
        "--steps",
        "3000",
        "--out",
        "a.hdf5",
    ]
    failed = _one_line(balrl_command(collect, folder, limit=20_000), 2, "whole episodes", "the same command goes on")
    if failed != "good":
        return failed
    again, whole = balrl_command(collect, folder), balrl_command([*collect[:-1], "b.hdf5"], folder)
    from balrl.data.d4rl import load_d4rl

    same = load_d4rl(folder / "a.hdf5").fingerprint() == load_d4rl(folder / "b.hdf5").fingerprint()
    return "good" if again.returncode == whole.returncode == 0 and same else f"{again.stderr[-300:]}, same: {same}"


def _full_disk_converting(folder: Path) -> str:
    done = balrl_command(["data", "convert", "point-maze-mixed", "a.hdf5"], folder, limit=20_000)
    return _one_line(done, 2, "cannot write") if not list(folder.glob("*.hdf5")) else "left half a file"


def _full_disk_training(folder: Path) -> str:
    done = balrl_command([*TRAIN, "--run-dir", "run"], folder, limit=3_000)
    found = _one_line(done, 2)
    again = balrl_command(["train", "--resume", "run"], folder)
    return found if again.returncode == 0 else f"{found}; resumed: {again.returncode} {again.stderr[-300:]}"


def _two_writers(folder: Path) -> str:
    settings = [*TRAIN, "--run-dir", "run", "pretrain.updates=200000", "compile=off"]
    with subprocess.Popen([sys.executable, "-m", "balrl", *settings], cwd=folder, stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not list(folder.glob("run/checkpoints/*/state.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        verdict = _one_line(balrl_command(["train", "--resume", "run"], folder), 2, f"process {first.pid} on")
        reading = balrl_command(["evaluate", "run", "--episodes", "1"], folder)
        first.send_signal(signal.SIGTERM)
    well = reading.returncode == 0 and first.returncode == 130
    return verdict if well else f"{verdict}; reading {reading.returncode} {reading.stderr}, writing {first.returncode}"


def _link(folder: Path) -> str:
    (folder / "precious").write_text("precious")
    balrl_command([*TRAIN, "--run-dir", "run", "finetune.steps=20"], folder)
    (folder / "run" / "metrics.csv").unlink()
    (folder / "run" / "metrics.csv").symlink_to(folder / "precious")
    (folder / "run" / "summary.json").unlink()
    verdict = _one_line(balrl_command(["train", "--resume", "run"], folder), 2, "is a symbolic link")
    return verdict if (folder / "precious").read_text() == "precious" else "wrote through the link"


def _module(make: Callable[[Path], list[str]]) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        (folder / "stranger.py").write_text("open('ran', 'w')\n")
        done = balrl_command(make(folder), folder, env={"PYTHONPATH": str(folder)})
        if (folder / "ran").exists():
            return "the stranger's code ran"
        return "good" if done.returncode in (0, 1, 2) and "Traceback" not in done.stderr else done.stderr[-300:]

    return run


def _data_names_module(verb: list[str]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        import numpy as np

        from balrl.data.dataset import Dataset

        rows = {
            "observations": np.zeros((9, 4)),
            "actions": np.zeros((9, 2)),
            "rewards": np.arange(9),
            "terminals": np.zeros(9),
        }
        Dataset.from_arrays(rows, env_id="stranger:Task-v0").save(folder / "a.hdf5")
        return verb

    return make


def _run_names_module(verb: list[str]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        balrl_command([*TRAIN, "--run-dir", "run"], folder)
        for path in [folder / "run" / "config.yaml", *(folder / "run" / "checkpoints").glob("*/state.json")]:
            text = re.sub(r'"digest": "\w+",', "", path.read_text())  # a stranger would have one that fits
            text = text.replace("balrl/PointMaze-v0", "stranger:Task-v0").replace("imports: []", "imports: [stranger]")
            path.write_text(text)
        (folder / "run" / "summary.json").unlink()
        return verb

    return make


def _ascii(folder: Path) -> str:
    name = "größe-σ"
    done = balrl_command([*TRAIN, "--run-dir", name], folder, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    return "good" if done.returncode == 0 and (folder / name / "curves.png").exists() else done.stderr[-300:]


def _head(folder: Path) -> str:
    arguments = [sys.executable, "-m", "balrl", *TRAIN, "--run-dir", "run"]
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read().decode()
    return "good" if run.returncode == 0 and not said else f"exit code {run.returncode}: {said[-300:]}"


def _read_only(folder: Path) -> str:
    balrl_command([*TRAIN, "--run-dir", "run"], folder)
    (folder / "locked").mkdir()
    done = balrl_command(["plot", "run", "--out", "locked/none/x.png"], folder)
    return _one_line(done, 2, "there is no folder")


def _endless(number: int) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        (folder / "endless.py").write_text(
            "import gymnasium as gym\nfrom tests.faulty_env import FaultyEnv\n"
            "gym.register('Endless-v0', lambda: FaultyEnv(length=None))\n"
        )
        settings = [f"{key}={json.dumps(value)}" for key, value in ONLINE.items()]
        arguments = ["train", "--preset", "sac/point-maze", "--import", "endless", "--env", "Endless-v0", *settings]
        command = [
            sys.executable,
            "-m",
            "balrl",
            *arguments,
            "--run-dir",
            "run",
            "environment.max_episode_steps=100000000",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            time.sleep(8)
            run.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(20)
            run.kill()
        return "good" if run.returncode == 130 else f"exit code {run.returncode}"

    return run


def _memory(settings: list[str]) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        done = balrl_command(["train", "--preset", "sac/point-maze", "--run-dir", "run", *settings], folder)
        return _one_line(done, 2, "GB of memory")

    return run


OTHERS: dict[str, dict[str, Callable[[Path], str]]] = {
    "disks": {
        "full while collecting": _full_disk_collecting,
        "full while converting": _full_disk_converting,
        "full while training": _full_disk_training,
    },
    "neighbours": {"two writers of one run": _two_writers, "a link in a run": _link},
    "files that name code": {
        "data info": _module(_data_names_module(["data", "info", "a.hdf5"])),
        "data check": _module(_data_names_module(["data", "check", "a.hdf5"])),
        "train": _module(_data_names_module(["train", "--preset", "iql/locomotion", "--dataset", "a.hdf5"])),
        "resume": _module(_run_names_module(["train", "--resume", "run"])),
        "evaluate": _module(_run_names_module(["evaluate", "run", "--episodes", "1"])),
    },
    "terminals": {"ASCII": _ascii, "closed after a line": _head, "nowhere to draw": _read_only},
    "no end": {
        "SIGTERM in an evaluation": _endless(signal.SIGTERM),
        "Ctrl-C in an evaluation": _endless(signal.SIGINT),
    },
    "memory": {
        "a million critics": _memory(["agent.critics=1000000", "pretrain.updates=0"]),
        "a replay of 10¹²": _memory(
            ["replay.capacity=1000000000000", "finetune.steps=1000000000000", "pretrain.updates=0"]
        ),
    },
}
