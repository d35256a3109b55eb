"""The documents agree with the code."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
from pathlib import Path

from balrl.run.presets import preset_names

ROOT = Path(__file__).resolve().parent.parent


def test_the_configuration_table_and_the_tree_are_current() -> None:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == module.render(), "run: make docs"
    assert (ROOT / "docs" / "design.md").read_text(encoding="utf-8") == module.design(), "run: make docs"
    assert "on_policy.py" in module.tree()


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
