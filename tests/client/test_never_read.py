"""Titles, addresses, the clipboard, texts of fields and names of files are not read: no call that
could is in the client's capture or in the browser extension."""

import re
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "client"
CAPTURE = [
    *(CLIENT / "tacitly_client" / "capture").rglob("*.py"),
    *(CLIENT / "tacitly_client" / name for name in ("redaction.py", "browser_host.py")),
]
EXTENSION = [
    path for path in (CLIENT / "webextension").iterdir() if path.suffix in (".js", ".json")
]
IN_CAPTURE = (
    r"WM_NAME|_NET_WM|WM_ICON|XA_PRIMARY|CLIPBOARD|ConvertSelection|GetSelectionOwner"
    r"|atspi\.(Text|EditableText|Document|Value|Hyper|Image|Collection)|GetText|GetAttributes"
    r"|GetChildren|GetName|GetDescription|\"(Name|Description|Parent)\"|/proc/\{?pid|readlink|lsof"
)
IN_EXTENSION = (
    r"\.value\b|innerText|textContent|innerHTML|outerHTML|location|\.url\b|URL\b|\.title\b"
    r"|document\.cookie|clipboard|getSelection|fetch\(|XMLHttp|WebSocket|sendBeacon|storage"
    r"|\"(tabs|history|cookies|webRequest|clipboardRead|activeTab|scripting)\""
)


@pytest.mark.parametrize("path", CAPTURE, ids=lambda path: path.name)
def test_capture_has_no_call_for_it(path: Path) -> None:
    assert re.findall(IN_CAPTURE, path.read_text()) == []


@pytest.mark.parametrize("path", EXTENSION, ids=lambda path: path.name)
def test_the_extension_has_no_call_for_it(path: Path) -> None:
    assert re.findall(IN_EXTENSION, path.read_text()) == []


def test_the_bus_is_asked_three_things_only() -> None:
    text = (CLIENT / "tacitly_client/capture/gate/accessibility.py").read_text()
    calls = re.findall(r"new_method_call\(\s*\w+, \"(\w+)\"|message_bus\.(\w+)\(", text)
    assert {first or second for first, second in calls} == {
        *("GetRole", "GetState", "GetConnectionUnixProcessID"),
        *("AddMatch", "GetAddress", "RegisterEvent"),  # to be told of moves at all
    }
