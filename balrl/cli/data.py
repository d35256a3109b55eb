"""``balrl data ACTION``: look at datasets, record them, convert them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.cli.arguments import deviation, non_negative, number, positive, share
from balrl.data import MINARI
from balrl.errors import UserError

if TYPE_CHECKING:
    from balrl.data.dataset import Dataset
    from balrl.data.inspect import TaskContext

SOURCE = (
    "HDF5 file of D4RL or robomimic, OGBench npz file, folder of Minari or LeRobot, minari:ID, ogbench:NAME, or "
    "built-in data by name"
)
KEYS = "which observations of robomimic or LeRobot data, in this order; default: all that are vectors"


def add_data_verbs(verbs: Any) -> None:
    """Add ``data`` and its actions to the command line's verbs."""
    data = verbs.add_parser("data", help="look at, record and convert datasets")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, run, text in (
        ("info", _info, "counts, returns, lengths, ranges"),
        ("check", _check, "find what is broken"),
    ):
        command = actions.add_parser(name, help=text)
        command.add_argument("file", metavar="DATA", help=SOURCE)
        command.add_argument(
            "--env", help="the task, to check action bounds and the step limit; default: the one the data names"
        )
        command.add_argument("--observation-keys", nargs="+", default=(), metavar="KEY", help=KEYS)
        command.set_defaults(run=run)

    record = actions.add_parser("collect", help="record a policy in a task; run it again to go on after a stop")
    record.add_argument("--env", required=True, help="Gymnasium id")
    record.add_argument("--from", dest="source", required=True, help="random, a run, or a stable-baselines3 SAC zip")
    record.add_argument("--steps", type=positive, required=True, help="transitions; the last episode is cut there")
    record.add_argument("--out", required=True, help="a D4RL HDF5 file to write, or minari:ID")
    record.add_argument("--seed", type=non_negative, default=0, help="of the first episode; default: 0")
    record.add_argument("--deterministic", action="store_true", help="the policy's mode instead of samples")
    record.add_argument("--noise", type=deviation, default=0.0, help="deviation of normal noise on actions in [-1, 1]")
    record.add_argument("--epsilon", type=share, default=0.0, help="share of steps with a random action")
    record.add_argument("--device", default="auto", help="of the policy: auto, cpu, cuda, …")
    record.set_defaults(run=_collect)

    convert = actions.add_parser("convert", help="write a dataset in another format")
    convert.add_argument("file", metavar="DATA", help=SOURCE)
    convert.add_argument("out", metavar="OUT", help="a D4RL HDF5 file to write, or minari:ID")
    convert.add_argument("--env", help="the task, for Minari's action space; default: the one the data names")
    convert.add_argument("--observation-keys", nargs="+", default=(), metavar="KEY", help=KEYS)
    convert.set_defaults(run=_convert)

    relabel = actions.add_parser("relabel", help="copy a D4RL file with sparse rewards from its success flags")
    relabel.add_argument("file", metavar="FILE", type=Path)
    relabel.add_argument("out", metavar="OUT", type=Path)
    relabel.add_argument("--success", required=True, help="array that says so, such as infos/goal_achieved")
    relabel.add_argument("--reward", type=number, default=1.0, help="where it is true; default: 1")
    relabel.add_argument("--otherwise", type=number, default=0.0, help="elsewhere; default: 0")
    relabel.set_defaults(run=_relabel)


def _info(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli.console import make_console
    from balrl.data.inspect import describe
    from balrl.report.tables import dataset_table

    dataset, context = _load_for_inspection(options)
    make_console().print(dataset_table(dataset, describe(dataset, context)))


def _check(options: argparse.Namespace, _: list[str]) -> int:
    from balrl.data.inspect import problems

    dataset, context = _load_for_inspection(options)
    found = problems(dataset, context)
    for problem in found:
        print(problem)
    print(f"{len(dataset):,} transitions checked: " + (f"{len(found)} problems" if found else "nothing found"))
    return 1 if found else 0


def _collect(options: argparse.Namespace, _: list[str]) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from balrl.cli.console import make_console
    from balrl.run.record_dataset import record_dataset

    minari_id = options.out.removeprefix(MINARI) if options.out.startswith(MINARI) else None
    if minari_id is not None:
        from balrl.data.minari import check_minari_id

        check_minari_id(minari_id)
    out = Path(f"{minari_id.replace('/', '-')}.hdf5") if minari_id else Path(options.out)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=make_console())
    task = bar.add_task("transitions", total=options.steps)

    def show(rows: int) -> None:
        bar.start()  # not before everything is known to fit
        bar.update(task, completed=rows)

    try:
        episodes = record_dataset(
            options.env,
            options.source,
            options.steps,
            out,
            seed=options.seed,
            deterministic=options.deterministic,
            noise=options.noise,
            epsilon=options.epsilon,
            device=options.device,
            progress=show,
        )
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on with {out}.partial")
        raise
    finally:
        bar.stop()
    if minari_id:
        try:
            _write(str(out), options.out, options.env)
        except BaseException:
            print(f"the recording itself is in {out}; `balrl data convert` writes it elsewhere", file=sys.stderr)
            raise
        out.unlink()
    print(f"wrote {options.out}: {options.steps:,} transitions, {episodes:,} episodes")


def _convert(options: argparse.Namespace, _: list[str]) -> None:
    _write(options.file, options.out, options.env, options.observation_keys)
    print(f"wrote {options.out}")


def _relabel(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.data.writer import relabel

    count = relabel(options.file, options.out, options.success, options.reward, options.otherwise)
    print(f"wrote {options.out}: {count:,} steps with reward {options.reward:g}, the others {options.otherwise:g}")


def _write(source: str, target: str, env_id: str | None, observation_keys: Sequence[str] = ()) -> None:
    from balrl.run.registry import load_dataset, make_env

    dataset = load_dataset(source, observation_keys=observation_keys)
    if target.startswith(MINARI):
        from balrl.data.minari import save_minari

        task = env_id or dataset.env_id
        if task is None:
            raise UserError(f"'{source}' names no task; give --env ID for Minari's action space")
        save_minari(dataset, target.removeprefix(MINARI), make_env(task, 1).single_action_space)
        return
    from balrl.data.writer import save_d4rl

    if Path(target).exists():
        raise UserError(f"'{target}' exists already; choose another name, or move it away")
    save_d4rl(dataset, Path(target))


def _load_for_inspection(options: argparse.Namespace) -> tuple[Dataset, TaskContext]:
    from balrl.run.registry import inspection_context, load_dataset

    context = inspection_context(options.env)
    dataset = load_dataset(options.file, context.max_episode_steps, observation_keys=options.observation_keys)
    if options.env is None and dataset.env_id is not None:
        try:
            context = inspection_context(dataset.env_id)
        except UserError as error:
            print(f"note: action bounds and step limit are not checked: {error}", file=sys.stderr)
    return dataset, context
