"""From CORL, d3rlpy and stable-baselines3 to balrl"""

import os  # hide

# Your arrays, your settings and your trained models need not be made again. This page says what the names of three
# libraries are called here, and converts data and models that it makes itself. Of the three only stable-baselines3 is
# used; arrays in the layouts of the others need nothing but numpy.
#
# Two things are different everywhere. An episode that *ended* and one that was *cut* are two flags, and only the first
# stops a bootstrap. And a run is one command with phases: offline updates, a warm-up, online steps.
#
# ## stable-baselines3
#
# | stable-baselines3 | balrl |
# | --- | --- |
# | `SAC("MlpPolicy", env)` | `balrl.load_config("sac/locomotion", settings={"env": …})` |
# | `model.learn(total_timesteps, callback)` | `balrl.train(config, callbacks=[…])`, `finetune.steps` |
# | `model.predict(obs, deterministic=True)` | `agent.predict(obs, deterministic=True)`: the same pair |
# | `model.save`, `SAC.load` | `agent.save`, `balrl.load_agent`; a run saves itself |
# | `learning_rate` | `agent.policy_learning_rate`, `agent.critic_learning_rate`, `agent.temperature_learning_rate` |
# | `buffer_size`, `batch_size` | `replay.capacity`, `batch_size` |
# | `learning_starts` | `warmup.steps` with `warmup.kind=random` |
# | `tau`, `gamma` | `agent.polyak`, `agent.discount` |
# | `train_freq`, `gradient_steps` | `finetune.utd_ratio`: critic updates per environment step |
# | `ent_coef="auto_0.1"` | `agent.initial_temperature=0.1` |
# | `target_entropy` | `agent.target_entropy` |
# | `policy_kwargs={"net_arch": [64, 64]}` | `agent.hidden=[64, 64]` |
#
# A model to begin with, trained for a short time:

import gymnasium as gym
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

steps = 2500
steps = 120 if "SHORT" in os.environ else steps  # hide
options = {"policy_kwargs": {"net_arch": [64, 64]}, "learning_rate": 1e-3, "learning_starts": 100}
model = SAC("MlpPolicy", "Pendulum-v1", **options, seed=0, device="cpu")
model.learn(steps)
model.save("sac.zip")
env = Monitor(gym.make("Pendulum-v1"))
env.reset(seed=0)
mean, deviation = evaluate_policy(model, env, n_eval_episodes=20)
print(f"stable-baselines3: {mean:.0f} ± {deviation:.0f}")

# ### Data from it
#
# The zip is a policy that `balrl data collect` can play. Only its weights are read; nothing is unpickled.

# $ balrl data collect --env Pendulum-v1 --from sac.zip --steps 4000 --out pendulum.hdf5
# short$ balrl data collect --env Pendulum-v1 --from sac.zip --steps 400 --out pendulum.hdf5

# ### Going on with it
#
# `init.checkpoint` takes over policy, critics, target critics and temperature. The replay does not come along, so the
# warm-up fills it: the policy plays without learning, and then fine-tuning goes on.

import balrl

settings = {
    "env": "Pendulum-v1",
    "init.checkpoint": "sac.zip",
    "agent.hidden": [64, 64],
    "agent.policy_learning_rate": 1e-3,
    "agent.critic_learning_rate": 1e-3,
    "warmup.kind": "frozen-policy",
    "warmup.steps": 500,
    "finetune.steps": 2000,
    "finetune.eval_every": 1000,
    "evaluation.episodes": 20,
    "evaluation.num_envs": 20,
    "tracking.wandb": "off",
    "threads": 1,
}
if "SHORT" in os.environ:  # hide
    settings |= {"warmup.steps": 300, "finetune.steps": 40, "finetune.eval_every": 40}  # hide
result = balrl.train(balrl.load_config("sac/locomotion", settings=settings), run_dir="continued")
print(f"after balrl's fine-tuning: {result.final_score:.0f}")

# ### And back
#
# `balrl export` writes a soft actor-critic as a model of stable-baselines3: SAC, CQL, Cal-QL or WSRL without layer
# normalisation in the policy. A family needs one member to be named, with `--balance`.

# $ balrl export continued continued.zip

# What was exported acts as the agent does. `evaluate_policy` takes either, because `predict` has the same signature:

import numpy as np

exported, agent = SAC.load("continued.zip", device="cpu"), balrl.load_agent("continued")
observations = np.stack([env.observation_space.sample() for _ in range(100)])
theirs, _ = exported.predict(observations, deterministic=True)
ours, _ = agent.predict(observations, deterministic=True)
print(f"largest difference of 100 actions: {abs(theirs - ours).max():.1e}")
for name, policy in (("exported model", exported), ("balrl's agent", agent)):
    env.reset(seed=0)
    mean, deviation = evaluate_policy(policy, env, n_eval_episodes=20)
    print(f"{name}: {mean:.0f} ± {deviation:.0f}")

# ## d3rlpy
#
# | d3rlpy | balrl |
# | --- | --- |
# | `MDPDataset(observations, actions, …)` | `balrl.Dataset.from_arrays({…})`, with the names of its arguments |
# | `IQLConfig(…).create()` | `balrl.load_config("iql/locomotion", settings={…})` |
# | `iql.fit(dataset, n_steps, …)` | `balrl.train(config, dataset=…)`, `pretrain.updates` |
# | `n_steps_per_epoch`, `evaluators` | `pretrain.eval_every`, `evaluation.episodes` |
# | `iql.fit_online(env, buffer, n_steps)` | the same run's `finetune.steps` |
# | `iql.predict(observations)` | `agent.predict(observations, deterministic=True)[0]` |
# | `iql.save`, `d3rlpy.load_learnable` | `agent.save`, `balrl.load_agent` |
# | `gamma`, `tau` | `agent.discount`, `agent.polyak` |
# | `n_critics`, `batch_size` | `agent.critics`, `batch_size` |
# | `expectile`, `weight_temp`, `max_weight` | `agent.expectile`, `agent.balance.coefficient`, `agent.max_weight` |
# | `actor_learning_rate` | `agent.policy_learning_rate` |
# | `critic_learning_rate` | `agent.critic_learning_rate` and `agent.value_learning_rate` |
# | `observation_scaler=StandardObservationScaler()` | `data.normalize_observations=true` |
# | `reward_scaler` | `data.reward_scale`, `data.reward_bias`, `data.reward_normalization` |
#
# Arrays as `MDPDataset` takes them, here from the data that was just collected. Rewards of shape `[N, 1]` are fine. No
# successors are stored, so a cut episode's last row has none, and is left out:

recorded = balrl.load_dataset("pendulum.hdf5")
mdp = {
    "observations": recorded.observations,
    "actions": recorded.actions,
    "rewards": recorded.rewards.reshape(-1, 1),
    "terminals": recorded.terminated.astype(np.float32),
    "timeouts": recorded.truncated.astype(np.float32),
}
data = balrl.Dataset.from_arrays(mdp, name="from-d3rlpy", env_id="Pendulum-v1")
print(data)
print(*data.notes, sep="\n")

# A list of episodes, each with its arrays and a flag `terminated`, is laid out like this:

ends = np.flatnonzero(mdp["timeouts"]) + 1
cut = {name: np.split(values, ends)[:-1] for name, values in mdp.items()}
episodes = [
    {"observations": o, "actions": a, "rewards": r, "terminated": False}
    for o, a, r in zip(cut["observations"], cut["actions"], cut["rewards"], strict=True)
]
last = np.concatenate([np.arange(len(e["rewards"])) == len(e["rewards"]) - 1 for e in episodes])
ended = np.repeat([e["terminated"] for e in episodes], [len(e["rewards"]) for e in episodes])
flat = {name: np.concatenate([e[name] for e in episodes]) for name in ("observations", "actions", "rewards")}
same = balrl.Dataset.from_arrays({**flat, "terminals": last & ended, "timeouts": last & ~ended}, env_id="Pendulum-v1")
print(same)

# `IQLConfig(expectile=0.8, weight_temp=5.0).create()` and `fit(dataset, n_steps=2000)` are then:

settings = {
    "agent.expectile": 0.8,
    "agent.balance.coefficient": 5.0,
    "agent.hidden": [64, 64],
    "pretrain.updates": 2000,
    "pretrain.eval_every": 1000,
    "finetune.steps": 0,
    "evaluation.episodes": 20,
    "evaluation.num_envs": 20,
    "tracking.wandb": "off",
    "threads": 1,
}
if "SHORT" in os.environ:  # hide
    settings |= {"pretrain.updates": 20, "pretrain.eval_every": 20}  # hide
result = balrl.train(balrl.load_config("iql/locomotion", settings=settings), run_dir="iql", dataset=data)
print(f"logged episodes: {recorded.episode_returns.mean():.0f}; IQL on them: {result.final_score:.0f}")

# ## CORL
#
# CORL's scripts are one file per algorithm with a `TrainConfig`. Presets take their place, settings that of the fields:
#
# | CORL's script | balrl's preset |
# | --- | --- |
# | `offline/any_percent_bc.py` | `bc/…`, with `data.top_fraction=0.1` for the best tenth |
# | `offline/iql.py`, `finetune/iql.py` | `iql/…`, without and with `finetune.steps` |
# | `offline/td3_bc.py`, `offline/rebrac.py` | `td3bc/…`, `rebrac/…` |
# | `offline/awac.py`, `finetune/awac.py` | `awac/…` |
# | `offline/cql.py`, `finetune/cql.py` | `cql/…` |
# | `finetune/cal_ql.py` | `calql/…` |
# | `offline/dt.py`, `edac.py`, `sac_n.py`, `lb_sac.py`, `finetune/spot.py` | none |
#
# | field | setting |
# | --- | --- |
# | `env`, `seed`, `device` | `env` and `dataset` (a name alone fetches nothing), `seed`, `device` |
# | `max_timesteps`, `offline_iterations` | `pretrain.updates` |
# | `online_iterations` | `finetune.steps` |
# | `eval_freq`, `n_episodes` | `pretrain.eval_every` and `finetune.eval_every`, `evaluation.episodes` |
# | `checkpoints_path`, `load_model` | `--run-dir`, `init.checkpoint` |
# | `buffer_size` | `replay.capacity`, of the online replay alone |
# | `discount`, `tau`, `soft_target_update_rate` | `agent.discount`, `agent.polyak`, `agent.polyak` |
# | `iql_tau`, `beta` of IQL | `agent.expectile`, `agent.balance.coefficient` |
# | `alpha` of TD3+BC, `awac_lambda` | `agent.balance.coefficient`, for AWAC its inverse |
# | `actor_lr`, `qf_lr`, `vf_lr`, `policy_lr` | `agent.policy_learning_rate`, `…critic…`, `…value…`, `…policy…` |
# | `actor_dropout` | `agent.dropout` |
# | `cql_alpha` | `agent.alpha` |
# | `cql_n_actions`, `cql_importance_sample` | `agent.sampled_actions`, `agent.importance_sampling` |
# | `mixing_ratio` | `finetune.retain=ratio finetune.offline_ratio=…` |
# | `normalize` | `data.normalize_observations=true` |
# | `normalize_reward` of locomotion | `data.reward_normalization=return-range` |
#
# Equal settings do not make equal runs: networks, initialisation and defaults differ. CORL's IQL standardises
# observations by default, `iql/locomotion` does not. `balrl config show iql/locomotion` names every value's source.
#
# The scripts learn from the dictionary that `d4rl.qlearning_dataset(env)` returns. It has `next_observations` but no
# `timeouts`, so nothing in it says where an episode was cut:

qlearning = {
    "observations": recorded.observations,
    "actions": recorded.actions,
    "rewards": recorded.rewards,
    "next_observations": recorded.next_observations,
    "terminals": recorded.terminated,
}
guessed = balrl.Dataset.from_arrays(qlearning, max_episode_steps=200)
print(guessed)
print(*guessed.notes, sep="\n")

# Without `timeouts` episodes are cut at the step limit, which is right only where no row is missing, and
# `qlearning_dataset` drops the rows of timeouts. Better give balrl the file: `--dataset` reads D4RL's HDF5 as it is.
# The same layout as a dictionary, with the extra keys that such files have:

file_like = {**qlearning, "timeouts": recorded.truncated, "infos/qpos": np.zeros((len(recorded), 1))}
balrl.Dataset.from_arrays(file_like, name="d4rl-like", env_id="Pendulum-v1").save("d4rl.hdf5")

# $ balrl data check d4rl.hdf5

# From here on it is data like any other; [Your arrays and your task](1_own_data.md) goes on with it, and the guides say
# what may be in [data](../data.md) and how to use [agents in your own code](../library.md).
