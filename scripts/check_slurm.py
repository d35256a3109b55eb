"""A sweep on a real Slurm of one node: submitted, requeued, preempted, finished, equal to the local one.

    apt-get install slurm-wlm munge
    python scripts/check_slurm.py

As root, on a machine where no Slurm runs. Everything is in a folder of its own and is ended at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from balrl.checkpoint import list_checkpoints
from balrl.foreign import checksum
from balrl.sweep.folder import SweepFolder, open_sweep

CONFIGURATION = """\
ClusterName=balrl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MpiDefault=none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SWEEP = """\
presets: [iql/point-maze]
seeds: 0:3
settings:
  pretrain.updates: 6000
  pretrain.eval_every: 6000
  finetune.steps: 500
  finetune.eval_every: 500
  agent.hidden: [16, 16]
  evaluation.episodes: 5
  tracking.wandb: "off"
  tracking.log_every: 100
  threads: 1
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="balrl-slurm-"))
    servers = start_slurm(folder)
    try:
        check(folder)
    finally:
        for server in reversed(servers):
            server.terminate()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def start_slurm(folder: Path) -> list[subprocess.Popen[bytes]]:
    """Start munge, a controller and a node, and wait until the node is idle."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    text = CONFIGURATION.format(host=socket.gethostname(), folder=folder, cpus=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    files = {f"--{name}": folder / f"munge.{end}" for name, end in (("key-file", "key"), ("socket", "socket"))}
    files |= {
        "--pid-file": folder / "munge.pid",
        "--log-file": folder / "munge.log",
        "--seed-file": folder / "munge.seed",
    }
    servers = [start(folder, "munged", "--foreground", "--force", *(f"{key}={value}" for key, value in files.items()))]
    wait(lambda: (folder / "munge.socket").exists(), "munge")
    servers += [start(folder, "slurmctld", "-D"), start(folder, "slurmd", "-D")]
    wait(lambda: "idle" in ask("sinfo", "--noheader", "--format=%T"), "the node to be idle")
    return servers


def check(folder: Path) -> None:
    """Run the sweep, disturb it, and compare."""
    (folder / "sweep.yaml").write_text(SWEEP)
    begun = time.time()
    driver = sweep(folder, "slurm", "--executor", "slurm", "--jobs", "2", "--minutes", "10")
    wait(lambda: (folder / "slurm" / "sweep.yaml").exists(), "the sweep's folder")
    found = open_sweep(folder / "slurm")
    first, second, third = found.plan
    wait(lambda: (found.run_dir(first) / "metrics.jsonl").exists(), "the first run")
    print("requeue:", ask("scontrol", "requeue", job_of(0)) or "done", flush=True)
    wait(lambda: (found.run_dir(second) / "metrics.jsonl").exists(), "the second run")
    print("signal as before a preemption:", ask("scancel", "--signal=USR2", job_of(1)) or "done", flush=True)
    wait(lambda: found.is_finished(third), "the third run", 600)
    code = driver.wait(600)
    print(f"exit code {code} after {time.time() - begun:.0f} s")
    for name in found.plan:
        history = found.standing(name).history
        print(f"{name}: {found.standing(name).state}, {history.attempts} attempts")
    assert code == 0
    assert sweep(folder, "local", "--jobs", "2").wait(600) == 0
    compare(found, open_sweep(folder / "local"))


def compare(one: SweepFolder, other: SweepFolder) -> None:
    """Compare the tensors of the runs' last checkpoints."""
    for name in one.plan:
        newest = [list_checkpoints(folder.run_dir(name))[0] for folder in (one, other)]
        ours, theirs = ({f.name: checksum(f) for f in path.glob("*.safetensors")} for path in newest)
        assert ours, name
        assert ours == theirs, name
    print(f"{len(one.plan)} runs equal the local executor's to the bit")


def sweep(folder: Path, out: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "balrl", "sweep", str(folder / "sweep.yaml"), "--out", str(folder / out), *options]
    return subprocess.Popen(command)


def job_of(index: int) -> str:
    """Return a task of the newest array."""
    jobs = sorted(set(ask("squeue", "--noheader", "--array", "--format=%F").split()), key=int)
    return f"{jobs[-1]}_{index}"


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    log = (folder / f"{command[0]}.log").open("wb")
    return subprocess.Popen(
        [shutil.which(command[0]) or f"/usr/sbin/{command[0]}", *command[1:]], stdout=log, stderr=log
    )


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def wait(happened: Callable[[], object], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
