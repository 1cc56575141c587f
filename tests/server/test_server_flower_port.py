"""What our server uses of Flower's internals, held against the installed package.

A release that renames or changes one of these fails here, by name, and nowhere else first.
"""

import ast
import dataclasses
import importlib.metadata
import inspect
from pathlib import Path

from flwr.supercore.superexec.run_superexec import run_superexec
from flwr.supercore.utils import disable_process_dumping
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

import tacitly_server
from tacitly_server import flower_port as flower

PUBLIC = {"flwr.app", "flwr.serverapp", "flwr.clientapp"}


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_flower_is_the_version_that_this_was_written_for() -> None:
    assert importlib.metadata.version("flwr") == flower.FLOWER_VERSION


def test_every_name_is_there() -> None:
    assert [name for name in flower.__all__ if not hasattr(flower, name)] == []


def test_superlink_is_configured_by_these_fields() -> None:
    assert [field.name for field in dataclasses.fields(SuperLinkLifespanConfig)] == [
        "control_address", "health_server_address", "host", "port", "insecure", "certificates",
        "superexec_auth_secret", "authn_plugin", "event_log_plugin", "fleet_event_log_plugin",
        "enable_event_log", "artifact_provider", "enable_supernode_auth", "fleet_api_type",
        "fleet_api_address", "simulation", "ssl_ca_certfile", "ssl_certfile", "ssl_keyfile",
        "database", "isolation", "runtime_dependency_install",
    ]  # fmt: skip
    assert parameters(create_app) == ["config", "superlink_lifespan_class"]
    assert parameters(SuperLinkLifespan) == ["config", "state_factory"]


def test_superexec_is_started_with_these_arguments() -> None:
    assert parameters(run_superexec)[:4] == [
        "runtime_api_address", "insecure", "root_certificates_path", "superexec_auth_secret",
    ]  # fmt: skip
    assert "runtime_dependency_install" in parameters(run_superexec)
    assert parameters(disable_process_dumping) == ["strict"]


def test_our_plugins_answer_exactly_what_flower_asks() -> None:
    assert flower.ControlAuthnPlugin.__abstractmethods__ == {
        "__init__", "get_login_details", "validate_tokens_in_metadata", "get_auth_tokens",
        "refresh_tokens",
    }  # fmt: skip
    assert flower.EventLogWriterPlugin.__abstractmethods__ == {
        "__init__", "compose_log_before_event", "compose_log_after_event", "write_log",
    }  # fmt: skip


def test_runs_and_nodes_have_the_states_we_decide_by() -> None:
    status = flower.Status
    assert (status.PENDING, status.STARTING, status.RUNNING, status.FINISHED) == (
        "pending", "starting", "running", "finished",
    )  # fmt: skip
    assert flower.SubStatus.COMPLETED == "completed"
    assert flower.NodeStatus.UNREGISTERED == "unregistered"
    assert hasattr(flower.ApiErrorCode, "RUN_ALREADY_FINISHED")


def test_nothing_else_of_the_server_imports_flowers_internals() -> None:
    root = Path(tacitly_server.__file__).parent
    for path in root.rglob("*.py"):
        if path.name == "flower_port.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            internal = [n for n in names if n.split(".")[0] == "flwr" and n not in PUBLIC]
            assert internal == [], f"{path} imports {internal}"
