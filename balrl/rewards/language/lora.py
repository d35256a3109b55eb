"""k reward models of texts: adapters of low rank on one frozen transformer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from balrl.config import FitConfig
from balrl.conservative_objectives import check_members
from balrl.errors import UserError, check_target
from balrl.foreign import fields, read_tensors
from balrl.random_stream import RandomStream
from balrl.rewards.ensemble_training import preference_loss, quality_of
from balrl.rewards.language.encoders import AT_ONCE, LONGEST, NEEDS, load_transformer, tokenize
from balrl.rewards.language.texts import TextPairs

HEADER = "balrl.rewards.lora"
FORMAT = 1
SETTINGS = {"path": str, "members": int, "rank": int, "longest": int, "seed": int}
_ADAPTING = threading.RLock()
"""Held while an adapter is chosen and used: a model has one active adapter, and trainers call from several threads."""


class LoRAReward:
    """``r_i(prompt, completion) = w_i · h_i``, h_i the last token's state under adapter i.

    Adapters are LoRA's (Hu et al., arXiv 2106.09685): ``W + (α / rank) · B A``, B zero at first.

    Members share the frozen transformer, and with it its errors: what pre-training made of all of them alike, no
    disagreement shows (arXiv 2312.09244).

    Args:
        path: of the transformer, as for `Transformer`.
        members: k.
        rank: of the adapters, on all linear layers; their output is scaled by 2.
        longest: tokens that are seen, from the end; no more than the model has positions for.
        seed: member i is initialised from (seed, i) alone.
        device: of the model.
        local: download nothing.
    """

    def __init__(
        self,
        path: str,
        members: int = 4,
        rank: int = 8,
        longest: int = LONGEST,
        seed: int = 0,
        device: str = "cpu",
        local: bool = False,
    ) -> None:
        try:
            from peft import LoraConfig, get_peft_model
        except ModuleNotFoundError as error:
            raise UserError(NEEDS) from error
        for name, value in (("members", members), ("rank", rank), ("longest", longest)):
            if not 1 <= value < 1 << 20:
                raise UserError(f"an ensemble of adapters with {name}={value}, expected at least 1")
        if not 0 <= seed < 1 << 40:
            raise UserError(f"an ensemble of adapters with seed={seed}, expected at least 0 and less than 2^40")
        self.settings: dict[str, Any] = {
            "path": path,
            "members": members,
            "rank": rank,
            "longest": longest,
            "seed": seed,
        }
        self.members = members
        self.tokenizer, model, self.longest = load_transformer(path, longest, device, local)
        self.tokenizer.truncation_side = "left"
        heads: list[nn.Linear] = []
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        with torch.random.fork_rng(devices=[]):
            for index in range(members):
                torch.manual_seed((seed << 20) + index)
                if index:
                    self.model.add_adapter(_name(index), config)
                else:
                    self.model: Any = get_peft_model(model, config, _name(0))
                heads.append(nn.Linear(int(model.config.hidden_size), 1, bias=False).to(device))
        self.heads = heads
        self.model.eval()
        self.mean, self.std = torch.zeros(members), torch.ones(members)

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        """Return the members' scores ``[k, N]``, each with mean 0 and deviation 1 over the texts it was trained on."""
        return (self._raw(prompts, completions) - self.mean.unsqueeze(1)) / self.std.unsqueeze(1)

    def fit(
        self,
        pairs: TextPairs,
        config: FitConfig | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Train every member in turn, each on its own order of the pairs, as `fit_ensemble` trains all at once."""
        config = config or FitConfig()
        order = RandomStream(seed).uniform(len(pairs), dtype=torch.float64).argsort()
        count = round(config.held_out * len(pairs))
        held_out, training = pairs.take(order[:count]) if count else pairs, order[count:]
        if not len(training):
            raise UserError(f"{len(pairs)} pairs leave none to train on with held_out={config.held_out:g}; give more")
        epochs = 0
        for index in range(self.members):
            stream = RandomStream((seed << 20) + 1 + index)
            pool = training
            if config.bootstrap:
                pool = training[stream.integers(len(training), len(training))]
            optimizer = torch.optim.Adam(self._trained(index), lr=config.learning_rate)
            best, kept, stale, epoch = torch.inf, self._copy(index), 0, 0
            while epoch < config.epochs and stale < config.patience:
                shuffled = pool[stream.uniform(len(pool), dtype=torch.float64).argsort()]
                for rows in shuffled.split(config.batch_size):
                    batch = pairs.take(rows)
                    loss = preference_loss(self._returns(index, batch), batch.labels, config.l2)
                    optimizer.zero_grad()
                    loss.sum().backward()
                    optimizer.step()
                epoch += 1
                with torch.no_grad():
                    found = preference_loss(self._returns(index, held_out), held_out.labels)
                check_members(found.unsqueeze(-1))
                if not count or float(found) < best:
                    best, kept, stale = float(found), self._copy(index), 0
                else:
                    stale += 1
                if on_epoch is not None:
                    on_epoch({"epoch": epoch, "train_loss": float(loss.detach()), "held_out_loss": float(found)})
            self._put(index, kept)
            epochs = max(epochs, epoch)
        with torch.no_grad():
            raw = self._raw([*pairs.prompts, *pairs.prompts], [*pairs.first, *pairs.second])
            std = raw.std(1, correction=0)
            self.mean, self.std = raw.mean(1), torch.where(std > 0, std, torch.ones_like(std))
        return self.quality(held_out) | {"epochs": epochs, "held_out_pairs": count}

    @torch.no_grad()
    def quality(self, pairs: TextPairs) -> dict[str, Any]:
        """Return accuracy and calibration on pairs, as `balrl.rewards.quality`."""
        returns = torch.cat([self._returns(index, pairs) for index in range(self.members)])
        return quality_of(returns, pairs.labels)

    def save(self, path: str | Path) -> Path:
        """Write adapters and heads as one ``.safetensors`` file; the transformer is named in it, not contained."""
        from safetensors.torch import save_file

        path = check_target(Path(path), (".safetensors",))
        tensors = {"mean": self.mean, "std": self.std}
        for index in range(self.members):
            tensors |= {f"{index}.{name}": value for name, value in self._copy(index).items()}
        temporary = path.with_name(f".{path.name}")
        save_file(tensors, temporary, {HEADER: json.dumps({"format": FORMAT, **self.settings})})
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> LoRAReward:
        """Read what `save` has written; the transformer is loaded from where it was, and not downloaded.

        Raises:
            UserError: when the file is missing, is something else, or does not fit the transformer.
        """
        tensors, header = read_tensors(Path(path), "reward of texts", HEADER)
        found = fields(header, {"format": int, **SETTINGS}, f"the header of '{path}'")
        if found["format"] != FORMAT:
            raise UserError(f"'{path}' has another format than this balrl's, {FORMAT}")
        if sum(name.endswith(".head") for name in tensors) != found["members"]:  # before any memory is taken
            raise UserError(f"'{path}' has other members than its header says: {found['members']}")
        made = cls(**{name: found[name] for name in SETTINGS}, device=device, local=True)
        wanted = {f"{index}.{name}" for index in range(made.members) for name in made._copy(index)} | {"mean", "std"}
        if wanted != tensors.keys():
            odd = sorted(wanted ^ tensors.keys())[0]
            raise UserError(f"'{path}' does not fit the transformer at '{made.settings['path']}': tensor '{odd}'")
        check_members(torch.stack([value.double().sum() for value in tensors.values()]).unsqueeze(0))
        made.mean, made.std = tensors.pop("mean"), tensors.pop("std")
        if {made.mean.shape, made.std.shape} != {(made.members,)} or not bool((made.std > 0).all()):
            raise UserError(f"'{path}': mean and std must be a number per member, std above 0")
        for index in range(made.members):
            own = {n.partition(".")[2]: value for n, value in tensors.items() if n.startswith(f"{index}.")}
            for name, value in made._copy(index).items():
                if own[name].shape != value.shape:
                    shapes = f"{tuple(own[name].shape)}, expected {tuple(value.shape)}"
                    raise UserError(f"'{path}': tensor '{index}.{name}' has shape {shapes}")
            made._put(index, own)
        return made

    def _raw(self, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        return torch.stack([self._member(index, prompts, completions) for index in range(self.members)])

    def _returns(self, index: int, pairs: TextPairs) -> Tensor:
        """Return one member's raw scores of both sides, ``[1, P, 2]``."""
        sides = [self._member(index, pairs.prompts, side) for side in (pairs.first, pairs.second)]
        return torch.stack(sides, -1).unsqueeze(0)

    def _member(self, index: int, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        """Return one member's raw scores ``[N]``, on the CPU."""
        joined = [f"{prompt}\n{completion}" for prompt, completion in zip(prompts, completions, strict=True)]
        found = [torch.empty(0)]
        with _ADAPTING:
            self.model.set_adapter(_name(index))
            for start in range(0, len(joined), AT_ONCE):
                tokens = tokenize(self.tokenizer, joined[start : start + AT_ONCE], self.longest).to(self.model.device)
                last = (tokens["attention_mask"].sum(1) - 1).clamp(min=0)
                states = self.model(**tokens).last_hidden_state[torch.arange(len(last), device=last.device), last]
                found.append(self.heads[index](states).squeeze(-1).cpu())
        return torch.cat(found)

    def _trained(self, index: int) -> list[nn.Parameter]:
        mark = f".{_name(index)}."
        adapter = [parameter for name, parameter in self.model.named_parameters() if mark in name]
        for parameter in adapter:
            parameter.requires_grad_(True)  # the one that was added last alone is, before
        return [*adapter, *self.heads[index].parameters()]

    def _copy(self, index: int) -> dict[str, Tensor]:
        mark = f".{_name(index)}."
        found = {n.replace(mark, "."): p for n, p in self.model.named_parameters() if mark in n}
        found["head"] = self.heads[index].weight
        return {name: parameter.detach().cpu().clone() for name, parameter in found.items()}

    @torch.no_grad()
    def _put(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        mark = f".{_name(index)}."
        for name, parameter in self.model.named_parameters():
            if mark in name:
                parameter.copy_(tensors[name.replace(mark, ".")])
        self.heads[index].weight.copy_(tensors["head"])


def _name(index: int) -> str:
    """Return the adapter's name of a member."""
    return f"member-{index}"
