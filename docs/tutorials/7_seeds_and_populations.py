"""Seeds and populations"""

# One seed is an anecdote. `--seeds` trains several runs as one batched computation, a *population*: every update is
# made for all members at once, and the logged data is held once. The settings that all runs of this page share make
# them short; a variable keeps the commands so, too.

import os

os.environ["SMALL"] = "pretrain.updates=800 warmup.steps=0 finetune.steps=0 tracking.wandb=off threads=1"
if "SHORT" in os.environ:  # hide
    os.environ["SMALL"] = os.environ["SMALL"].replace("=800", "=10") + " evaluation.episodes=2"  # hide

# $ balrl train --preset iql/point-maze --seeds 0:4 --run-dir seeds $SMALL
# short$ balrl train --preset iql/point-maze --seeds 0:2 --run-dir seeds $SMALL

# Every member has an ordinary run directory, with its own configuration, metrics, checkpoints and summary. Every
# command takes it like any other run:

from pathlib import Path

print(*sorted(str(path) for path in Path("seeds").glob("*/*")), sep="\n")

# `balrl train --resume seeds` would go on with all members that are not finished.
#
# ## Each member is what it would be alone
#
# A member has its own initial weights, order of data, random numbers and environments. Here seed 2 is trained twice, in
# a population and alone, for 20 updates, and all parameters are compared:

import balrl


def configuration(updates, **settings):
    common = {"pretrain.updates": updates, "pretrain.eval_every": updates, "warmup.steps": 0, "finetune.steps": 0}
    common |= {"tracking.wandb": "off", "threads": 1}
    if "SHORT" in os.environ:  # hide
        common |= {"evaluation.episodes": 2}  # hide
    return balrl.load_config("iql/point-maze", settings={**common, **settings})


balrl.train_population(balrl.member_configs(configuration(20), seeds=[0, 2]), "together")
balrl.train(configuration(20, seed=2), "alone")
member, alone = (dict(balrl.load_agent(path).named_parameters()) for path in ("together/s2", "alone"))
difference = max((member[name] - alone[name]).detach().abs().max().item() for name in alone)
print(f"largest difference: {difference:.1e}")

# The two make their sums in different orders, so that the last digits differ, and with more updates such differences
# grow as they do between two machines.
#
# ## What it costs
#
# CPU seconds of one run, and of a population of four, with as many updates each:

import time

updates = 400
updates = 10 if "SHORT" in os.environ else updates  # hide
seconds = {}
for count in (1, 4):
    start = time.process_time()
    if count == 1:
        balrl.train(configuration(updates), "one")
    else:
        balrl.train_population(balrl.member_configs(configuration(updates), seeds=range(count)), "four")
    seconds[count] = time.process_time() - start
    print(f"{count} at once: {seconds[count]:5.1f} s, {seconds[count] / count:5.1f} s a member")

# This counts all of a run: data, updates, evaluations, pictures. What a population saves on a CPU is overhead, and
# these networks (two layers of 64) have more of it than most. Do not expect more of larger ones: with two layers of 256
# and compiled updates a population of eight [was 1.06 times as fast](../results/speed.md) as one after another, because
# a CPU is busy with one member already. Environments and evaluations are stepped member by member in any case.
#
# ## Several settings
#
# `--vary` makes a member of every value with every seed. It takes real numbers of the agent (not what changes shapes,
# as `agent.hidden`):

# $ balrl train --preset iql/point-maze --seeds 0:3 --vary agent.expectile=0.5,0.9 --run-dir tau $SMALL
# short$ balrl train --preset iql/point-maze --seeds 0:1 --vary agent.expectile=0.5,0.9 --run-dir tau $SMALL

# ## Compare
#
# `balrl compare` takes a folder of runs and tells what differs. The interquartile mean over seeds comes with a 95 %
# stratified bootstrap interval; the probability of improvement says how often one method's run would be above
# another's.

# $ balrl compare tau --out compare.png

# ![Expectile 0.5 and 0.9 compared over three seeds](compare.png)
#
# Three seeds give wide intervals. If they overlap widely, the honest answer is that it is not known yet, and the remedy
# is `--seeds 0:10`. For anything that members cannot differ in (presets, data, batch size), and for many machines,
# there are [sweeps](8_sweeps.md), which can pack the seeds of each setting into a population; see also the
# [guide](../populations.md).
