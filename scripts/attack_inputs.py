"""Files that were changed at random, read by every verb that reads such a file: a line or a result, never a crash."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from attack_forks import command, preload

TINY = [
    "pretrain.updates=4", "pretrain.eval_every=4", "warmup.steps=10", "finetune.steps=10", "evaluation.episodes=1",
    "batch_size=8", "tracking.wandb=off", "env_kwargs={max_episode_steps: 5}", "agent.hidden=[4]", "checkpoint.every=8",
]  # fmt: skip
ODD = (None, True, -1, 0, 10**400, 1e308, "", "x" * 5_000, "[red]$x_y$[/]", [], {}, [[[]]], {"a": {}}, "module:T-v0")
CODES = (0, 1, 2, 3, 4)
"""Exit codes that say what happened; anything else is a crash, and so is a traceback."""

RUN, DONE = "run/checkpoints/*", "done"
RESUME, EVALUATE = ["train", "--resume", "run"], ["evaluate", "run", "--episodes", "1"]
TRAIN_ON = ["train", "--preset", "iql/point-maze", "--dataset", "{0}", *TINY]
CONFIGURED = ["train", "--config", "{0}", "pretrain.updates=0", "finetune.steps=0", "warmup.steps=1"]
FIT = ["reward", "train", "{0}", "--out", "new.safetensors", "--epochs", "1"]
RELABEL = ["reward", "relabel", "data.hdf5", "new.hdf5", "--ensemble", "{0}"]
WARM = ["train", "--preset", "sac/point-maze", "init.checkpoint={0}", "pretrain.updates=0", *TINY[2:]]
FORMATS: dict[str, tuple[str, list[list[str]]]] = {
    "HDF5 data": (
        "data.hdf5",
        [["data", verb, "{0}"] for verb in ("info", "check")] + [["data", "convert", "{0}", "b.hdf5"]],
    ),
    "HDF5 data, training": ("data.hdf5", [TRAIN_ON]),
    "configuration": ("settings.yaml", [CONFIGURED]),
    "config.yaml of a run": ("run/config.yaml", [RESUME, ["compare", "run"], ["plot", "run"]]),
    "state.json": (f"{RUN}/state.json", [RESUME, EVALUATE]),
    "agent.safetensors": (f"{RUN}/agent.safetensors", [RESUME, EVALUATE]),
    "optimizer.safetensors": (f"{RUN}/optimizer.safetensors", [RESUME]),
    "replay.safetensors": (f"{RUN}/replay.safetensors", [RESUME]),
    "collector.safetensors": (f"{RUN}/collector.safetensors", [RESUME]),
    "summary.json": ("done/summary.json", [["train", "--resume", "done"], ["compare", "done"]]),
    "evaluations.json": (
        "done/evaluations.json",
        [["compare", "done"], ["plot", "done"], ["train", "--resume", "done"]],
    ),
    "metrics.jsonl": ("done/metrics.jsonl", [["plot", "done"], ["compare", "done"]]),
    "population.yaml": ("members/population.yaml", [["train", "--resume", "members"]]),
    "preferences": ("pairs.safetensors", [FIT, ["reward", "evaluate", "ensemble.safetensors", "{0}"]]),
    "reward ensemble": ("ensemble.safetensors", [["reward", "evaluate", "{0}", "pairs.safetensors"], RELABEL]),
    "labels": ("labels.csv", [["reward", "label", "pairs.safetensors", "{0}", "--out", "new.safetensors"]]),
    "pool": ("pool.jsonl", [["reward", "best-of-n", "{0}"]]),
    "study": ("study.yaml", [["reward", "study", "{0}", "--out", "study", "--report-only"]]),
    "stable-baselines3 zip": ("sac.zip", [WARM]),
}
"""What is changed, and the commands that read it, ``{0}`` being the changed file."""


def cases(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a case for every broken file: its format, the seed of the change, and the command that reads it."""
    preload()
    pristine()
    found = []
    for index in range(protocol["inputs"]["cases"]):
        name = list(FORMATS)[index % len(FORMATS)]
        seed = protocol["seed"] * 1_000_000 + index
        found.append({"case": f"{name} {seed}", "group": name, "seed": seed})
    return found


def attack(case: dict[str, Any]) -> dict[str, Any]:
    """Change a file of a fresh copy of everything, and run a command that reads it."""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    shutil.copytree(pristine(), folder / "here", symlinks=True)
    here, draw = folder / "here", random.Random(case["seed"])
    pattern, commands = FORMATS[case["group"]]
    target = draw.choice(sorted(here.glob(pattern)))
    changes = [
        _flip,
        _cut,
        _insert,
        _zero,
        *([_other_value] * 4 if target.suffix in (".json", ".jsonl", ".yaml") else []),
    ]
    change = draw.choice(changes)
    content = change(target.read_bytes(), draw)
    target.write_bytes(content)
    arguments = [word.format(target.relative_to(here)) if "{0}" in word else word for word in draw.choice(commands)]
    ended = command(arguments, here, timeout=60)
    verdict = "good"
    if ended.code not in CODES:
        verdict = f"exit code {ended.code}: {ended.text[-200:]}"
    elif "Traceback" in ended.text:
        verdict = f"traceback: {ended.text.strip().splitlines()[-1][:200]}"
    elif ended.code == 2 and len([line for line in ended.text.splitlines() if line.startswith("balrl: ")]) != 1:
        verdict = f"not one line: {ended.text[-200:]}"
    shutil.rmtree(folder)
    return {
        "case": case["case"],
        "group": case["group"],
        "verdict": verdict,
        "code": ended.code,
        "how": change.__name__,
    }


@cache
def pristine() -> Path:
    """Return a folder with one whole file of every format, made by balrl's own commands."""
    folder = Path(tempfile.mkdtemp(prefix="attack-pristine-"))
    train = ["train", "--preset", "iql/point-maze", *TINY]
    for arguments in (
        ["data", "collect", "--env", "balrl/PointMaze-v0", "--from", "random", "--steps", "300", "--out", "data.hdf5"],
        [*train, "--run-dir", "done"],
        [*train, "--run-dir", "members", "--seeds", "0:2"],
        ["reward", "collect", "data.hdf5", "--pairs", "12", "--steps", "4", "--out", "pairs.safetensors"],
        ["reward", "train", "pairs.safetensors", "--out", "ensemble.safetensors", "--hidden", "8", "--epochs", "2"],
        ["train", "--preset", "sac/point-maze", "pretrain.updates=0", *TINY[2:], "--run-dir", "sac"],
        ["export", "sac", "sac.zip"],
    ):
        ended = command(arguments, folder)
        if ended.code != 0:
            raise SystemExit(f"balrl {' '.join(arguments)}: {ended.text}")
    shutil.copytree(folder / "done", folder / "run")  # interrupted after its first checkpoints
    for path in sorted((folder / "run" / "checkpoints").iterdir())[-1:]:
        shutil.rmtree(path)
    (folder / "run" / "summary.json").unlink()
    (folder / "labels.csv").write_text("pair,preferred\n0,first\n1,second\n2,equal\n3,skip\n")
    rows = ({"prompt": i // 4, "scores": [i, -i, 0.5 * i], "gold": 2 * i} for i in range(16))
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "study.yaml").write_text("seeds: [0]\nensemble: {members: 3}\n")
    shutil.copy(folder / "done" / "config.yaml", folder / "settings.yaml")
    return folder


def _flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 30))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    more = draw.choice((b"\x00" * 7, b"[" * 3_000, b"\xff\xfe", b"{}", b"9" * 5_000, bytes(draw.randbytes(64))))
    return content[:at] + more + content[at:]


def _zero(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + b"\x00" * min(512, len(content) - at) + content[at + 512 :]


def _other_value(content: bytes, draw: random.Random) -> bytes:
    """Put something odd in the place of a value of JSON (or YAML, which reads JSON), or leave a key out."""
    lines = content.decode().splitlines()
    is_lines = len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for line in lines[:2])
    if is_lines:
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(_mutated(json.loads(lines[at]), draw))
        return ("\n".join(lines) + "\n").encode()
    from balrl.plain_yaml import parse_yaml

    return json.dumps(_mutated(parse_yaml(content.decode(), "the file"), draw)).encode()


def _mutated(data: Any, draw: random.Random) -> Any:
    places: list[Callable[[Any], None]] = []

    def collect(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in list(keys):
            places.append(lambda value, node=node, key=key: node.__setitem__(key, value))
            if isinstance(node, dict):
                places.append(lambda _, node=node, key=key: node.pop(key))
            collect(node[key])

    collect(data)
    if not places:
        return draw.choice(ODD)
    draw.choice(places)(draw.choice(ODD))
    return data
