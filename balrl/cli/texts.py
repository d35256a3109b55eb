"""``balrl reward train``, ``evaluate`` and ``best-of-n`` for texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.cli.arguments import given_fields, number, positive
from balrl.config import EnsembleConfig, FitConfig
from balrl.errors import UserError

if TYPE_CHECKING:
    from balrl.rewards.language import RewardOfTexts
    from balrl.rewards.pool import Pool


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Let a verb take pairs of texts in place of preferences."""
    parser.add_argument("preferences", metavar="PREFERENCES", type=Path, nargs="?")
    parser.add_argument(
        "--text", type=Path, metavar="PAIRS", help="JSONL or Parquet: prompt, chosen, rejected; texts or chats"
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add how a reward of texts is trained."""
    texts = parser.add_argument_group("of texts")
    texts.add_argument("--encoder", help="wordllama, transformer:PATH, sentence:PATH; default: wordllama")
    texts.add_argument("--sees-length", action="store_true", help="members see how long a completion is")
    texts.add_argument("--lora", metavar="PATH", help="adapters on the transformer there in place of an encoder")
    texts.add_argument("--rank", type=positive, help="of the adapters; default: 8")
    texts.add_argument("--flip", type=number, help="share of labels to turn round; default: 0")


def check_one_kind(options: argparse.Namespace) -> None:
    """Complain unless a verb was given either preferences or texts."""
    if (options.preferences is None) == (options.text is None):
        found = "both" if options.text else "neither"
        raise UserError(f"expected either PREFERENCES or --text PAIRS, found {found}")
    of_texts = ("encoder", "sees_length", "lora", "rank", "flip")
    for name in of_texts if options.text is None else ():
        if getattr(options, name, None):
            raise UserError(f"--{name.replace('_', '-')} is for --text PAIRS: leave it out")


def train_on_texts(options: argparse.Namespace) -> tuple[dict[str, Any], RewardOfTexts]:
    """Return what came out of a training on texts, and what was trained; it is written."""
    from balrl.cli.console import make_console
    from balrl.rewards.language import read_text_pairs
    from balrl.settings import validate

    config = validate(FitConfig, given_fields(options, FitConfig), "the training")
    flip = options.flip or 0.0
    if not 0 <= flip < 1:
        raise UserError(f"--flip {flip:g}: expected a share from 0 to less than 1")
    pairs = read_text_pairs(options.text).flipped(flip, options.seed)
    with make_console().status("reading the texts") as status:
        reward = _new_reward(options)
        found = reward.fit(
            pairs,
            config,
            on_epoch=epochs_on(status, config),
            seed=options.seed,
        )
    reward.save(options.out)
    return found, reward


def epochs_on(status: Any, config: FitConfig) -> Callable[[dict[str, float]], None]:
    """Return what shows the epochs of a training on a status line."""
    return lambda e: status.update(f"epoch {e['epoch']:.0f} of {config.epochs}: held-out loss {e['held_out_loss']:.3f}")


def scored(pool: Path, reward: Path, group: str, gold: str) -> Pool:
    """Return the completions in a file as a pool, scored by a reward of texts."""
    from balrl.rewards.language import load_reward
    from balrl.rewards.language.texts import as_text
    from balrl.rewards.pool import make_pool
    from balrl.rewards.rows import read_rows

    rows = read_rows(pool, "pool")
    texts = [(as_text(row.get("prompt", "")), as_text(row.get("completion"))) for row in rows]
    for index, found in enumerate(texts):
        if None in found:
            raise UserError(f"'{pool}' row {index} has no text 'completion', or its 'prompt' is none")
    scores = load_reward(reward).scores(*([str(text) for text in side] for side in zip(*texts, strict=True)))
    return make_pool(rows, scores.double(), group, gold, pool)


def _new_reward(options: argparse.Namespace) -> RewardOfTexts:
    from balrl.rewards.language import HeadsReward, LoRAReward, make_encoder
    from balrl.settings import validate

    made = validate(EnsembleConfig, given_fields(options, EnsembleConfig), "the ensemble")
    if options.lora is None:
        if options.rank is not None:
            raise UserError("--rank is of adapters: give --lora PATH, or leave it out")
        encoder = make_encoder(options.encoder or "wordllama")
        return HeadsReward(encoder, made.members, made.hidden, options.seed, options.sees_length, made.shared_trunk)
    unused = {"--encoder": options.encoder, "--sees-length": options.sees_length}
    unused |= {"--hidden": options.hidden, "--shared-trunk": options.shared_trunk}
    for name, value in unused.items():
        if value:
            raise UserError(f"{name} is not for adapters: leave it or --lora out")
    return LoRAReward(options.lora, made.members, options.rank or 8, seed=options.seed)
