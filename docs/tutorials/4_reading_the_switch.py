"""Reading the switch"""

import os  # hide

# The moment at which logged data ends and the task begins is where runs fail. The critics have been trained on what the
# data showed; now the policy goes where it wants, and learns from what it finds. A score alone says too late what went
# wrong. This tutorial makes one run that goes well and one that is made to fail, and reads the instruments of both.
#
# ## Two runs
#
# Both begin from the built-in data of drivers of mixed quality. `instruments.every` is the number of environment steps
# between measurements. The first keeps the logged data in half of every batch and makes one update per step:

import balrl

common = {
    "pretrain.updates": 800,
    "pretrain.eval_every": 400,
    "finetune.eval_every": 200,
    "instruments.every": 20,
    "tracking.log_every": 100,
    "tracking.wandb": "off",
    "threads": 1,
}
well = {"warmup.steps": 300, "finetune.steps": 1200, "finetune.utd_ratio": 1, "finetune.retain": "ratio"}
if "SHORT" in os.environ:  # hide
    common |= {"pretrain.updates": 20, "finetune.eval_every": 100, "evaluation.episodes": 2}  # hide
    well |= {"finetune.steps": 40, "finetune.utd_ratio": 0.2}  # hide
balrl.train(balrl.load_config("wsrl/point-maze", settings={**common, **well}), run_dir="well")

# The second has everything against it: half the pre-training, no warm-up to speak of, no logged data, no layer
# normalisation, two critics instead of five, target networks that follow at once, large steps, and eight updates for
# every step in the task.

import yaml

badly = {
    "pretrain.updates": 400,
    "warmup.steps": 20,
    "finetune.steps": 400,
    "finetune.utd_ratio": 8,
    "agent.layer_norm": False,
    "agent.policy_layer_norm": False,
    "agent.critics": 2,
    "agent.target_subset": None,
    "agent.polyak": 0.5,
    "agent.critic_learning_rate": 1e-2,
    "agent.policy_learning_rate": 1e-2,
}
if "SHORT" in os.environ:  # hide
    badly |= {"pretrain.updates": 20, "finetune.steps": 160, "finetune.utd_ratio": 1}  # hide
config = balrl.load_config("wsrl/point-maze", settings={**common, **badly})
with open("badly.yaml", "w") as file:
    yaml.safe_dump(config.model_dump(mode="json"), file)

# $ balrl train --config badly.yaml --run-dir badly

# ## The pictures
#
# Every run that goes online writes `switch.png`. Everything is aligned at the switch: pre-training is to the left of 0,
# environment steps are to the right. Solid lines are of a batch of logged data that never changes, dashed lines of the
# newest transitions. This is the run that goes well:
#
# ![The run that goes well](well.png)
#
# And this is the other:
#
# ![The run that fails](badly.png)

import shutil  # hide

shutil.copy("well/switch.png", "well.png")  # hide
shutil.copy("badly/switch.png", "badly.png")  # hide

# What to look for, panel by panel:
#
# - **Mean Q** on the logged batch should move slowly. A sudden fall means that the critics forget what they knew:
#   targets from a few poor transitions are carried by bootstrapping into all states. A rise above what rewards allow,
#   here 0, is over-estimation. A slow fall can be right: pre-trained critics are often optimistic, and the truth is
#   lower.
# - **TD error** on the logged batch shows whether the critics are still consistent with the data. If it rises while
#   that of the newest transitions (dashed) falls to nothing, the critics fit a small replay and nothing else.
# - **KL to the policy at the switch** says how far the policy has gone, in nats. It has to leave, or nothing is
#   learned. A jump within few steps, before the score has anything to show for it, is a policy that runs after wrong
#   critics.
# - **Saturated action components** are at the border of the action space. Some are normal in tasks where full force is
#   best; a jump to nearly all is a policy that has been driven into a corner.
# - **Disagreement of critics** should be larger where the data is thin. If it grows with the mean Q falling or rising,
#   the ensemble does not know the values that it bootstraps from. Little disagreement proves nothing: members can be
#   wrong together.
#
# In the failing run mean Q, TD error and KL jump together as soon as updates begin. (They begin when the replay holds
# one full batch, here 128 transitions, because there is no warm-up of that length.) The run that goes well also changes
# in all of these, but step by step, and its TD error on the logged batch stays where it was. The first panel has the
# score, which is measured more rarely and, as the better run shows, need not rise steadily either.
#
# The same measurements are in `metrics.csv` and `metrics.jsonl` under `switch/`. Each of the two runs at the switch and
# at its end, on the logged batch:

import json
from pathlib import Path

names = ("offline_q", "offline_td", "offline_disagreement", "kl", "saturation")
print(f"{'':>6} {'':>8}", *(f"{name:>20}" for name in names), f"{'score':>8}")
for run in ("well", "badly"):
    records = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    scores = [record["score"] for record in json.loads(Path(run, "evaluations.json").read_text())]
    switch = json.loads(Path(run, "summary.json").read_text())["switch"]
    measured = [record for record in records if "switch/kl" in record]
    for when, record, score in (("switch", measured[0], switch["score_before"]), ("end", measured[-1], scores[-1])):
        values = (f"{record['switch/' + name]:20.3f}" for name in names)
        print(f"{run:>6} {when:>8}", *values, f"{score:8.1f}")

# `balrl plot` puts runs into one picture, aligned at their switches:

# $ balrl plot well badly --out both.png

# ![Both runs in one picture](both.png)
#
# ## The watchdog
#
# The message during the second run came from the watchdog, which compares the measurements with limits: NaN, a Q beyond
# what the rewards allow, a Q that falls by several of its deviations at the switch, a policy without entropy, actions
# on the border. By default it warns once and says what to try. `summary.json` keeps what it found:

for run in ("well", "badly"):
    print(run, json.loads(Path(run, "summary.json").read_text())["findings"])

# With `--on-divergence stop` the run ends there, at its last good checkpoint, with exit code 3; a script can tell from
# that:

# $ balrl train --config badly.yaml --run-dir stopped --on-divergence stop; echo "exit code $?"
# short$ balrl train --help > help.txt

# `--on-divergence rollback` goes back to that checkpoint and tries again with other random numbers, three times at most
# (`watchdog.max_rollbacks`). That helps against bad luck, not against bad settings.
#
# The limits are rules of thumb. A Q that falls to its true value after over-estimation is a collapse to them, too, and
# a run can recover from one. Look at the picture before you believe either.
#
# ## Comparing
#
# For several seeds `balrl compare` has the numbers of the switch as metrics: `drop` is the score at the switch less the
# lowest after it, `regret` the mean of 100 − score over the online phase. For both, less is better:

# $ balrl compare well badly --metric drop --out drop.png
# short$ balrl compare --help > help.txt

# One run of each is enough to see how it is used and not enough to conclude anything, but for the cause of the failure,
# which was put there. What a warm-up, kept data or another initialisation is worth over seeds is
# [measured](../results/switch.md); what can be set is in the [guide](../fine-tuning.md).
