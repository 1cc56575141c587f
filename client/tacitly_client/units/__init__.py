"""Has the agent started at each login: by systemd, or by the desktop where there is no systemd.

    install_units(home, config)       ~/.config/systemd/user/tacitly-*.service and tacitly.target
    install_autostart(home, config)   ~/.config/autostart/tacitly.desktop: `tacitly-agent run`

The two may be there together: whoever comes second finds each process's lock held and leaves it.
"""

import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome

_TARGET: Final = "tacitly.target"
_DESKTOP: Final = "graphical-session.target"
_NO_NETWORK: Final = "AF_UNIX"
_NETWORK: Final = "AF_UNIX AF_INET AF_INET6 AF_NETLINK"


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs between the services. `memory`: of the process and its children."""

    module: str
    description: str
    target: str = _TARGET
    after: str = _TARGET
    families: str = _NO_NETWORK
    memory: str = "512M"


UNITS: Final = {
    "vault": Unit(
        "tacitly_client.daemon.vault_main", "the store's key, and what trains", memory="3G"
    ),
    "node": Unit(
        "tacitly_client.node",
        "this device on the network",
        after="tacitly-vault.service",
        families=_NETWORK,
    ),
    "control": Unit("tacitly_client.control", "what your own programs ask of the agent"),
    "tray": Unit("tacitly_client.tray", "shows whether your input is captured", _DESKTOP, _DESKTOP),
    "capture": Unit(
        "tacitly_client.capture", "captures your input, if you agreed", _DESKTOP, _DESKTOP
    ),
}


def install_units(home: AgentHome, config: Path) -> list[Path]:
    """Write the user's systemd units: the files written. They are not enabled yet.

    `config` is the user's own directory of settings, ~/.config.
    """
    directory = config / "systemd" / "user"
    directory.mkdir(parents=True, exist_ok=True)
    written = {
        f"tacitly-{name}.service": _service(name, unit, home) for name, unit in UNITS.items()
    }
    written[_TARGET] = _template(_TARGET)
    for name, content in written.items():
        write_whole(directory / name, content.encode())
    return [directory / name for name in written]


def install_autostart(home: AgentHome, config: Path) -> Path:
    """Write the entry with which a desktop starts the supervisor; `config` as above."""
    directory = config / "autostart"
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "tacitly_client", "run", "--home", str(home.root)]
    path = directory / "tacitly.desktop"
    content = _template("tacitly.desktop").replace("@COMMAND@", _desktop_words(command))
    write_whole(path, content.encode())
    return path


def _service(name: str, unit: Unit, home: AgentHome) -> str:
    values = {
        "NAME": f"The process {name}",
        "DESCRIPTION": unit.description,
        "TARGET": unit.target,
        "AFTER": unit.after,
        "PYTHON": _systemd_word(sys.executable),
        "MODULE": unit.module,
        "HOME": _systemd_word(str(home.root.absolute())),
        "FAMILIES": unit.families,
        "MEMORY": unit.memory,
    }
    content = _template("process.service")
    for key, value in values.items():
        content = content.replace(f"@{key}@", value)
    return content


def _template(name: str) -> str:
    return files(__name__).joinpath(name).read_text()


def _systemd_word(word: str) -> str:
    """One word of ExecStart= (systemd.service(5), "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _desktop_words(words: list[str]) -> str:
    """A command of Exec= (Desktop Entry Specification, "The Exec key")."""
    quoted = []
    for word in words:
        escaped = word.replace("%", "%%")
        for special in '\\"`$':
            escaped = escaped.replace(special, f"\\{special}")
        # Once more: the value is a string of the file as well.
        quoted.append(f'"{escaped}"'.replace("\\", "\\\\"))
    return " ".join(quoted)
