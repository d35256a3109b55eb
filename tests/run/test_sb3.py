from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import BC, SAC, BCConfig, SACConfig, StateAdaptiveBalance
from balrl.errors import UserError
from balrl.run.sb3 import read_sac_zip, write_sac_zip
from balrl.run.warm_start import read_source

sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
ENV = "Pendulum-v1"  # actions in [-2, 2]
SPACES = gym.spaces.Box(-8.0, 8.0, (3,)), gym.spaces.Box(-2.0, 2.0, (1,))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = sb3.SAC(
        "MlpPolicy", ENV, policy_kwargs={"net_arch": {"pi": [16, 12], "qf": [10]}}, learning_starts=8, seed=0
    )
    model.learn(40)
    path = tmp_path_factory.mktemp("sb3") / "model.zip"
    model.save(path)
    return path


def test_weights_in(trained: Path) -> None:
    """Actions, log-probabilities and Q are stable-baselines3's own."""
    config, tensors = read_sac_zip(trained)
    assert (config.hidden, config.critic_hidden, config.critics) == ((16, 12), (10,), 2)
    agent = SAC(*SPACES, config)
    agent.load_state_dict(agent.state_dict() | tensors)
    model = sb3.SAC.load(trained, device="cpu")
    observations = np.random.default_rng(0).uniform(-2, 2, (200, 3)).astype(np.float32)
    wanted, _ = model.predict(observations, deterministic=True)
    found, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    inputs = torch.from_numpy(observations)
    with torch.no_grad():
        q = torch.stack([x.squeeze(-1) for x in model.critic(inputs, torch.zeros(200, 1))])
        target = torch.stack([x.squeeze(-1) for x in model.critic_target(inputs, torch.zeros(200, 1))])
        mean, log_std, _ = model.actor.get_action_dist_params(inputs)
        ours = agent.policy(inputs)
    torch.testing.assert_close(agent.q_values(inputs, torch.zeros(200, 1)), q, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(agent.target_critic(inputs, torch.zeros(200, 1)), target, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[0], mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], log_std, rtol=1e-4, atol=1e-5)
    assert agent.log_temperature.item() == pytest.approx(model.log_ent_coef.item())


def test_a_zip_is_a_warm_start(trained: Path, tmp_path: Path) -> None:
    settings = {
        "env": ENV,
        "init.checkpoint": str(trained),
        "agent.hidden": "[16, 12]",
        "agent.critic_hidden": "[10]",
        "warmup.steps": "20",
        "warmup.kind": "frozen-policy",
        "finetune.steps": "20",
        "batch_size": "16",
        "evaluation.episodes": "1",
        "tracking.wandb": "off",
    }
    assert balrl.train(balrl.load_config("sac/locomotion", settings=settings), tmp_path / "run").finished
    start = balrl.load_agent(next((tmp_path / "run" / "checkpoints").glob("*-end-warmup")), device="cpu")
    assert all(torch.equal(v, start.state_dict()[k]) for k, v in read_source(str(trained)).tensors.items())


def test_policy_out(tmp_path: Path) -> None:
    """Through the file and back: the same actions from raw observations, the same Q, both ways."""
    env = gym.make(ENV)
    agent = SAC(
        env.observation_space,
        env.action_space,
        SACConfig(hidden=(16, 12), critic_hidden=(10, 10), critics=3, initial_temperature=0.3),
    )
    agent.normalizer.fit(torch.tensor([0.5, -1.0, 2.0]), torch.tensor([2.0, 0.5, 3.0]))
    assert write_sac_zip(agent, tmp_path / "out.zip") == []
    model = sb3.SAC.load(tmp_path / "out.zip", device="cpu")
    observations = np.random.default_rng(0).uniform(-8, 8, (200, 3)).astype(np.float32)
    found, _ = model.predict(observations, deterministic=True)
    wanted, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    inputs, actions = torch.from_numpy(observations), torch.rand(200, 1) * 2 - 1
    with torch.no_grad():
        q = torch.stack([x.squeeze(-1) for x in model.critic(inputs, actions)])
    torch.testing.assert_close(q, agent.q_values(inputs, actions), rtol=1e-4, atol=1e-4)
    assert model.log_ent_coef.item() == pytest.approx(np.log(0.3))
    again = SAC(*SPACES, read_sac_zip(tmp_path / "out.zip")[0])
    again.load_state_dict(again.state_dict() | read_sac_zip(tmp_path / "out.zip")[1])
    np.testing.assert_allclose(again.predict(observations, deterministic=True)[0], wanted, atol=1e-5)
    model.set_env(env)
    model.learn(5)  # it is a whole model: stable-baselines3 trains on
    with pytest.raises(UserError, match="exists already"):
        write_sac_zip(agent, tmp_path / "out.zip")


def test_what_cannot_go_along_is_said(tmp_path: Path) -> None:
    [note] = write_sac_zip(SAC(*SPACES, SACConfig(hidden=(8,), layer_norm=True)), tmp_path / "a.zip")
    assert "fresh ones are in the file" in note
    [note] = write_sac_zip(SAC(*SPACES, SACConfig(hidden=(8,), log_std_range=(-5.0, 2.0))), tmp_path / "b.zip")
    assert "samples can differ" in note


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (BC(*SPACES, BCConfig(hidden=(8,))), "agent bc has no tanh-squashed"),
        (SAC(*SPACES, SACConfig(hidden=(8,), policy="gaussian")), "no tanh-squashed"),
        (SAC(*SPACES, SACConfig(hidden=(8,), policy_layer_norm=True)), "layer normalisation in the policy"),
        (SAC(*SPACES, SACConfig(hidden=(8,), state_dependent_std=False)), "a state-independent deviation"),
        (SAC(*SPACES, SACConfig(hidden=(8,), balance=StateAdaptiveBalance(0.5, 1.5, hidden=(8,)))), "is a family"),
    ],
)
def test_policies_that_have_no_counterpart_are_refused(agent: SAC, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_sac_zip(agent, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def rewrite(source: Path, target: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.namelist():
            new.writestr(item, content if item == name else old.read(item))
    return target


def test_files_that_are_no_such_model(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match=r"no stable-baselines3 model \(File is not a zip file\)"):
        read_sac_zip(tmp_path / "text.zip")
    sde = json.dumps({"use_sde": True}).encode()
    with pytest.raises(UserError, match="gSDE"):
        read_sac_zip(rewrite(trained, tmp_path / "sde.zip", "data", sde))
    tanh = json.dumps({"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}}).encode()
    with pytest.raises(UserError, match="expected ReLU"):
        read_sac_zip(rewrite(trained, tmp_path / "tanh.zip", "data", tanh))
    sb3.PPO("MlpPolicy", ENV, n_steps=8).save(tmp_path / "ppo.zip")
    with pytest.raises(UserError, match=r"lacks actor\.latent_pi\.0\.weight: expected a SAC model"):
        read_sac_zip(tmp_path / "ppo.zip")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_zip_that_hides_code_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    torch.save({"actor.latent_pi.0.weight": Malicious()}, buffer)
    path = rewrite(trained, tmp_path / "bad.zip", "policy.pth", buffer.getvalue())
    with pytest.raises(UserError, match="no stable-baselines3 model"):
        read_sac_zip(path)
    assert "code ran" not in capsys.readouterr().out


def test_one_member_of_a_family_is_an_ordinary_policy(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    import stable_baselines3

    box = gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Box(-2, 2, (2,), np.float32)
    family = StateAdaptiveBalance(0.5, 1.5, hidden=(8,), entropy=False)
    agent = SAC(*box, SACConfig(hidden=(16, 16), balance=family))
    agent.normalizer.fit(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 0.5]))
    with pytest.raises(UserError, match="name one member with --balance"):
        write_sac_zip(agent, tmp_path / "family.zip")
    write_sac_zip(agent, tmp_path / "member.zip", balance=1.5)
    model = stable_baselines3.SAC.load(tmp_path / "member.zip", device="cpu")
    observations = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    expected, _ = agent.predict(observations, deterministic=True, balance=1.5)
    np.testing.assert_allclose(model.predict(observations, deterministic=True)[0], expected, rtol=1e-4, atol=1e-5)
