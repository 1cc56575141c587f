"""What a person chose to have stored."""

from pathlib import Path

import pytest

from tacitly_client.choices import Choices, ChoicesFile
from tacitly_client.redaction import ContentLevel
from tacitly_common.errors import ValidationError


def test_without_a_file_classes_are_stored_and_nothing_is_excluded(tmp_path: Path) -> None:
    choices = ChoicesFile(tmp_path / "content.json")()
    assert choices.level("editor") is ContentLevel.CLASSES
    assert choices.excluded == frozenset()


def test_a_file_counts_from_when_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    read = ChoicesFile(path)
    assert read().level("editor") is ContentLevel.CLASSES
    path.write_text('{"applications": {"editor": "characters"}, "excluded": ["diary"]}')
    assert read().level("editor") is ContentLevel.CHARACTERS
    assert read().excluded == {"diary"}
    path.unlink()
    assert read() == Choices()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"application": {}}',
        '{"applications": {"editor": "verbatim"}}',
        '{"default": "characters"}',
        '{"default": "words"}',
    ],
)
def test_a_file_that_says_nothing_clear_stores_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "content.json"
    path.write_text(text)
    assert ChoicesFile(path)().level("editor") is ContentLevel.COUNTS


def test_content_is_no_default() -> None:
    with pytest.raises(ValidationError, match="content is chosen per application"):
        Choices(default=ContentLevel.CHARACTERS)
