"""Over-optimisation of learned rewards: gold, proxies and policies under best-of-n and PPO (arXiv 2310.02743)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from balrl.agents.hyperparameters import PPOConfig
from balrl.agents.ppo import PPO
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.foreign import fields, parse_json, read_json
from balrl.on_policy import RolloutBuffer
from balrl.replay import ReplayBuffer
from balrl.rewards import LearnedReward, Preferences, RewardEnsemble, Teacher, fit_ensemble
from balrl.rewards.pool import Pool, powers_of_two
from balrl.rollout import Collector
from balrl.run.interaction import Interaction
from balrl.settings import validate
from balrl.studies.config import StudyConfig
from balrl.studies.trajectories import make_worlds, roll

Curve = dict[str, list[float]]


class Job(NamedTuple):
    """One curve per objective (best-of-n) or one curve (PPO)."""

    seed: int
    flip: float
    optimizer: str
    objective: str = ""
    kl_coefficient: float = 0.0

    @property
    def name(self) -> str:
        words = [self.optimizer, f"flip{self.flip:g}", f"s{self.seed}"]
        return "-".join([*words, *([self.objective, f"kl{self.kl_coefficient:g}"] if self.objective else [])])


def plan(config: StudyConfig) -> list[Job]:
    """Return the jobs, seed after seed, so that a study that was stopped has whole seeds."""
    jobs = []
    for seed in config.seeds:
        for flip in config.preferences.flips:
            jobs.append(Job(seed, flip, "best-of-n"))
            for coefficient in config.ppo.kl_coefficients:
                jobs += [Job(seed, flip, "ppo", name, coefficient) for name in config.objectives]
    return jobs


def run_job(config: StudyConfig, job: Job, out: Path) -> Iterator[dict[str, Any]]:
    """Run one job and yield its results, one per curve, as plain JSON types."""
    started = time.process_time()
    start = initial_policy(config, job.seed, out)
    ensemble = trained_ensemble(config, job.seed, job.flip, start, out)
    if job.optimizer == "best-of-n":
        curves = best_of_n_curves(config, start, ensemble, job.seed)
    else:
        curves = {job.objective: policy_curve(config, start, ensemble, job)}
    seconds = time.process_time() - started
    for name, curve in curves.items():
        told = {**job._asdict(), "objective": name, "job": job.name}
        rounded = {key: [float(f"{x:.5g}") for x in values] for key, values in curve.items()}
        yield {**told, "curve": rounded, "seconds": round(seconds / len(curves), 1)}


def initial_policy(config: StudyConfig, seed: int, out: Path) -> PPO:
    """Return the policy that everything starts from: fresh, or after some steps on the gold; kept in a file."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(seed)
    agent = _new_agent(config, config.agent)
    file = out / f"policy-s{seed}.safetensors"
    if file.exists():
        agent.load_state_dict(load_file(file))
        return agent
    if config.start_steps:
        agent.set_phase("online")
        per_rollout = config.ppo.num_envs * config.agent.rollout_steps
        _optimise(config, agent, None, -(-config.start_steps // per_rollout), seed)
    temporary = file.with_name(f".{file.name}")
    save_file({k: v.contiguous() for k, v in agent.state_dict().items()}, temporary)
    temporary.replace(file)
    return agent


def trained_ensemble(config: StudyConfig, seed: int, flip: float, start: PPO, out: Path) -> RewardEnsemble:
    """Return reward models of the initial policy's segments, labelled by the gold; kept in a file."""
    file = out / f"reward-flip{flip:g}-s{seed}.safetensors"
    if file.exists():
        return RewardEnsemble.load(file).to(config.device)
    preferences = initial_preferences(config, seed, flip, start)
    c = config.ensemble
    width = preferences.inputs.shape[-1]
    ensemble = RewardEnsemble(width, c.members, c.hidden, c.shared_trunk, seed).to(config.device)
    fit_ensemble(ensemble, preferences, c, seed=seed)
    ensemble.save(file)
    return ensemble


def initial_preferences(config: StudyConfig, seed: int, flip: float, start: PPO) -> Preferences:
    """Return pairs of segments of two trajectories that begin in one state, whole of one or cut out at random."""
    c = config.preferences
    made = roll(config, start, c.pairs, 2, seed)
    generator = torch.Generator().manual_seed(seed)
    length = made.alive.sum(0).amin(-1).cpu()  # of the shorter of both
    first = (torch.rand(c.pairs, generator=generator) * (length - c.steps + 1).clamp(min=1)).long()
    rows = (first.unsqueeze(-1) + torch.arange(c.steps)).clamp(max=len(made.rewards) - 1).T.to(made.rewards.device)
    pairs = torch.arange(c.pairs, device=rows.device)
    observations, actions, rewards = (
        x[rows, pairs].movedim(0, 2).cpu() for x in (made.observations, made.actions, made.rewards)
    )
    labels, _ = Teacher(flip=flip).label(rewards, generator)
    kept = length >= c.steps
    return Preferences(observations, actions, labels, config.env).take(kept)


@torch.no_grad()
def best_of_n_curves(config: StudyConfig, start: PPO, ensemble: RewardEnsemble, seed: int) -> dict[str, Curve]:
    """Return each objective's curve over n, from many trajectories of the initial policy from each state."""
    c = config.best_of_n
    scores, gold = [], []
    for state in range(c.states):
        made = roll(config, start, 1, c.samples, 1_000_000 + seed * c.states + state)
        inputs = torch.cat([made.observations, made.actions], -1)
        scores.append((ensemble(inputs) * made.alive).sum(1).flatten(1).cpu())
        gold.append(made.rewards.sum(0).flatten().cpu())
    groups = torch.arange(c.states * c.samples).split(c.samples)
    pool = Pool(torch.cat(scores, -1), torch.cat(gold), groups, ())
    counts = sorted({*powers_of_two(c.samples), c.samples})
    curves = {}
    for name, objective in config.objectives.items():
        found = pool.best_of_n(counts, objective.objective, objective.best_of_n)
        assert found.gold is not None
        curves[name] = {"kl": found.kl.tolist(), "proxy": found.proxy.tolist(), "gold": found.gold.tolist()}
    return curves


def policy_curve(config: StudyConfig, start: PPO, ensemble: RewardEnsemble, job: Job) -> Curve:
    """Return how gold, proxy and divergence go while PPO maximises an objective from the initial policy."""
    chosen = config.objectives[job.objective]
    reward = LearnedReward(ensemble, chosen.objective, chosen.ppo)
    torch.manual_seed(job.seed)
    agent = _new_agent(config, config.agent.model_copy(update={"kl_coefficient": job.kl_coefficient}))
    agent.policy.load_state_dict(start.policy.state_dict())
    agent.normalizer.load_state_dict(start.normalizer.state_dict())
    agent.set_phase("online")
    return _optimise(config, agent, reward, config.ppo.rollouts, job.seed)


def _new_agent(config: StudyConfig, settings: PPOConfig) -> PPO:
    env = make_worlds(config, 1)
    agent = PPO(env.single_observation_space, env.single_action_space, settings, config.device)
    env.close()
    return agent


def _optimise(config: StudyConfig, agent: PPO, reward: LearnedReward | None, rollouts: int, seed: int) -> Curve:
    """Run PPO for so many rollouts; every rollout is a point, before its updates.

    Numbers are per episode: means per step times the mean length of the episodes that ended last.
    """
    c, spaces = config.ppo, agent.spaces
    env = make_worlds(config, c.num_envs)
    dims, steps = (spaces.observation_dim, spaces.action_dim), agent.config.rollout_steps
    agent.stream.reseed(seed)
    storage = RolloutBuffer(steps, c.num_envs, *dims, agent.config.epochs, c.batch_size, agent.device)
    replay = ReplayBuffer(c.num_envs, *dims, agent.device)
    interaction = Interaction(
        Collector(env, agent.device, seed), replay, RewardTransform(), agent.stream, rollouts=storage, reward=reward
    )
    curve: Curve = {"kl": [], "proxy": [], "gold": [], "disagreement": []}
    length = float(env.max_episode_steps)
    for _ in range(rollouts):
        while not storage.is_full:
            interaction.step(agent.explore)
        length = interaction.collector.pop_ended().get("length", length)
        seen = interaction.monitor.pop() if interaction.monitor is not None else {}
        computed = agent.compute_advantages(storage)
        if seen:
            curve["kl"].append(length * float(computed["reference/kl"]))
            for key in ("proxy", "gold", "disagreement"):
                curve[key].append((1 if key == "disagreement" else length) * seen[f"reward/{key}"])
        for _ in range(storage.shuffle(agent.stream, agent.clock)):
            agent.update(storage.batch(agent.clock))
        storage.clear()
    env.close()
    return curve


def run_study(config: StudyConfig, out: Path, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Run what is missing of a study, one line of ``results.jsonl`` per curve; return that file.

    Raises:
        UserError: when the folder holds another study.
    """
    out.mkdir(parents=True, exist_ok=True)
    told, file = out / "study.json", out / "results.jsonl"
    if told.exists():
        before = validate(StudyConfig, read_json(told), f"'{told}'")
        if before.model_copy(update={"seeds": config.seeds}) != config:
            raise UserError(f"'{out}' holds a study with another protocol; choose another folder, or move it away")
    told.write_text(json.dumps(config.model_dump(mode="json"), indent=1))
    done = {result["job"] for result in read_results(file)}
    jobs = [job for job in plan(config) if job.name not in done]
    for index, job in enumerate(jobs):
        progress(f"{index + 1} of {len(jobs)}: {job.name}")
        results = list(run_job(config, job, out))
        with file.open("a") as lines:
            lines.writelines(json.dumps(result) + "\n" for result in results)
    return file


def read_results(file: Path) -> list[dict[str, Any]]:
    """Return the curves that a study has measured so far."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    return [
        fields(parse_json(line, f"'{file}' line {n}"), {"job": str}, f"'{file}' line {n}")
        for n, line in enumerate(lines, 1)
    ]
