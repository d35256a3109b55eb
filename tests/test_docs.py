"""The documents agree with the code."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import h5py
import pytest

import balrl
from balrl.cli.main import main
from balrl.run.presets import preset_names
from tests.conftest import others_marked

ROOT = Path(__file__).resolve().parent.parent


def test_the_configuration_table_and_the_tree_are_current() -> None:
    module = script("make_docs")
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == module.render(), "run: make docs"
    assert (ROOT / "docs" / "design.md").read_text(encoding="utf-8") == module.design(), "run: make docs"
    assert "on_policy.py" in module.tree()


def script(name: str) -> ModuleType:
    """A module of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["make_results", "make_algorithms"])
def test_pages_made_of_results_and_docstrings_are_current(name: str) -> None:
    for path, text in script(name).files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run: make docs"


def test_every_picture_of_results_has_its_command() -> None:
    for page in (ROOT / "docs" / "results").glob("*.md"):
        before = page.read_text(encoding="utf-8").split("![")
        for index in range(1, len(before)):
            above = "![".join(before[:index])
            assert re.search(r"^    (python scripts/|balrl )", above, re.MULTILINE), f"{page.name}, picture {index}"


TUTORIALS = script("make_tutorials")
IN_CI = {"1_own_data", "5_learned_rewards", "9_from_other_libraries"}
"""Tutorials that use most of the interface between them."""


@pytest.mark.parametrize("name", TUTORIALS.names())
def test_tutorials_pages_are_current(name: str) -> None:
    page = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    assert page == TUTORIALS.rendered(name), "run: python scripts/make_tutorials.py --pages"


@pytest.mark.slow
@pytest.mark.parametrize("name", others_marked(TUTORIALS.names(), IN_CI, pytest.mark.exhaustive))
def test_every_tutorial_runs(name: str) -> None:
    """Short: in a process of its own, as its commands do."""
    made = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import make_tutorials as m; m.make({name!r}, True)"
    )
    done = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_are_documented() -> None:
    assert script("make_site").undocumented() == []


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_presets_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--preset ([\w/-]+)", text))
    assert named
    assert named <= set(preset_names())


def test_names_in_the_documents_exist() -> None:
    """``balrl.rollout.Collector`` and the like can be imported."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"`(balrl(?:\.\w+)+)", page.read_text(encoding="utf-8")):
            found = importlib.import_module("balrl")
            for part in name.split(".")[1:]:
                with contextlib.suppress(ModuleNotFoundError):
                    importlib.import_module(f"{found.__name__}.{part}")
                assert hasattr(found, part), f"{page.name}: {name}"
                found = getattr(found, part)


EXAMPLES = ROOT / "docs" / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {
    "pretrain.updates": 4, "pretrain.eval_every": 4, "warmup.steps": 12, "finetune.steps": 12, "batch_size": 8,
    "finetune.eval_every": 12, "evaluation.episodes": 1, "checkpoint.every": 50, "tracking.wandb": "off",
    "instruments.dense_steps": 0, "evaluation.max_episode_steps": 20,
}  # fmt: skip
SIZED = ("pretrain.updates", "warmup.steps", "agent.hidden", "finetune.utd_ratio")
"""Settings of documented commands that would take long; what they are is checked, how large is not."""
STUDY = """
seeds: [0]
preferences: {pairs: 20, flips: [0.0]}
ensemble: {members: 2, hidden: [4], epochs: 2}
best_of_n: {states: 2, samples: 8}
ppo: {num_envs: 4, batch_size: 8, rollouts: 1, kl_coefficients: [0.0]}
objectives: {mean: {objective: mean}}
"""


def snippets(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of every ``balrl …`` in a page's indented blocks, in order."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in re.findall(r"^    (balrl .*)$", text, re.MULTILINE)]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page, "python")], ids=lambda page: page.stem)
def test_every_python_snippet_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.name == "README.md":
        small = {"pretrain.updates": 20, "warmup.steps": 20, "finetune.steps": 40, "batch_size": 16}
        inner = balrl.load_config
        monkeypatch.setattr(
            "balrl.run.presets.load_config", lambda preset, settings: inner(preset, settings={**settings, **small})
        )
    for text in snippets(page, "python"):
        if 'device="cuda"' in text:
            text = text.replace('device="cuda"', 'device="cpu"').replace("4096", "2")
            text = text.replace("(actions)", "(env.action_space.sample())")
        exec(compile(text, str(page), "exec"), {"__name__": "a reader's"})


@pytest.mark.slow
@pytest.mark.parametrize("script", ["own_data.py", "own_loop.py"])
def test_the_example_project_runs(script: str, tmp_path: Path) -> None:
    files = [*EXAMPLES.glob("*.py"), *(EXAMPLES / "heater").glob("*.py")]
    assert sum(len(file.read_text().splitlines()) for file in files) <= 150
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if script == "own_data.py":
        returns = [float(x) for x in re.findall(r"return (-\d+)", done.stdout)]
        assert max(returns[1:]) > returns[0] + 50  # it learns to heat
        assert (tmp_path / "runs" / "heater" / "curves.png").exists()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small files of every name that the documents use."""
    folder = tmp_path_factory.mktemp("documents")
    with contextlib.chdir(folder):
        collect = ["data", "collect", "--from", "random", "--steps", "400", "--env"]
        for env, name in (
            ("Hopper-v5", "hopper"),
            ("balrl/HalfCheetah-v5", "halfcheetah"),
            ("AdroitHandDoor-v1", "door"),
        ):
            assert main([*collect, env, "--out", f"{name}.hdf5"]) == 0
        with h5py.File("door.hdf5", "a") as file:  # as D4RL names it
            file["infos/goal_achieved"] = file["infos/success"][()]
        sac = [
            "train",
            "--preset",
            "sac/locomotion",
            "--env",
            "Hopper-v5",
            "--run-dir",
            "sac",
            "agent.hidden=[256, 256]",
        ]
        assert main([*sac, *small(["pretrain.updates=0"])]) == 0
        for name in ("sac.zip", "sb3_sac.zip"):
            assert main(["export", "sac", name]) == 0
        cql = ["train", "--preset", "cql/locomotion", "--dataset", "hopper.hdf5", *small([])]
        assert main([*cql, "--run-dir", "runs/my-cql-run"]) == 0
        assert main(cql) == 0
        assert (
            main(
                [
                    "reward",
                    "collect",
                    "hopper.hdf5",
                    "--pairs",
                    "12",
                    "--steps",
                    "4",
                    "--out",
                    "other-pairs.safetensors",
                ]
            )
            == 0
        )
        rows = ({"prompt": i // 8, "scores": [i, -i, 0.5 * i], "gold": 2 * i} for i in range(16))
        Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        texts = ({"prompt": "p", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(20))
        Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
        shutil.copy("pairs.jsonl", "more-pairs.jsonl")
        said = ({"prompt": f"p{i // 4}", "completion": f"good {i}", "gold": i} for i in range(8))
        Path("completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
        Path("labels.csv").write_text("pair,preferred\n0,first\n1,second\n2,first\n3,second\n4,equal\n5,first\n")
        Path("study.yaml").write_text(STUDY)
        (folder / "docs").mkdir()
        (folder / "docs" / "examples").symlink_to(EXAMPLES)
    return folder


def small(given: Sequence[str]) -> list[str]:
    """Settings that make a run small, where a command has none of its own."""
    kept = {word.partition("=")[0].removeprefix("--") for word in given}
    return [f"{key}={json.dumps(value)}" for key, value in SMALL.items() if key not in kept]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_every_command_runs(
    page: Path,
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the order of the page, in a folder with the files that it names, with little to do."""
    shutil.copytree(workplace, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    for words in commands(page):
        words = [found for word in words for found in as_here(word)]
        if words[0] == "train" and "--resume" not in words:
            words = as_small(words)
        if words[0] == "sweep" and "--out" in words:
            words += small(words) if "--dry-run" in words else [*small(words), "--seeds", "0:1", "--jobs", "2"]
        if words[1:2] == ["collect"] and "--steps" in words:
            words[words.index("--steps") + 1] = "60"
        if words[1:2] == ["collect"] and words[0] == "reward":
            words[words.index("--pairs") + 1] = "12"
            words += ["--steps", "4"]
        if words[:2] == ["reward", "study"]:
            words = ["reward", "study", "study.yaml", "--out", "runs/study"]
        if words[0] == "family" or "--offline" in words:
            words += ["--offline-updates", "5"]
        if words[0] in ("family", "evaluate") and "--episodes" in words:
            words[words.index("--episodes") + 1] = "2"
        if words[:2] == ["reward", "train"]:
            words += ["--epochs", "2", "--hidden", "8"]
        written = [words[i + 1] for i, word in enumerate(words) if word == "--out"]
        for name in [*written, *(words[3:4] if words[1:2] == ["relabel"] else [])]:  # it is made again
            if Path(name).is_file():
                Path(name).unlink()
        code = main(words)
        said = capsys.readouterr().err
        assert code in (0, 1 if words[:2] == ["data", "check"] else 0), f"{' '.join(words)}: {said}"


def as_here(word: str) -> list[str]:
    """A word as it must be here: times of runs as they are, patterns as the shell would expand them."""
    timed = re.sub(r"-\d{8}-\d{6}$", "-*", word)
    found = sorted(str(path) for path in Path().glob(timed)) if "*" in timed and "=" not in timed else []
    return found[-1:] if found and timed != word else found or [word]


def as_small(words: list[str]) -> list[str]:
    gpu = any("-gpu" in word or "worlds" in word for word in words)
    kept = [word for word in words if not word.startswith(tuple(f"{key}=" for key in SIZED))]
    sizes = [f"{word.partition('=')[0]}=" for word in words if word.startswith(SIZED)]
    more = ["warmup.steps=12" if key == "warmup.steps=" else "" for key in sizes]
    zero = ["pretrain.updates=0"] if "pretrain.updates=0" in words or any("sac/" in w for w in words) or gpu else []
    preferences = (
        ["reward.steps=4", "reward.hidden=[8]", "reward.epochs=2"] if any("preferences" in w for w in words) else []
    )
    asked = (
        ["reward.pairs=8"] if preferences and not any("reward.preferences" in w or "sac/" in w for w in words) else []
    )
    worlds = ["num_envs=2", "batch_size=8", "finetune.utd_ratio=1"] if gpu else []
    ppo = ["agent.rollout_steps=6", "batch_size=6"] if any("ppo/" in word for word in words) else []
    samples = ["agent.samples=2"] if any("qc/" in word for word in words) else []
    rounds = (
        ["reward.online_every=12", "reward.online_pairs=4"] if preferences and any("sac/" in w for w in words) else []
    )
    own = [*preferences, *asked, *worlds, *ppo, *samples, *rounds]
    return [*kept, *filter(None, more), *zero, *own, *small([*more, *zero])]
