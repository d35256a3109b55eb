"""Every hyperparameter of every agent, with its default and range. Imports no torch, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from balrl.config import AgentConfig, Config, Objective

Rate = Annotated[float, Field(gt=0, le=1)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]:g} is not below the upper bound {bounds[1]:g}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


class AnchoredConfig(AgentConfig):
    """An agent whose policy can be held near the one that fine-tuning begins with."""

    anchor: float = Field(
        0.0, ge=0, description="weight of the KL to the pre-trained policy in fine-tuning, per nat; it decays to 0"
    )
    anchor_updates: int | None = Field(
        None, ge=1, description="over which it decays, linearly; default: the whole of fine-tuning"
    )


class FixedBalance(Config):
    """One coefficient for every state: what every offline method has by default."""

    kind: Literal["fixed"] = "fixed"
    coefficient: float = Field(1.0, gt=0, description="improvement against constraint; larger improves more")

    def __init__(self, coefficient: float = 1.0, **data: Any) -> None:
        super().__init__(**{"coefficient": coefficient, **data})


class StateAdaptiveBalance(Config):
    """A family of policies over [minimum, maximum] and a model that picks one per state (FamO2O, arXiv 2310.17966).

    The paper's ranges: [1, 5] for IQL on locomotion, [8, 14] for IQL on AntMaze, and [0.5, 1.5] with `entropy` off for
    methods based on SAC. Where it gives none, take the fixed coefficient times [1/3, 5/3].
    """

    kind: Literal["state-adaptive"] = "state-adaptive"
    minimum: float = Field(gt=0, description="smallest balance: most constraint")
    maximum: float = Field(gt=0, description="largest balance: most improvement")
    scale: Literal["linear", "log"] = Field(
        "linear", description="on which balances are drawn, embedded and chosen; log for ranges over a decade"
    )
    unit: float = Field(
        1.0,
        gt=0,
        description="losses are weighted with the balance over this; with 3, a family over [1, 5] that IQL trained "
        "weighs SAC's Q by 1/3 to 5/3",
    )
    embedding_dim: int = Field(6, ge=2, multiple_of=2, description="width of the sinusoidal embedding")
    hidden: Widths = Field((256, 256), description="hidden layers of the balance model")
    learning_rate: Rate = Field(3e-4, description="of the balance model and its temperature")
    every: int = Field(1, ge=1, description="agent updates per balance-model update")
    entropy: bool = Field(True, description="regularise the balance model's entropy: on for IQL, off for SAC")
    target_entropy: float = Field(-0.5, description="towards which its temperature is learned")
    objective: Objective = Field(
        "wco", description="of the critics' values, which the balance model maximises; wco is their minimum"
    )
    objective_coefficient: float | None = Field(
        None, description="its strength (`balrl.rewards.conservative`); default: the objective's own"
    )

    def __init__(self, *bounds: float, **data: Any) -> None:
        super().__init__(**dict(zip(("minimum", "maximum"), bounds, strict=False)), **data)

    @model_validator(mode="after")
    def _ordered(self) -> StateAdaptiveBalance:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class SelectiveBalance(Config):
    """A constraint that is tighter where the policy strays from trusted data (SSAR, arXiv 2505.19923).

    Per state and learned offline from the policy's distance to the data's actions; let go online. One policy, no
    family.
    """

    kind: Literal["selective"] = "selective"
    coefficient: float = Field(
        2.5, gt=0, description="improvement against constraint to begin with: 2.5 for TD3+BC, 0.1 for CQL"
    )
    hidden: Widths = Field((512, 512, 512), description="hidden layers of the model of the constraint")
    learning_rate: Rate = Field(3e-8, description="of that model: 3e-8 for TD3+BC and 1e-8 for CQL over 1M updates")
    max_norm: float = Field(0.5, gt=0, description="of its gradient")
    bound: Range = Field(
        (1.0, 3.0), description="deviations that the policy may stray: at first, and at most where it strays further"
    )
    bound_steps: int = Field(20, ge=1, description="times in the offline phase that the bound may grow by a tenth")
    release: Literal["linear", "cosine"] = Field("linear", description="how the constraint fades online")
    release_share: float = Field(0.4, gt=0, le=1, description="of the online phase, after which it is gone")


BalanceConfig = Annotated[FixedBalance | StateAdaptiveBalance, Field(discriminator="kind")]
AnyBalanceConfig = Annotated[FixedBalance | StateAdaptiveBalance | SelectiveBalance, Field(discriminator="kind")]
"""Of agents whose constraint is a distance from the data's actions, or a penalty on others."""


class BCConfig(AgentConfig):
    """Behaviour cloning."""

    name: Literal["bc"] = "bc"
    policy: Literal["gaussian", "tanh-gaussian", "deterministic"] = Field(
        "gaussian", description="maximum likelihood for the first two, mean squared error for the last"
    )
    hidden: Widths = Field((256, 256), description="hidden layers of the policy")
    learning_rate: Rate = Field(3e-4, description="Adam's step size")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the policy's hidden layers, in training")


class IQLConfig(AnchoredConfig):
    """Implicit Q-learning."""

    name: Literal["iql"] = "iql"
    balance: BalanceConfig = Field(FixedBalance(3.0), description="inverse temperature of the advantage weights")
    extraction: Literal["awr", "ddpg-bc"] = Field(
        "awr",
        description="how the policy is got out of Q: advantage-weighted regression, or Q's gradient with a likelihood "
        "term (arXiv 2406.09329), where the balance is the weight of the normalised Q",
    )
    expectile: float = Field(0.7, gt=0, lt=1, description="of the value regression")
    max_weight: float = Field(100.0, gt=0, description="at which the advantage weights are clipped")
    discount: float = Field(0.99, ge=0, le=1, description="per environment step")
    polyak: Rate = Field(0.005, description="share of the new critics in the target critics")
    hidden: Widths = Field((256, 256), description="hidden layers of policy, critics and value")
    critics: int = Field(2, ge=1, description="members of the Q-ensemble")
    layer_norm: bool = Field(False, description="layer normalisation in critics and value")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the policy's hidden layers, in training")
    policy_learning_rate: Rate = Field(3e-4, description="Adam's step size for the policy")
    critic_learning_rate: Rate = Field(3e-4, description="for the critics")
    value_learning_rate: Rate = Field(3e-4, description="for the value function")
    policy_schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="of the policy's step size over pre-training; constant in fine-tuning"
    )
    log_std_range: Range = Field((-5.0, 2.0), description="of the policy's log standard deviation")


class TD3BCConfig(AnchoredConfig):
    """TD3+BC."""

    name: Literal["td3bc"] = "td3bc"
    balance: AnyBalanceConfig = Field(FixedBalance(2.5), description="weight α of the normalised Q in the policy loss")
    discount: float = Field(0.99, ge=0, le=1, description="per environment step")
    polyak: Rate = Field(0.005, description="share of the new networks in the target networks")
    hidden: Widths = Field((256, 256), description="hidden layers of the policy")
    critic_hidden: Widths | None = Field(None, description="hidden layers of the critics; default: as the policy's")
    critics: int = Field(2, ge=1, description="members of the Q-ensemble")
    layer_norm: bool = Field(False, description="layer normalisation in the critics")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the policy's hidden layers, in training")
    target_noise: float = Field(0.2, ge=0, description="standard deviation of the noise on the target policy's action")
    target_noise_clip: float = Field(0.5, ge=0, description="that noise is clipped to ± this")
    policy_every: int = Field(2, ge=1, description="critic updates per update of the policy and of all targets")
    exploration_noise: float = Field(0.1, ge=0, description="standard deviation of the noise on online actions")
    policy_learning_rate: Rate = Field(3e-4, description="Adam's step size for the policy")
    critic_learning_rate: Rate = Field(3e-4, description="for the critics")


class ReBRACConfig(TD3BCConfig):
    """ReBRAC: TD3+BC with a penalty in the critics, too, and deeper networks."""

    name: Literal["rebrac"] = "rebrac"  # type: ignore[assignment]
    balance: BalanceConfig = Field(FixedBalance(1.0), description="weight of the normalised Q in the policy loss")
    policy_penalty: float = Field(0.01, ge=0, description="β₁, weight of the policy's squared distance from the data")
    critic_penalty: float = Field(0.01, ge=0, description="β₂, the same at the next action, in the critics' target")
    hidden: Widths = Field((256, 256, 256), description="hidden layers of the policy")
    layer_norm: bool = Field(True, description="layer normalisation in the critics")
    exploration_noise: float = Field(0.03, ge=0, description="standard deviation of the noise on online actions")
    policy_learning_rate: Rate = Field(1e-3, description="Adam's step size for the policy")
    critic_learning_rate: Rate = Field(1e-3, description="for the critics")


class AWACConfig(AnchoredConfig):
    """Advantage-weighted actor-critic."""

    name: Literal["awac"] = "awac"
    balance: BalanceConfig = Field(FixedBalance(1.0), description="inverse temperature 1/λ of the advantage weights")
    max_weight: float = Field(100.0, gt=0, description="at which the advantage weights are clipped")
    discount: float = Field(0.99, ge=0, le=1, description="per environment step")
    polyak: Rate = Field(0.005, description="share of the new critics in the target critics")
    hidden: Widths = Field((256, 256, 256), description="hidden layers of policy and critics")
    critics: int = Field(2, ge=1, description="members of the Q-ensemble")
    layer_norm: bool = Field(False, description="layer normalisation in the critics")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the policy's hidden layers, in training")
    policy_learning_rate: Rate = Field(3e-4, description="Adam's step size for the policy")
    critic_learning_rate: Rate = Field(3e-4, description="for the critics")
    log_std_range: Range = Field((-20.0, 2.0), description="of the policy's log standard deviation")


class FlowConfig(AgentConfig):
    """What agents share whose data's behaviour is a flow."""

    flow_steps: int = Field(10, ge=1, description="of Euler's method along the behaviour flow")
    target_q: Literal["mean", "minimum"] = Field("mean", description="of the target critics")
    discount: float = Field(0.99, ge=0, le=1, description="per environment step")
    polyak: Rate = Field(0.005, description="share of the new critics in the target critics")
    hidden: Widths = Field((512, 512, 512, 512), description="hidden layers of flow and policy")
    critic_hidden: Widths | None = Field(None, description="hidden layers of the critics; default: as the policy's")
    critics: int = Field(2, ge=1, description="members of the Q-ensemble")
    layer_norm: bool = Field(True, description="layer normalisation in the critics, after the activations")
    policy_layer_norm: bool = Field(False, description="and in flow and policy")
    policy_learning_rate: Rate = Field(3e-4, description="Adam's step size for flow and policy")
    critic_learning_rate: Rate = Field(3e-4, description="for the critics")


class FQLConfig(FlowConfig):
    """Flow Q-learning; with chunks of actions QC-FQL."""

    name: Literal["fql"] = "fql"
    balance: BalanceConfig = Field(
        FixedBalance(1.0),
        description="weight of Q in the policy loss, against a distance from the flow of weight 1: 1/α",
    )
    normalize_q: bool = Field(
        True, description="divide Q by its mean magnitude in that loss; the paper's α of 3 to 1,000 is without"
    )


class QCConfig(FlowConfig):
    """Q-chunking: the best of several of the flow's samples."""

    name: Literal["qc"] = "qc"
    chunk_size: int = Field(
        5, ge=1, description="actions that are chosen at a time and played one after another without looking"
    )
    samples: int = Field(
        32, ge=1, description="of the flow, of which the one acts that the critics' mean is highest of"
    )


class SoftActorCriticConfig(AnchoredConfig):
    """What soft actor-critic and everything built on it share."""

    balance: BalanceConfig = Field(FixedBalance(1.0), description="weight of Q in the policy loss")
    discount: float = Field(0.99, ge=0, le=1, description="per environment step")
    polyak: Rate = Field(0.005, description="share of the new critics in the target critics")
    policy: Literal["tanh-gaussian", "gaussian"] = Field(
        "tanh-gaussian", description="squashed; or IQL's, not squashed, to go on from an IQL checkpoint"
    )
    hidden: Widths = Field((256, 256), description="hidden layers of the policy")
    critic_hidden: Widths | None = Field(None, description="hidden layers of the critics; default: as the policy's")
    critics: int = Field(2, ge=1, description="members of the Q-ensemble")
    target_subset: int | None = Field(
        None, ge=1, description="random members per update whose minimum is the target (REDQ); default: all"
    )
    target_noise: float = Field(
        0.0, ge=0, description="standard deviation of noise on the target's actions in fine-tuning (SO2), in [-1, 1]"
    )
    target_noise_clip: float = Field(0.6, ge=0, description="and the largest such noise")
    subset_replacement: bool = Field(False, description="draw that subset with replacement, as the WSRL release does")
    policy_q: Literal["minimum", "mean"] = Field("minimum", description="of the members, in the policy loss")
    layer_norm: bool = Field(False, description="layer normalisation in the critics")
    policy_layer_norm: bool = Field(False, description="and in the policy")
    activation: Literal["relu", "silu"] = Field("relu", description="of the hidden layers")
    backup_entropy: bool = Field(True, description="subtract the entropy term from the target")
    policy_batch: Literal["all", "last"] = Field(
        "all",
        description="rows that a policy step after several critic steps sees: all of theirs, or the last batch",
    )
    policy_learning_rate: Rate = Field(3e-4, description="Adam's step size for the policy")
    critic_learning_rate: Rate = Field(3e-4, description="for the critics")
    temperature_learning_rate: Rate = Field(3e-4, description="for the temperature")
    initial_temperature: float = Field(1.0, gt=0, description="before it is learned")
    target_entropy: float | None = Field(
        None, description="in nats; default: the next setting times the action dimensions"
    )
    target_entropy_per_dimension: float = Field(-1.0, description="in nats per action dimension")
    coasting: bool = Field(
        False,
        description="at several critic steps per policy step, who has no step of its own takes one on zero gradients: "
        "policy and temperature with every critic step, critics with the policy's; the WSRL release does",
    )
    last_hidden_gain: float | None = Field(
        None,
        gt=0,
        description="orthogonal gain of the last hidden layers' first weights, 0.01 in the WSRL release; default: √2",
    )
    state_dependent_std: bool = Field(True, description="the policy's standard deviation depends on the state")
    log_std_range: Range = Field((-20.0, 2.0), description="of the policy's log standard deviation")

    @model_validator(mode="after")
    def _subset_fits(self) -> Self:
        if self.target_subset is not None and self.target_subset > self.critics:
            raise ValueError(f"target_subset {self.target_subset} is more than the {self.critics} critics")
        return self


class SACConfig(SoftActorCriticConfig):
    """Soft actor-critic; with an ensemble and a subset REDQ, with retained data RLPD, from a checkpoint WSRL."""

    name: Literal["sac"] = "sac"


class FastSACConfig(SoftActorCriticConfig):
    """Soft actor-critic for thousands of worlds, with distributional critics."""

    name: Literal["fastsac"] = "fastsac"
    atoms: int = Field(101, ge=2, description="returns that a critic tells apart, evenly spaced")
    value_range: Range = Field(
        (-20.0, 20.0), description="the smallest and the largest of them; the task's discounted returns should fit in"
    )
    normalize_observations: bool = Field(True, description="standardise with running statistics")
    discount: float = Field(0.97, ge=0, le=1, description="per environment step")
    polyak: Rate = Field(0.125, description="share of the new critics in the target critics")
    hidden: Widths = Field((512, 256, 128), description="hidden layers of the policy")
    critic_hidden: Widths | None = Field((768, 384, 192), description="of the critics; null: as the policy's")
    policy_q: Literal["minimum", "mean"] = Field("mean", description="of the members, in the policy loss")
    layer_norm: bool = Field(True, description="layer normalisation in the critics")
    policy_layer_norm: bool = Field(True, description="and in the policy")
    activation: Literal["relu", "silu"] = Field("silu", description="of the hidden layers")
    initial_temperature: float = Field(0.001, gt=0, description="before it is learned")
    target_entropy_per_dimension: float = Field(0.0, description="in nats per action dimension")
    log_std_range: Range = Field((-5.0, 0.0), description="of the policy's log standard deviation")

    @model_validator(mode="after")
    def _every_critic_has_its_own_target(self) -> Self:
        if self.target_subset is not None:
            raise ValueError("each critic projects a target of its own here: leave target_subset out")
        return self


class CQLConfig(SoftActorCriticConfig):
    """Conservative Q-learning."""

    name: Literal["cql"] = "cql"
    balance: AnyBalanceConfig = Field(  # type: ignore[assignment]
        FixedBalance(1.0), description="weight of Q in the policy loss"
    )
    alpha: float = Field(5.0, gt=0, description="weight of the conservative penalty; its start where it is learned")
    target_gap: float | None = Field(
        None, description="learn alpha so that the penalty stays at this gap (Lagrange); default: alpha is fixed"
    )
    alpha_learning_rate: Rate = Field(3e-4, description="of a learned alpha")
    alpha_form: Literal["softplus", "exp"] = Field(
        "softplus", description="of a learned alpha; exp is the JAX releases': clip(exp(x), 0, 1e6) times alpha"
    )
    sampled_actions: int = Field(10, ge=1, description="per state, of each kind: uniform, from π(s), from π(s')")
    importance_sampling: bool = Field(True, description="correct the sampled actions' Q by their log-densities")
    penalty_temperature: float = Field(1.0, gt=0, description="of the log-sum-exp")
    penalty_members: int | None = Field(
        None, ge=1, description="random critics per update that the penalty is applied to; default: all"
    )
    max_target_actions: int = Field(1, ge=1, description="sampled next actions of which the target takes the best")
    max_target_online: bool = Field(False, description="also in fine-tuning")
    conservative_online: bool = Field(True, description="keep the penalty in fine-tuning; off for WSRL")
    target_balance: Literal["own", "current"] = Field(
        "own",
        description="a family's next actions see a balance of their own state, or the current state's",
    )

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        if self.balance.kind == "selective" and self.target_gap is None and self.alpha != 1:
            raise ValueError(f"a selective balance stands in alpha's place: set alpha to 1, it is {self.alpha:g}")
        if self.penalty_members is not None and self.penalty_members > self.critics:
            raise ValueError(f"penalty_members {self.penalty_members} is more than the {self.critics} critics")
        return self


class CalQLConfig(CQLConfig):
    """Calibrated Q-learning."""

    name: Literal["calql"] = "calql"  # type: ignore[assignment]


class PPOConfig(AgentConfig):
    """Proximal policy optimisation."""

    name: Literal["ppo"] = "ppo"
    policy: Literal["gaussian", "tanh-gaussian"] = Field(
        "gaussian", description="clipped to the bounds in the task; or squashed, to go on from such a checkpoint"
    )
    rollout_steps: int = Field(2048, ge=1, description="of every environment between updates")
    epochs: int = Field(10, ge=1, description="passes over a rollout")
    clip: float = Field(0.2, gt=0, description="of the probability ratio")
    discount: float = Field(0.99, ge=0, le=1, description="per environment step")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="decay of the generalised advantages")
    normalize_advantages: bool = Field(True, description="to mean 0 and deviation 1 in each batch")
    entropy_coefficient: float = Field(0.0, ge=0, description="bonus for the policy's entropy, per nat")
    kl_coefficient: float = Field(
        0.0, ge=0, description="penalty for leaving the reference policy, per nat; the start where it adapts"
    )
    kl_target: float | None = Field(
        None, gt=0, description="nats per step that the penalty adapts to; default: it is fixed"
    )
    normalize_observations: bool = Field(
        False, description="standardise with running statistics; not for a policy that comes from a checkpoint"
    )
    hidden: Widths = Field((256, 256), description="hidden layers of policy and value")
    policy_learning_rate: Rate = Field(3e-4, description="Adam's step size for the policy")
    value_learning_rate: Rate = Field(3e-4, description="for the value function")
    max_gradient_norm: float | None = Field(0.5, gt=0, description="of policy and value each; null: no limit")
    policy_head_scale: float = Field(0.01, gt=0, description="of the policy's last layer's first weights")
    initial_log_std: float = Field(0.0, description="of the policy, where it does not depend on the state")
    log_std_range: Range = Field((-5.0, 2.0), description="of the policy's log standard deviation")

    @model_validator(mode="after")
    def _target_has_a_coefficient(self) -> Self:
        if self.kl_target is not None and not self.kl_coefficient:
            raise ValueError("kl_target needs a kl_coefficient above 0 to start from")
        return self
