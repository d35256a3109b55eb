"""Tables in the terminal say the numbers that they were given."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console, RenderableType

from balrl.data.inspect import Description, describe
from balrl.evaluation import Evaluation, Reference
from balrl.report.tables import dataset_table, evaluation_table
from tests.conftest import make_dataset


def lines(table: RenderableType, width: int = 200, colour: bool = False) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(table)
    return [" ".join(line.split()) for line in file.getvalue().splitlines()]


RESULT = Evaluation((1.0, 3.0, 5.0, 7.0), (10, 20, 30, 45), 7, (True, False, False, False), Reference(0, 16, "D4RL"))


def test_an_evaluation_is_told_in_five_lines() -> None:
    """Of 1, 3, 5 and 7 the mean is 4 and the deviation √5."""
    assert lines(evaluation_table(RESULT)) == [
        "episodes 4 (environment seed 7)",
        "return 4.0 ± 2.2 (standard deviation)",
        "normalised score 25.0 (reference: D4RL)",
        "success 25%",
        "length 26.2 steps",
    ]


def test_what_a_task_does_not_report_has_no_line() -> None:
    bare = Evaluation((-250.0,), (1000,), 3)
    assert [line.split()[0] for line in lines(evaluation_table(bare))] == ["episodes", "return", "length"]
    failed = Evaluation((0.0, 0.0), (5, 5), 0, (False, False), Reference(0.0, 1.0, "own"))
    assert lines(evaluation_table(failed))[2:4] == ["normalised score 0.0 (reference: own)", "success 0%"]


def test_a_dataset_s_rows_stand_under_its_name_and_say_what_was_counted() -> None:
    dataset = make_dataset()  # episodes of 3, 2 and 4 steps; rewards 1 to 9
    found = lines(dataset_table(dataset, describe(dataset)))
    assert found[0] == "toy"
    for line in (
        "transitions 9",
        "episodes 3",
        "ends 1 terminated, 2 truncated",
        "rewards 1 to 9, mean 5",
        "episode return mean 15.0; min 6.0, quartiles 7.5 / 9.0 / 19.5, max 30.0",
        "episode length mean 3.0; min 2.0, quartiles 2.5 / 3.0 / 3.5, max 4.0",
    ):
        assert line in found
    assert not [line for line in found if "warning" in line]


def test_warnings_follow_the_rows_one_after_another_whole_and_yellow() -> None:
    texts = ("action dimensions [0] never change", "rewards [a]: " + "many words " * 9)
    table = dataset_table(make_dataset(), Description((("row", "1"),), texts))
    assert lines(table)[1:] == ["row 1", *(f"warning: {text.strip()}" for text in texts)]
    assert " ".join(lines(table, width=30)).endswith("warning: rewards [a]: " + " ".join(["many words"] * 9))
    assert [line.startswith("\x1b[33mwarning") for line in lines(table, colour=True)[-2:]] == [True, True]


def test_names_from_files_are_shown_as_they_are() -> None:
    """Brackets are no markup: neither left out nor an error."""
    named = replace(make_dataset(), name="hopper[old][/x]")
    table = dataset_table(named, Description((("a long row", "a[b]"),), ()))
    assert lines(table) == ["hopper[old][/x]", "a long row a[b]"]
    result = Evaluation((1.0,), (1,), 0, None, Reference(0.0, 1.0, "door[human]"))
    assert any("door[human]" in line for line in lines(evaluation_table(result)))
