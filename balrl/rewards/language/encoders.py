"""Frozen encoders of texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from balrl.errors import UserError, first_line
from balrl.foreign import expect, fields, read_json

NEEDS = "texts need the extra language: pip install 'balrl[language]'"
AT_ONCE = 64
"""Texts that a transformer sees at once."""
LONGEST = 512
"""Tokens of a text that a transformer sees, if nobody says otherwise."""


class Encoder(Protocol):
    """Makes numbers of texts.

    Attributes:
        name: by which `make_encoder` makes the same one again.
        width: numbers per text.
    """

    name: str
    width: int

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return ``[N, width]`` float32, on the CPU."""
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
    """Means over tokens of a transformer's last hidden states, in float32.

    Args:
        path: a folder, or a name that the hub knows.
        longest: tokens of a text that are seen; no more than the model has positions for.
        device: of the model.
        local: download nothing.
    """

    def __init__(self, path: str, longest: int = LONGEST, device: str = "cpu", local: bool = False) -> None:
        self.name = f"transformer:{path}" + ("" if longest == LONGEST else f"@{longest}")
        self._made_with = (path, longest, device, local)
        self.tokenizer, self.model, self.longest = load_transformer(path, longest, device, local)
        self.width = int(self.model.config.hidden_size)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        found = [torch.empty(0, self.width)]
        for start in range(0, len(texts), AT_ONCE):
            tokens = tokenize(self.tokenizer, texts[start : start + AT_ONCE], self.longest).to(self.model.device)
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            found.append(((states * mask).sum(1) / mask.sum(1).clamp(min=1)).float().cpu())
        return torch.cat(found)

    def __reduce__(self) -> tuple[Callable[..., Transformer], tuple[str, int, str, bool]]:
        return Transformer, self._made_with


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


def make_encoder(name: str, local: bool = False) -> Encoder:
    """Return an encoder by name: ``wordllama``, ``transformer:PATH``, ``sentence:PATH``.

    ``transformer:PATH@256`` sees 256 tokens of a text.

    Args:
        name: see above.
        local: download nothing: for names that stand in files.

    Raises:
        UserError: for another name, without what it needs, or where nothing can be loaded.
    """
    kind, _, path = name.partition(":")
    if name == WordLlama.name:
        return WordLlama()
    if kind == "transformer" and path:
        cut = re.fullmatch(r"(.+)@([1-9]\d{0,5})", path)
        return Transformer(cut[1], int(cut[2]), local=local) if cut else Transformer(path, local=local)
    if kind == "sentence" and path:
        return Sentences(_sentence_transformer(path, local), name)
    raise UserError(f"no encoder '{name}'; encoders: wordllama, transformer:PATH, sentence:PATH")


def load_transformer(path: str, longest: int, device: str, local: bool) -> tuple[Any, Any, int]:
    """Return the tokenizer, the headless model in float32 and evaluation mode, and how many tokens it can see.

    No code of the folder's or of the hub's runs.

    Raises:
        UserError: when there is none, or it is of another kind.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise UserError(NEEDS) from error
    if longest < 1:
        raise UserError(f"a transformer that sees {longest} tokens, expected at least 1")
    options = {"trust_remote_code": False, "local_files_only": local or Path(path).exists()}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        model = AutoModel.from_pretrained(path, dtype=torch.float32, **options)
    except Exception as error:  # a damaged file fails in as many ways as it has readers
        raise UserError(f"no transformer at '{path}': {first_line(error)}") from error
    if not hasattr(model.config, "hidden_size") or getattr(model.config, "is_encoder_decoder", False):
        raise UserError(f"the model at '{path}' has no hidden states of one size: it is no encoder or decoder alone")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise UserError(f"the tokenizer at '{path}' has no token for padding and none for the end of texts")
    tokenizer.padding_side = "right"  # what stands before it keeps its place, whatever else is in the batch
    most = [longest, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", longest)]
    return tokenizer, model.eval().requires_grad_(False).to(device), min(size for size in most if size and size > 0)


def tokenize(tokenizer: Any, texts: Sequence[str], longest: int) -> Any:
    """Return tokens, padded on the right; an empty text is one of padding, which is seen."""
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
    if tokens["input_ids"].shape[1] == 0:
        size = (len(texts), 1)
        tokens["input_ids"] = torch.full(size, tokenizer.pad_token_id)
        tokens["attention_mask"] = torch.zeros(size, dtype=torch.int64)
    tokens.pop("token_type_ids", None)
    return tokens


def _sentence_transformer(path: str, local: bool) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise UserError(f"'sentence:{path}' needs sentence-transformers: pip install sentence-transformers") from error
    modules = Path(path) / "modules.json"
    if modules.is_file():  # it names classes, and would have any imported
        for module in read_json(modules, list):
            kind = fields(expect(module, dict, f"'{modules}'"), {"type": str}, f"'{modules}'")["type"]
            if not kind.startswith("sentence_transformers."):
                raise UserError(f"'{modules}' asks for the code of '{kind}', which is not run")
    try:
        return SentenceTransformer(path, trust_remote_code=False, local_files_only=local or Path(path).exists())
    except Exception as error:
        raise UserError(f"no sentence-transformer at '{path}': {first_line(error)}") from error
