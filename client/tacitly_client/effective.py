"""Every setting in force, and the file it comes from or that it ships so."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tacitly_client.choices import read_choices
from tacitly_client.home import AgentHome, read_settings

SHIPPED: Final = "as it ships"


@dataclass(frozen=True, slots=True)
class Setting:
    """`value` is of JSON's kinds."""

    name: str
    value: Any
    origin: str

    @property
    def shown(self) -> str:
        """The value for people."""
        if isinstance(self.value, list):
            return ", ".join(self.value) or "none"
        return str(self.value)


def effective_settings(home: AgentHome) -> list[Setting]:
    """The settings of agent.json, then what the person chose to have stored.

    Raises:
        ValidationError: a file is missing or cannot be read.
    """
    settings = msgspec.to_builtins(read_settings(home))
    choices = msgspec.to_builtins(read_choices(home), order="sorted")
    levels = choices.pop("applications")
    found = _from_file(settings, home.settings) + _from_file(choices, home.choices, "content.")
    return found + [
        Setting(f"content.applications.{app}", level, str(home.choices))
        for app, level in sorted(levels.items())
    ]


def _from_file(values: dict[str, Any], path: Path, prefix: str = "") -> list[Setting]:
    written = json.loads(path.read_bytes()) if path.exists() else {}
    return [
        Setting(f"{prefix}{name}", value, str(path) if name in written else SHIPPED)
        for name, value in values.items()
    ]
