"""LeRobot's datasets. The folders ``lerobot/v21`` and ``v30`` were written by the package's versions 0.3.3 and 0.4.4:

three episodes of 4, 3 and 5 frames; ``observation.state`` is ``[episode, t, 0.5]``, ``observation.environment_state``
``[−episode, −t]``, the action ``[episode / 10, t / 10]``, the reward ``episode + t / 10``; the second does not succeed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from balrl.data.lerobot import is_lerobot, load_lerobot
from balrl.errors import UserError
from balrl.run.registry import load_dataset

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
FOLDER = Path(__file__).parent / "lerobot"


@pytest.mark.parametrize("version", ["v21", "v30"])
def test_every_version_is_read_alike(version: str) -> None:
    data = load_dataset(f"lerobot:{FOLDER / version}")
    assert data.episode_lengths.tolist() == [4, 2, 5]  # what came behind the second's last frame was not recorded
    assert np.flatnonzero(data.terminated).tolist() == [3, 10]
    assert np.flatnonzero(data.truncated).tolist() == [5]
    frames = [(0, t) for t in range(4)] + [(1, t) for t in range(2)] + [(2, t) for t in range(5)]
    for row, (episode, t) in enumerate(frames):
        np.testing.assert_allclose(data.observations[row], [-episode, -t, episode, t, 0.5])
        np.testing.assert_allclose(data.actions[row], [episode / 10, t / 10])
        assert data.rewards[row] == pytest.approx(episode + t / 10)
        if not data.terminated[row]:
            np.testing.assert_allclose(data.next_observations[row], [-episode, -t - 1, episode, t + 1, 0.5])
    assert "1 rows without a recorded successor left out" in data.notes
    assert load_dataset(FOLDER / version).fingerprint() == data.fingerprint()


def test_observations_are_those_that_were_asked_for_in_their_order() -> None:
    data = load_dataset(FOLDER / "v30", observation_keys=("observation.state", "observation.environment_state"))
    np.testing.assert_allclose(data.observations[1], [0, 1, 0.5, 0, -1])
    assert load_lerobot(FOLDER / "v21", ["observation.state"]).observations.shape == (11, 3)
    with pytest.raises(UserError, match=r"no vector 'observation.stat'.*did you mean"):
        load_lerobot(FOLDER / "v21", ["observation.stat"])


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no LeRobot dataset"):
        load_dataset(f"lerobot:{tmp_path}")
    assert not is_lerobot(tmp_path)
    broken = tmp_path / "copy"
    shutil.copytree(FOLDER / "v30", broken)
    parquet = next((broken / "data").rglob("*.parquet"))
    parquet.write_bytes(parquet.read_bytes()[:200])
    with pytest.raises(UserError, match="fetch it again"):
        load_lerobot(broken)
    parquet.unlink()
    with pytest.raises(UserError, match="no Parquet file"):
        load_lerobot(broken)
    info = json.loads((broken / "meta" / "info.json").read_text())
    for change, message in (
        ({"codebase_version": "v9.0"}, "version v9.0"),
        ({"features": {"action": info["features"]["action"]}}, "no observation that is a vector"),
        ({"features": {k: v for k, v in info["features"].items() if k != "action"}}, "has no action"),
    ):
        (broken / "meta" / "info.json").write_text(json.dumps(info | change))
        with pytest.raises(UserError, match=message):
            load_lerobot(broken)
    (broken / "meta" / "info.json").write_text("{")
    with pytest.raises(UserError, match="no description"):
        load_lerobot(broken)


def test_data_without_rewards_say_so(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(FOLDER / "v21", copy)
    info = json.loads((copy / "meta" / "info.json").read_text())
    info["features"] = {k: v for k, v in info["features"].items() if not k.startswith("next.")}
    (copy / "meta" / "info.json").write_text(json.dumps(info))
    data = load_lerobot(copy)
    assert not data.rewards.any()
    assert not data.terminated.any()
    assert any("no next.reward" in note for note in data.notes)
