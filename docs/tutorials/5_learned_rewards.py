"""Learned rewards from your own clicks"""

import os  # hide

# For some tasks nobody can write down a reward, but anybody can say which of two clips is better. balrl learns rewards
# from such comparisons: cut pairs of segments from logged data, look at them, click, train an ensemble of reward models
# on the answers, and train an agent on what it says.
#
# The data is that of the built-in point maze. The task's own reward is −1 in every step but the one that reaches the
# goal, and nothing below uses it, except that the agent is judged by it at the end.
#
# ## Pairs to look at
#
# `--unlabelled` pairs have no teacher. True rewards are not needed. Two segments of 20 steps each:

# $ balrl reward collect point-maze-mixed --unlabelled --pairs 360 --steps 20 --out pairs.safetensors

# `balrl reward film` draws a clip of every pair and a page to label them on. Drawing all pairs takes a while, so this
# films twelve of another seed, to see what it looks like:

# $ balrl reward collect point-maze-mixed --unlabelled --pairs 12 --steps 20 --seed 1 --out few.safetensors
# short$ balrl reward collect point-maze-mixed --unlabelled --pairs 1 --steps 20 --seed 1 --out few.safetensors

# $ balrl reward film few.safetensors clips

# Open `clips/index.html` in a browser, answer with the arrow keys, and save `labels.csv`. One clip, at its last picture
# (the body is red, the goal is green):

from pathlib import Path

from PIL import Image

clip = Image.open(sorted(Path("clips").glob("*.webp"))[0])
clip.seek(clip.n_frames - 1)
clip.convert("RGB").save("pair.png")
print(clip.n_frames, "pictures of", clip.size, "pixels")

# ![A pair of segments, at the last picture](pair.png)
#
# ## Labels
#
# This page was made by a script, and a script cannot click. **The labels below stand in for yours.** They imitate a
# person who watches the clips: preferred is the segment that comes further along the way to the goal, equal are
# segments of the same progress, and one answer in ten is turned round, because people err. The true return would not
# do as a stand-in here: it is −20 for nearly every segment of 20 steps.
#
# The answers to the first 300 pairs are for training; the last 60, without errors, are kept to test on.

import csv

import numpy as np

import balrl
from balrl.rewards import Preferences

pairs = Preferences.load("pairs.safetensors")
maze = balrl.make_env("balrl/PointMaze-v0", num_envs=1)
cells_left = maze.steps_to_goal()  # from every cell, [rows, columns]


def progress(segment):
    """Cells that a segment comes nearer to the goal."""
    ends = segment[[0, -1], :2].numpy()
    column, row = ((ends + 1) / 2 * cells_left.shape[::-1]).astype(int).T
    start, end = cells_left[row, column]
    return start - end


rng = np.random.default_rng(0)
turned = {"first": "second", "second": "first", "equal": "equal"}
answers = []
for first, second in pairs.observations:
    better = progress(second) - progress(first)
    answers.append("equal" if better == 0 else "second" if better > 0 else "first")
for name, numbers in (("labels.csv", range(300)), ("test.csv", range(300, 360))):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pair", "preferred"])
        for number in numbers:
            wrong = name == "labels.csv" and rng.random() < 0.1
            writer.writerow([number, turned[answers[number]] if wrong else answers[number]])
print(*Path("labels.csv").read_text().splitlines()[:6], "…", sep="\n")

# A file of labels has the columns `pair` and `preferred` (`first`, `second`, `equal` or `skip`), wherever it
# comes from. Pairs that are not in it are left out:

# $ balrl reward label pairs.safetensors labels.csv --out labelled.safetensors

# $ balrl reward label pairs.safetensors test.csv --out test.safetensors
# short$ cp labelled.safetensors test.safetensors

# ## The ensemble
#
# Five reward models, each with its own initial weights and order of data:

# $ balrl reward train labelled.safetensors --out reward.safetensors
# short$ balrl reward train labelled.safetensors --out reward.safetensors --epochs 2 --members 2 --hidden 32 32

# How well do they predict the answers that they have not seen?

# $ balrl reward evaluate reward.safetensors test.safetensors

# ## Train on it
#
# `relabel` writes the data with learned rewards. The objective says what of the members' scores becomes the reward:
# `uwo`, the default, is their mean less a penalty on their variance, so that what the members disagree about is not
# worth much.

# $ balrl reward relabel point-maze-mixed learned.hdf5 --ensemble reward.safetensors

# Now any agent trains on it like on any other data. Here the same agent, IQL with the same seed, is trained three
# times: on the learned reward, on the task's own, and on a reward that is 0 everywhere. The last is the control: with
# it IQL can only imitate the drivers, so it shows what the policy owes to the reward at all.

own = balrl.load_dataset("point-maze-mixed")
arrays = {
    "observations": own.observations,
    "actions": own.actions,
    "next_observations": own.next_observations,
    "terminals": own.terminated,
    "timeouts": own.truncated,
}
rewards = {
    "learned": balrl.load_dataset("learned.hdf5").rewards,
    "the task's own": own.rewards,
    "none": np.zeros_like(own.rewards),
}
updates = 3000
updates = 20 if "SHORT" in os.environ else updates  # hide
for name, values in rewards.items():
    settings = {
        "env": "balrl/PointMaze-v0",
        "pretrain.updates": updates,
        "pretrain.eval_every": updates,
        "warmup.steps": 0,
        "finetune.steps": 0,
        "tracking.wandb": "off",
        "threads": 1,
    }
    config = balrl.load_config("iql/point-maze", settings=settings)
    data = {**arrays, "rewards": values}
    result = balrl.train(config, run_dir=f"agent-{name.split()[0]}", dataset=data)
    final = result.summary["final"]
    print(f"{name:>15}: score {final['score']:5.1f}, success {final['success_rate']:.0%}")

# The score is of the task's own reward in all three. One seed of each is an example, not a comparison. And the stand-in
# knows the way: its answers say after every segment whether that was progress, where the task's own reward waits for
# the goal. Where the learned reward does better here, this is why.
#
# On the command line the same is `balrl train --preset iql/point-maze --dataset learned.hdf5`. `relabel` can also be
# left out: `reward.preferences=labelled.safetensors` trains the ensemble and relabels the data within the run, and goes
# on to give learned rewards to what is collected in fine-tuning.
#
# ## What to watch
#
# A policy that maximises a learned reward finds the places where it is wrong. Three things help. Keep pairs for
# testing, as above. Use a conservative objective. And look at `reward/gap` and `reward/disagreement` in the metrics of
# a run that learns online from a learned reward. The [guide](../rewards.md) has the objectives, teachers with the
# faults of people, and how to ask for more pairs where the members disagree; where episodes end early by failing, see
# `--survive` there.
