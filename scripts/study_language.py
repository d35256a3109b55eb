"""Rewards learned from pairs of texts, optimised by TRL: what becomes of the gold under each conservative objective.

    python scripts/study_language.py [--jobs 2] [--full] [--parts grpo rloo]      # needs the extra language

Protocol: scripts/study_language.yaml. What is done is kept, a line per training, in docs/results/language/runs.jsonl
and not run again; --report-only makes the table and the picture.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from study_jobs import add_line, cell, parse_options, read_lines, write_between_marks

from balrl.config import FitConfig
from balrl.evaluation import bootstrap_interval
from balrl.report.figures import drawn
from balrl.rewards.language import ConservativeReward, HeadsReward, TextPairs, WordLlama
from balrl.run.summary import git_commit

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "results" / "language.md"
RESULTS = PAGE.with_suffix("") / "runs.jsonl"
TRAINERS = {"grpo": ("GRPOConfig", "GRPOTrainer"), "rloo": ("RLOOConfig", "RLOOTrainer")}
SPECIAL = ("<pad>", "<eos>", "<unk>", ":")
LAST = 20
COLOURS = {
    "single": "#8a8a8a",
    "mean": "#2f6f9f",
    "wco": "#c8553d",
    "uwo": "#3a7d44",
    "softmin": "#8058a5",
    "softmin-from-kl": "#c99a2e",
}


class Job(NamedTuple):
    """One training."""

    trainer: str
    flip: float
    objective: str
    seed: int


def gold_of(texts: Sequence[str], protocol: Mapping[str, Any]) -> list[float]:
    """Return the true reward of texts."""
    found = []
    for text in texts:
        words = text.split()
        beyond = max(0, len(words) - protocol["free"])
        found.append(sum(protocol["valences"].get(w, 0) for w in set(words)) - protocol["penalty"] * beyond**2)
    return found


def some_texts(count: int, protocol: Mapping[str, Any], generator: torch.Generator) -> list[str]:
    """Return texts of random words."""
    words, (low, high) = list(protocol["valences"]), protocol["words"]
    lengths = torch.randint(low, high + 1, (count,), generator=generator).tolist()
    drawn_words = torch.randint(len(words), (sum(lengths),), generator=generator).tolist()
    found, start = [], 0
    for length in lengths:
        found.append(" ".join(words[i] for i in drawn_words[start : start + length]))
        start += length
    return found


def some_pairs(count: int, protocol: Mapping[str, Any], seed: int) -> TextPairs:
    """Return pairs of texts of different gold, rightly labelled."""
    generator = torch.Generator().manual_seed(1000 + seed)
    first, second = (some_texts(2 * count, protocol, generator) for _ in range(2))
    worth = [torch.tensor(gold_of(side, protocol)) for side in (first, second)]
    rows = (worth[0] != worth[1]).nonzero().flatten()[:count].tolist()
    labels = (worth[1] > worth[0]).float()[rows]
    return TextPairs([protocol["prompt"]] * count, [first[r] for r in rows], [second[r] for r in rows], labels)


def first_model(protocol: Mapping[str, Any], seed: int, folder: Path) -> Any:
    """Return a tokenizer of whole words; a small model that says texts as the pairs are made of is in the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    about = protocol["first_model"]
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *protocol["valences"]])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[2]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", **names)
    if folder.exists():
        return tokenizer
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=about["hidden"],
        intermediate_size=2 * about["hidden"],
        num_hidden_layers=about["layers"],
        num_attention_heads=about["heads"],
        num_key_value_heads=about["heads"],
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    texts = some_texts(about["texts"], protocol, torch.Generator().manual_seed(seed))
    tokenizer.padding_side = "right"
    tokens = tokenizer([f"{protocol['prompt']} {t} {SPECIAL[1]}" for t in texts], padding=True, return_tensors="pt")
    tokenizer.padding_side = "left"
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    targets = ids.masked_fill(mask == 0, -100)
    targets[:, : len(protocol["prompt"].split())] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=about["learning_rate"])
    for _ in range(about["epochs"]):
        for rows in torch.randperm(len(texts)).split(about["batch"]):
            loss = model(input_ids=ids[rows], attention_mask=mask[rows], labels=targets[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    part = folder.with_name(f".{folder.name}-{os.getpid()}")  # two may make the same
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    with contextlib.suppress(OSError):  # the other was first
        part.rename(folder)
    shutil.rmtree(part, ignore_errors=True)
    return tokenizer


def learned_reward(job: Job, protocol: Mapping[str, Any], file: Path) -> HeadsReward:
    """Return the reward of a seed and a share of wrong labels, the same for all objectives and trainers."""
    if not file.exists():
        about = protocol["reward"]
        pairs = some_pairs(about["pairs"], protocol, job.seed).flipped(job.flip, job.seed)
        made = HeadsReward(WordLlama(), about["members"], about["hidden"], job.seed, sees_length=True)
        config = FitConfig(epochs=about["epochs"], learning_rate=about["learning_rate"], patience=about["patience"])
        made.fit(pairs, config, seed=job.seed)
        made.save(file.with_stem(f"{file.stem}-{os.getpid()}")).replace(file)
    return HeadsReward.load(file)


def run(job: Job, protocol: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Train once, and return what was seen."""
    torch.set_num_threads(1)
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import datasets
    import transformers
    import trl

    from balrl.rewards.language.trl_monitor import OveroptimizationMonitor

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    start = time.process_time()
    learned = learned_reward(job, protocol, out / f"reward-{job.flip}-{job.seed}.safetensors")
    quality = learned.quality(some_pairs(1000, protocol, job.seed + 500))
    reward = ConservativeReward(
        learned,
        **protocol["objectives"][job.objective],
        kl_coefficient=protocol["training"]["beta"],
        gold=lambda _, completions: gold_of(completions, protocol),
    )
    first = out / f"first-{job.seed}"
    tokenizer = first_model(protocol, job.seed, first)
    monitor = OveroptimizationMonitor()
    config_name, trainer_name = TRAINERS[job.trainer]
    with tempfile.TemporaryDirectory() as folder:
        args = getattr(trl, config_name)(
            output_dir=folder,
            max_completion_length=protocol["longest"],
            seed=job.seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            **protocol["training"],
        )
        data = datasets.Dataset.from_dict({"prompt": [protocol["prompt"]] * 64})
        trainer = getattr(trl, trainer_name)(
            model=str(first),
            reward_funcs=reward,
            args=args,
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[monitor],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    lengths = {row["step"]: row["completions/mean_length"] for row in trainer.state.log_history if "kl" in row}
    columns = {
        name: [round(row[f"balrl/{name}"], 4) for row in monitor.rows] for name in ("proxy", "gold", "disagreement")
    }
    columns["length"] = [round(lengths[row["step"]], 2) for row in monitor.rows]
    # TRL's is a mean over tokens; its GRPO and RLOO report it alike
    columns["kl"] = [round(row["kl"] * lengths[row["step"]], 4) for row in monitor.rows]
    seconds = round(time.process_time() - start)
    accuracy = round(quality["ensemble_accuracy"], 4)
    warned = [said.split(":")[:2] for said in monitor.warnings]
    commit = git_commit(HERE.parent)
    return {**job._asdict(), "commit": commit, "seconds": seconds, "accuracy": accuracy, "warned": warned, **columns}


def report(protocol: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """Write the table and the picture."""
    lines = [
        "| trainer | wrong labels | objective | seeds | gold, last | gold, best step | gold at the monitor's warning | "
        "proxy, last | words, last | √KL, last |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trainer, flip, objective in product(protocol["trainers"], protocol["flips"], protocol["objectives"]):
        rows = [r for r in records if (r["trainer"], r["flip"], r["objective"]) == (trainer, flip, objective)]
        if not rows:
            continue
        gold = [smooth(r["gold"]) for r in rows]
        shown = [
            [float(np.mean(r["gold"][-LAST:])) for r in rows],
            [float(g.max()) for g in gold],
            [at_warning(r) for r in rows],
            [float(np.mean(r["proxy"][-LAST:])) for r in rows],
            [float(np.mean(r["length"][-LAST:])) for r in rows],
            [float(np.sqrt(max(0.0, np.mean(r["kl"][-LAST:])))) for r in rows],
        ]
        lines.append(f"| {trainer} | {flip:.0%} | {objective} | {len(rows)} | {' | '.join(map(cell, shown))} |")
    hours = sum(r["seconds"] for r in records) / 3600
    lines += ["", f"{hours:.1f} core-hours; commits {', '.join(sorted({r['commit'] for r in records}))}."]
    write_between_marks(PAGE, lines)
    draw(protocol, records)


def at_warning(record: Mapping[str, Any]) -> float:
    """Return the gold of the `LAST` steps before the members' disagreement had doubled; of the last without that."""
    steps = [int(when.split()[-1]) for what, when in record["warned"] if what == "disagreement"]
    end = steps[0] if steps else len(record["gold"])
    return float(np.mean(record["gold"][max(0, end - LAST) : end]))


def smooth(values: Sequence[float]) -> np.ndarray[Any, Any]:
    """Return running means over `LAST` steps."""
    return np.convolve(values, np.ones(LAST) / LAST, "valid")


def draw(protocol: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """Draw proxy and gold against the root of the divergence."""
    columns = [(t, f) for t in protocol["trainers"] for f in protocol["flips"]]
    columns = [c for c in columns if any((r["trainer"], r["flip"]) == c for r in records)]
    with drawn(RESULTS.with_name("over_optimisation.png"), 3.4 * len(columns), 5.6) as figure:
        axes = figure.subplots(2, len(columns), squeeze=False)
        for column, (trainer, flip) in enumerate(columns):
            for objective, colour in COLOURS.items():
                rows = [r for r in records if (r["trainer"], r["flip"], r["objective"]) == (trainer, flip, objective)]
                if not rows:
                    continue
                root = np.sqrt(np.mean([np.maximum(smooth(r["kl"]), 0) for r in rows], 0))
                for row, name in enumerate(("gold", "proxy")):
                    values = np.array([smooth(r[name]) for r in rows])
                    at = axes[row][column]
                    at.plot(root, values.mean(0), color=colour, label=objective)
                    steps = range(0, values.shape[1], 10)
                    spread = np.array([bootstrap_interval([values[:, i].tolist()], np.mean) for i in steps])
                    at.fill_between(root[::10], spread[:, 0], spread[:, 1], color=colour, alpha=0.12, lw=0)
                    at.set_ylabel(name if column == 0 else "")
            axes[0][column].set_title(f"{trainer.upper()}, {flip:.0%} wrong labels")
            axes[1][column].set_xlabel("√KL of a text, nats")
        axes[0][0].legend(fontsize=8)


def main() -> None:
    protocol = yaml.safe_load((HERE / "study_language.yaml").read_text())
    options = parse_options(__doc__, "runs/language", list(TRAINERS), "not needed")
    done = {tuple(r[key] for key in Job._fields) for r in read_lines(RESULTS)}
    seeds = protocol["full_seeds" if options.full else "seeds"]
    jobs = [Job(*job) for job in product(options.parts, protocol["flips"], protocol["objectives"], seeds)]
    missing = [] if options.report_only else sorted((j for j in jobs if j not in done), key=lambda j: j.seed)
    RESULTS.parent.mkdir(exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run, job, protocol, options.out): job for job in missing}
        for finished in as_completed(waiting):
            try:
                record = finished.result()
            except Exception as error:  # of one: the others go on
                print(f"failed: {waiting[finished]}: {type(error).__name__}: {error}", flush=True)
                continue
            add_line(RESULTS, record)
            print(f"done: {' '.join(str(record[key]) for key in Job._fields)}", flush=True)
    report(protocol, read_lines(RESULTS))


if __name__ == "__main__":
    main()
