"""stable-baselines3's SAC models: weights in, and our soft actor-critic out. Nothing is unpickled."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.agents.config import SACConfig
from balrl.errors import UserError

POLICY_FILE, VARIABLES_FILE, DATA_FILE = "policy.pth", "pytorch_variables.pth", "data"


def read_sac_zip(path: Path) -> tuple[SACConfig, dict[str, Tensor]]:
    """Return the configuration and the tensors of a stable-baselines3 SAC model, under our agent's names.

    Only weights are read; the pickles in the file are not touched. Layers are ReLU and actions tanh-squashed in both
    libraries, weights are stored transposed.

    Raises:
        UserError: when the file is no such model, or one that our agent cannot represent (other activations,
            state-dependent exploration, dictionary observations, images).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(DATA_FILE))
            weights = torch.load(io.BytesIO(archive.read(POLICY_FILE)), "cpu", weights_only=True)
            variables = torch.load(io.BytesIO(archive.read(VARIABLES_FILE)), "cpu", weights_only=True) or {}
    except Exception as error:  # zip, JSON, torch: whatever is wrong, it is the file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
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


def _put_linear(tensors: dict[str, Tensor], name: str, weights: dict[str, Tensor], theirs: str) -> None:
    tensors[f"{name}.weight"] = weights[f"{theirs}.weight"].T
    tensors[f"{name}.bias"] = weights[f"{theirs}.bias"]


def _check(path: Path, about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    if about.get("use_sde"):
        raise UserError(f"'{path}' explores with gSDE, which has no counterpart here; train it with use_sde=False")
    activation = str(about.get("policy_kwargs", {}).get("activation_fn", "ReLU"))
    if "ReLU" not in activation:
        raise UserError(f"'{path}' has the activation {activation}, expected ReLU (stable-baselines3's default)")
    needed = ("actor.latent_pi.0.weight", "actor.mu.weight", "actor.log_std.weight", "critic.qf0.0.weight")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise UserError(
            f"'{path}' lacks {missing[0]}: expected a SAC model with MlpPolicy; it has {sorted(weights)[:4]}, …"
        )
