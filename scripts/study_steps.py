"""Wrong answers, step by step: what a model's own errors are worth beside right answers, on arithmetic.

    python scripts/study_steps.py [--seeds 0 1] [--pilot]      # needs the extra language

Protocol: scripts/study_steps.yaml. What is done is kept, a line per training, in docs/results/steps/runs.jsonl and not
done again; --report-only makes the table and the picture. --pilot tries settings on validation problems of seed 100.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from scipy.stats import mannwhitneyu
from study_jobs import add_line, read_lines
from study_steps_report import report
from study_steps_task import CHARACTERS, first_wrong, problems, tokenizer, verify

from balrl.rewards.language import (
    CausalSampler,
    SteppedAnswer,
    advantage_weights,
    fit_step_pairs,
    fit_weighted,
    split_lines,
    step_advantages,
    step_pairs,
    tokenize_steps,
)
from balrl.run.summary import git_commit

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "steps" / "runs.jsonl"
PILOT_SEED, PILOT_COUNT = 100, 1000


class Beginning(NamedTuple):
    """What all trainings of a seed begin with.

    Attributes:
        tokenizer: of characters.
        folder: of the base model.
        training, validation, test: problems with the expert's answers.
        answers: of the base model to the training problems.
    """

    tokenizer: Any
    folder: Path
    training: list[tuple[str, str]]
    validation: list[tuple[str, str]]
    test: list[tuple[str, str]]
    answers: list[SteppedAnswer]

    def model(self) -> Any:
        """Return the base model."""
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM.from_pretrained(self.folder)


def begin(seed: int, protocol: Mapping[str, Any], out: Path) -> Beginning:
    """Train a seed's base model and estimate the advantages of its answers' steps, or read both."""
    about, chars = protocol["base"], tokenizer()
    sizes = [about["problems"], protocol["validation"], protocol["test"], max(protocol["counts"])]
    pool, parts = problems(sum(sizes), protocol, seed), []
    for size in sizes:
        parts.append(pool[:size])
        pool = pool[size:]
    folder = out / f"seed-{seed}"
    made = Beginning(chars, folder, parts[3], parts[1], parts[2], [])
    if not (folder / "config.json").exists():
        base_model(parts[0], parts[1], protocol, chars, seed).save_pretrained(folder)
    if not (folder / "answers.jsonl").exists():
        prompts = [prompt for prompt, _ in made.training for _ in range(protocol["samples"])]
        sampler = CausalSampler(made.model(), chars, protocol["longest"], at_once=512, seed=seed)
        said = [text for texts in sampler([p for p, _ in made.training], protocol["samples"]) for text in texts]
        found = step_advantages(prompts, said, sampler, verify, protocol["rollouts"])
        lines = [json.dumps([a.prompt, a.steps, a.values.tolist()]) + "\n" for a in found]
        (folder / "answers.jsonl").write_text("".join(lines))
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    kept = [SteppedAnswer(p, tuple(steps), torch.tensor(v, dtype=torch.float64)) for p, steps, v in rows]
    return made._replace(answers=kept)


def base_model(
    shown: Sequence[tuple[str, str]],
    held_out: Sequence[tuple[str, str]],
    protocol: Mapping[str, Any],
    chars: Any,
    seed: int,
) -> Any:
    """Return a model trained from scratch on the expert's answers until it errs as often as it should."""
    from transformers import LlamaConfig, LlamaForCausalLM

    about = protocol["base"]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(CHARACTERS) + 2,
        hidden_size=about["hidden"],
        intermediate_size=2 * about["hidden"],
        num_hidden_layers=about["layers"],
        num_attention_heads=about["heads"],
        num_key_value_heads=about["heads"],
        max_position_embeddings=128,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    tokens, updates = expert(shown, chars), 0
    while updates < about["updates"] and accuracy(model, chars, held_out, protocol["longest"], 0.0) < about["accuracy"]:
        fit_weighted(model, tokens, about["every"], about["learning_rate"], about["batch_size"], (seed << 20) + updates)
        updates += about["every"]
    return model


def expert(shown: Sequence[tuple[str, str]], chars: Any) -> Any:
    """Return the tokens of the expert's answers."""
    steps = [split_lines(answer) for _, answer in shown]
    return tokenize_steps(chars, [prompt for prompt, _ in shown], steps, [[1.0] * len(s) for s in steps])


def accuracy(model: Any, chars: Any, asked: Sequence[tuple[str, str]], longest: int, temperature: float) -> float:
    """Return the share of problems that a model answers rightly, each asked once."""
    prompts = [prompt for prompt, _ in asked]
    said = CausalSampler(model, chars, longest, temperature, 512)(prompts, 1)
    return sum(verify(prompt, texts[0]) for prompt, texts in zip(prompts, said, strict=True)) / len(prompts)


def weights_of(answer: SteppedAnswer, kind: str, settings: Mapping[str, Any]) -> list[float]:
    """Return the weights of an answer's steps."""
    steps = len(answer.steps)
    if kind == "rft":
        return [1.0] * steps
    if kind == "exact":
        wrong = first_wrong(answer.prompt, answer.steps)
        worth = torch.tensor(([1.0] * wrong + [math.exp(-1 / settings["beta"])] + [0.0] * steps)[:steps])
    else:
        worth = advantage_weights(answer.advantages, settings["beta"], settings["largest"])
    return (worth if settings["hopeless"] else worth.where(answer.values[:-1] > 0, 0.0)).tolist()


def train(
    model: Any, start: Beginning, kind: str, count: int, how: Mapping[str, Any], protocol: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Train a model on one kind of data, leave it as it did best on validation problems, and return what was seen."""
    about = protocol["training"]
    shown = start.training[:count]
    asked = {prompt for prompt, _ in shown}
    answers = [answer for answer in start.answers if answer.prompt in asked]

    def right() -> float:
        return accuracy(model, start.tokenizer, start.validation, protocol["longest"], 0.0)

    curve, best = [right()], {name: value.clone() for name, value in model.state_dict().items()}

    def look(update: int, _: float) -> None:
        nonlocal best
        if update % about["every"] == 0:
            curve.append(right())
            if curve[-1] > max(curve[:-1]):
                best = {name: value.clone() for name, value in model.state_dict().items()}

    common = {"updates": about["updates"], "batch_size": about["batch_size"], "seed": seed, "on_update": look}
    common["learning_rate"] = how["learning_rate"]
    if kind == "pairs":
        pairs = step_pairs(answers, how["margin"])
        data = len(pairs)
        fit_step_pairs(model, start.tokenizer, pairs, beta=how["beta"], likelihood=how["likelihood"], **common)
    else:
        if kind == "sft":
            tokens = expert(shown, start.tokenizer)
        else:
            used = list({(a.prompt, a.steps): a for a in answers if a.correct}.values()) if kind == "rft" else answers
            worth = [weights_of(answer, kind, how) for answer in used]
            tokens = tokenize_steps(start.tokenizer, [a.prompt for a in used], [a.steps for a in used], worth)
        data = len(tokens.input_ids)
        fit_weighted(model, tokens, **common)
    model.load_state_dict(best)
    at = curve.index(max(curve)) * about["every"]
    return {"data": data, "validation": [round(v, 4) for v in curve], "kept_at": at}


def diagnosis(start: Beginning, protocol: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Return what is true of a base model's answers and of the estimates of their steps."""
    rows, lowest, lucky = [], [], []
    weights: dict[str, list[float]] = {"right": [], "first wrong": [], "later": []}
    for answer in start.answers:
        first = first_wrong(answer.prompt, answer.steps)
        advantages, values = answer.advantages.tolist(), answer.values.tolist()
        rows += [(t == first, values[t], advantages[t], values[t + 1]) for t in range(min(first + 1, len(advantages)))]
        worth = weights_of(answer, "weighted", protocol["kinds"]["weighted"]["weighted"])
        for name, part in zip(weights, (worth[:first], worth[first : first + 1], worth[first + 1 :]), strict=True):
            weights[name] += [w for w in part if w > 0]
        if first < len(advantages) and values[first] > 0:
            lowest.append(advantages[first] == min(advantages))
        if answer.correct:
            lucky.append(first < len(advantages))
    wrong, right = [row for row in rows if row[0]], [row for row in rows if not row[0]]
    hopeful = [[row[2] for row in of if row[1] > 0] for of in (right, wrong)]
    solved = {a.prompt for a in start.answers if a.correct}
    pairs, whole = step_pairs(start.answers), sum(sum(of) for of in weights.values())
    better = [first_wrong(p.prefix.split("\n")[-2], [p.better]) > first_wrong(p.prefix.split("\n")[-2], [p.worse])
              for p in pairs]  # fmt: skip
    some = start.answers[:: max(1, len(start.answers) // protocol["fine_answers"])]
    sampler = CausalSampler(start.model(), start.tokenizer, protocol["longest"], at_once=512, seed=seed + 1000)
    fine = step_advantages(
        [a.prompt for a in some], ["".join(a.steps) for a in some], sampler, verify, protocol["fine_rollouts"]
    )
    rough, finer = (torch.cat([a.advantages for a in of]) for of in (some, fine))
    found = {
        "problems never answered rightly": 1 - len(solved) / len(start.training),
        "right answers with a wrong step": np.mean(lucky),
        "first wrong steps after a prefix of value 0": np.mean([row[1] == 0 for row in wrong]),
        "value after the first wrong step": np.mean([row[3] for row in wrong]),
        "advantage of right steps, value before above 0": np.mean(hopeful[0]),
        "advantage of first wrong steps, value before above 0": np.mean(hopeful[1]),
        "AUC of the advantage, right against first wrong, value before above 0":
            mannwhitneyu(*hopeful).statistic / (len(hopeful[0]) * len(hopeful[1])),
        "the first wrong step has the lowest advantage of its answer, value before above 0": np.mean(lowest),
        "pairs whose better step is right and whose worse one is wrong": np.mean(better),
        "weight of right steps, where it is not 0": np.mean(weights["right"]),
        "its standard deviation": np.std(weights["right"]),
        "share of these steps that weigh less than 1/2": np.mean(np.array(weights["right"]) < 0.5),
        "share of all weight on first wrong steps and later ones": 1 - sum(weights["right"]) / whole,
        "root mean square difference of advantages from 8 and 64 rollouts": (rough - finer).square().mean().sqrt(),
        "correlation of advantages from 8 and 64 rollouts": torch.corrcoef(torch.stack([rough, finer]))[0, 1],
    }  # fmt: skip
    return {name: round(float(value), 4) for name, value in found.items()}


def run(
    kind: str, count: int, seed: int, stages: Mapping[str, Mapping[str, Any]], protocol: Mapping[str, Any], out: Path,
    test: bool,
) -> dict[str, Any]:  # fmt: skip
    """Train once, in one stage or several, and return what was seen; without `test`, of validation problems alone."""
    clock = time.process_time()
    start = begin(seed, protocol, out)
    model = start.model()
    seen = {"diagnosis": diagnosis(start, protocol, seed)} if kind == "base" else {}
    for stage, how in stages.items():
        seen = train(model, start, stage, count, how, protocol, seed)
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)) if test else ():
        seen[name] = round(accuracy(model, start.tokenizer, start.test, protocol["longest"], temperature), 4)
    seconds = round(time.process_time() - clock)
    commit = git_commit(HERE.parent)
    return {"kind": kind, "count": count, "seed": seed, "stages": dict(stages), **seen, "seconds": seconds,
            "commit": commit}  # fmt: skip


def main() -> None:
    import transformers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, help="only these; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/steps"))
    parser.add_argument("--pilot", action="store_true", help="try settings on validation problems")
    parser.add_argument("--report-only", action="store_true", help="make the table and the picture of what is there")
    options = parser.parse_args()
    protocol = yaml.safe_load((HERE / "study_steps.yaml").read_text())
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    if options.pilot:
        file = RESULTS.with_name("pilot.jsonl")
        jobs = [(k, PILOT_COUNT, PILOT_SEED, {k: s}) for k, tried in protocol["pilot"].items() for s in tried]
    else:
        file = RESULTS
        jobs = [("base", 0, seed, {}) for seed in protocol["seeds"]]
        kinds = protocol["kinds"].items()
        jobs += [(k, c, s, how) for s, c, (k, how) in product(protocol["seeds"], protocol["counts"], kinds)]
        jobs.sort(key=lambda job: job[2])
    done = [[r["kind"], r["count"], r["seed"], r["stages"]] for r in read_lines(file)]
    file.parent.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        if options.report_only or list(job) in done or (options.seeds and job[2] not in options.seeds):
            continue
        record = run(*job, protocol, options.out, test=not options.pilot)
        add_line(file, record)
        print(f"done: {json.dumps(record)}", flush=True)
    if not options.pilot:
        report(protocol, read_lines(file), RESULTS)


if __name__ == "__main__":
    main()
