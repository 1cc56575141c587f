"""`tacitly-sim plot-budget`: the pictures of docs/officers.md are what the accounting says."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tacitly_simulations.cli import cli
from tacitly_simulations.plot_budget import caught_of_100, noise_figure, plot_budget

# Lines may differ in their last digits from machine to machine; what is written may not.
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
DOCS = Path(__file__).parents[2] / "docs"


def test_the_command_names_what_it_drew(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["plot-budget", "--out", str(tmp_path)])
    assert result.output.split() == [
        str(tmp_path / name) for name in ("odds.svg", "lifetime.svg", "noise.svg")
    ]


def test_the_pictures_in_the_docs_are_those_that_are_drawn_today(tmp_path: Path) -> None:
    page = (DOCS / "officers.md").read_text()
    for path in plot_budget(tmp_path):
        drawn = TEXT.findall(path.read_text())
        assert drawn
        assert drawn == TEXT.findall((DOCS / path.name).read_text())
        assert f"]({path.name})" in page


@pytest.mark.parametrize(("epsilon", "caught"), [(0.5, 7), (1, 8), (2, 12), (4, 21), (8, 46)])
def test_who_is_caught_is_counted_up(epsilon: float, caught: int) -> None:
    assert caught_of_100(epsilon) == caught


def test_marked_noise_is_what_the_planner_solves_for() -> None:
    (axes,) = noise_figure().axes
    assert {"2.388", "3.775", "5.338"} <= {text.get_text() for text in axes.texts}
