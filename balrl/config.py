"""The typed configuration of a run: command line, YAML presets, checkpoints and help are all this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from balrl.errors import UserError


class Config(BaseModel):
    """Base of every configuration section: unknown keys and values out of range are errors, and nothing is mutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AgentConfig(Config):
    """Base of every agent's hyperparameters. `name` is a `Literal` in each; presets and messages call the agent so."""

    name: str
    chunk_size: int = Field(
        1, ge=1, description="actions that are chosen at a time and played one after another without looking"
    )
    policy_average: float | None = Field(
        None, gt=0, lt=1, description="act with this moving average of the policy's weights; default: with the newest"
    )

    @property
    def reward_dim(self) -> int:
        """How many rewards of a step the agent learns from: its `objectives`, if it has such a setting."""
        return int(getattr(self, "objectives", 1))


class DataConfig(Config):
    """How logged data is prepared."""

    reward_scale: float = Field(1.0, description="rewards are multiplied by this")
    reward_bias: float = Field(0.0, description="and then this is added")
    reward_normalization: Literal["none", "return-range"] = Field(
        "none", description="return-range: also multiply by 1000 / (max − min episode return of the data)"
    )
    reward_weights: tuple[float, ...] = Field(
        (), description="of a task or data with several rewards: learn from their sum with these weights, as one reward"
    )
    observation_keys: tuple[str, ...] = Field(
        (), description="which observations of robomimic or LeRobot data, in this order; default: all that are vectors"
    )
    normalize_observations: bool = Field(False, description="standardise with the data's mean and deviation")
    normalization_eps: float = Field(1e-3, gt=0, description="added to that deviation")
    top_fraction: float = Field(1.0, gt=0, le=1, description="train on this best share of the episodes")
    trusted_share: float = Field(
        0.5, gt=0, le=1, description="the best share of the episodes, which a selective balance keeps to"
    )
    max_episode_steps: int | None = Field(
        None,
        ge=1,
        description="cut episodes here if the file has no timeouts; default: the environment's limit",
    )
    action_limit: float = Field(1.0, gt=0, le=1, description="the data's actions are clipped to ± this share of bounds")
    online_action_limit: float | None = Field(
        None, gt=0, le=1, description="and the task's stored ones to ± this; default: the same"
    )
    disk: str | None = Field(
        None,
        description="folder for a temporary file that holds the data in place of memory; for data larger than that",
    )
    mc_truncation: Literal["sum", "last_reward", "none"] = Field(
        "sum",
        description="Monte-Carlo returns of truncated episodes: to the end of the recording, plus the last reward for "
        "ever, or unknown",
    )
    mc_step_penalty: float | None = Field(
        None, description="raw reward of a step without success in a sparse task; episodes of nothing else never ended"
    )


class InitConfig(Config):
    """What a run starts from, besides nothing."""

    checkpoint: str | None = Field(
        None, description="run or checkpoint directory, or a stable-baselines3 SAC zip, whose weights are taken over"
    )
    parts: Literal["policy-and-critic", "policy", "critic", "neither"] = Field(
        "policy-and-critic", description="which of them; the policy with its balance model and temperature"
    )
    optimizers: Literal["carry", "fresh"] = Field("carry", description="the moments of what is taken over")
    fill_critics: Literal["none", "replicate", "fresh"] = Field(
        "none", description="what to do where the ensemble is larger than the checkpoint's; none: refuse"
    )
    replicate_noise: float = Field(
        0.01, ge=0, description="of replicated members, relative to each tensor's standard deviation"
    )


class TeacherConfig(Config):
    """Who labels pairs of segments by the true reward."""

    flip: float = Field(0.0, ge=0, le=1, description="share of labels that are wrong")
    rationality: float | None = Field(None, gt=0, description="β of a stochastic teacher; default: a perfect one")
    discount: float = Field(1.0, gt=0, le=1, description="below 1 the last steps of a segment count most")
    skip: float = Field(0.0, ge=0, description="pairs poorer than this share of the mean return are not labelled")
    equal: float = Field(0.0, ge=0, description="pairs that differ by less than this share are called equal")


class EnsembleConfig(Config):
    """A reward ensemble."""

    members: int = Field(5, ge=1, description="reward models")
    hidden: tuple[int, ...] = Field((256, 256), min_length=1, description="widths of each")
    shared_trunk: bool = Field(False, description="one trunk under all of them")


class FitConfig(Config):
    """How a reward ensemble is trained on preferences."""

    learning_rate: float = Field(3e-4, gt=0, description="Adam's step size")
    batch_size: int = Field(64, ge=1, description="pairs per update")
    epochs: int = Field(100, ge=1, description="passes over the pairs, at most")
    patience: int = Field(10, ge=1, description="epochs without a better held-out loss after which a member stops")
    l2: float = Field(1e-3, ge=0, description="weight of the segments' squared scores")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of the pairs that decides when to stop")
    bootstrap: bool = Field(False, description="each member's pairs are drawn with replacement")


Paths = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value or ())]
"""A path, or several."""
Objective = Literal["single", "mean", "wco", "uwo", "softmin", "quantile"]
"""What becomes of the members' scores."""


class RewardConfig(FitConfig, EnsembleConfig):
    """A reward learned from preferences, in place of the task's own; evaluation stays with the task's."""

    ensemble: Paths = Field(
        (), description="a trained reward ensemble (balrl reward train); of several rewards, a list"
    )
    preferences: Paths = Field(
        (), description="a file of preferences to train one on (balrl reward collect); of several rewards, a list"
    )
    pairs: int = Field(0, ge=0, description="or pairs of the dataset's segments that a teacher labels for it")
    teacher: TeacherConfig = TeacherConfig()
    steps: int = Field(50, ge=1, description="of a segment")
    strategy: Literal["uniform", "disagreement", "entropy"] = Field(
        "uniform", description="which pairs are asked about, once there is an ensemble"
    )
    objective: Objective = Field("uwo", description="of the members' scores")
    coefficient: float | None = Field(None, description="λ, τ, q or the member; default: the objective's own")
    survive: bool = Field(
        False, description="shift rewards so that 99 % of the dataset's are positive: episodes end by failing"
    )
    online_every: int | None = Field(
        None, ge=1, description="environment steps between rounds of new preferences; default: none are asked for"
    )
    online_pairs: int = Field(100, ge=1, description="asked for in a round, about the newest interaction")
    online_memory: int = Field(50_000, ge=1, description="transitions that a round's segments are cut from")

    @property
    def is_learned(self) -> bool:
        """Whether the task's own reward is replaced."""
        return bool(self.ensemble or self.preferences or self.pairs or self.online_every)


class PretrainConfig(Config):
    """Offline phase."""

    updates: int = Field(0, ge=0, description="gradient updates on the logged data; 0 skips the phase")
    eval_every: int = Field(5_000, ge=1, description="updates between evaluations")


class WarmupConfig(Config):
    """What happens between the phases."""

    steps: int = Field(0, ge=0, description="environment steps, or logged transitions; 0 skips the phase")
    kind: Literal["frozen-policy", "random", "offline-data", "critic-only"] = Field(
        "frozen-policy",
        description="who fills the replay: the frozen policy, uniform noise, a sub-sample of the logged data, or the "
        "frozen policy while the critics are updated",
    )
    select: Literal["none", "halving"] = Field(
        "none",
        description="halving: a family's members play the episodes, and the best by their returns acts at the end",
    )
    arms: Literal["members", "offsets", "both"] = Field(
        "members", description="beside the balance model's own choice: constant members, offsets of it, or half of each"
    )
    members: int = Field(8, ge=1, description="how many of those")
    arms_act: Literal["explore", "mode"] = Field(
        "explore",
        description="how they play: as they explore, which fills the replay as a warm-up should; or by their modes, "
        "which are what is evaluated",
    )
    select_by: Literal["return", "success"] = Field("return", description="what an episode counts")
    confidence: float = Field(
        0.5,
        ge=0.5,
        lt=1,
        description="probability of being better that a member needs to replace the model's own choice; 0.5: the best "
        "mean",
    )


class FinetuneConfig(Config):
    """Online phase."""

    steps: int = Field(0, ge=0, description="environment steps; 0 skips the phase")
    utd_ratio: float = Field(1.0, gt=0, description="critic updates per environment step; the remainder carries over")
    policy_every: int | None = Field(
        None, ge=1, description="critic updates per policy update; default: utd_ratio, rounded, and at least 1"
    )
    retain: Literal["none", "append", "ratio"] = Field(
        "none",
        description="the logged data online: dropped, put into the replay, or a fixed share of each batch",
    )
    offline_ratio: float = Field(0.5, ge=0, le=1, description="that share, for retain=ratio")
    strategy: Literal["warm-start", "pex", "jsrl"] = Field(
        "warm-start",
        description="who acts beside the learner: nobody; the pre-trained policy, and Q chooses (PEX); the pre-trained "
        "policy in the first steps of each episode (JSRL)",
    )
    learner: Literal["policy-and-critic", "policy", "critic", "neither"] = Field(
        "critic", description="with pex or jsrl, what the learner keeps of the pre-trained agent; the rest begins anew"
    )
    serve: Literal["newest", "champion"] = Field(
        "newest",
        description="whose policy is evaluated, exported and used by predict: the learner's newest, or the best frozen "
        "one by its episodes' returns, which is the offline policy until another has earned it",
    )
    member: Literal["own", "fixed", "bandit"] = Field(
        "own",
        description="of a family, who fine-tunes: own, the balance model's choice, the warm-up's being the first "
        "champion; fixed, the warm-up's; bandit, drawn for each episode by the latest returns",
    )
    member_by: Literal["return", "success"] = Field("return", description="what an episode counts for that")
    eval_every: int = Field(5_000, ge=1, description="environment steps between evaluations")


class ChampionConfig(Config):
    """How episodes of fine-tuning are dealt, and what it takes to become champion (finetune.serve=champion)."""

    learner_share: float = Field(
        0.5, gt=0, lt=1, description="of the environment steps that the learner plays; the rest is frozen policies'"
    )
    challengers: int = Field(2, ge=1, description="snapshots of the learner that play at a time")
    every: int = Field(500, ge=1, description="environment steps between snapshots, at least")
    window: int = Field(40, ge=2, description="last episodes of the learner that count, in blocks of five")
    min_episodes: int = Field(5, ge=2, description="that champion and challenger have played before they are compared")
    confidence: float = Field(0.8, gt=0.5, lt=1, description="probability of a change for the better that makes one")
    by: Literal["return", "success"] = Field("return", description="what an episode counts")


class PEXConfig(Config):
    """Policy expansion (finetune.strategy=pex)."""

    inverse_temperature: float = Field(
        10.0, gt=0, description="of the choice between pre-trained policy and learner, per unit of Q"
    )


class JSRLConfig(Config):
    """Jump-start (finetune.strategy=jsrl): the pre-trained policy guides the first steps of each episode."""

    curriculum: Literal["returns", "random"] = Field(
        "returns",
        description="returns: fewer steps as the learner's part does as well; random: a uniform number, drawn for each "
        "episode",
    )
    horizon: int | None = Field(
        None, ge=1, description="steps that are guided at most; default: the mean length of the guide's own episodes"
    )
    stages: int = Field(10, ge=1, description="in which they become none")
    window: int = Field(5, ge=1, description="episodes whose mean return decides, of the guide alone and of each stage")
    tolerance: float = Field(
        0.05, ge=0, description="share of the best mean return by which a stage may fall short of it and be passed"
    )


class EnvironmentConfig(Config):
    """How far the task is trusted."""

    max_episode_steps: int | None = Field(
        None, ge=1, description="of an episode; default: the task's own limit, else 10,000"
    )
    on_invalid: Literal["stop", "end-episode"] = Field(
        "stop",
        description="after NaN, a wrong shape or an exception from a world: stop the run, or end that episode and "
        "store no more of it",
    )
    step_timeout: float = Field(
        600.0, gt=0, description="seconds after which a vector step that has not returned stops the run"
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="where the worlds live: in this process, or in Ray actors on any machine"
    )
    actors: int = Field(1, ge=1, description="Ray actors that share the worlds")
    actor_cpus: float = Field(1.0, gt=0, description="cores of an actor; fractions share one")
    address: str | None = Field(
        None, description="of the Ray cluster, host:port or auto; default: one on this machine, for the run"
    )

    stale: int = Field(
        0,
        ge=0,
        description="vector steps by which the policy that acts may be older than the learner's: actors run ahead by "
        "themselves; 0: a step waits for the newest policy and for the slowest actor",
    )

    @model_validator(mode="after")
    def _check_executor(self) -> EnvironmentConfig:
        if self.executor == "local" and (self.actors, self.actor_cpus, self.address, self.stale) != (1, 1.0, None, 0):
            raise ValueError("actors, actor_cpus, address and stale are of executor: ray; set it, or leave them out")
        return self


class ReplayConfig(Config):
    """The online replay buffer."""

    capacity: int = Field(1_000_000, ge=1, description="transitions; the oldest are overwritten")


class EvaluationConfig(Config):
    """Repeatable evaluation."""

    episodes: int = Field(10, ge=1, description="per evaluation")
    num_envs: int = Field(10, ge=1, description="of them side by side")
    seed: int = Field(10_000, ge=0, description="of the evaluation environments")
    best_of: int = Field(
        1, ge=1, description="samples of the policy, of which the best by its critics acts; 1: the policy's mode"
    )
    objective: Objective = Field("wco", description="of the critics' values, by which it is the best")
    preferences: int = Field(
        5, ge=2, description="of an agent for several rewards: so many, spread evenly, play `episodes` each"
    )
    hypervolume_reference: tuple[float, ...] | None = Field(
        None, description="point above which the hypervolume of their returns is measured; default: it is not"
    )
    max_episode_steps: int | None = Field(
        None, ge=1, description="after which an episode counts as it stands; default: the task's own limit, else 10,000"
    )


class CheckpointConfig(Config):
    """What a run can resume from."""

    every: int = Field(10_000, ge=1, description="updates (offline) or environment steps (online) between checkpoints")
    keep: int = Field(2, ge=1, description="how many of the latest are kept beside the end of each phase")


class InstrumentsConfig(Config):
    """What is watched across the switch from logged data to the task."""

    rows: int = Field(256, ge=1, description="of the frozen offline batch, and of the newest online transitions")
    every: int = Field(200, ge=1, description="environment steps between measurements")
    dense_steps: int = Field(10_000, ge=0, description="so long after the switch; then ten times as sparse")


class WatchdogConfig(Config):
    """When a run counts as diverged."""

    on_divergence: Literal["warn", "stop", "rollback"] = Field(
        "warn", description="say so; or stop; or go back to the last good checkpoint with new random numbers"
    )
    max_rollbacks: int = Field(3, ge=0, description="then the run stops")
    explosion: float = Field(
        3.0, gt=0, description="Q explodes beyond this many times the largest return that the rewards allow"
    )
    collapse: float = Field(
        5.0, gt=0, description="Q collapses when its offline mean falls by this many of its deviations at the switch"
    )
    min_log_std: float = Field(-5.0, description="entropy collapses when the policy's mean log deviation is below this")
    saturation: float = Field(
        0.95, gt=0, le=1, description="share of action components on the border, where it was 0.3 lower at the switch"
    )


class TrackingConfig(Config):
    """Where metrics go; the local files are always written."""

    wandb: Literal["auto", "online", "offline", "off"] = Field(
        "auto", description="Weights & Biases; auto: online when a key is configured, else offline"
    )
    project: str = Field("balrl", min_length=1, description="W&B project")
    tensorboard: bool = Field(False, description="also write TensorBoard events into the run directory")
    log_every: int = Field(500, ge=1, description="updates or environment steps between records")


Precision = Literal["float32", "tf32", "bf16-mixed"]
"""Of matrix products."""


class RunConfig(Config):
    """Everything about a run but its agent."""

    preset: str = Field("", description="the preset that these settings began from; names the method")
    imports: tuple[str, ...] = Field((), description="modules to import first, such as one that registers a task")
    env: str = Field("", description="Gymnasium id of the task; default: the one that the dataset names")
    env_kwargs: dict[str, Any] = Field({}, description="passed to gymnasium.make_vec, for example {layout: large}")
    num_envs: int = Field(1, ge=1, description="environments collected from side by side")
    dataset: str | None = Field(
        None,
        description="HDF5 file of D4RL or robomimic, OGBench npz file, LeRobot folder, minari:ID, ogbench:NAME, or "
        "built-in data by name: point-maze-mixed, point-maze-large, point-maze-halves, point-maze-fork, "
        "point-maze-fork-good",
    )
    environment: EnvironmentConfig = EnvironmentConfig()
    data: DataConfig = DataConfig()
    init: InitConfig = InitConfig()
    reward: RewardConfig = RewardConfig()
    pretrain: PretrainConfig = PretrainConfig()
    warmup: WarmupConfig = WarmupConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    champion: ChampionConfig = ChampionConfig()
    pex: PEXConfig = PEXConfig()
    jsrl: JSRLConfig = JSRLConfig()
    batch_size: int = Field(256, ge=1, description="transitions per update")
    replay: ReplayConfig = ReplayConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    instruments: InstrumentsConfig = InstrumentsConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    tracking: TrackingConfig = TrackingConfig()
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of everything random")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …; auto takes a GPU where there is one")
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="run updates as one graph on a GPU, compiled into one function on a CPU; auto leaves runs below "
        "20,000 updates on a CPU as they are",
    )
    precision: Precision = Field(
        "float32",
        description="of the matrix products in updates; bf16-mixed on CPUs with AMX and on GPUs, "
        "tf32 on NVIDIA GPUs; weights, norms, losses and optimisers stay float32",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: torch's own choice")

    @property
    def planned_updates(self) -> float:
        """Updates of pre-training and fine-tuning together."""
        return self.pretrain.updates + self.finetune.steps * self.finetune.utd_ratio

    def check_phases(self) -> None:
        """Raise a `UserError` if there is nothing to do, or a phase lacks its data."""
        if not (self.pretrain.updates or self.warmup.steps or self.finetune.steps):
            raise UserError("pretrain.updates, warmup.steps and finetune.steps are all 0: there is nothing to do")
        if self.init.checkpoint is None and self.init != InitConfig():
            raise UserError(
                "init has settings but no checkpoint: pass init.checkpoint=RUN_OR_CHECKPOINT, or leave them out"
            )
        c = self.finetune
        if c.strategy == "warm-start" and (
            (c.learner, self.pex, self.jsrl) != (FinetuneConfig().learner, PEXConfig(), JSRLConfig())
        ):
            raise UserError(
                "finetune.learner, pex and jsrl have settings but there is no strategy: set finetune.strategy=pex or "
                "jsrl, or leave them out"
            )
        self._check_reward()
        retain = self.finetune.retain
        for setting, needed in (
            ("pretrain.updates", self.pretrain.updates > 0),
            (f"finetune.retain={retain}", self.finetune.steps > 0 and retain != "none"),
            ("reward.pairs", self.reward.pairs > 0),
            ("reward.survive", self.reward.survive),
            ("warmup.kind=offline-data", self.warmup.steps > 0 and self.warmup.kind == "offline-data"),
        ):
            if needed and self.dataset is None:
                raise UserError(f"{setting} needs a dataset, none is given: pass --dataset FILE")

    def _check_reward(self) -> None:
        reward = self.reward
        sources = [name for name in ("ensemble", "preferences", "pairs") if getattr(reward, name)]
        if len(sources) > 1:
            raise UserError(f"reward.{' and reward.'.join(sources)} are both given: the reward comes from one of them")
        if not reward.is_learned and reward != RewardConfig():
            raise UserError(
                "reward has settings but nothing to learn from: give reward.ensemble, reward.preferences, reward.pairs "
                "or reward.online_every, or leave them out"
            )
        if reward.online_every and not sources and self.warmup.steps < reward.online_every:
            raise UserError(
                f"reward.online_every is {reward.online_every:,} and warmup.steps {self.warmup.steps:,}: the first "
                "preferences must come before fine-tuning; raise warmup.steps to it, or give reward.pairs"
            )
