"""Sweeps"""

import os  # hide

# A study is many runs: methods, settings, seeds. `balrl sweep` works through them from one file, several at a time, and
# any process may be killed at any time: the sweep's folder is all there is, and the same command goes on.
#
# ## The file
#
# Two ways to fine-tune from the same pre-trained policy, without the logged data and with it, three seeds each. The
# pre-training is made once per seed and shared.

from pathlib import Path

Path("sweep.yaml").write_text("""\
presets:
  WSRL: {preset: wsrl/point-maze, from: calql}
  WSRL, data kept: {preset: wsrl/point-maze, from: calql, finetune.retain: ratio}
pretrain:
  calql: {preset: calql/point-maze, pretrain.updates: 600}
datasets: [point-maze-mixed]
seeds: 0:3
settings:
  agent.hidden: [32, 32]
  agent.critics: 2
  warmup.steps: 300
  finetune.steps: 900
  finetune.utd_ratio: 1
  finetune.eval_every: 300
  checkpoint.every: 200
  tracking.wandb: "off"
""")
if "SHORT" in os.environ:  # hide
    text = Path("sweep.yaml").read_text().replace("0:3", "0:1").replace("updates: 600", "updates: 20")  # hide
    text = text.replace("steps: 300", "steps: 200").replace("steps: 900", "steps: 40")  # hide
    text = text.replace("utd_ratio: 1", "utd_ratio: 0.2")  # hide
    Path("sweep.yaml").write_text(text + "  evaluation.episodes: 4\n")  # hide

# `--dry-run` says what would be run, and checks every configuration:

# $ balrl sweep sweep.yaml --out sweep --dry-run

# ## Run it, and kill it
#
# `--jobs 2` trains two runs at a time. To show what happens when a machine dies, this kills the sweep as soon as a
# first run has finished, with a signal that no program can catch. (The process is started in Python only for that; by
# hand it is `balrl sweep sweep.yaml --out sweep --jobs 2`.)

import signal
import subprocess
import sys
import time

command = [sys.executable, "-m", "balrl", "sweep", "sweep.yaml", "--out", "sweep", "--jobs", "2"]
sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL)
while not any(Path("sweep/runs").glob("*/summary.json")) and sweep.poll() is None:
    time.sleep(0.2)
sweep.send_signal(signal.SIGKILL)
print("exit code", sweep.wait())

# The processes that were training notice that the sweep is gone, save and stop. `balrl sweep status` says where it
# stands:

time.sleep(5)

# $ balrl sweep status sweep

# ## Go on
#
# The folder knows what it is a sweep of. The same command goes on, here or on another machine that sees the folder, and
# what is finished stays finished:

# $ balrl sweep sweep --jobs 2

# $ balrl sweep status sweep
# short$ balrl sweep status --help > status.txt

# ## What came out
#
# When all runs are done the comparison over seeds is made: `compare.png` and `compare.csv` in the folder.

import shutil  # hide

shutil.copy("sweep/compare.png", "compare.png")  # hide
print(Path("sweep/compare.csv").read_text())

# ![Methods compared over seeds](compare.png)
#
# Methods are named by what differs between their runs. Intervals are 95 % stratified bootstraps over seeds. Three seeds
# are too few for them to mean much (a probability of 1 with an interval of no width says only that in three runs each
# all of one were above all of the other), and such short runs show how a sweep works, not which method is better. Other
# comparisons of the same runs are `balrl compare sweep/runs` with `--metric best`, `drop` or `regret`, as a picture, a
# table for LaTeX or numbers.
#
# ## Make it larger
#
# A run's name ends in a digest of its configuration, so the file may grow: more seeds, presets or values of `vary` with
# the same `--out` add runs, and those that are there are kept. Values can also be sampled, or chosen by Optuna; a sweep
# runs on Ray or Slurm by `--executor`; `--pack 8` trains runs that differ in their seeds as one
# [population](7_seeds_and_populations.md). All of this is in the [guide](../sweeps.md).
