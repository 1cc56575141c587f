"""The operator's client against a real SuperLink of ours."""

import ssl
from collections.abc import Iterator

import pytest

from our_server import OurSuperLink, our_superlink
from stock_flower import free_port
from tacitly_server.bundle import bundle
from tacitly_server.control import Control, ControlError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurSuperLink]:
    with our_superlink(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture
def control(server: OurSuperLink) -> Iterator[Control]:
    with server.control() as client:
        yield client


def test_a_run_is_started_seen_and_stopped(control: Control) -> None:
    run_id = control.start(bundle(), campaign="a" * 64)
    run = control.runs()[0]
    assert (run.run_id, run.campaign, run.finished) == (run_id, "a" * 64, False)
    control.stop(run_id)
    control.stop(run_id)
    run = control.runs()[0]
    assert (run.finished, run.sub_status) == (True, "stopped")


def test_an_unknown_run_and_an_unknown_node_are_named(control: Control) -> None:
    with pytest.raises(ControlError, match="RUN_ID_NOT_FOUND"):
        control.stop(1)
    with pytest.raises(ControlError, match="NODE_NOT_FOUND"):
        control.unregister(1)


def test_a_wrong_token_is_said(server: OurSuperLink) -> None:
    trusting = ssl.create_default_context(cafile=server.ca_certificate)
    url = f"https://127.0.0.1:{server.port}"
    with (
        Control(url, trusting, "guessed") as stranger,
        pytest.raises(ControlError, match="refused the token"),
    ):
        stranger.nodes()


def test_no_server_is_said_with_the_command(server: OurSuperLink) -> None:
    with (
        Control.of(server.home, free_port()) as client,
        pytest.raises(ControlError, match="start it with `tacitly-server up`"),
    ):
        client.nodes()


def test_a_proxy_of_the_environment_is_not_used(
    server: OurSuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with server.control() as client:
        assert client.healthy()
