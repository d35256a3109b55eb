"""The tree is what the packaging says, and the wheel holds nothing but balrl."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
MOVED = {"agents", "envs", "configs"}


def test_packages_equal_the_tree() -> None:
    found = {"balrl"}
    for base in ("balrl", *MOVED):
        for init in (ROOT / base).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if parts[0] == "balrl" and len(parts) > 1 and parts[1] in MOVED:
                continue  # the symbolic links
            found.add(".".join(parts if parts[0] == "balrl" else ("balrl", *parts)))
    assert set(SETUPTOOLS["packages"]) == found


def test_tests_mirror_the_tree() -> None:
    for test in (ROOT / "tests").rglob("test_*.py"):
        folder = test.parent.relative_to(ROOT / "tests")
        home = ROOT / folder if folder.parts and folder.parts[0] in MOVED else ROOT / "balrl" / folder
        name = test.stem.removeprefix("test_").removesuffix("_oracle")
        assert name in ("all", "docs", "layout") or (home / f"{name}.py").exists(), test


COMPOSING = {"run", "bench", "cli", "studies", "api.py", "__init__.py"}


@pytest.mark.parametrize("package", ["agents", "envs"])
def test_core_imports_no_agent_and_no_environment(package: str) -> None:
    """Only what composes may know them."""
    for file in (ROOT / "balrl").rglob("*.py"):
        if file.relative_to(ROOT / "balrl").parts[0] in COMPOSING | MOVED:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [module]
            assert not any(name.startswith(f"balrl.{package}") for name in names), file


def test_no_circular_imports() -> None:
    graph: dict[str, set[str]] = {}
    for file in [*(ROOT / "balrl").rglob("*.py"), *(ROOT / "agents").glob("*.py"), *(ROOT / "envs").rglob("*.py")]:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] == "balrl" and len(parts) > 1 and parts[1] in MOVED:
            continue
        name = ".".join(parts if parts[0] == "balrl" else ("balrl", *parts)).removesuffix(".__init__")
        top = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ImportFrom)]
        graph[name] = {n.module for n in top if n.module and n.module.startswith("balrl")}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        for following in graph.get(name, ()):
            visit(following, (*path, name))

    for name in graph:
        visit(name, ())


def test_nothing_unpickles() -> None:
    for file in [*(ROOT / "balrl").rglob("*.py"), *(ROOT / "agents").glob("*.py"), *(ROOT / "envs").rglob("*.py")]:
        text = file.read_text()
        assert text.count("torch.load(") == text.count("weights_only=True"), file
        for word in ("import pickle", "weights_only=False", "cloudpickle", "allow_pickle=True", "joblib"):
            assert word not in text, f"{word} in {file}"


def test_the_wheel(tmp_path: Path) -> None:
    """Built from a clean copy: one top-level name, presets, reference scores and the typing marker inside."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pytest.importorskip("build", reason="the package 'build' is not installed")
    source = tmp_path / "source"
    for name in listed.stdout.splitlines():
        origin, target = ROOT / name, source / name
        if not origin.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_symlink():
            target.symlink_to(origin.readlink())
        else:
            target.write_bytes(origin.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [wheel] = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"balrl"}
    assert {"balrl/py.typed", "balrl/agents/iql.py", "balrl/envs/point_maze.py", "balrl/configs/iql/locomotion.yaml",
            "balrl/data/d4rl_ref_scores.csv"} <= set(names)  # fmt: skip
    assert len(names) == len(set(names))


def test_a_checkout_without_symbolic_links_works(tmp_path: Path) -> None:
    """As on systems where git writes links as text files."""
    for folder in ("balrl", *MOVED):
        for file in (ROOT / folder).rglob("*"):
            inside_link = folder == "balrl" and file.relative_to(ROOT / "balrl").parts[0] in MOVED
            if file.is_file() and not inside_link and "__pycache__" not in file.parts:
                target = tmp_path / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    for name in MOVED:
        (tmp_path / "balrl" / name).write_text(f"../{name}")
    code = "import balrl.agents.config as c, balrl.envs, balrl.run.presets as p; print(c.__file__, p.preset_names())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "agents" / "config.py") in done.stdout
    assert "iql/locomotion" in done.stdout
