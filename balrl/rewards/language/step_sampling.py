"""Continuations of texts by a causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from balrl.errors import UserError


class CausalSampler:
    """``sample(prefixes, n)`` for `step_advantages`: what a causal model of transformers says next.

    Call after call goes on with random numbers of its own: a sampler that is made anew with the same seed and asked the
    same says the same. Prefixes are sorted by length, so that little is padded.

    Args:
        model: with ``generate``, as ``AutoModelForCausalLM`` loads it.
        tokenizer: of the model; needs a token for the end.
        longest: new tokens of a continuation.
        temperature: of the sampling; 0 takes the likeliest token.
        at_once: texts that are continued together.
        seed: see above.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        longest: int = 256,
        temperature: float = 1.0,
        at_once: int = 256,
        seed: int = 0,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no token for the end of texts; give it an eos_token")
        if longest < 1 or at_once < 1 or temperature < 0:
            raise UserError(
                f"a sampler with longest={longest}, at_once={at_once}, temperature={temperature:g}, expected at least "
                "1, 1 and 0"
            )
        self.model, self.tokenizer, self.longest = model, tokenizer, longest
        self.temperature, self.at_once, self.seed = temperature, at_once, seed
        self.calls = 0

    @torch.no_grad()
    def __call__(self, prefixes: Sequence[str], n: int) -> list[list[str]]:
        """Return n continuations of each prefix ``[P][n]``, without marks of the end.

        Raises:
            UserError: for a prefix of no tokens.
        """
        said: list[list[str]] = [[] for _ in prefixes]
        order = sorted(range(len(prefixes)), key=lambda row: len(prefixes[row]))
        rows = [row for row in order for _ in range(n)]
        training, device = self.model.training, self.model.device
        self.model.eval()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((self.seed << 20) + self.calls)
            for start in range(0, len(rows), self.at_once):
                chosen = rows[start : start + self.at_once]
                for row, text in zip(chosen, self._continued([prefixes[row] for row in chosen]), strict=True):
                    said[row].append(text)
        self.model.train(training)
        self.calls += 1
        return said

    def _continued(self, prefixes: list[str]) -> list[str]:
        encoded = [self.tokenizer(prefix)["input_ids"] for prefix in prefixes]
        if not all(encoded):
            raise UserError("a prefix of no tokens cannot be continued; begin with a prompt or a token of its own")
        width = max(map(len, encoded))
        fill = self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        device = self.model.device
        ids = torch.tensor([[fill] * (width - len(row)) + row for row in encoded], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded], device=device)
        how = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        found = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=self.longest,
            pad_token_id=fill,
            eos_token_id=self.tokenizer.eos_token_id,
            **(how if self.temperature else {"do_sample": False}),
        )
        return self.tokenizer.batch_decode(
            found[:, width:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
