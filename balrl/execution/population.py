"""K agents as one: their tensors are rows of common stacks, and one batched update steps them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from balrl.agent import Agent, Metrics
from balrl.execution.tracing import Update, adam_step, adam_step_together
from balrl.optim import rate_type
from balrl.replay import ReplayBuffer, check_memory


class _Slot(NamedTuple):
    """Where a member keeps a value: ``mapping[key]``."""

    mapping: MutableMapping[Any, Any]
    key: Any


class Population:
    """Agents of one kind, trained by one batched computation; each is what it would be alone.

    Every tensor of every member (parameters, moments, streams, replay) becomes a row of a stack ``[K, …]``, in place:
    members act, are evaluated and saved as before. An update is one member's own, run under `torch.func.vmap`
    with the stacks in the place of its tensors. No row meets another: the gradient of the members' summed losses is
    each member's own, and Adam works element by element. Random numbers come from each member's stream.

    Args:
        agents: alike in everything but tensors and numbers; of their settings, those that differ must be numbers that
            no branch of an update depends on.
        replays: of each member what its updates draw from, in the same order. What all of them share is not copied.
    """

    def __init__(self, agents: Sequence[Agent], replays: Sequence[Sequence[ReplayBuffer]]) -> None:
        self.members = list(agents)
        self.device = self.members[0].device
        self._substitutes: list[tuple[Sequence[_Slot], Tensor]] = []
        self._changing: list[Tensor] = []
        self._optimizers: list[tuple[Sequence[_Slot], _StackedAdam]] = []
        tensors = [list(_tensor_slots(agent, r)) for agent, r in zip(agents, replays, strict=True)]
        stacks: dict[int, Tensor] = {}
        own = (slot.mapping[slot.key] for slots in zip(*tensors, strict=True) for slot in _differing(slots))
        check_memory(sum(value.numel() * value.element_size() for value in own), self.device)
        for slots in zip(*tensors, strict=True):
            if _differing(slots):
                stack = _stack(slots)
                stacks[id(slots[0].mapping[slots[0].key])] = stack
                self._substitutes.append((slots, stack))
                if not any(slots[0].mapping is vars(replay) for replay in replays[0]):
                    self._changing.append(stack)
        for slots in zip(*(_number_slots(agent) for agent in agents), strict=True):
            numbers = [slot.mapping[slot.key] for slot in slots]
            if len(set(numbers)) > 1:
                self._substitutes.append((slots, torch.tensor(numbers, device=self.device)))
        made: dict[int, _StackedAdam] = {}
        for owners in zip(*(_optimizer_slots(agent) for agent in agents), strict=True):
            optimizers = [slot.mapping[slot.key] for slot in owners]
            stacked = made.setdefault(id(optimizers[0]), _StackedAdam(optimizers, stacks))
            self._optimizers.append((owners, stacked))
        for stacked in made.values():
            self._substitutes.append(([_Slot(stacked.param_groups[0], "lr")] * len(self.members), stacked.rates))
            self._changing.append(stacked.rates)

    def batched(self, update: Update, by: int = 0) -> Update:
        """Return one member's update as that of all; its metrics are ``[K]``.

        Args:
            update: of a member.
            by: which one's it is.
        """

        def call(values: Sequence[Tensor]) -> Metrics:
            with self._in_place_of(by, values):
                return update()

        def run() -> Metrics:
            before = self.members[by].phase_updates
            metrics: Metrics = torch.func.vmap(call)([stack for _, stack in self._substitutes])
            made = self.members[by].phase_updates - before
            for i, member in enumerate(self.members):
                member.phase_updates += made if i != by else 0
            return metrics

        return run

    @contextmanager
    def only(self, indices: Collection[int]) -> Iterator[None]:
        """Keep what happens in the context from all members but some: whoever is out of step loses nothing.

        An update is made for all rows even then. A batched product of fewer rows would round differently, and a
        member's numbers would depend on who else is there.
        """
        others = [i for i in range(len(self.members)) if i not in indices]
        rows = torch.tensor(others, device=self.device)
        kept = [(stack, stack.detach()[rows]) for stack in self._changing] if others else []
        counts = [member.phase_updates for member in self.members]
        try:
            yield
        finally:
            for stack, values in kept:
                stack.detach()[rows] = values
            for i in others:
                self.members[i].phase_updates = counts[i]

    @property
    def phase_updates(self) -> int:
        """The first member's; setting it moves all by the same difference."""
        return self.members[0].phase_updates

    @phase_updates.setter
    def phase_updates(self, value: int) -> None:
        difference = value - self.members[0].phase_updates
        for member in self.members:
            member.phase_updates += difference

    @property
    def variant(self) -> tuple[Hashable, ...]:
        """Those of all, of which some may be out of step."""
        return tuple(member.variant for member in self.members)

    def state_dict(self) -> dict[str, Tensor]:
        return self._gathered(lambda member: member.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        for member, state in zip(self.members, self._parted(state_dict), strict=True):
            member.load_state_dict(state)

    def optimizer_state(self) -> dict[str, Tensor]:
        return self._gathered(lambda member: member.optimizer_state())

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        for member, own in zip(self.members, self._parted(state), strict=True):
            member.load_optimizer_state(own)

    def _gathered(self, state_of: Callable[[Agent], dict[str, Tensor]]) -> dict[str, Tensor]:
        return {f"{i}.{key}": value for i, m in enumerate(self.members) for key, value in state_of(m).items()}

    def _parted(self, state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        parts: list[dict[str, Tensor]] = [{} for _ in self.members]
        for key, value in state.items():
            index, name = key.split(".", 1)
            parts[int(index)][name] = value
        return parts

    @contextmanager
    def _in_place_of(self, index: int, values: Sequence[Tensor]) -> Iterator[None]:
        """Put batched tensors and stacked optimisers where a member has its own."""
        slots = [slots[index] for slots, _ in self._substitutes] + [slots[index] for slots, _ in self._optimizers]
        kept = [slot.mapping[slot.key] for slot in slots]
        substitutes = [*values, *(optimizer for _, optimizer in self._optimizers)]
        try:
            for slot, value in zip(slots, substitutes, strict=True):
                slot.mapping[slot.key] = value
            yield
        finally:
            for slot, value in zip(slots, kept, strict=True):
                slot.mapping[slot.key] = value


class _StackedAdam:
    """The members' Adams as one, with a step count and a step size ``[K]`` each."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], stack_of: Mapping[int, Tensor]) -> None:
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        parameters = groups[0]["params"]
        slots = [optimizers[0].state[p] for p in parameters]
        self._parameters = [stack_of[id(p)] for p in parameters]
        self._slots = {key: [stack_of[id(slot[key])] for slot in slots] for key in ("exp_avg", "exp_avg_sq", "step")}
        (self._beta1, self._beta2), self._eps = groups[0]["betas"], groups[0]["eps"]
        device = slots[0]["step"].device
        kind = rate_type(device)  # a member that steps alone reads its own row
        self.rates = torch.stack([torch.as_tensor(g["lr"], dtype=kind, device=device) for g in groups])
        for group, rate in zip(groups, self.rates.unbind(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"] = rate
        self.param_groups: list[dict[str, Any]] = [{"params": self._parameters, "lr": self.rates}]

    def step(self) -> None:
        """Take every member's step with the gradients ``[K, …]`` that the parameters hold."""
        for step in self._slots["step"]:
            step.add_(1)
        step_all = adam_step_together if self.rates.device.type == "cuda" else adam_step
        step_all(
            [p.detach() for p in self._parameters],
            [p.grad for p in self._parameters if p.grad is not None],
            self._slots["exp_avg"],
            self._slots["exp_avg_sq"],
            [],
            self._slots["step"],
            lr=self.rates,
            beta1=self._beta1,
            beta2=self._beta2,
            eps=self._eps,
        )


def _tensor_slots(agent: Agent, replays: Sequence[ReplayBuffer]) -> Iterator[_Slot]:
    optimizers: dict[int, Any] = {}
    for module in agent.modules():
        for mapping in (module._parameters, module._buffers):
            yield from (_Slot(mapping, key) for key, value in mapping.items() if value is not None)
        optimizers |= {id(optimizer): optimizer for optimizer in getattr(module, "optimizers", {}).values()}
    for optimizer in optimizers.values():
        for moments in optimizer.state.values():
            yield from (_Slot(moments, key) for key in moments)
    for replay in replays:
        yield from (_Slot(vars(replay), key) for key in replay.tensors)


def _optimizer_slots(agent: Agent) -> Iterator[_Slot]:
    for module in agent.modules():
        owned = getattr(module, "optimizers", {})
        yield from (_Slot(owned, key) for key in owned)


def _number_slots(agent: Agent) -> Iterator[_Slot]:
    """Yield where a member keeps numbers that are no tensors: in its modules and in their configurations."""
    for module in agent.modules():
        for owner in (module, getattr(module, "config", None)):
            values = vars(owner) if owner is not None else {}
            yield from (_Slot(values, key) for key, value in values.items() if isinstance(value, float))


def _differing(slots: Sequence[_Slot]) -> Sequence[_Slot]:
    """Return the members' slots, or none of them where all hold the same tensor."""
    first = slots[0].mapping[slots[0].key]
    return slots if any(slot.mapping[slot.key] is not first for slot in slots) else ()


def _stack(slots: Sequence[_Slot]) -> Tensor:
    """Return a stack of the members' tensors, which become its rows where they are kept."""
    values = [slot.mapping[slot.key] for slot in slots]
    stack = torch.stack([value.detach() for value in values])
    for slot, value, row in zip(slots, values, stack.unbind(), strict=True):
        if isinstance(value, nn.Parameter):
            value.data = row
        else:
            slot.mapping[slot.key] = row
    return nn.Parameter(stack, values[0].requires_grad) if isinstance(values[0], nn.Parameter) else stack
