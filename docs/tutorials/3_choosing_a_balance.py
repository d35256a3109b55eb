"""Choosing a balance"""

import os  # hide

# Every offline method weighs two wishes against each other: to improve (climb Q) and to stay near the data. One number
# says how much, the *balance*: for IQL it is the inverse temperature of the advantage weights, and larger improves
# more. Which number is best depends on the data, and without playing nobody knows it.
#
# balrl's agents take the number in either of two forms:
#
# - `FixedBalance(3.0)`: one balance for every state. It is what each method has by default.
# - `StateAdaptiveBalance(1.0, 5.0)`: one policy network for all balances from 1 to 5, a *family*, and a model that
#   picks one per state by Q (FamO2O, [arXiv 2310.17966](https://arxiv.org/abs/2310.17966)).
#
# On the command line they are `agent.balance.kind=fixed agent.balance.coefficient=3` and
# `agent.balance.kind=state-adaptive agent.balance.minimum=1 agent.balance.maximum=5`.
#
# ## Train a family
#
# Offline only, on the built-in data of drivers of mixed quality:

import balrl

updates, episodes = 2000, 200
updates, episodes = (20, 4) if "SHORT" in os.environ else (updates, episodes)  # hide
settings = {
    "pretrain.updates": updates,
    "pretrain.eval_every": updates // 2,
    "warmup.steps": 0,
    "finetune.steps": 0,
    "tracking.wandb": "off",
    "threads": 1,
}
result = balrl.train(balrl.load_config("famo2o-iql/point-maze", settings=settings), run_dir="family")
print(f"score {result.final_score:.1f}")

# In a maze a run of a family also draws which balance the model picks at every place, beside the coverage of the data:
#
# ![Balance that the model picks at each place, beside the data](balance_map.png)

import shutil  # hide

shutil.copy("family/balance_map.png", "balance_map.png")  # hide

# ## Ask for any member
#
# Without further words `predict` acts by the model's own choice. `balance` asks for a member:

agent = balrl.load_agent("family")
env = balrl.make_env("balrl/PointMaze-v0", num_envs=1)
observation = env.reset(seed=0)[0].numpy()
action, _ = agent.predict(observation, deterministic=True)
print(f"own choice: {action.round(2)}")
for balance in (1.0, 2.0, 5.0):
    action, _ = agent.predict(observation, deterministic=True, balance=balance)
    print(f"balance {balance}: {action.round(2)}")

# `balrl evaluate family --balance 2`, `balrl export family policy.pt --balance 2` and `balrl.evaluate("family",
# balance=2.0)` do the same for a whole evaluation and for a file.
#
# ## What the members are worth
#
# `balrl family` plays the own choice and some constant members, all from the same first states, and sets beside their
# returns what can be said without playing: the critics' Q and fitted Q evaluation.

# $ balrl family family --members 5 --episodes 50 --offline-updates 1000 --out family.png --out family.json
# short$ balrl family family --members 2 --episodes 2 --offline-updates 10 --out family.png --out family.json

# ![Returns of the members above the offline estimates](family.png)
#
# Where the intervals overlap, which are 95 % and of 50 episodes, nobody knows the order of the members yet.
#
# The rank correlations in the output are the point: they say how well each estimate orders the members as their returns
# do. At 1 you could choose without playing, around 0 it tells nothing, below 0 it misleads. With so few members a
# correlation has a wide interval itself. What has been
# [measured](../results/balances.md) at full size is sobering: the critics could not rank the members there, and the
# model, which picks by the critics, did no better.
#
# ## Against members that were trained alone
#
# Is a family as good as the best fixed balance? Here are three of them, with as many updates:

for balance in (1.0, 3.0, 5.0):
    config = balrl.load_config("iql/point-maze", settings={**settings, "agent.balance.coefficient": balance})
    balrl.train(config, run_dir=f"fixed-{balance}")

common = {"env": "balrl/PointMaze-v0", "episodes": episodes, "num_envs": episodes, "seed": 777}
for balance in (1.0, 3.0, 5.0):
    alone = balrl.evaluate(f"fixed-{balance}", **common)
    member = balrl.evaluate("family", balance=balance, **common)
    print(f"balance {balance}: trained alone {alone.mean_return:6.1f}, member of the family {member.mean_return:6.1f}")
own = balrl.evaluate("family", **common)
print(f"the family's own choice: {own.mean_return:6.1f}")

# One seed and a short training: take it as an illustration. Over more seeds and at full length the
# [results](../results/balances.md) in the mazes are these. At the switch a family, even with the selection that is
# described below, is *below* the best of three fixed balances chosen with hindsight (46.5 against 68.4 with IQL, 53.4
# against 64.0 with ReBRAC). At the end of 10,000 steps of fine-tuning it matches it: the probability of being better is
# 0.76 [0.56, 0.94] and 0.53 [0.23, 0.78]. It takes 39 % of the core-seconds of the three. On hopper the family is far
# below, and choosing does not help, because there is nothing to choose: a member of the family is not the policy that
# its balance gives alone. So a family does not beat the best fixed balance by itself. What it offers is many policies
# for one training, to choose among when the task can be played.
#
# ## Let the returns choose
#
# A warm-up spends environment steps with the policy frozen anyway. With `warmup.select=halving` its episodes are played
# by different members, the worse half leaves after every round, and the best stays. It costs no extra step. The
# warm-up should be long enough for some ten episodes of each member:

selecting = {
    "init.checkpoint": "family",
    "pretrain.updates": 0,
    "warmup.select": "halving",
    "warmup.members": 5,
    "warmup.steps": 4000,
    "num_envs": 5,
}
if "SHORT" in os.environ:  # hide
    selecting |= {"warmup.members": 2, "warmup.steps": 600, "evaluation.episodes": 10}  # hide
config = balrl.load_config("famo2o-iql/point-maze", settings={**settings, **selecting})
result = balrl.train(config, run_dir="chosen")
selection = result.summary["selection"]
print({key: value for key, value in selection.items() if key != "arms"})
for arm in selection["arms"]:
    print({key: value for key, value in arm.items() if key in ("label", "episodes", "mean")})

# The chosen member is saved with the agent: `predict` without a balance uses it from now on, and `family.png` in the
# run's directory shows every arm. The arms explore, as a warm-up should, and some leave after very few episodes, so
# their means here are rougher than those above and not of the same policies: evaluations are deterministic. Selection
# needs a probability of being better of `warmup.confidence` (0.5 by default: the best estimate wins); raise it to keep
# the own choice unless another member is clearly better. On the command line it is `balrl train --preset
# famo2o-iql/point-maze warmup.select=halving warmup.steps=4000 num_envs=5`.
#
# When a run goes on to fine-tune, the model's own choice is what learns, by default: under the chosen member the
# learner rose more slowly. The [guide](../balances.md) has what else can be done with a choice: serving a champion, a
# bandit over members, arms that are offsets of the own choice.
