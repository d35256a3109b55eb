"""Frozen encoders of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from balrl.errors import UserError, first_line

NEEDS = "texts need the extra language: pip install 'balrl[language]'"
AT_ONCE = 64
"""Texts that a transformer sees at once."""


class Encoder(Protocol):
    """Makes numbers of texts.

    Attributes:
        name: by which `make_encoder` makes the same one again.
        width: numbers per text.
    """

    name: str
    width: int

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return ``[N, width]`` float32."""
        ...


class WordLlama:
    """Means of the word embeddings in wordllama's wheel, 256 numbers a text: on a CPU, without a download.

    It does not see the order of the words, nor how many there are.
    """

    name, width = "wordllama", 256

    def __init__(self) -> None:
        try:
            import wordllama
        except ModuleNotFoundError as error:
            raise UserError(NEEDS) from error
        here = Path(wordllama.__file__).parent  # where its own search does not look for the tokenizer
        self._model: Any = wordllama.WordLlama.load(cache_dir=here, disable_download=True)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        if not len(texts):
            return torch.empty(0, self.width)
        return torch.from_numpy(self._model.embed(list(texts)))

    def __reduce__(self) -> tuple[Callable[[], WordLlama], tuple[()]]:
        return WordLlama, ()


class Transformer:
    """Means over tokens of a transformer's last hidden states, cut at `longest` tokens.

    Args:
        path: a folder, or a name that the hub knows.
        longest: tokens of a text that are seen.
    """

    def __init__(self, path: str, longest: int = 512) -> None:
        self.name, self.longest, self._path = f"transformer:{path}", longest, path
        self.tokenizer, self.model = load_transformer(path)
        self.width = int(self.model.config.hidden_size)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        found = [torch.empty(0, self.width)]
        for start in range(0, len(texts), AT_ONCE):
            tokens = tokenize(self.tokenizer, texts[start : start + AT_ONCE], self.longest)
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            found.append(((states * mask).sum(1) / mask.sum(1).clamp(min=1)).float())
        return torch.cat(found)

    def __reduce__(self) -> tuple[Callable[..., Transformer], tuple[str, int]]:
        return Transformer, (self._path, self.longest)


class Sentences:
    """Any object with ``encode(texts) → [N, width]``, as sentence-transformers' models have.

    Args:
        model: the object.
        name: by which it is known to those who load what was trained on it.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.name, self._model = name, model
        self.width = int(self([""]).shape[1])

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.as_tensor(self._model.encode(list(texts))).float().cpu()


def make_encoder(name: str) -> Encoder:
    """Return an encoder by name: ``wordllama``, ``transformer:PATH``, ``sentence:PATH``.

    Raises:
        UserError: for another name, without what it needs, or where nothing can be loaded.
    """
    kind, _, path = name.partition(":")
    if name == WordLlama.name:
        return WordLlama()
    if kind == "transformer" and path:
        return Transformer(path)
    if kind == "sentence" and path:
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise UserError(f"'{name}' needs sentence-transformers: pip install sentence-transformers") from error
        return Sentences(SentenceTransformer(path), name)
    raise UserError(f"no encoder '{name}'; encoders: wordllama, transformer:PATH, sentence:PATH")


def load_transformer(path: str) -> tuple[Any, Any]:
    """Return the tokenizer and the headless model of a folder, in evaluation mode; nothing there runs as code.

    Raises:
        UserError: when there is none.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise UserError(NEEDS) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModel.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no transformer at '{path}': {first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval().requires_grad_(False)


def tokenize(tokenizer: Any, texts: Sequence[str], longest: int) -> Any:
    """Return padded tokens; an empty text is one of padding, which is seen."""
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
    if tokens["input_ids"].shape[1] == 0:
        size = (len(texts), 1)
        tokens["input_ids"] = torch.full(size, tokenizer.pad_token_id)
        tokens["attention_mask"] = torch.zeros(size, dtype=torch.int64)
    tokens.pop("token_type_ids", None)
    return tokens
