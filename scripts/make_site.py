"""Build the documentation's site into build/site, and check it: no broken link, no undocumented public name.

    python scripts/make_site.py      # make site

Pages are docs/, the start page made of docs/index.md, the changelog and CONTRIBUTING.md; the API reference is made of
docstrings. Needs the extra `site`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
SOURCE, SITE = BUILD / "site-source", BUILD / "site"
PUBLIC = {
    "balrl": "Runs",
    "balrl.agents": "Agents and balances",
    "balrl.envs": "Environments",
    "balrl.rewards": "Learned rewards",
    "balrl.rewards.language": "Rewards of texts",
}
"""Modules whose `__all__` is the public interface, with the titles of their pages."""


def stage() -> None:
    """Copy the pages to where the site is built from, links to files outside docs/ made to copies of them."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE, ignore=shutil.ignore_patterns("site.toml", "printed.json", "__pycache__"))
    (SOURCE / "protocols").mkdir()
    for name in ("CHANGELOG", "CONTRIBUTING"):
        (SOURCE / f"{name.lower()}.md").write_text((ROOT / f"{name}.md").read_text(encoding="utf-8"), encoding="utf-8")
    for page in SOURCE.rglob("*.md"):
        text = _outside(page.read_text(encoding="utf-8"), page)
        if page.parent.name == "algorithms":
            text = re.sub(r"In code: `(balrl\.agents)\.(\w+)`", _link_to_class, text)
        page.write_text(text, encoding="utf-8")
    (SOURCE / "reference").mkdir()
    for module, title in PUBLIC.items():
        (SOURCE / "reference" / f"{module}.md").write_text(reference(module, title), encoding="utf-8")
    shutil.copy(ROOT / "docs" / "site.toml", BUILD / "zensical.toml")


def reference(module: str, title: str) -> str:
    """Return the page of a module's public names."""
    parts = [f"# {title}", f"`{module}`", inspect.getdoc(importlib.import_module(module)) or ""]
    for name, home in public_names(module):
        parts.append(f"::: {home}\n    options:\n      heading: {name}")
    return "\n\n".join(parts) + "\n"


def public_names(module: str) -> Iterator[tuple[str, str]]:
    """Return a module's public names, each with the address of what it names."""
    found = importlib.import_module(module)
    for name in found.__all__:
        value = getattr(found, name)
        home = value.__module__ if inspect.isclass(value) or inspect.isfunction(value) else _home(module, name)
        yield name, f"{home}.{name}"


def undocumented() -> list[str]:
    """Return the public names without a docstring."""
    return [
        f"{module}.{name}"
        for module in PUBLIC
        for name, _ in public_names(module)
        if callable(value := getattr(importlib.import_module(module), name)) and not _has_docstring(name, value)
    ]


def _has_docstring(name: str, value: object) -> bool:
    """Return whether somebody wrote a docstring: none that is inherited, or that a dataclass makes."""
    text = value.__doc__ if inspect.isfunction(value) else vars(value).get("__doc__")
    return bool(text) and not (is_dataclass(value) and str(text).startswith(f"{name}("))


def broken_links() -> list[str]:
    """Return the links of the built pages that lead nowhere."""
    pages = {page: _Page.of(page) for page in SITE.rglob("*.html")}
    broken = []
    for page, found in pages.items():
        for address in found.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                broken.append(f"{page.relative_to(SITE)}: {address}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                broken.append(f"{page.relative_to(SITE)}: {address} (no such place on that page)")
    return sorted(set(broken))


class _Page(HTMLParser):
    """Where a page leads, and what can be led to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()

    @classmethod
    def of(cls, path: Path) -> _Page:
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.names.add(value)
            if value and (tag, name) in (("a", "href"), ("img", "src")):
                self.links.append(value)


def _outside(text: str, page: Path) -> str:
    """Return a page's text with links to files outside docs/ led to copies, and links to folders made plain text."""
    is_moved = page.name in ("changelog.md", "contributing.md")  # which stand in the root
    home = ROOT if is_moved else (ROOT / "docs" / page.relative_to(SOURCE)).parent
    up = "../" * (len(page.relative_to(SOURCE).parts) - 1)
    named = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}

    def replace(found: re.Match[str]) -> str:
        target, fragment = (home / found[2]).resolve(), found[3] or ""
        if target.is_dir():
            return found[1]
        if not target.exists() or (target.is_relative_to(ROOT / "docs") and not is_moved):
            return found[0]
        if target.is_relative_to(ROOT / "docs"):
            return f"[{found[1]}]({target.relative_to(ROOT / 'docs')}{fragment})"
        if target.name not in named:
            shutil.copy(target, SOURCE / "protocols" / target.name)
        return f"[{found[1]}]({up}{named.get(target.name, f'protocols/{target.name}')}{fragment})"

    return re.sub(r"\[([^\[\]]*)\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)", replace, text)


def _link_to_class(found: re.Match[str]) -> str:
    """Return the name of a class with a link to its place in the reference."""
    home = dict(public_names(found[1]))[found[2]]
    return f"In code: [`{found[1]}.{found[2]}`](../reference/{found[1]}.md#{home})"


def _home(module: str, name: str) -> str:
    """Return the module in which a constant is written."""
    for other in [m for m in sys.modules if m.startswith("balrl")]:
        source = getattr(sys.modules[other], "__file__", None)
        if source and re.search(rf"^{name}\b.*=", Path(source).read_text(encoding="utf-8"), re.MULTILINE):
            return other
    return module


def main() -> int:
    missing = undocumented()
    stage()
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean", "-f", "zensical.toml"]
    done = subprocess.run(command, cwd=BUILD, check=False)
    problems = [f"no docstring: {name}" for name in missing]
    if done.returncode == 0:
        problems += [f"broken link: {link}" for link in broken_links()]
    for problem in problems:
        print(problem)
    if done.returncode or problems:
        return 1
    print(f"wrote {SITE}: {len(list(SITE.rglob('*.html')))} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
