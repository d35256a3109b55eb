"""An agent in a folder: its tensors, its phase, its spaces and hyperparameters, and the champion that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from balrl.checkpoint import (
    AGENT,
    completed,
    find_checkpoint,
    is_checkpoint,
    load_into,
    load_state,
    load_tensors,
    save_checkpoint,
)
from balrl.errors import UserError
from balrl.foreign import fields
from balrl.frozen_policy import ExpandedPolicy
from balrl.settings import validate
from balrl.spaces import space_from_json, space_to_json

if TYPE_CHECKING:
    from balrl.agent import Agent

A = TypeVar("A", bound="Agent")


def save_agent(agent: Agent, path: Path) -> Path:
    """Write an agent to a folder, as `Agent.save` says."""
    if path.exists() and not is_checkpoint(path):
        raise UserError(f"cannot save the agent in '{path}': it exists and is no saved agent; choose another folder")
    return save_checkpoint(
        path,
        {"agent": agent.state_dict(), "optimizer": agent.optimizer_state(), **champion_state(agent)},
        {
            "config": {"agent": agent.config.model_dump(mode="json")},
            "observation_space": space_to_json(agent.spaces.observation_space),
            "action_space": space_to_json(agent.spaces.action_space),
            "rewards": {"scale": 1.0, "bias": 0.0},
            "agent": phase_state(agent),
        },
    )


def load_agent(kind: type[A], folder: Path, device: torch.device | str) -> A:
    """Return an agent of a class from a folder, as `Agent.load` says."""
    checkpoint = find_checkpoint(folder)
    state = load_state(checkpoint, AGENT)
    described, own = state["config"].get("agent"), kind.config_type.model_fields["name"].default
    if not isinstance(described, dict) or described.get("name") != own:
        found = described.get("name") if isinstance(described, dict) else described
        raise UserError(f"'{checkpoint}' holds an agent {found!r}, expected '{own}'; balrl.load_agent reads any")
    config = validate(kind.config_type, described, f"'{checkpoint}'")
    observation_space, action_space = (space_from_json(state[f"{part}_space"]) for part in ("observation", "action"))
    agent = kind(observation_space, action_space, config, device)
    restore_agent(agent, checkpoint, state)
    return agent


def restore_agent(agent: Agent, checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Give an agent parameters, optimisers, phase and champion from a checkpoint of one like it.

    Args:
        state: the checkpoint's, as `load_state` returns it.

    Raises:
        UserError: when its tensors have other names or shapes.
    """
    load_into(agent, completed(load_tensors(checkpoint, "agent", agent.device, required=True)), checkpoint)
    champion = load_tensors(checkpoint, "champion", agent.device)
    agent.crown(None)
    if champion:
        expansion = state["agent"].get("expansion")
        frozen = agent.freeze() if expansion is None else ExpandedPolicy(agent, float(expansion))
        load_into(frozen, champion, checkpoint)
        agent.crown(frozen)
    moments, own = load_tensors(checkpoint, "optimizer", agent.device), agent.optimizer_state()
    for name, value in moments.items():
        if name not in own or own[name].shape != value.shape:
            found, wanted = tuple(value.shape), tuple(own[name].shape) if name in own else "no such moment"
            raise UserError(f"'{checkpoint}': moment '{name}' has shape {found}, expected {wanted}")
    agent.load_optimizer_state(moments)
    load_phase_state(agent, fields(state["agent"], {"phase": str, "phase_updates": int}, f"'{checkpoint}': 'agent'"))


def champion_state(agent: Agent) -> dict[str, dict[str, Tensor]]:
    """Return the champion's tensors as the group ``champion``; empty without one."""
    return {} if agent.champion is None else {"champion": agent.champion.state_dict()}


def phase_state(agent: Agent) -> dict[str, Any]:
    """Return the part of an agent's state that is not tensors, as plain JSON types."""
    champion = agent.champion
    return {
        "phase": agent.phase,
        "phase_updates": agent.phase_updates,
        "phase_length": agent.phase_length,
        **({"expansion": champion.inverse_temperature} if isinstance(champion, ExpandedPolicy) else {}),
    }


def load_phase_state(agent: Agent, state: Mapping[str, Any]) -> None:
    """Undo `phase_state`."""
    agent.phase = state["phase"]
    agent.phase_updates = state["phase_updates"]
    agent.phase_length = state["phase_length"]
