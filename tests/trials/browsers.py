"""A form in a browser's page, which speaks form_talk's lines by HTTP with us; and its extension."""

import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tacitly_client.browser_host import install
from tacitly_client.home import AgentHome
from trials.desktop import FORMS, Desktop, Form, wait_for_keyboard
from x_display import need

EXTENSION: Final = Path(__file__).parents[2] / "client" / "webextension"
_HOST: Final = [str(Path(sys.executable).parent / "tacitly-agent"), "browser-host"]


class PageForm(Form):
    """The page's end of the talk: it asks for its next line with the answer to the last."""

    def __init__(self) -> None:
        self.asked: queue.Queue[dict[str, Any]] = queue.Queue()
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()

    def ask(self, **asked: Any) -> Any:
        self.asked.put(asked)
        return self.told.get(timeout=30)


@contextmanager
def browser(
    running: Desktop, name: str, home: AgentHome | None, *, private: bool = False
) -> Iterator[PageForm]:
    """A browser ("chromium", "firefox-esr") with the form; with the extension, if it is to speak
    to the agent of a home."""
    need(name)
    form = PageForm()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made, _page(form) as address:
        directory = Path(made)
        if home is not None:
            install(home.root, [*_HOST, "--home", str(home.root)], directory)
        command = {"chromium": _chromium, "firefox-esr": _firefox}[name]
        process = subprocess.Popen(
            command(directory, address, extension=home is not None, private=private),
            env=running.environ | {"HOME": str(directory), "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            form.told.get(timeout=60)  # the page is there
            wait_for_keyboard(running, form)
            yield form
        finally:
            process.terminate()
            process.wait(30)
            form.asked.put({})


def _chromium(directory: Path, address: str, *, extension: bool, private: bool) -> list[str]:
    return [
        "chromium",
        "--no-sandbox",
        "--no-first-run",
        "--password-store=basic",
        "--force-renderer-accessibility",
        f"--user-data-dir={directory / '.config' / 'chromium'}",
        "--disable-features=DisableLoadExtensionCommandLineSwitch",
        *([f"--load-extension={EXTENSION}"] if extension else []),
        *(["--incognito"] if private else []),
        address,
    ]


def _firefox(directory: Path, address: str, *, extension: bool, private: bool) -> list[str]:
    profile = directory / "firefox"
    profile.mkdir(exist_ok=True)
    settings = {
        "browser.aboutwelcome.enabled": False,
        "browser.shell.checkDefaultBrowser": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "extensions.autoDisableScopes": 0,
        "xpinstall.signatures.required": False,
        "browser.startup.homepage_override.mstone": "ignore",
        "termsofuse.bypassNotification": True,
    }
    lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in settings.items()]
    (profile / "user.js").write_text("\n".join(lines))
    if extension:
        place = profile / "extensions"
        place.mkdir(exist_ok=True)
        archive = shutil.make_archive(str(directory / "extension"), "zip", EXTENSION)
        shutil.copy(archive, place / "field-guard@tacitly.org.xpi")
    return [
        *("firefox-esr", "--no-remote", "--profile", str(profile)),
        *(["--private-window"] if private else []),
        address,
    ]


@contextmanager
def _page(form: PageForm) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("text/html", (FORMS / "page.html").read_bytes())

        def do_POST(self) -> None:
            form.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer("application/json", json.dumps(form.asked.get()).encode())

        def _answer(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # the browser has gone
                self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
