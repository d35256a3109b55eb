"""The tree is what the packaging says, and the wheel holds nothing but balrl."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
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


def sources() -> dict[str, Path]:
    """Every module by its dotted name, without the symbolic links."""
    found = {}
    for base in ("balrl", "agents", "envs"):
        for file in (ROOT / base).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[0] == "balrl" and len(parts) > 1 and parts[1] in MOVED:
                continue
            name = ".".join(parts if parts[0] == "balrl" else ("balrl", *parts)).removesuffix(".__init__")
            found[name] = file
    return found


SOURCES = sources()


def imported(tree: ast.AST, known: Iterable[str]) -> set[str]:
    """The modules that a file imports anywhere, ``from balrl import agents`` and ``import balrl.envs`` included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f"{node.module}.{a.name}") in known else node.module for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in known}


def room(module: str) -> str:
    """A module's folder; the core's own files are ``core``, and what stands in front of everything is ``api``."""
    parts = module.split(".")
    if len(parts) == 1 or module in ("balrl.api", "balrl.__main__"):
        return "api"
    return parts[1] if len(parts) > 2 or (ROOT / "balrl" / parts[1]).is_dir() else "core"


MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "data": {"core"},
    "execution": {"core"},
    "watch": {"core"},
    "agents": {"core"},
    "envs": {"core", "data"},
    "rewards": {"core", "data"},
    "report": {"core", "data", "watch"},
    "run": {"core", "data", "execution", "watch", "agents", "envs", "rewards", "report"},
}
MAY_IMPORT["studies"] = MAY_IMPORT["bench"] = MAY_IMPORT["sweep"] = MAY_IMPORT["api"] = {*MAY_IMPORT["run"], "run"}
MAY_IMPORT["cli"] = {*MAY_IMPORT["api"], "api", "studies", "bench", "sweep"}
MAY_IMPORT["api"] = {*MAY_IMPORT["api"], "cli"}  # __main__
"""Every arrow that a folder may have into another. Without an arrow upward there is no circle of folders."""


def upward(module: str, tree: ast.AST) -> set[str]:
    own = room(module)
    return {other for other in imported(tree, SOURCES) if room(other) not in (own, *MAY_IMPORT[own])}


def test_arrows_point_one_way() -> None:
    wrong = {name: upward(name, ast.parse(file.read_text())) for name, file in SOURCES.items()}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "line",
    ["from balrl import agents", "import balrl.envs", "from balrl.run.presets import TrainConfig", "import balrl.api"],
)
def test_an_arrow_upward_is_found_however_it_is_written(line: str) -> None:
    assert upward("balrl.replay", ast.parse(f"def f():\n    {line}"))
    assert upward("balrl.agents.iql", ast.parse(line)) or "agents" in line


def test_no_circular_imports() -> None:
    graph = {}
    for name, file in SOURCES.items():
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom | ast.Import)]
        graph[name] = imported(ast.Module(top, []), SOURCES) - {name}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        for following in graph[name]:
            visit(following, (*path, name))

    for name in graph:
        visit(name, ())


def test_every_module_has_its_test_and_every_test_its_module() -> None:
    tests = {file.relative_to(ROOT / "tests") for file in (ROOT / "tests").rglob("test_*.py")}
    tests = {file for file in tests if file.parts[0] not in ("gpu", "stand_in")}
    named = {file.with_name(file.name.removeprefix("test_").replace("_oracle", "")) for file in tests}
    modules = {}
    for name, file in SOURCES.items():
        parts = name.split(".")[1:]
        if parts and file.name != "__init__.py" and name not in UNTESTED:
            modules[Path(*parts).with_suffix(".py")] = name
    of_the_tree = {Path("test_layout.py"), Path("test_docs.py"), Path("agents/test_all.py")}
    whole = {file.with_name(file.name.removeprefix("test_")) for file in of_the_tree}
    assert named - whole - modules.keys() == set()
    assert modules.keys() - named == set()


UNTESTED = {"balrl.__main__"}
"""What starts the command line in a process of its own, where its tests see it."""


def test_nothing_unpickles() -> None:
    for file in SOURCES.values():
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
    imports = "import balrl.agents.hyperparameters as c, balrl.envs, balrl.run.presets as p"
    code = f"{imports}; print(c.__file__, p.preset_names())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "agents" / "hyperparameters.py") in done.stdout
    assert "iql/locomotion" in done.stdout
