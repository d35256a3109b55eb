"""MuJoCo's physics for N worlds at once: MuJoCo Warp behind torch tensors that share its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from balrl.errors import UserError

STATE = ("qpos", "qvel", "qacc_warmstart")
OUTPUTS = ("xpos", "xipos", "site_xpos", "cinert", "cvel", "cfrc_ext", "qfrc_constraint", "qfrc_actuator")
FORCES = ("cfrc_ext", "qfrc_constraint", "qfrc_actuator")
IGNORED_OVERFLOWS = ("ITERATIONS", "LS_ITERATIONS")
"""Solvers that stop at their limit are part of MuJoCo's ordinary life."""


class WarpPhysics:
    """N copies of a MuJoCo model on one device.

    `views` are torch tensors ``[N, …]`` on the simulator's own memory, named as in `mujoco.MjData`: write qpos, qvel,
    ctrl and qacc_warmstart, call `advance`, read. On a GPU they are used on torch's current stream; nothing waits for
    the host. The `frame_skip` steps of an `advance` are recorded once and replayed.

    The simulator computes in float32. Its buffers for contacts hold two contacts of every geometry, which suffices
    where things only touch a floor; `check_overflow` tells where they did not.

    Args:
        model: compiled by MuJoCo.
        num_envs: N.
        device: ``cpu`` or a CUDA device.
        frame_skip: simulator steps per `advance`.
        contact_forces: compute ``cfrc_ext`` after the last of them, as `mujoco.mj_rnePostConstraint` does.
        locates: record `locate`, too.
        graph: record and replay; without, every kernel is launched by itself.

    Raises:
        UserError: where MuJoCo Warp is not installed.
    """

    def __init__(
        self,
        model: Any,
        num_envs: int,
        device: torch.device | str = "cpu",
        frame_skip: int = 1,
        *,
        contact_forces: bool = False,
        locates: bool = False,
        graph: bool = True,
    ) -> None:
        try:
            import mujoco_warp
            import warp
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed: pip install 'balrl[warp]'") from error
        import mujoco

        warp.config.log_level = warp.LOG_WARNING
        self._warp, self._engine = warp, mujoco_warp
        self.num_envs, self.device, self.frame_skip = num_envs, torch.device(device), frame_skip
        self._contact_forces = contact_forces
        self._streams: dict[int, Any] = {}
        initial = mujoco.MjData(model)
        mujoco.mj_forward(model, initial)
        contacts = 2 * model.ngeom
        rows = 4 * contacts + 2 * model.njnt + model.nv
        with warp.ScopedDevice(str(self.device)):
            self._model = mujoco_warp.put_model(model)
            self._data = mujoco_warp.put_data(model, initial, nworld=num_envs, nconmax=contacts, njmax=rows)
            self.views: dict[str, Tensor] = {
                name: warp.to_torch(getattr(self._data, name)) for name in (*STATE, "ctrl", *OUTPUTS)
            }
            self._overflow = warp.to_torch(self._data.overflow)
            self._advance = self._recorded(self._steps) if graph else self._steps
            self._locate = self._recorded(self._positions) if graph and locates else self._positions

    def advance(self) -> None:
        """Take `frame_skip` steps in every world."""
        with self._on_torchs_stream():
            self._advance()

    def locate(self) -> None:
        """Compute where everything is, and how fast, from qpos and qvel alone; forces become 0."""
        with self._on_torchs_stream():
            self._locate()
        for name in FORCES:
            self.views[name].zero_()

    def check_overflow(self) -> None:
        """Raise a `RuntimeError` where a buffer was too small since the beginning; asks the device."""
        types = self._engine.OverflowType
        ignored = sum(types[name] for name in IGNORED_OVERFLOWS)
        found = int(self._overflow.max()) & ~ignored
        if found:
            raise RuntimeError(f"the simulator's buffers are too small for these worlds: {types(found)!r}")

    def _steps(self) -> None:
        for _ in range(self.frame_skip):
            self._engine.step(self._model, self._data)
        if self._contact_forces:
            self._engine.rne_postconstraint(self._model, self._data)

    def _positions(self) -> None:
        self._engine.kinematics(self._model, self._data)
        self._engine.com_pos(self._model, self._data)
        self._engine.com_vel(self._model, self._data)

    def _recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        kept = {name: self.views[name].clone() for name in STATE}
        self._synchronize()  # here and below: torch's stream and the simulator's own
        work()  # kernels are compiled outside the recording
        with self._warp.ScopedCapture() as capture:
            work()
        self._synchronize()
        for name, value in kept.items():
            self.views[name].copy_(value)
        return partial(self._warp.capture_launch, capture.graph)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def _on_torchs_stream(self) -> Iterator[None]:
        """Select the simulator's device, and on a GPU torch's stream there."""
        with self._warp.ScopedDevice(str(self.device)):
            if self.device.type == "cpu":
                yield
                return
            current = torch.cuda.current_stream(self.device)
            if current.cuda_stream not in self._streams:
                self._streams[current.cuda_stream] = self._warp.stream_from_torch(current)
            with self._warp.ScopedStream(self._streams[current.cuda_stream]):
                yield
