"""One table of agents, and those of other packages."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import balrl.agents
from balrl.agents import registration
from balrl.agents.hyperparameters import SACConfig
from balrl.agents.registration import OWN, Registration, agent_class, registrations
from balrl.config import AgentConfig, DataConfig

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mean-agent"
version = "1"
[project.entry-points."balrl.agents"]
mean = "mean_agent:REGISTRATION"
[tool.setuptools]
py-modules = ["mean_agent", "mean_agent_class"]
"""
CONFIG = '''
from typing import Literal
from pydantic import Field
from balrl.agents.registration import Registration
from balrl.config import AgentConfig

class MeanConfig(AgentConfig):
    """Imitates, slowly."""
    name: Literal["mean"] = "mean"
    policy: Literal["deterministic"] = "deterministic"
    rate: float = Field(1e-3, gt=0, description="step size")

REGISTRATION = Registration(MeanConfig, "mean_agent_class:Mean")
'''
CLASS = """
from balrl.agent import Agent
from balrl.checkpoint import POLICY
from balrl.optim import adam, descend
from balrl.policies import make_policy
from mean_agent import MeanConfig

class Mean(Agent):
    config_type = MeanConfig
    carried = (POLICY,)

    def _build(self, c):
        self.policy = make_policy(c.policy, self.spaces.observation_dim, self.spaces.action_dim, (8,))
        self.optimizers["policy"] = adam(self.policy.parameters(), c.rate)

    def _update(self, batch):
        loss = (self.policy(self.normalizer(batch.observations)) - batch.actions).square().mean()
        descend(self.optimizers["policy"], loss)
        return {"policy/loss": loss.detach()}
"""
RUN = """
env: balrl/PointMaze-v0
dataset: point-maze-mixed
agent: {name: mean, rate: 0.01}
pretrain: {updates: 20, eval_every: 20}
evaluation: {episodes: 2}
tracking: {wandb: "off", log_every: 5}
"""


@pytest.mark.slow
def test_an_installed_package_s_agent_trains_resumes_and_warm_starts(tmp_path: Path) -> None:
    """Without a preset: from a configuration file, in a process that knows nothing else of it."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name, text in (("pyproject.toml", PYPROJECT), ("mean_agent.py", CONFIG), ("mean_agent_class.py", CLASS)):
        (source / name).write_text(text)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "install", *options, str(source)]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "run.yaml").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONWARNINGS": "error::UserWarning:balrl"}

    def train(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "balrl", "train", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    done = train("--config", "run.yaml", "--run-dir", "first")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "first" / "summary.json").read_text())["finished"]
    assert train("--resume", "first").returncode == 0
    again = train("--config", "run.yaml", "--run-dir", "second", "init.checkpoint=first")
    assert "(mean): policy, optimisers carried" in " ".join(again.stdout.split()), again.stdout + again.stderr
    wrong = train("--config", "run.yaml", "agent.rat=1")
    assert wrong.returncode == 2
    assert "did you mean 'agent.rate'" in wrong.stderr


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:X", "No module named"),
        ("balrl.agents.hyperparameters:SACConfig", "expected a balrl.agents.registration.Registration"),
        ("tests.agents.test_registration:TWICE", "there is an agent 'sac' already"),
        ("tests.agents.test_registration:NO_AGENT", "expected a balrl.agents.registration.Registration"),
    ],
)
def test_one_that_cannot_be_used_is_left_out_with_a_warning(
    value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "entry_points", lambda group: [EntryPoint("theirs", value, group)])
    with pytest.warns(UserWarning, match=f"agent 'theirs' of {value} is left out: .*{reason}"):
        assert registrations.__wrapped__() == OWN


TWICE = Registration(SACConfig, "balrl.agents.sac:SAC")
NO_AGENT = Registration(DataConfig, "balrl.agents.sac:SAC")  # type: ignore[arg-type]


def test_the_table_and_the_agents_agree() -> None:
    for own in OWN:
        assert agent_class(own.config()).config_type is own.config
        assert own.path.endswith(f":{own.config.__name__.removesuffix('Config')}")

    class Nobodys(AgentConfig):
        name: str = "nobody's"

    with pytest.raises(TypeError, match="Nobodys is the configuration of no registered agent"):
        agent_class(Nobodys())


def test_readers_and_the_running_package_see_the_same_names() -> None:
    """What type checkers are shown in ``agents/__init__.py`` is what the table gives."""
    tree = ast.parse(Path(str(balrl.agents.__file__)).read_text())
    [shown] = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.name for node in shown.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(balrl.agents.__all__)
    for name in names:
        assert getattr(balrl.agents, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'IQLL'"):
        _ = balrl.agents.IQLL
