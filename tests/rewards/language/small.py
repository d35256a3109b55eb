"""Small encoders, transformers and pairs for the tests of rewards of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.rewards.language import TextPairs

GOOD, BAD, PLAIN = ("good", "great", "lovely"), ("bad", "awful", "dull"), ("the", "film", "was")


class Counts:
    """How many good, bad and other words a text has; counts what it is asked for."""

    name, width = "counts", 3

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, texts: Sequence[str]) -> Tensor:
        self.seen += len(texts)
        rows = [[sum(w in kind for w in t.split()) for kind in (GOOD, BAD, PLAIN)] for t in texts]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, 3)


def some_pairs(count: int = 60, seed: int = 0) -> TextPairs:
    """Pairs of texts of which the one with more good words is better."""
    generator = torch.Generator().manual_seed(seed)
    words = [*GOOD, *BAD, *PLAIN]

    def text() -> str:
        size = int(torch.randint(1, 6, (), generator=generator))
        return " ".join(words[i] for i in torch.randint(len(words), (size,), generator=generator).tolist())

    def worth(said: str) -> int:
        return sum((w in GOOD) - (w in BAD) for w in said.split())

    found: list[tuple[str, str]] = []
    while len(found) < count:
        pair = (text(), text())
        if worth(pair[0]) != worth(pair[1]):
            found.append(pair)
    first, second = zip(*found, strict=True)
    labels = torch.tensor([float(worth(b) > worth(a)) for a, b in found])
    return TextPairs(["say"] * count, first, second, labels)


def tiny_transformer(folder: Path) -> str:
    """Write a random Llama of one layer that knows the words above."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "say", *GOOD, *BAD, *PLAIN])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tiny_causal() -> tuple[Any, Any]:
    """A random Llama of one layer that says digits and signs, and its tokenizer of characters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {character: i for i, character in enumerate(["<pad>", "<eos>", *"0123456789+-*\n"])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    characters.decoder = decoders.Fuse()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), tokenizer
