"""What arguments may be."""

from __future__ import annotations

import argparse
import re

import pytest

from balrl.cli.arguments import add_fields, given_fields
from balrl.cli.main import main
from balrl.config import EnsembleConfig, FitConfig
from balrl.errors import UserError
from balrl.settings import validate


def test_numbers_on_the_command_line_are_finite(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--noise", "-1"), ("--noise", "nan"), ("--epsilon", "2")):
        with pytest.raises(SystemExit) as stop:
            main(
                ["data", "collect", "--env", "X", "--from", "random", "--steps", "5", "--out", "x", f"{option}={value}"]
            )
        assert stop.value.code == 2
    assert "is not a finite number" in capsys.readouterr().err


def test_a_configuration_s_fields_are_arguments() -> None:
    parser = argparse.ArgumentParser()
    add_fields(parser, EnsembleConfig, FitConfig)
    said = parser.parse_args(["--hidden", "8", "4", "--learning-rate", "1e-2", "--bootstrap"])
    ensemble = validate(EnsembleConfig, given_fields(said, EnsembleConfig), "x")
    fit = validate(FitConfig, given_fields(said, FitConfig), "x")
    assert ensemble == EnsembleConfig(hidden=(8, 4))
    assert fit == FitConfig(learning_rate=1e-2, bootstrap=True)
    shown = " ".join(parser.format_help().split())
    assert "reward models; default: 5" in shown
    assert "widths of each; default: 256 256" in shown


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--hidden", "0.5"], "hidden.0 = '0.5'"),
        (["--held-out", "1"], "held_out = '1': expected it to be less than 1"),
        (["--learning-rate", "nan"], "learning_rate = 'nan'"),
    ],
)
def test_mistakes_in_them_name_field_and_value(given: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    add_fields(parser, EnsembleConfig, FitConfig)
    said = parser.parse_args(given)
    kind = EnsembleConfig if said.hidden else FitConfig
    with pytest.raises(UserError, match=re.escape(message)):
        validate(kind, given_fields(said, kind), "training")
