"""``balrl reward ACTION``: rewards learned from preferences."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.cli.arguments import add_fields, given_fields, non_negative, number, positive
from balrl.cli.label import add_label_verbs
from balrl.cli.texts import add_pairs, add_training, check_one_kind, epochs_on, scored, train_on_texts
from balrl.config import EnsembleConfig, FitConfig, TeacherConfig
from balrl.errors import UserError

if TYPE_CHECKING:
    from balrl.data.dataset import Dataset
    from balrl.spaces import SpaceAdapter

DATA = "D4RL HDF5 file, Minari folder, minari:ID, or built-in data by name"


def add_reward_verbs(verbs: Any) -> None:
    """Add ``reward`` and its actions to the command line's verbs."""
    reward = verbs.add_parser("reward", help="learn rewards from preferences and label data with them")
    actions = reward.add_subparsers(dest="action", required=True, metavar="ACTION")

    collect = actions.add_parser("collect", help="pairs of a dataset's segments, labelled by its true rewards")
    collect.add_argument("data", metavar="DATA", help=DATA)
    collect.add_argument("--out", type=Path, required=True, help="a .safetensors file to write")
    collect.add_argument("--env", help="the task; default: the one the data names")
    collect.add_argument("--pairs", type=positive, default=400, help="default: 400")
    collect.add_argument("--steps", type=positive, default=50, help="of a segment; default: 50")
    collect.add_argument("--strategy", default="uniform", help="uniform, disagreement or entropy; default: uniform")
    collect.add_argument("--ensemble", type=Path, help="that disagrees or is uncertain")
    collect.add_argument(
        "--reward", type=positive, metavar="N", help="of several rewards, the one that the teacher compares"
    )
    collect.add_argument("--unlabelled", action="store_true", help="for people to label; true rewards are not needed")
    add_fields(collect, TeacherConfig)
    collect.add_argument("--seed", type=non_negative, default=0, help="default: 0")
    collect.set_defaults(run=_collect)

    add_label_verbs(actions)

    train = actions.add_parser("train", help="train a reward ensemble on preferences")
    add_pairs(train)
    train.add_argument("--out", type=Path, required=True, help="a .safetensors file to write")
    add_fields(train, EnsembleConfig, FitConfig)
    add_training(train)
    train.add_argument("--seed", type=non_negative, default=0, help="default: 0")
    train.set_defaults(run=_train)

    evaluate = actions.add_parser("evaluate", help="accuracy and calibration on preferences")
    evaluate.add_argument("ensemble", metavar="ENSEMBLE", type=Path)
    add_pairs(evaluate)
    evaluate.set_defaults(run=_evaluate)

    relabel = actions.add_parser("relabel", help="copy a dataset with learned rewards")
    relabel.add_argument("data", metavar="DATA", help=DATA)
    relabel.add_argument("out", metavar="OUT", type=Path, help="a D4RL HDF5 file to write")
    relabel.add_argument("--ensemble", type=Path, required=True)
    relabel.add_argument("--env", help="the task; default: the one the data names")
    relabel.add_argument("--objective", default="uwo", help="single, mean, wco, uwo, softmin, quantile; default: uwo")
    relabel.add_argument("--coefficient", type=number, help="λ, τ, q or the member; default: 0.5, 1, 0.25, 0")
    relabel.add_argument(
        "--survive",
        action="store_true",
        help="add a constant that makes 99 %% of the rewards positive, for tasks whose episodes end by failing",
    )
    relabel.set_defaults(run=_relabel)

    study = actions.add_parser("study", help="over-optimisation of learned rewards by best-of-n and PPO")
    study.add_argument(
        "protocol", metavar="PROTOCOL", type=Path, nargs="?", help="a YAML file; default: the contextual task, an hour"
    )
    study.add_argument("--out", type=Path, required=True, help="folder of results, tables and pictures; goes on there")
    study.add_argument("--seeds", type=non_negative, nargs="+", help="only these; default: the protocol's")
    study.add_argument("--report-only", action="store_true", help="tables and pictures of what is there")
    study.set_defaults(run=_study)

    best = actions.add_parser("best-of-n", help="exact expectation of the best of n in a file of scored samples")
    best.add_argument(
        "file", metavar="FILE", type=Path, help="JSONL or Parquet: a list of member scores a row, and gold"
    )
    best.add_argument("--n", type=positive, nargs="+", help="default: powers of two up to the smallest group")
    best.add_argument("--objectives", nargs="+", default=["single", "mean", "wco", "uwo"], help="default: these four")
    best.add_argument("--coefficient", type=number, help="of all of them; default: each one's own")
    best.add_argument("--group", default="prompt", help="column that tells groups apart; default: prompt")
    best.add_argument("--scores", default="scores", help="column of the members' scores; default: scores")
    best.add_argument(
        "--ensemble", type=Path, help="reward of texts that scores the column 'completion' in place of --scores"
    )
    best.add_argument("--gold", default="gold", help="column of the true scores; default: gold")
    best.set_defaults(run=_best_of_n)


def _collect(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.errors import check_target
    from balrl.rewards import RewardEnsemble, Teacher, ask
    from balrl.rewards.clips import count_answers
    from balrl.settings import validate

    check_target(options.out, (".safetensors",))
    teacher = validate(Teacher, given_fields(options, TeacherConfig), "the teacher")
    dataset, spaces = _load(options)
    is_unsaid = dataset.reward_dim > 1 and options.reward is None and not options.unlabelled
    if is_unsaid or (options.reward or 1) > dataset.reward_dim:
        raise UserError(
            f"'{options.data}' has {dataset.reward_dim} rewards a step, --reward is {options.reward}: name the one "
            f"that preferences are about, 1 to {dataset.reward_dim}"
        )
    dataset = dataset.of_reward((options.reward or 1) - 1)
    if options.unlabelled and teacher != Teacher():
        raise UserError(
            "--unlabelled pairs have no teacher: leave out --flip, --rationality, --discount, --skip, --equal"
        )
    ensemble = RewardEnsemble.load(options.ensemble) if options.ensemble else None
    asked = None if options.unlabelled else teacher
    made = ask(dataset, spaces, asked, options.pairs, options.steps, options.seed, options.strategy, ensemble)
    made.save(options.out)
    labels = "no labels yet" if options.unlabelled else count_answers(made)
    print(f"wrote {options.out}: {len(made):,} pairs of {made.steps} steps, preferred: {labels}")


def _train(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli.console import make_console
    from balrl.errors import check_target
    from balrl.rewards import Preferences, RewardEnsemble, fit_ensemble
    from balrl.settings import validate

    check_target(options.out, (".safetensors",))
    check_one_kind(options)
    if options.text:
        found, reward = train_on_texts(options)
        _print_trained(found, options.out, reward.members)
        return
    config = validate(FitConfig, given_fields(options, FitConfig), "the training")
    made = validate(EnsembleConfig, given_fields(options, EnsembleConfig), "the ensemble")
    preferences = Preferences.load(options.preferences)
    width = preferences.inputs.shape[-1]
    ensemble = RewardEnsemble(width, made.members, made.hidden, made.shared_trunk, options.seed)
    with make_console().status("training") as status:
        found = fit_ensemble(
            ensemble,
            preferences,
            config,
            on_epoch=epochs_on(status, config),
            seed=options.seed,
        )
    ensemble.save(options.out)
    _print_trained(found, options.out, made.members)


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.rewards import Preferences, RewardEnsemble, quality

    check_one_kind(options)
    if options.text:
        from balrl.rewards.language import load_reward, read_text_pairs

        pairs = read_text_pairs(options.text)
        _print_quality(load_reward(options.ensemble).quality(pairs), f"{len(pairs)} pairs")
        return
    preferences = Preferences.load(options.preferences)
    preferences.check_labelled()
    found = quality(RewardEnsemble.load(options.ensemble), preferences.inputs, preferences.labels)
    _print_quality(found, f"{len(preferences)} pairs")


def _relabel(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.data.writer import save_d4rl
    from balrl.rewards import LearnedReward, RewardEnsemble

    if options.out.exists():
        raise UserError(f"'{options.out}' exists already; choose another name, or move it away")
    reward = LearnedReward(RewardEnsemble.load(options.ensemble), options.objective, options.coefficient)
    dataset, spaces = _load(options)
    if options.survive:
        reward = reward.shift_for_survival(dataset, spaces)
    save_d4rl(reward.relabel(dataset, spaces), options.out)
    print(f"wrote {options.out}: {len(dataset):,} rewards, {reward.describe()}")


def _best_of_n(options: argparse.Namespace, _: list[str]) -> None:
    from rich.table import Table

    from balrl.cli.console import make_console
    from balrl.rewards.pool import powers_of_two, read_pool

    if options.ensemble:
        pool = scored(options.file, options.ensemble, options.group, options.gold)
    else:
        pool = read_pool(options.file, options.group, options.scores, options.gold)
    counts = options.n or powers_of_two(min(len(g) for g in pool.groups))
    table = Table("objective", "n", "KL, nats", "proxy", "gold")
    for objective in options.objectives:
        found = pool.best_of_n(counts, objective, options.coefficient)
        gold = ["unknown"] * len(counts) if found.gold is None else [f"{x:.4f}" for x in found.gold]
        for n, kl, proxy, true in zip(counts, found.kl, found.proxy, gold, strict=True):
            table.add_row(objective, f"{n:,}", f"{kl:.3f}", f"{proxy:.4f}", true)
    make_console().print(table)


def _study(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli.console import make_console
    from balrl.plain_yaml import read_config_file
    from balrl.settings import validate
    from balrl.studies.config import StudyConfig
    from balrl.studies.overoptimization import read_results, run_study
    from balrl.studies.report import write_report

    data = read_config_file(options.protocol) if options.protocol else {}
    config = validate(StudyConfig, data, f"'{options.protocol}'")
    if options.seeds:
        config = config.model_copy(update={"seeds": tuple(options.seeds)})
    if not options.report_only:
        with make_console().status("starting") as status:
            run_study(config, options.out, status.update)
    results = read_results(options.out / "results.jsonl")
    if not results:
        raise UserError(f"'{options.out}' holds no results of a study; run it without --report-only")
    print(f"wrote {write_report(results, options.out)}")


def _print_trained(found: dict[str, Any], out: Path, members: int) -> None:
    measured_on = f"{found['held_out_pairs']} held-out pairs" if found["held_out_pairs"] else "the training pairs"
    _print_quality(found, measured_on)
    print(f"wrote {out}: {members} members, {found['epochs']} epochs")


def _print_quality(found: dict[str, Any], measured_on: str) -> None:
    members = ", ".join(f"{x:.3f}" for x in found["accuracy"])
    print(f"on {measured_on}: accuracy {found['ensemble_accuracy']:.3f} (members {members}), "
          f"calibration error {found['calibration_error']:.3f}")  # fmt: skip


def _load(options: argparse.Namespace) -> tuple[Dataset, SpaceAdapter]:
    from balrl.data.prepare import check_spaces
    from balrl.run.registry import load_dataset, make_env
    from balrl.spaces import SpaceAdapter

    dataset = load_dataset(options.data)
    task = options.env or dataset.env_id
    if task is None:
        raise UserError(f"'{options.data}' names no task; give --env ID for the bounds of its actions")
    env = make_env(task, 1)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    env.close()
    check_spaces(dataset, spaces, task)
    return dataset, spaces
