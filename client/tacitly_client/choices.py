"""What a person chose to have stored, per application: `content.json` in the agent's directory.

    {"applications": {"gedit": "characters", "xterm": "classes"}, "excluded": ["signal"]}

Without the file: key classes, in applications that are not denied by default. A file that cannot
be read is no choice to store anything: counts.
"""

from pathlib import Path
from typing import Final

import msgspec

from tacitly_client.redaction import ContentLevel
from tacitly_common.errors import ValidationError


class Choices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Levels of content by application id, as `Event.app` has it, in lower case.

    | field        | meaning                                                                  |
    |--------------|--------------------------------------------------------------------------|
    | default      | for applications that are not named: counts or classes                   |
    | applications | those the person named; the ids need not have been seen yet              |
    | excluded     | of these nothing is stored or counted but that something was left out    |
    """

    default: ContentLevel = ContentLevel.CLASSES
    applications: dict[str, ContentLevel] = {}
    excluded: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.default.keeps_content:
            raise ValidationError(
                f"default is {self.default.value}, but content is chosen per application; name "
                "the applications, or choose counts or classes"
            )

    def level(self, app: str) -> ContentLevel:
        """The level of an application."""
        return self.applications.get(app, self.default)


_NOTHING: Final = Choices(default=ContentLevel.COUNTS)


class ChoicesFile:
    """The choices as they are now; the file is read again when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._choices = Choices()

    def __call__(self) -> Choices:
        """What counts now."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._choices = None, Choices()
            return self._choices
        if (seen := (status.st_ino, status.st_mtime_ns)) != self._seen:
            self._seen, self._choices = seen, self._read()
        return self._choices

    def _read(self) -> Choices:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Choices)
        except (OSError, msgspec.MsgspecError, ValidationError):
            return _NOTHING
