"""D4RL's own package as the oracle for what its files mean, in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from balrl.data.d4rl import load_d4rl
from balrl.data.reference import d4rl_references

ORACLE = """
import json, os, sys
os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"
sys.modules["mujoco_py"] = None
import h5py, numpy as np, d4rl
class Env:
    _max_episode_steps = 1000
with h5py.File(sys.argv[1]) as f:
    raw = {k: f[k][()] for k in ("observations", "actions", "rewards", "terminals", "timeouts")}
data = d4rl.qlearning_dataset(Env(), dataset=raw)
np.savez(sys.argv[2], **data)
names = json.loads(sys.argv[3])
print(json.dumps({n: float(d4rl.get_normalized_score(n, 1234.5)) for n in names}))
"""


@pytest.fixture(scope="module")
def oracle_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that can import d4rl 1.1; skips with the reason where none can be made."""
    if os.environ.get("BALRL_SKIP_D4RL"):
        pytest.skip("BALRL_SKIP_D4RL is set")
    home = tmp_path_factory.mktemp("d4rl")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-input"]
    needs = ["gym<0.25", "numpy<2", "h5py", "termcolor", "click", "tqdm"]
    for arguments in (
        [*install, "setuptools<81", "wheel", *needs],
        [*install, "--no-deps", "--no-build-isolation", "d4rl==1.1"],
    ):
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=280, check=False)
        if done.returncode:
            pytest.skip(f"d4rl 1.1 cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}")
    return python


@pytest.mark.timeout(400)
def test_rows_and_scores_equal_d4rl_s_own(oracle_python: Path, shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "walker2d-mixed-v5.hdf5"
    names = [
        "hopper-medium-v2",
        "halfcheetah-expert-v2",
        "walker2d-medium-replay-v2",
        "door-human-v1",
        "antmaze-large-play-v2",
    ]
    out = tmp_path / "oracle.npz"
    done = subprocess.run(
        [str(oracle_python), "-c", ORACLE, str(file), str(out), json.dumps(names)],
        capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = np.load(out)

    ours = load_d4rl(file)
    common = ~ours.truncated | ours.terminated  # D4RL drops every timeout row …
    common[-1] = False  # … and the last row
    assert common.sum() == len(theirs["rewards"])
    np.testing.assert_array_equal(ours.observations[common], theirs["observations"])
    np.testing.assert_array_equal(ours.actions[common], theirs["actions"])
    np.testing.assert_array_equal(ours.rewards[common], theirs["rewards"])
    np.testing.assert_array_equal(ours.terminated[common], theirs["terminals"])
    inside = ~ours.terminated[common]
    np.testing.assert_allclose(ours.next_observations[common][inside], theirs["next_observations"][inside], atol=1e-6)

    scores = json.loads(done.stdout.strip().splitlines()[-1])
    for name in names:
        assert d4rl_references()[name].normalize(1234.5) == pytest.approx(100 * scores[name], rel=1e-9)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-v"]))
