from __future__ import annotations

import sys
from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.run.imports import check_imported, check_task_module, import_modules, load_object


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_code.py").write_text("from pathlib import Path\nPath('ran').touch()\nmade = 3\n")
    (tmp_path / "my_broken_code.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_code", raising=False)


def test_what_the_user_names_is_imported_from_the_current_folder() -> None:
    import_modules(["my_code"])
    assert Path("ran").exists()
    assert load_object("my_code:made", "--callback") == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_broken_code", "--import my_broken_code: it cannot be imported: RuntimeError: not today"),
        ("nobodys_code", "--import nobodys_code: it cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_imported_is_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_modules([name])


def test_an_object_is_a_module_and_a_name() -> None:
    for path, message in (("my_code", "expected MODULE:NAME"), ("my_code:other", "module 'my_code' has no 'other'")):
        with pytest.raises(UserError, match=message):
            load_object(path, "--callback")


def test_a_file_imports_nothing() -> None:
    with pytest.raises(UserError, match="'run' was made with --import my_code: name it again"):
        check_imported(["my_code"], "'run'")
    with pytest.raises(UserError, match="asks for the module 'my_code', which nobody named: if you trust it, pass"):
        check_task_module("my_code:Task-v0")
    assert not Path("ran").exists()
    import_modules(["my_code"])
    check_imported(["my_code"], "'run'")
    check_task_module("my_code:Task-v0")
    check_task_module("Hopper-v5")
