"""MuJoCo Warp behind tensors moves worlds as MuJoCo does, and says where it could not."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from balrl.envs.mujoco.physics import WarpPhysics

pytest.importorskip("mujoco_warp", reason="the extra 'warp' is not installed")

SKIP = 3
POLE_AND_BALL = """<mujoco><option timestep="0.005"/><worldbody><geom type="plane" size="5 5 1"/>
<body pos="0 0 2"><joint name="pole" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05"/></body>
<body pos="2 0 0.099"><freejoint/><geom type="sphere" size="0.1"/></body></worldbody>
<actuator><motor joint="pole" gear="2"/></actuator></mujoco>"""
BOX = '<body pos="0 0 {z}"><freejoint/><geom type="box" size="0.1 0.1 0.1"/></body>'
TOWER = f"""<mujoco><worldbody><geom type="plane" size="5 5 1"/>{BOX.format(z=0.099)}{BOX.format(z=1)}
</worldbody></mujoco>"""


@pytest.fixture(scope="module")
def model() -> Any:
    return mujoco.MjModel.from_xml_string(POLE_AND_BALL)


@pytest.fixture(scope="module")
def physics(model: Any) -> WarpPhysics:
    return WarpPhysics(model, 4, frame_skip=SKIP, contact_forces=True, locates=True)


def test_a_recording_leaves_every_world_where_the_model_begins(physics: WarpPhysics, model: Any) -> None:
    made = WarpPhysics(model, 2, frame_skip=SKIP, locates=True)
    assert torch.equal(made.views["qpos"], torch.from_numpy(model.qpos0).float().expand(2, -1))
    assert (made.views["qvel"] == 0).all()
    assert {name: len(view) for name, view in physics.views.items()} == dict.fromkeys(physics.views, 4)


def test_every_world_advances_as_mujoco_does_from_what_is_written_into_its_views(
    physics: WarpPhysics, model: Any
) -> None:
    rng = np.random.default_rng(0)
    views, data = physics.views, mujoco.MjData(model)
    for _ in range(5):
        qpos = model.qpos0 + np.r_[1, np.zeros(model.nq - 1)] * rng.uniform(-1, 1, (4, 1))
        qvel, ctrl = rng.uniform(-1, 1, (4, model.nv)), rng.uniform(-1, 1, (4, 1))
        qvel[:, 1:3], qvel[:, 3] = 0.2 * qvel[:, 1:3], -0.1  # the ball stays on the floor
        for name, value in (("qpos", qpos), ("qvel", qvel), ("ctrl", ctrl), ("qacc_warmstart", 0 * qvel)):
            views[name].copy_(torch.from_numpy(np.asarray(value)))
        physics.advance()
        for i in range(4):
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:], data.ctrl[:] = qpos[i], qvel[i], ctrl[i]
            for _ in range(SKIP):
                mujoco.mj_step(model, data)
            mujoco.mj_rnePostConstraint(model, data)
            assert data.ncon
            for name in ("qpos", "qvel", "xpos", "cinert", "cvel", "qfrc_actuator"):
                np.testing.assert_allclose(views[name][i].numpy(), getattr(data, name), rtol=0, atol=1e-5)
            np.testing.assert_allclose(views["cfrc_ext"][i].numpy(), data.cfrc_ext, rtol=1e-4, atol=1e-3)
            assert np.abs(data.cfrc_ext).max() > 10
    physics.check_overflow()


def test_locating_needs_positions_and_speeds_alone_and_forgets_forces(physics: WarpPhysics, model: Any) -> None:
    views, data = physics.views, mujoco.MjData(model)
    physics.advance()
    assert views["cfrc_ext"].abs().max() > 0
    data.qpos[:] = model.qpos0 + 0.3
    data.qvel[:] = np.arange(model.nv)
    for name in ("qpos", "qvel"):
        views[name].copy_(torch.from_numpy(getattr(data, name)).expand(4, -1))
    physics.locate()
    mujoco.mj_forward(model, data)
    for name in ("xpos", "xipos", "cinert", "cvel"):
        np.testing.assert_allclose(views[name][3].numpy(), getattr(data, name), rtol=0, atol=1e-5)
    assert all((views[name] == 0).all() for name in ("cfrc_ext", "qfrc_constraint", "qfrc_actuator"))
    np.testing.assert_allclose(views["qpos"][3].numpy(), data.qpos, atol=1e-6)


def test_more_contacts_than_there_is_room_for_are_told_and_a_solver_at_its_limit_is_not(model: Any) -> None:
    """Two boxes that become a tower touch in eight places, and its three geometries have room for six."""
    hasty = mujoco.MjModel.from_xml_string(POLE_AND_BALL)
    hasty.opt.iterations = 1
    fine = WarpPhysics(hasty, 2, graph=False)
    fine.views["qvel"][:] = 1 - 2 * torch.rand(2, model.nv)
    fine.views["qvel"][:, 3] = -0.1
    fine.advance()
    assert fine._overflow.any()
    fine.check_overflow()
    full = WarpPhysics(mujoco.MjModel.from_xml_string(TOWER), 2, graph=False)
    full.advance()
    full.check_overflow()
    full.views["qpos"][:, 9] = 0.297
    full.advance()
    with pytest.raises(RuntimeError, match="buffers are too small"):
        full.check_overflow()
