"""The verb that measures: bench."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from balrl.cli.arguments import duration, positive
from balrl.config import Precision
from balrl.errors import UserError, did_you_mean


def add_bench_verbs(verbs: Any) -> None:
    """Add ``balrl bench`` to the command line's verbs."""
    bench = verbs.add_parser("bench", help="measure the speed of this machine").add_subparsers(
        dest="action", required=True, metavar="WHAT"
    )
    update = bench.add_parser("update", help="updates per second, as written and compiled or captured")
    update.add_argument("kinds", nargs="*", metavar="KIND", help="iql, famo2o-iql, sac, redq-10, cql; default: all")
    update.add_argument("--seconds", type=duration, default=1.0, help="of each turn; default: 1")
    update.add_argument("--rounds", type=positive, default=5, help="turns of each; default: 5")
    update.add_argument("--threads", type=positive, help="CPU threads of torch; default: torch's own choice")
    update.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    update.add_argument(
        "--precision", default="float32", choices=get_args(Precision), help="of matrix products; default: float32"
    )
    update.set_defaults(run=_update)
    envs = bench.add_parser("envs", help="environment steps per second, alone and with a policy")
    envs.add_argument("envs", nargs="*", metavar="ENV", help="Gymnasium ids; default: balrl's own that can run here")
    envs.add_argument("--num-envs", type=positive, nargs="+", help="worlds; default: 16 256, on a GPU 1024 4096 16384")
    envs.add_argument("--seconds", type=duration, default=1.0, help="of each measurement; default: 1")
    envs.add_argument("--threads", type=positive, help="CPU threads of torch; default: torch's own choice")
    envs.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    envs.set_defaults(run=_envs)
    gpu = bench.add_parser("gpu", help="whether a GPU does what the CPU does, and how fast; resumable")
    gpu.add_argument("--device", default="auto", help="cuda, cuda:1, …; on a CPU the checks are small")
    gpu.add_argument("--out", type=Path, default=Path("runs/gpu/results.json"), help="results; what it has is kept")
    gpu.add_argument("--only", nargs="+", metavar="TEXT", help="only checks whose names hold one of these")
    gpu.add_argument("--minutes", type=duration, help="of the run that learns; default: 5")
    gpu.add_argument("--page", type=Path, help="also write them as a page in Markdown")
    gpu.set_defaults(run=_gpu)


def _update(options: argparse.Namespace, _: list[str]) -> None:
    import torch
    from rich.table import Table

    from balrl.bench.updates import KINDS, bench_updates
    from balrl.cli.console import make_console
    from balrl.devices import check_device
    from balrl.execution.products import MACHINE

    for kind in options.kinds:
        if kind not in KINDS:
            raise UserError(f"no kind '{kind}'{did_you_mean(kind, KINDS)}; kinds: {', '.join(KINDS)}")
    device = check_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    console = make_console()
    table = Table("update", "as written", "fastest", "spread", "ratio", "of floor", "first call")
    notices = []
    with console.status("compiling and measuring") as status:
        kinds = options.kinds or list(KINDS)
        for line in bench_updates(kinds, device, options.seconds, options.rounds, options.precision):
            status.update(f"measured {line.kind}")
            table.add_row(
                line.kind,
                f"{line.written:.1f}/s",
                f"{line.fastest:.1f}/s",
                f"{line.low:.1f}–{line.high:.1f}",
                f"{line.fastest / line.written:.2f}×",
                f"{line.of_floor:.0%}",
                f"{line.first_call:.0f} s",
            )
            notices += [n for n in line.notices if n.startswith("updates run")]
    console.print(table)
    console.print(
        f"{_where(device)}, {options.precision}; batch 256, 17 observations, 6 actions, 2 hidden layers of 256"
    )
    console.print("redq-10: 10 critics, 4 critic updates and one of the policy count as one; floor: 256³ products")
    if MACHINE.rates:
        products = Table("product", "MKL", "oneDNN", "compiled updates take")
        for shape, rates in MACHINE.rates.items():
            taken = "oneDNN" if rates.onednn_wins else "MKL"
            products.add_row(str(shape), f"{rates.mkl / 1e9:.0f}", f"{rates.onednn / 1e9:.0f}", taken)
        console.print(products)
        console.print("billions of operations a second; ᵀ: lies transposed in memory")
    for notice in dict.fromkeys(notices):
        console.print(notice, style="yellow")


def _envs(options: argparse.Namespace, _: list[str]) -> None:
    import torch
    from rich.table import Column, Table

    from balrl.bench.envs import bench_envs, own_envs
    from balrl.cli.console import make_console
    from balrl.devices import check_device

    device = check_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    default = own_envs()
    console = make_console()
    names = ("environment", "engine", "worlds", "random", "2 × 256 policy")
    table = Table(*(Column(name, no_wrap=True) for name in names))
    with console.status("measuring; MuJoCo Warp compiles its kernels the first time, which takes minutes") as status:
        counts = options.num_envs or ([16, 256] if device.type == "cpu" else [1024, 4096, 16384])
        for line in bench_envs(options.envs or default, counts, device, options.seconds):
            status.update(f"measured {line.env}")
            table.add_row(line.env, line.engine, f"{line.num_envs:,}", f"{line.random:,.0f}/s", f"{line.policy:,.0f}/s")
    console.print(table)
    console.print(f"{_where(device)}; steps of all worlds together, random actions or a policy's")
    if "balrl/Hopper-v5" not in default:
        console.print("MuJoCo tasks on the device need: pip install 'balrl[warp]'", style="yellow")


def _gpu(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.bench.gpu import SMALL, WHOLE, page, run_checks
    from balrl.cli.console import make_console
    from balrl.devices import check_device

    console = make_console()
    device = check_device(options.device)
    if device.type == "cpu":
        console.print("no GPU here: a small run on the CPU, which shows that the command works", style="yellow")
    with console.status("beginning") as status:

        def say(check: str) -> None:
            status.update(check)
            console.print(f"  {check}", style="dim")

        size = SMALL if device.type == "cpu" else WHOLE
        if options.minutes:
            size = size._replace(minutes=options.minutes)
        found = run_checks(device, size, options.out, say, options.only)
    text = page(found)
    console.print(text, markup=False, soft_wrap=True)
    console.print(f"results: {options.out}")
    if options.page:
        options.page.write_text(text, encoding="utf-8")
        console.print(f"page: {options.page}")


def _where(device: Any) -> str:
    import torch

    machine = f"cpu, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return f"{machine}, torch {torch.__version__}"
