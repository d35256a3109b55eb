"""A policy as a function of its own, without balrl: TorchScript or ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from balrl.agent import Agent
from balrl.errors import UserError, check_target, first_line
from balrl.frozen_policy import check_one_policy
from balrl.run.family import balance_of, constant


class PlainPolicy(nn.Module):
    """What an agent serves, as ``observations [B, observation_dim] → actions [B, action_dim]`` in the task's own units.

    Args:
        agent: whose champion, or newest policy, it is.
        balance: a member of its family; None: its own choice.
    """

    bounds: Tensor

    def __init__(self, agent: Agent, balance: float | None = None) -> None:
        super().__init__()
        if balance is not None:
            constant(balance_of(agent), balance)  # refuses what there is not
        check_one_policy(agent.champion)
        self.served = agent.champion or agent.freeze()
        self.balance = balance
        bounds = torch.ones(2, agent.spaces.action_dim) * torch.tensor([[-1.0], [1.0]])
        self.register_buffer("bounds", agent.spaces.to_environment(bounds).to(agent.device))

    def forward(self, observations: Tensor) -> Tensor:
        asked = None if self.balance is None else torch.full_like(observations[:, 0], self.balance)
        low, high = self.bounds
        return low + 0.5 * (self.served.act(observations, balance=asked) + 1) * (high - low)


def write_plain_policy(agent: Agent, path: str | Path, balance: float | None = None) -> Path:
    """Write an agent's deterministic policy as a function: TorchScript (``.pt``) or ONNX (``.onnx``).

    It takes flat observations ``[B, observation_dim]`` as the task gives them, B of any size, and returns actions in
    the task's bounds; normalisation and balance are inside.

    Args:
        balance: export this member of the policy's family.

    Raises:
        UserError: for another suffix, a balance that there is not, or ONNX without its package.
    """
    target = check_target(Path(path), (".pt", ".onnx"))
    module = PlainPolicy(agent, balance).cpu().eval()
    example = torch.zeros(2, agent.spaces.observation_dim)
    if target.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing is what makes a file that needs no Python
            torch.jit.save(torch.jit.trace(module, example), str(target))
        return target
    try:
        batch = torch.export.Dim("batch")
        torch.onnx.export(
            module,
            (example,),
            str(target),
            input_names=["observations"],
            output_names=["actions"],
            dynamic_shapes={"observations": {0: batch}},
            verbose=False,
        )
    except ImportError as error:
        raise UserError(
            f"ONNX needs packages that are not installed: pip install onnx onnxscript ({first_line(error)})"
        ) from error
    return target
