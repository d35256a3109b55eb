"""Offline, then online"""

import os  # hide

# A policy that was trained on logged data is only as good as that data allows. This tutorial pre-trains one in the
# built-in point maze, lets it go on learning in the task, and looks at what each phase did. The data is
# `point-maze-mixed`: 20,000 transitions of drivers of mixed quality. It comes with balrl, so there is nothing to
# download.

# $ balrl data info point-maze-mixed
# short$ balrl data info --help > info.txt

# The preset `wsrl/point-maze` is warm-start reinforcement learning (WSRL): Cal-QL on the data, then soft actor-critic
# without it. One run has up to three phases:
#
# - **Pre-training** makes gradient updates on the logged data. Nothing is played but evaluations.
# - **Warm-up** plays with the pre-trained policy and puts what happens into an empty replay. No parameter changes. It
#   gives the first online updates something to learn from that looks like what the policy does now.
# - **Fine-tuning** plays and learns from the replay. Here the logged data is not used any more
#   (`finetune.retain=none`); `ratio` or `append` would keep it.
#
# The settings below make the run shorter than the preset's. The run is started from Python here because it will be
# interrupted: at the first evaluation of fine-tuning it gets the signal that Ctrl-C sends.

import signal
import subprocess
import sys

settings = "pretrain.updates=2000 warmup.steps=500 finetune.steps=3000 finetune.utd_ratio=1 finetune.eval_every=500"
settings = (  # hide
    "pretrain.updates=40 pretrain.eval_every=40 warmup.steps=200 finetune.steps=100 finetune.utd_ratio=0.2 "  # hide
    "finetune.eval_every=50 evaluation.episodes=10 evaluation.num_envs=10"  # hide
    if "SHORT" in os.environ  # hide
    else settings  # hide
)  # hide
command = f"balrl train --preset wsrl/point-maze --run-dir maze tracking.wandb=off threads=1 {settings}"
run = subprocess.Popen([sys.executable, "-m", *command.split()], stdout=subprocess.PIPE, text=True)
for line in run.stdout:
    print(line, end="")
    if line.startswith("finetune"):
        run.send_signal(signal.SIGINT)
print("exit code", run.wait())

# The score is normalised: 0 is the mean return of random actions, 100 that of a scripted driver at full speed. A step
# of pre-training is an update; afterwards steps are environment steps.
#
# Ctrl-C saved the run. It goes on where it stopped, with the settings that it was started with:

# $ balrl train --resume maze

# In this task a stopped and resumed run gives the same numbers as one that was not stopped. A run directory can also be
# resumed after a crash; then it goes on from the newest checkpoint, and what came after that is done again.
#
# ## What the phases did
#
# `curves.png` in the run's directory shows score, losses and values over all phases:
#
# ![Score, losses and values over the three phases](curves.png)

import shutil  # hide

shutil.copy("maze/curves.png", "curves.png")  # hide

# Pre-training (grey) ends below what the maze allows: many of the logged drivers do not reach the goal in time. The
# score does not change in the warm-up (yellow), because the policy does not. What happens next is what `summary.json`
# keeps under `switch`: the score before, the lowest score after it, and how many steps it took to be back.

import json
from pathlib import Path

summary = json.loads(Path("maze/summary.json").read_text())
for name, value in summary["switch"].items():
    print(f"{name:>18}: {value if value is None else round(value, 1)}")
print(f"{'final score':>18}: {summary['final']['score']:.1f}")

# A `drop` of 0 or less means that no evaluation after the switch was below the score at the switch. Not every run is so
# lucky; [Reading the switch](4_reading_the_switch.md) says what to look at when one is not.
#
# ## Evaluating
#
# During training the policy was evaluated on 100 episodes with fixed seeds. For a number to report, choose more
# episodes and another seed:

# $ balrl evaluate maze --episodes 200 --seed 777
# short$ balrl evaluate maze --episodes 10 --seed 777

# The checkpoint of the switch is kept, so the offline policy can be evaluated in the same way:

import balrl

episodes = 200
episodes = 10 if "SHORT" in os.environ else episodes  # hide
offline = next(Path("maze/checkpoints").glob("*-end-pretrain"))
for path in (offline, Path("maze")):
    result = balrl.evaluate(path, "balrl/PointMaze-v0", episodes=episodes, seed=777, num_envs=episodes)
    print(f"{path.name:>24}: return {result.mean_return:.1f}, success {result.success_rate:.0%}")

# ## From a checkpoint
#
# The phases need not be in one run. `init.checkpoint` starts from any run or checkpoint. This one skips pre-training
# and warm-up, and keeps the data: half of every batch is logged, half is new.

settings = {
    "init.checkpoint": str(offline),
    "pretrain.updates": 0,
    "warmup.steps": 0,
    "finetune.retain": "ratio",
    "finetune.steps": 1500,
    "finetune.utd_ratio": 1,
    "finetune.eval_every": 500,
    "tracking.wandb": "off",
    "threads": 1,
}
if "SHORT" in os.environ:  # hide
    settings |= {"finetune.steps": 200, "finetune.utd_ratio": 0.1, "finetune.eval_every": 100}  # hide
result = balrl.train(balrl.load_config("wsrl/point-maze", settings=settings), run_dir="kept")
for record in json.loads(Path("kept/evaluations.json").read_text()):
    print(f"{record['phase']} {record['step']:>6}  score {record['score']:.1f}")

# One run of each says little about which is better: they differ in the warm-up and in the data, and one seed decides
# nothing. [Seeds and populations](7_seeds_and_populations.md) and [Sweeps](8_sweeps.md) show how to compare over seeds.
#
# ## One file to share
#
# `balrl report` puts curves, findings, settings and data of a run, or of several, into one HTML file that needs no
# network:

# $ balrl report maze --out report.html
# short$ balrl report --help > report.html

# The [guide to fine-tuning](../fine-tuning.md) has all choices at the switch.
