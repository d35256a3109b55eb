from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from balrl.policies import DeterministicPolicy, GaussianPolicy, OneStepPolicy, TanhGaussianPolicy, make_policy
from balrl.random_stream import RandomStream

X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
STREAM = RandomStream(0)


def test_gaussian_log_probability_is_torch_s() -> None:
    policy = GaussianPolicy(3, 2, (8,)).double()
    policy.log_std.data = torch.tensor([-9.0, 0.3], dtype=torch.float64)
    actions = torch.randn(5, 2, dtype=torch.float64) * 0.01 + policy.mode(X).detach()
    expected = Independent(Normal(policy.mode(X), torch.tensor([-5.0, 0.3]).double().exp()), 1).log_prob(actions)
    torch.testing.assert_close(policy.log_prob(X, actions), expected)


def test_squashed_log_probability_is_torch_s() -> None:
    policy = TanhGaussianPolicy(3, 2, (8,)).double()
    mean, log_std = policy(X)
    reference = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)])
    actions, log_prob = policy.sample(X, STREAM)
    torch.testing.assert_close(log_prob, reference.log_prob(actions), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(policy.log_prob(X, actions), log_prob, rtol=1e-4, atol=1e-4)


def test_squashed_log_probability_is_finite_on_the_border() -> None:
    policy = TanhGaussianPolicy(3, 2, (8,))
    assert torch.isfinite(policy.log_prob(X.float(), torch.ones(5, 2))).all()


def test_samples_carry_gradients_and_modes_do_not_vary() -> None:
    for policy in (GaussianPolicy(3, 2, (8,)), TanhGaussianPolicy(3, 2, (8,))):
        actions, _ = policy.sample(X.float(), STREAM)
        assert actions.requires_grad
        assert torch.equal(policy.mode(X.float()), policy.mode(X.float()))
        assert policy.mode(X.float()).abs().max() <= 1
    deterministic = DeterministicPolicy(3, 2, (8,))
    assert torch.equal(deterministic(X.float()), deterministic.mode(X.float()))


def test_monte_carlo_moments_of_gaussian_samples() -> None:
    policy = GaussianPolicy(3, 2, (8,))
    policy.log_std.data = torch.tensor([-1.0, 0.5])
    x = X[:1].float().expand(40_000, -1)
    actions, _ = policy.sample(x, STREAM)
    torch.testing.assert_close(actions.mean(0), policy.mode(x)[0], rtol=0, atol=0.03)
    torch.testing.assert_close(actions.std(0), torch.tensor([-1.0, 0.5]).exp(), rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "tanh-gaussian", "deterministic"])
def test_every_kind_draws_as_many_as_asked_for(kind: str) -> None:
    policy, x = make_policy(kind, 3, 2, (4,)), torch.randn(5, 3)
    assert policy.kind == kind
    actions, log_prob = policy.sample(x, RandomStream(0), 7)
    assert actions.shape == (7, 5, 2)
    one, _ = policy.sample(x, RandomStream(0))
    assert one.shape == (5, 2)
    if kind == "deterministic":
        assert log_prob is None
        assert torch.equal(actions, policy.mode(x).expand(7, 5, 2))
    else:
        assert log_prob is not None
        assert log_prob.shape == (7, 5)
        assert not torch.equal(actions[0], actions[1])


def test_a_one_step_policy_maps_every_latent_to_an_action() -> None:
    policy, x = OneStepPolicy(3, 2, (8, 8)), X.float()
    many, log_prob = policy.sample(x, RandomStream(0), 7)
    assert log_prob is None
    assert many.shape == (7, 5, 2)
    assert many.requires_grad
    latents = RandomStream(0).normal(7, 5, 2, dtype=x.dtype)
    for i in range(7):
        torch.testing.assert_close(many[i], policy(x, latents[i]).clamp(-1, 1))
    assert torch.equal(policy.mode(x), policy(x, torch.zeros(5, 2)).clamp(-1, 1))
    assert policy.mode(100 * x).abs().max() == 1
