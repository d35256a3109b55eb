"""Run the tutorials, docs/tutorials/*.py, and write their pages.

    python scripts/make_tutorials.py [NAME …]      # run, keep what they printed and drew, write the pages
    python scripts/make_tutorials.py --pages       # the pages alone, of what was kept

A tutorial is a Python file. Its docstring is the title; comments that begin at the margin after an empty line are
text; what is between them is code, and what it prints is shown below it. ``# $ command`` runs in a shell. Pictures that
a tutorial leaves in the folder it runs in are kept where its text names them. Lines that end in ``# hide`` run and are
not shown; ``# short$ command`` runs in place of the command above it when ``SHORT`` is set in the environment, which
makes a tutorial a matter of seconds.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "tutorials"
MOST_LINES = 40
"""Of what a block printed."""
HIDDEN = "# hide"


class Block(NamedTuple):
    """A piece of a tutorial: text, code or shell; `short` is the command in its place when short."""

    kind: str
    text: str
    short: str = ""


def parse(source: str) -> tuple[str, list[Block]]:
    """Return a tutorial's title and its pieces."""
    title = ast.get_docstring(ast.parse(source))
    assert title, "a tutorial begins with its title"
    body = source.split('"""', 2)[2]
    blocks: list[Block] = []
    between = ""
    for part in re.split(r"(\n\s*\n)(?=\S)", body.strip("\n")):
        if not part.strip():
            between = part
            continue
        lines = part.splitlines()
        if all(re.match(r"# ?(short)?\$ ", line) for line in lines):
            for line in lines:
                mark, _, command = line.partition("$")
                if "short" in mark:
                    blocks[-1] = blocks[-1]._replace(short=command.strip())
                else:
                    blocks.append(Block("shell", command.strip()))
        elif all(line.startswith("#") for line in lines):
            blocks.append(Block("text", "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)))
        elif blocks and blocks[-1].kind == "code":
            blocks[-1] = Block("code", f"{blocks[-1].text}{between}{part}")
        else:
            blocks.append(Block("code", part))
    return title, blocks


def run(name: str, blocks: Sequence[Block], short: bool) -> list[str]:
    """Run a tutorial's pieces in the present folder, and return what each printed."""
    space: dict[str, Any] = {"__name__": name}
    printed = []
    os.environ.pop("SHORT", None)
    if short:  # for its commands, and for as long as this process, which runs tutorials alone
        os.environ["SHORT"] = "1"
    for block in blocks:
        out = io.StringIO()
        if block.kind == "code":
            with contextlib.redirect_stdout(out):
                exec(compile(block.text, f"{name}.py", "exec"), space)
        elif block.kind == "shell":
            command = block.short if short and block.short else block.text
            bin_folder = str(Path(sys.executable).parent)
            environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "COLUMNS": "100"}
            done = subprocess.run(
                command, shell=True, capture_output=True, text=True, env=environment, check=False, timeout=1800
            )
            if done.returncode:
                raise RuntimeError(f"{name}: {command}\n{done.stdout}{done.stderr}")
            out.write(done.stdout)
        printed.append(_cut(out.getvalue()))
    return printed


def page(name: str, title: str, blocks: Sequence[Block], printed: Sequence[str]) -> str:
    """Return a tutorial's page."""
    parts = [f"# {title}", f"*[The script]({name}.py) that made this page; it was run as it stands.*"]
    for block, output in zip(blocks, printed, strict=True):
        if block.kind == "text":
            parts.append(re.sub(r"\]\((\w[\w-]*\.png)\)", rf"](pictures/{name}-\1)", block.text))
        elif block.kind == "shell":
            parts.append(f"```sh\n{block.text}\n```")
        else:
            shown = "\n".join(line for line in block.text.splitlines() if not line.rstrip().endswith(HIDDEN)).strip()
            parts += [f"```py\n{shown}\n```"] if shown else []
        if output:
            parts.append(f"```text\n{output}\n```")
    return "\n\n".join(parts) + "\n"


def pictures(blocks: Sequence[Block]) -> list[str]:
    """Return the names of the pictures that a tutorial's text shows."""
    return [
        name for block in blocks if block.kind == "text" for name in re.findall(r"\]\((\w[\w-]*\.png)\)", block.text)
    ]


def make(name: str, short: bool = False) -> list[str]:
    """Run a tutorial in a folder of its own, and return what each piece printed; its pictures must be there."""
    source = FOLDER / f"{name}.py"
    _, blocks = parse(source.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = run(name, blocks, short)
        for picture in pictures(blocks):
            if not Path(picture).is_file():
                raise RuntimeError(f"{name}: there is no picture '{picture}'")
            if not short:
                (FOLDER / "pictures").mkdir(exist_ok=True)
                shutil.copy(picture, FOLDER / "pictures" / f"{name}-{picture}")
    return printed


def rendered(name: str) -> str:
    """Return a tutorial's page, of what was kept."""
    title, blocks = parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    kept = json.loads((FOLDER / "printed.json").read_text(encoding="utf-8"))
    return page(name, title, blocks, kept[name])


def names() -> list[str]:
    """Return the tutorials' names, in their order."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def _cut(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "\n").rstrip()
    text = text.replace(tempfile.gettempdir(), "/tmp")
    lines = [line.rstrip() for line in text.splitlines()]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES // 2], "…", *lines[-MOST_LINES // 2 :]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--pages", action="store_true", help="run nothing")
    options = parser.parse_args()
    file = FOLDER / "printed.json"
    for name in options.names or names():
        if not options.pages:
            printed = make(name)
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            kept[name] = printed
            file.write_text(
                json.dumps(dict(sorted(kept.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        (FOLDER / f"{name}.md").write_text(rendered(name), encoding="utf-8")
        print(f"wrote {name}.md")


if __name__ == "__main__":
    main()
