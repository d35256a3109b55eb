from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import balrl
from balrl.agents import SAC
from balrl.agents.hyperparameters import CQLConfig, IQLConfig, SACConfig, StateAdaptiveBalance
from balrl.batch import Batch
from balrl.checkpoint import list_checkpoints, load_state, load_tensors
from balrl.config import InitConfig
from balrl.envs import PointMazeVectorEnv
from balrl.errors import UserError
from balrl.run.presets import TrainConfig
from balrl.run.registry import make_agent
from balrl.run.warm_start import Source, read_source, take_over
from tests.run.small import SMALL, Interrupt, Listening, final_state, records

QUICK = SMALL | {
    "env_kwargs": "{max_episode_steps: 15}",
    "num_envs": "4",
    "pretrain.updates": "6",
    "warmup.steps": "0",
    "finetune.steps": "0",
    "batch_size": "8",
}
WSRL = QUICK | {"agent.sampled_actions": "2", "agent.max_target_actions": "2"}
ONLINE = WSRL | {"pretrain.updates": "0", "warmup.steps": "16", "finetune.steps": "24", "instruments.every": "8"}


def config(preset: str, settings: dict[str, str], **more: str) -> TrainConfig:
    return balrl.load_config(f"{preset}/point-maze", settings={**settings, **more})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calql") / "run"
    assert balrl.train(config("wsrl", WSRL), path).finished
    return path


@pytest.fixture(scope="module")
def whole_run(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wsrl") / "run"
    assert balrl.train(config("wsrl", ONLINE, **{"init.checkpoint": str(pretrained)}), path).finished
    return path


def tensors(run: Path, name: str = "") -> dict[str, torch.Tensor]:
    checkpoint = next(p for p in list_checkpoints(run) if p.name.endswith(name))
    return load_tensors(checkpoint, "agent", required=True)


PARTS = ("policy-and-critic", "policy", "critic", "neither")
WARMUPS = ("frozen-policy", "random", "offline-data", "critic-only", None)
RETAIN = ("none", "ratio", "append")


@pytest.mark.parametrize(("parts", "warmup", "retain"), list(product(PARTS, WARMUPS, RETAIN)))
def test_every_combination(pretrained: Path, tmp_path: Path, parts: str, warmup: str | None, retain: str) -> None:
    settings = {"init.checkpoint": str(pretrained), "init.parts": parts, "finetune.retain": retain}
    settings |= {"warmup.kind": warmup} if warmup else {"warmup.steps": "0"}
    result = balrl.train(config("wsrl", ONLINE, **settings), tmp_path / "run")
    assert result.finished
    assert result.summary["env_steps"] == 24 + (16 if warmup not in (None, "offline-data") else 0)
    begun, source = tensors(tmp_path / "run", "end-warmup") if warmup else {}, tensors(pretrained)
    for key, value in begun.items():
        if warmup == "critic-only" and key.split(".")[0] in ("critic", "target_critic"):
            continue
        part = "critic" if "critic" in key else "policy"
        carried = part in parts and not key.startswith("normalizer")
        if key.split(".")[0] in ("clock", "stream"):
            continue
        same = torch.equal(value, source[key])
        constant = key.endswith("bias") or "norms" in key  # these start alike in every network
        assert same if carried else (not same or constant or key.startswith("normalizer")), key
    if warmup:
        rows = load_tensors(next((tmp_path / "run" / "checkpoints").glob("*-end-warmup")), "replay")["rows"].shape[0]
        assert rows == 16 + (20_000 if retain == "append" else 0)


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "ctrl-c"])
@pytest.mark.parametrize("step", [4, 12, 16, 20, 36])
def test_resumed_equals_not_stopped(whole_run: Path, pretrained: Path, tmp_path: Path, step: int, crash: bool) -> None:
    """Inside the warm-up, right at the switch, after it: parameters, moments, records."""
    path, started = tmp_path / "run", config("wsrl", ONLINE, **{"init.checkpoint": str(pretrained)})
    if crash:
        with pytest.raises(RuntimeError, match="power"):
            balrl.train(started, path, Interrupt(step, crash))
    else:
        assert not balrl.train(started, path, Interrupt(step, crash)).finished
    assert balrl.resume(path).finished
    expected, got = final_state(whole_run), final_state(path)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert records(path) == records(whole_run)


@pytest.mark.parametrize("kind", ["critic-only", "offline-data"])
def test_other_warm_ups_resume_exactly(pretrained: Path, tmp_path: Path, kind: str) -> None:
    started = config("wsrl", ONLINE, **{"init.checkpoint": str(pretrained), "warmup.kind": kind})
    balrl.train(started, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(started, tmp_path / "run", Interrupt(14, crash=True))
    balrl.resume(tmp_path / "run")
    for key, value in final_state(tmp_path / "whole").items():
        assert torch.equal(final_state(tmp_path / "run")[key], value), key


def test_resuming_does_not_need_the_first_checkpoint_any_more(pretrained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "pretrained"
    moved.symlink_to(pretrained)
    started = config("wsrl", ONLINE, **{"init.checkpoint": str(moved)})
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(started, tmp_path / "run", Interrupt(30, crash=True))
    moved.unlink()
    assert balrl.resume(tmp_path / "run").finished


def test_one_run_does_it_all(tmp_path: Path) -> None:
    """Pre-training, warm-up and fine-tuning without the data, in one command; nothing moves in the warm-up."""
    settings = WSRL | {"warmup.steps": "10", "finetune.steps": "20", "num_envs": "4"}
    result = balrl.train(config("wsrl", settings), tmp_path / "run")
    before, after = tensors(tmp_path / "run", "end-pretrain"), tensors(tmp_path / "run", "end-warmup")
    counts = ("clock", "stream")
    assert all(torch.equal(value, after[key]) for key, value in before.items() if key.split(".")[0] not in counts)
    warmed = next((tmp_path / "run" / "checkpoints").glob("*-end-warmup"))
    assert load_tensors(warmed, "replay")["rows"].shape[0] == 12  # ceil(10 / 4) · 4, and nothing logged
    assert load_state(warmed)["progress"]["env_steps"] == 12
    assert result.summary["updates"] == 6 + 20 * 4
    assert set(result.summary["switch"]) >= {"drop", "window", "steps_to_recovery", "regret"}


def test_cal_ql_online_waits_for_an_episode_to_end(pretrained: Path, tmp_path: Path) -> None:
    settings = WSRL | {"pretrain.updates": "0", "finetune.steps": "80", "checkpoint.every": "56", "num_envs": "4"}
    started = config("calql", settings, **{"init.checkpoint": str(pretrained), "finetune.retain": "none"})
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(started, tmp_path / "run", Interrupt(57, crash=True))
    checkpoint = list_checkpoints(tmp_path / "run")[0]
    assert load_tensors(checkpoint, "episodes")["rewards"].shape == (14, 4)
    assert load_state(checkpoint)["progress"]["updates"] == 0
    assert balrl.resume(tmp_path / "run").summary["updates"] > 0


# From one algorithm to another


def agent_of(agent_config: IQLConfig | SACConfig | CQLConfig, seed: int = 1):  # type: ignore[no-untyped-def]
    torch.manual_seed(seed)
    env = PointMazeVectorEnv()
    agent = make_agent(agent_config, env.single_observation_space, env.single_action_space)
    agent.normalizer.fit(torch.full((4,), 0.1), torch.full((4,), 2.0))
    return agent


def source_of(agent_config: IQLConfig | SACConfig | CQLConfig) -> Source:
    agent = agent_of(agent_config, seed=2)
    batch = torch.randn(32, 4)
    agent.update(Batch(batch, batch[:, :2].tanh(), batch[:, 0], batch, batch[:, 0] > 1, batch[:, 0]))
    return Source("the test", agent_config, agent.state_dict(), agent.optimizer_state())


def test_tensor_for_tensor_with_moments_or_without() -> None:
    c = CQLConfig(hidden=(8,), critics=3, sampled_actions=2)
    source = source_of(c)
    agent = agent_of(SACConfig(hidden=(8,), critics=3))
    [line] = take_over(agent, source, InitConfig())
    taken = [key for key in agent.state_dict() if key.split(".")[0] not in ("clock", "stream")]
    assert all(torch.equal(agent.state_dict()[key], source.tensors[key]) for key in taken)
    assert all(torch.equal(value, source.moments[key]) for key, value in agent.optimizer_state().items())
    assert "optimisers carried" in line
    agent = agent_of(SACConfig(hidden=(8,), critics=3))
    [line] = take_over(agent, source, InitConfig(optimizers="fresh"))
    assert not any(value.any() for value in agent.optimizer_state().values())
    assert "optimisers start fresh" in line


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (
            SACConfig(hidden=(9,), critics=3),
            r"policy\.trunk\.layers\.0\.weight has shape \(4, 8\) there and \(4, 9\) here",
        ),
        (
            SACConfig(hidden=(8,), critics=4),
            r"critic\..* \(3, .* and \(4, .*set agent\.critics=3, or init\.fill_critics",
        ),
        (SACConfig(hidden=(8,), critics=3, layer_norm=True), r"critic\.trunk\.norms.* none there .*agent\.layer_norm"),
        (SACConfig(hidden=(8,), critics=3, policy_layer_norm=True), r"policy\.trunk\.norms.*agent\.policy_layer_norm"),
        (SACConfig(hidden=(8,), critics=3, policy="gaussian"), "has a tanh-gaussian policy, this run's is gaussian"),
        (SACConfig(hidden=(8,), critics=3, state_dependent_std=False), r"policy\.log_std"),
    ],
)
def test_the_first_mismatch_is_named_with_both_shapes(ours: SACConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        take_over(agent_of(ours), source_of(SACConfig(hidden=(8,), critics=3)), InitConfig())


@pytest.mark.parametrize("fill", ["replicate", "fresh"])
@pytest.mark.parametrize("family", [False, True])
def test_iql_becomes_soft_actor_critic(fill: str, family: bool) -> None:
    """The Gaussian policy as it is, the critics where sizes agree, the rest as asked; V dropped, moments fresh."""
    balance = {"balance": StateAdaptiveBalance(1.0, 5.0, hidden=(8,), unit=3.0)} if family else {}
    source = source_of(IQLConfig(hidden=(8,), **balance))
    c = SACConfig(hidden=(8,), policy="gaussian", critics=5, log_std_range=(-5.0, 2.0), **balance)
    agent, fresh = agent_of(c), agent_of(c)
    [line] = take_over(agent, source, InitConfig(fill_critics=fill))
    observations = torch.randn(100, 4)
    original = agent_of(source.config)
    original.load_state_dict(source.tensors)
    wanted = original.act(observations, deterministic=True)
    assert torch.equal(agent.act(observations, deterministic=True), wanted)
    for name in ("critic.trunk.layers.0.weight", "critic.head.bias", "target_critic.head.weight"):
        new, old = agent.state_dict()[name], source.tensors[name]
        assert torch.equal(new[:2], old)
        if fill == "fresh":
            assert torch.equal(new[2:], fresh.state_dict()[name][2:])
        elif not name.endswith("bias"):  # their deviation is as small as they are
            copies = old[torch.tensor([0, 1, 0])]
            assert not torch.equal(new[2:], copies)
            torch.testing.assert_close(new[2:], copies, rtol=0, atol=0.06 * float(old.std()))
    first = "trunk.layers.0.weight"
    gap = {
        k: agent.state_dict()[f"{k}.{first}"][2:] - source.tensors[f"{k}.{first}"][[0, 1, 0]]
        for k in ("critic", "target_critic")
    }
    if fill == "replicate":
        assert gap["critic"].std() > 0
        assert torch.allclose(gap["critic"], gap["target_critic"], atol=1e-3)
    assert not any(value.any() for value in agent.optimizer_state().values())
    for words in (
        "V dropped",
        "temperature, optimisers start fresh" if fill != "fresh" else "temperature",
        "3 critics",
    ):
        assert words in line, line


def test_a_family_keeps_its_range() -> None:
    source = source_of(CQLConfig(hidden=(8,), sampled_actions=2, balance=StateAdaptiveBalance(0.5, 1.5, hidden=(8,))))
    ours = SACConfig(hidden=(8,), balance=StateAdaptiveBalance(0.5, 2.0, hidden=(8,)))
    with pytest.raises(UserError, match=r"family over balances \(0\.5, 1\.5\), this run's is over \(0\.5, 2\.0\)"):
        take_over(agent_of(ours), source, InitConfig())


def test_critics_keep_the_units_of_their_rewards(pretrained: Path, tmp_path: Path) -> None:
    settings = {"data.reward_scale": "10", "pretrain.updates": "2"}
    balrl.train(config("calql", WSRL, **settings), tmp_path / "scaled")
    source = read_source(str(tmp_path / "scaled"))
    assert source.rewards is not None
    assert source.rewards.scale == 10
    for parts, scale in (("policy-and-critic", 10), ("policy", 1)):
        more = {"init.checkpoint": str(tmp_path / "scaled"), "init.parts": parts, "dataset": "null"}
        balrl.train(config("wsrl", ONLINE, **more), tmp_path / parts)
        state = load_state(list_checkpoints(tmp_path / parts)[0])
        assert state["rewards"] == {"scale": scale, "bias": 0}
        columns = load_tensors(list_checkpoints(tmp_path / parts)[1], "replay")["rows"]
        assert columns[:, 6].min() == -scale


def test_what_was_carried_is_said(pretrained: Path, tmp_path: Path) -> None:
    display = Listening()
    balrl.train(
        config("wsrl", ONLINE, **{"init.checkpoint": str(pretrained), "init.parts": "policy"}), tmp_path / "r", display
    )
    assert "policy, temperature, optimisers carried; critics, target critics start fresh" in display.heard
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        balrl.train(config("wsrl", ONLINE, **{"init.checkpoint": "nowhere"}), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert np.isfinite(summary["switch"]["drop"])


@pytest.mark.parametrize(
    ("utd", "policy_every", "worlds", "critic", "policy"),
    [
        ("4", None, "4", 96, 24),
        ("4", "2", "4", 96, 48),
        ("0.25", None, "4", 6, 6),
        ("0.02", None, "100", 12, 12),
        ("2.5", None, "4", 60, 30),
    ],
)
def test_update_to_data_ratio(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    utd: str, policy_every: str | None, worlds: str, critic: int, policy: int,
) -> None:  # fmt: skip
    """Critic updates per stored transition, the remainder carried over; one policy update per `policy_every`."""
    counts = {"update_critic": 0, "update_policy": 0}
    for name in counts:
        original = getattr(SAC, name)

        def counting(self: SAC, batch: Batch, name: str = name, original: Any = original) -> Any:
            counts[name] += self.phase == "online"
            return original(self, batch)

        monkeypatch.setattr(SAC, name, counting)
    steps = "600" if worlds == "100" else "24"
    settings = {"finetune.utd_ratio": utd, "num_envs": worlds, "finetune.steps": steps, "warmup.steps": "100"}
    settings |= {"finetune.policy_every": policy_every} if policy_every else {}
    balrl.train(config("wsrl", ONLINE, **settings, **{"init.checkpoint": str(pretrained)}), tmp_path / "run")
    assert counts == {"update_critic": critic, "update_policy": policy}


def test_a_filled_ensemble_learns_with_carried_moments_elsewhere() -> None:
    source = source_of(SACConfig(hidden=(8,), critics=2))
    agent = agent_of(SACConfig(hidden=(8,), critics=4))
    [line] = take_over(agent, source, InitConfig(fill_critics="replicate"))
    assert "the filled critics' optimiser" in line
    rows = torch.randn(16, 4)
    agent.update(Batch(rows, rows[:, :2].tanh(), rows[:, 0], rows, rows[:, 0] > 1))
    assert all(bool(torch.isfinite(p).all()) for p in agent.parameters())


def test_normalised_observations_go_on_without_the_data(tmp_path: Path) -> None:
    balrl.train(config("calql", WSRL, **{"data.normalize_observations": "true"}), tmp_path / "first")
    more = {"init.checkpoint": str(tmp_path / "first"), "dataset": "null", "data.normalize_observations": "true"}
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config("wsrl", ONLINE, **more), tmp_path / "run", Interrupt(20, crash=True))
    assert balrl.resume(tmp_path / "run").finished
    first, second = (balrl.load_agent(tmp_path / name, device="cpu") for name in ("first", "run"))
    assert torch.equal(first.normalizer.std, second.normalizer.std)
    assert not torch.equal(second.normalizer.std, torch.ones(4))


def test_with_a_ratio_and_no_warm_up_updates_wait_for_the_online_rows_of_a_batch(
    pretrained: Path, tmp_path: Path
) -> None:
    settings = {"warmup.steps": "0", "finetune.retain": "ratio", "num_envs": "1", "finetune.utd_ratio": "1"}
    more = {"init.checkpoint": str(pretrained), "finetune.steps": "10"}
    result = balrl.train(config("wsrl", ONLINE, **settings, **more), tmp_path / "run")
    assert result.summary["updates"] == 10 - 3  # 4 of 8 rows are online


def test_what_is_of_the_policy_is_named_first(pretrained: Path) -> None:
    """Whatever the order in which an agent declares its pieces."""
    source = read_source(str(pretrained))
    agent = balrl.load_agent(pretrained, device="cpu")
    lines = []
    for order in (source.agent_class.carried, source.agent_class.carried[::-1]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source.agent_class, "carried", order)
            lines.append(take_over(agent, source, InitConfig(checkpoint="x"))[0])
    for line in lines:
        assert line.index("policy") < line.index("critics")
