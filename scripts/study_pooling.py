"""What neighbours' episodes are worth to a choice among members: halving on recorded episodes, pooled and each alone.

    python scripts/study_pooling.py [--jobs 2]

Families are pre-trained in the medium maze with seeds that no other study uses, every member plays 200 episodes as it
explores and 200 by its mode, and the warm-up's selection is replayed 300 times on episodes drawn from the former; a
choice is worth the chosen member's mean by modes. Budget: 0.3 core-hours. The recorded episodes are kept in
docs/results/balances/members.jsonl; --report-only makes the table.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study_jobs import add_line, parse_options, write_between_marks

import balrl
from balrl.run.family import arms_of, balance_of, places_of, play
from balrl.run.halving import Halving
from balrl.run.pooling import Place

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "balances" / "members.jsonl"
BASES, SEEDS, FULL_SEEDS = ("iql", "rebrac"), (10, 11, 12), range(10, 20)
EPISODES, WORLDS, REPETITIONS = 200, 5, 300
STEPS = (2_000, 4_000, 8_000)


def recorded(base: str, seed: int, out: Path) -> dict[str, Any]:
    """Pre-train a family, and return every member's episodes."""
    torch.set_num_threads(1)
    path = out / f"{base}-{seed}"
    shutil.rmtree(path, ignore_errors=True)
    offline = {"warmup.steps": 0, "finetune.steps": 0, "pretrain.eval_every": 1_000_000, "evaluation.episodes": 2}
    settings = {**offline, "seed": seed, "tracking.wandb": "off", "threads": 1}
    balrl.train(balrl.load_config(f"famo2o-{base}/point-maze", settings=settings), path)
    agent = balrl.load_agent(path)
    arms = arms_of(balance_of(agent))
    states = torch.from_numpy(balrl.load_dataset("point-maze-mixed").observations[::20])
    env = balrl.make_env("balrl/PointMaze-v0", num_envs=EPISODES)
    found = []
    for arm, place in zip(arms, places_of(agent, arms, states), strict=True):
        kept, shift = (torch.full((EPISODES,), value) for value in (arm.kept, arm.shift))
        ways = {}
        for way in ("explore", "mode"):
            observations, _ = env.reset(seed=seed)
            returns, lengths = torch.zeros(EPISODES), torch.zeros(EPISODES, dtype=torch.int64)
            playing = torch.ones(EPISODES, dtype=torch.bool)
            while playing.any():
                actions = play(agent, torch.as_tensor(observations), kept, shift, way == "explore")
                observations, rewards, terminated, truncated, _ = env.step(actions)
                returns += playing * torch.as_tensor(rewards)
                lengths += playing
                playing &= ~(torch.as_tensor(terminated) | torch.as_tensor(truncated))
            ways[way] = [[round(r, 3), n] for r, n in zip(returns.tolist(), lengths.tolist(), strict=True)]
        found.append({"label": arm.label, "place": list(place), **ways})
    return {"base": base, "seed": seed, "members": found}


def choose(members: list[Mapping[str, Any]], steps: int, pooled: bool, seed: int) -> Halving:
    """Replay a warm-up on recorded episodes."""
    rng = np.random.default_rng(seed)
    places = [Place(*member["place"]) for member in members] if pooled else []
    halving = Halving(len(members), steps, WORLDS, 0.5, places)

    def episode(world: int) -> list[float]:
        arm = halving.playing[world][0]
        member = members[arm if arm >= 0 else halving.leader]
        return list(member["explore"][rng.integers(EPISODES)])

    playing = [episode(world) for world in range(WORLDS)]
    left = [int(length) for _, length in playing]
    while halving.taken < steps:
        left = [n - 1 for n in left]
        ended = {world: (playing[world][0], int(playing[world][1])) for world, n in enumerate(left) if n == 0}
        halving.advance(WORLDS, ended)
        for world in ended:
            playing[world] = episode(world)
            left[world] = int(playing[world][1])
    return halving


def report() -> None:
    """Write the table."""
    lines = [
        "| family | own choice | best member | steps | each alone, 0.7 | each alone | pooled |",
        "| --- |" + " --- |" * 6,
    ]
    for line in RESULTS.read_text().splitlines():
        kept = json.loads(line)
        worth = [float(np.mean([r for r, _ in member["mode"]])) for member in kept["members"]]
        for steps in STEPS:
            cells = []
            for pooled in (False, True):
                runs = [choose(kept["members"], steps, pooled, seed) for seed in range(REPETITIONS)]
                if not pooled:
                    sure = [r.winner() if r.probability(r.leader) >= 0.7 else 0 for r in runs]
                    cells.append(f"{np.mean([worth[arm] for arm in sure]):.1f}")
                cells.append(f"{np.mean([worth[r.winner()] for r in runs]):.1f}")
            family = f"{kept['base']}, seed {kept['seed']} | {worth[0]:.1f} | {max(worth):.1f}"
            lines.append(f"| {family} | {steps:,} | {' | '.join(cells)} |")
    write_between_marks(RESULTS.parents[1] / "balances.md", lines, "pooling")


def main() -> None:
    options = parse_options(__doc__, "runs/pooling", ["runs"], "not needed: the data is built in")
    done = (
        {(r["base"], r["seed"]) for r in map(json.loads, RESULTS.read_text().splitlines())}
        if RESULTS.exists()
        else set()
    )
    seeds = FULL_SEEDS if options.full else SEEDS
    left = [] if options.report_only else [job for job in product(BASES, seeds) if job not in done]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(recorded, *job, options.out) for job in left]:
            add_line(RESULTS, future.result())
    report()


if __name__ == "__main__":
    main()
