"""docs/law.md names a test for each behaviour that the law asks for, and those tests exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LAW = (TESTS.parent / "docs" / "law.md").read_text()
BEHAVIOURS = dict(re.findall(r"^\| (C\d+) \|(.*)$", LAW, re.MULTILINE))


def test_there_are_nineteen_behaviours() -> None:
    assert list(BEHAVIOURS) == [f"C{number}" for number in range(1, 20)]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_each_is_shown_by_tests_that_exist(behaviour: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", BEHAVIOURS[behaviour])
    assert named
    for path, name in named:
        tree = ast.parse((TESTS / path).read_text())
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in found, f"{path} has no {name}"
