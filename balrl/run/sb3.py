"""stable-baselines3's SAC models: weights in, and our soft actor-critic out. Nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.agents.hyperparameters import SACConfig, SoftActorCriticConfig
from balrl.errors import UserError, check_target, first_line
from balrl.foreign import parse_json
from balrl.frozen_policy import check_one_policy
from balrl.run.family import balance_of, constant

POLICY_FILE, VARIABLES_FILE, DATA_FILE = "policy.pth", "pytorch_variables.pth", "data"


def read_sac_zip(path: str | Path) -> tuple[SACConfig, dict[str, Tensor]]:
    """Return the configuration and the tensors of a stable-baselines3 SAC model, under our agent's names.

    Only weights are read; the pickles in the file are not touched. Layers are ReLU and actions tanh-squashed in both
    libraries, weights are stored transposed.

    Raises:
        UserError: when the file is no such model, or one that our agent cannot represent (other activations,
            state-dependent exploration, dictionary observations, images).
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            about = parse_json(archive.read(DATA_FILE), DATA_FILE)
            weights = torch.load(io.BytesIO(archive.read(POLICY_FILE)), "cpu", weights_only=True)
            variables = torch.load(io.BytesIO(archive.read(VARIABLES_FILE)), "cpu", weights_only=True) or {}
    except Exception as error:  # zip, JSON, torch: whatever is wrong, it is the file
        reason = first_line(error)
        raise UserError(f"'{path}' is no stable-baselines3 model ({reason}); expected what SAC.save writes") from error
    _check(path, about, weights)
    layers = sorted({int(k.split(".")[2]) for k in weights if k.startswith("actor.latent_pi.")})
    members = sorted({int(k.split(".")[1][2:]) for k in weights if k.startswith("critic.qf")})
    depth = len({k.split(".")[2] for k in weights if k.startswith("critic.qf0.")}) - 1
    observation_dim = weights["actor.latent_pi.0.weight"].shape[1]
    tensors = {"normalizer.mean": torch.zeros(observation_dim), "normalizer.std": torch.ones(observation_dim)}
    for i, layer in enumerate(layers):
        _put_linear(tensors, f"policy.trunk.layers.{i}", weights, f"actor.latent_pi.{layer}")
    _put_linear(tensors, "policy.mean", weights, "actor.mu")
    _put_linear(tensors, "policy.log_std", weights, "actor.log_std")
    for ours, theirs in (("critic", "critic"), ("target_critic", "critic_target")):
        for i in range(depth):
            names = [f"{theirs}.qf{m}.{2 * i}" for m in members]
            tensors[f"{ours}.trunk.layers.{i}.weight"] = torch.stack([weights[f"{n}.weight"].T for n in names])
            tensors[f"{ours}.trunk.layers.{i}.bias"] = torch.stack([weights[f"{n}.bias"] for n in names])
        heads = [f"{theirs}.qf{m}.{2 * depth}" for m in members]
        tensors[f"{ours}.head.weight"] = torch.stack([weights[f"{n}.weight"][0] for n in heads])
        tensors[f"{ours}.head.bias"] = torch.stack([weights[f"{n}.bias"][0] for n in heads])
    if "log_ent_coef" in variables:
        tensors["log_temperature"] = variables["log_ent_coef"].detach()[0]
    elif "ent_coef_tensor" in variables:
        tensors["log_temperature"] = variables["ent_coef_tensor"].detach().log().reshape(())
    config = SACConfig(
        hidden=tuple(tensors[f"policy.trunk.layers.{i}.bias"].shape[0] for i in range(len(layers))),
        critic_hidden=tuple(tensors[f"critic.trunk.layers.{i}.bias"].shape[1] for i in range(depth)),
        critics=len(members),
    )
    return config, {key: value.contiguous() for key, value in tensors.items()}


def write_sac_zip(agent: Agent, path: str | Path, balance: float | None = None) -> list[str]:
    """Write a soft actor-critic's policy as a model that ``stable_baselines3.SAC.load`` reads.

    Deterministic actions are equal; the observation normalisation is folded into the first layers. Critics go along
    where they have no layer normalisation, otherwise stable-baselines3's own fresh ones stay in the file.

    Args:
        balance: the member of the policy's family; folded into the first layer.

    Returns:
        what could not go along, one line each.

    Raises:
        UserError: for an agent that stable-baselines3's SAC cannot represent.
    """
    c = agent.config
    if not isinstance(c, SoftActorCriticConfig) or c.policy != "tanh-gaussian":
        raise UserError(f"agent {c.name} has no tanh-squashed Gaussian policy; only SAC, CQL, Cal-QL and WSRL export")
    check_one_policy(agent.champion)
    if agent.reward_dim > 1:
        raise UserError(
            f"the policy is conditioned on a preference over {agent.reward_dim} rewards, stable-baselines3 has no such "
            "policy; write .onnx or .pt"
        )
    if c.chunk_size > 1:
        raise UserError(
            f"the policy chooses {c.chunk_size} steps' actions at once, stable-baselines3's one; write .onnx or .pt"
        )
    if agent.is_family and balance is None:
        raise UserError(
            "the policy is a family conditioned on a balance; stable-baselines3 has no such policy: name one member "
            "with --balance"
        )
    if balance is not None and not agent.is_family:
        raise UserError("this agent has one policy, not a family: leave --balance out")
    if c.policy_layer_norm or not c.state_dependent_std:
        what = "layer normalisation in the policy" if c.policy_layer_norm else "a state-independent deviation"
        raise UserError(f"the policy has {what}, which stable-baselines3's SAC has not; train it without to export it")
    if not agent.spaces.is_flat:
        raise UserError("the policy takes observations that balrl flattens; stable-baselines3's MlpPolicy takes none")
    path = check_target(path, (".zip",))
    if path.exists():
        raise UserError(f"'{path}' exists already; choose another name, or move it away")
    try:
        import stable_baselines3
    except ImportError as error:
        raise UserError("stable-baselines3 is not installed; it comes with: pip install 'balrl[sb3]'") from error
    model = stable_baselines3.SAC(
        "MlpPolicy",
        _Spaces(agent.spaces.observation_space, agent.spaces.action_space),
        buffer_size=1,
        gamma=c.discount,
        tau=c.polyak,
        target_entropy=float(cast("float", agent.target_entropy)),
        device="cpu",
        policy_kwargs={
            "net_arch": {"pi": list(c.hidden), "qf": list(c.critic_hidden or c.hidden)},
            "n_critics": c.critics,
        },
    )
    weights = {key: value.clone() for key, value in model.policy.state_dict().items()}
    own = {key: value.cpu() for key, value in agent.state_dict().items()}
    own |= {key: value.cpu() for key, value in (agent.champion or agent.freeze()).state_dict().items()}
    if balance is not None:
        _fold_balance(own, agent, balance)
    for i in range(len(c.hidden)):
        _take_linear(weights, f"actor.latent_pi.{2 * i}", own, f"policy.trunk.layers.{i}", fold=i == 0)
    _take_linear(weights, "actor.mu", own, "policy.mean")
    _take_linear(weights, "actor.log_std", own, "policy.log_std")
    notes = []
    if c.layer_norm:
        notes.append("the critics have layer normalisation and stay behind: fresh ones are in the file")
    else:
        depth = len(c.critic_hidden or c.hidden)
        for theirs, ours in (("critic", "critic"), ("critic_target", "target_critic")):
            for member in range(c.critics):
                for i in range(depth):
                    name = f"{theirs}.qf{member}.{2 * i}"
                    _take_linear(weights, name, own, f"{ours}.trunk.layers.{i}", member, fold=i == 0)
                weights[f"{theirs}.qf{member}.{2 * depth}.weight"] = own[f"{ours}.head.weight"][member][None]
                weights[f"{theirs}.qf{member}.{2 * depth}.bias"] = own[f"{ours}.head.bias"][member][None]
    if c.log_std_range != (-20.0, 2.0):
        notes.append(f"log deviations are clipped to {c.log_std_range} here and to (-20, 2) there: samples can differ")
    model.policy.load_state_dict(weights)
    assert model.log_ent_coef is not None
    model.log_ent_coef.data.fill_(float(own["log_temperature"]))
    model.save(path)
    return notes


def _fold_balance(own: dict[str, Tensor], agent: Agent, balance: float) -> None:
    """Turn a family's first layer into that of one member: its embedding is the same for every state."""
    family, width = balance_of(agent), agent.spaces.observation_dim
    constant(family, balance)  # refuses what is out of range
    asked = torch.full((1,), balance, device=agent.device)
    embedded = family.condition(torch.zeros(1, width, device=agent.device), asked)[0, width:].cpu()
    weight = own["policy.trunk.layers.0.weight"]
    own["policy.trunk.layers.0.bias"] = own["policy.trunk.layers.0.bias"] + embedded @ weight[width:]
    own["policy.trunk.layers.0.weight"] = weight[:width]


class _Spaces(gym.Env[Any, Any]):
    """A task of which only the spaces matter."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space


def _take_linear(
    weights: dict[str, Tensor],
    theirs: str,
    own: dict[str, Tensor],
    ours: str,
    member: int | None = None,
    fold: bool = False,
) -> None:
    weight, bias = own[f"{ours}.weight"], own[f"{ours}.bias"]
    if member is not None:
        weight, bias = weight[member], bias[member]
    if fold:  # (x − mean) / std comes first: the layer takes raw observations instead
        mean, std = own["normalizer.mean"], own["normalizer.std"]
        scaled = weight.clone()
        scaled[: len(std)] /= std[:, None]
        bias = bias - mean @ scaled[: len(std)]
        weight = scaled
    weights[f"{theirs}.weight"], weights[f"{theirs}.bias"] = weight.T.contiguous(), bias


def _put_linear(tensors: dict[str, Tensor], name: str, weights: dict[str, Tensor], theirs: str) -> None:
    tensors[f"{name}.weight"] = weights[f"{theirs}.weight"].T
    tensors[f"{name}.bias"] = weights[f"{theirs}.bias"]


def _check(path: Path, about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    if about.get("use_sde"):
        raise UserError(f"'{path}' explores with gSDE, which has no counterpart here; train it with use_sde=False")
    activation = str(about.get("policy_kwargs", {}).get("activation_fn", "ReLU"))
    if activation.rstrip("'>").rsplit(".", 1)[-1] != "ReLU":
        raise UserError(f"'{path}' has the activation {activation}, expected ReLU (stable-baselines3's default)")
    needed = ("actor.latent_pi.0.weight", "actor.mu.weight", "actor.log_std.weight", "critic.qf0.0.weight")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise UserError(
            f"'{path}' lacks {missing[0]}: expected a SAC model with MlpPolicy; it has {sorted(weights)[:4]}, …"
        )
