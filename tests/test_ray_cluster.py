from __future__ import annotations

import subprocess
import sys

import pytest

from balrl.errors import UserError
from balrl.ray_cluster import connect, import_ray

LISTENING = """
import subprocess
from balrl.ray_cluster import connect, import_ray
ray = import_ray("the test")
assert connect(ray, None) and not connect(ray, None)
for pid in {name.pid for name in __import__("psutil").Process().children(recursive=True)}:
    for found in __import__("psutil").Process(pid).net_connections():
        if found.status == "LISTEN":
            print(found.laddr.ip)
ray.shutdown()
"""


def test_one_of_this_machine_listens_to_nobody_outside() -> None:
    pytest.importorskip("ray")
    pytest.importorskip("psutil")
    done = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=120, check=True)
    found = set(done.stdout.split())
    assert found
    assert found <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_what_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=r"there is no Ray cluster at 127\.0\.0\.1:1: ") as caught:
        connect(import_ray("the test"), "127.0.0.1:1")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--executor ray needs Ray: pip install 'balrl\[ray\]'"):
        import_ray("--executor ray")
