"""A secret is typed on one machine; the whole traffic, beneath TLS, and every file are searched.

That the search finds nothing counts only because the same search, over the same wire, finds the
secret in each form in which somebody might smuggle it out: the second half of this file.
"""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import ssl
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from deployment_support import stop_agents
from device import vault
from homes import TEXT, model_bytes, training_plan
from leak_search import found, secret_forms, typed
from plans import small_plan
from stock_flower import eventually
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.node.agent import run_agent
from tacitly_client.store import EventStore
from tacitly_common.campaign import CohortPlan
from tacitly_common.vocabulary import START, Vocabulary
from tacitly_server.bundle import app_hash
from tacitly_server.campaigns.filing import progress_of
from tacitly_simulations.demo.deployment import Agent, Deployment
from tls_recorder import Conversation, TlsRecorder

SECRET = "the Kestrel merger: code word Quixotic-Zebra, vault behind Wyvern"
ROUNDS = 3
LEAKY_TRAINER = Path(__file__).parents[1] / "leaky_trainer.py"

VOCABULARY = Vocabulary(small_plan().tokens)
FORMS = secret_forms(SECRET, VOCABULARY)


@dataclass(frozen=True)
class Run:
    """A finished run: what passed on the wire and what lay on the disks when it ended."""

    deployment: Deployment
    recorder: TlsRecorder
    sent: list[bytes]
    received: list[bytes]
    files: dict[Path, bytes]

    @property
    def writer(self) -> Agent:
        """Whose machine the secret was typed on."""
        return self.deployment.agents[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("deployment")
    plan = training_plan(
        app_hash=app_hash(),
        rounds=100,
        participations=100,
        cohort=CohortPlan(
            population=100,
            target=3,
            minimum=2,
            deadline_seconds=60,
            selection_timeout_seconds=60,
        ),
    )
    model = np.frombuffer(model_bytes(plan), np.float32)
    with Deployment.create(root, plan, model) as deployment:
        server = deployment.server
        recorder = TlsRecorder(root / "proxy", deployment.port, server.tls / "ca.crt")
        with recorder:
            # Typed often enough to be in every training window, and the newest of its tokens too.
            texts = [f"{SECRET}\n" * 30, TEXT, TEXT[::-1]]
            for name, text in zip(("ada", "bea", "cyn"), texts, strict=True):
                _through(recorder, deployment.add_agent(name, typed(text)).home)
            deployment.start_agents()
            campaign = server.campaign(plan.hash)
            eventually(lambda: progress_of(campaign).released_round >= ROUNDS, within_seconds=400)
            stop_agents(deployment)
            yield Run(
                deployment,
                recorder,
                [bytes(one.sent) for one in recorder.conversations],
                [bytes(one.received) for one in recorder.conversations],
                {path: path.read_bytes() for path in root.rglob("*") if path.is_file()},
            )


def _through(recorder: TlsRecorder, home: AgentHome) -> None:
    """Have an agent talk to the recorder instead of the server."""
    settings = msgspec.structs.replace(read_settings(home), server=f"127.0.0.1:{recorder.port}")
    home.settings.write_bytes(msgspec.json.encode(settings))
    home.ca_certificate.write_bytes(recorder.ca_certificate.read_bytes())


def test_the_secret_was_there_to_leak(run: Run) -> None:
    with EventStore.open(run.writer.home.store) as store:
        tokens = VOCABULARY.encode(store.events())
    assert "tokens as <i8" in found(tokens.tobytes(), FORMS)


def test_the_capture_holds_every_update_that_was_sent(run: Run) -> None:
    sent = b"".join(run.sent)
    journals = {agent.name: _updates_sent(agent.home) for agent in run.deployment.agents}
    assert sum(map(len, journals.values())) >= 2 * ROUNDS
    for agent in run.deployment.agents:
        assert journals[agent.name], "each agent took part"
        for round_, attempt, sha256 in journals[agent.name]:
            name = f"{run.deployment.plan.hash}-{round_}-{attempt}.update"
            update = (agent.home.outbox / name).read_bytes()
            assert hashlib.sha256(update).hexdigest() == sha256
            assert update in sent


def _updates_sent(home: AgentHome) -> list[tuple[int, int, str]]:
    lines = map(json.loads, home.egress_journal.read_text().splitlines())
    return [(x["round"], x["attempt"], x["sha256"]) for x in lines if x.get("code") == "OK"]


def test_the_capture_holds_the_models_that_were_received(run: Run) -> None:
    received = b"".join(run.received)
    assert model_bytes(run.deployment.plan) in received


def test_the_secret_is_nowhere_in_the_traffic(run: Run) -> None:
    # Compressed or cut into chunks by HTTP, a secret could pass the search.
    for conversation in run.sent:
        assert b"transfer-encoding" not in conversation.lower()
        assert b"content-encoding" not in conversation.lower()
    assert found(b"\0".join(run.sent), FORMS) == set()
    assert found(b"\0".join(run.received), FORMS) == set()


def test_the_secret_is_in_no_file_on_either_side(run: Run) -> None:
    names = {path.name for path in run.files}
    searched = {
        "superlink.db", "population.db", "audit.jsonl", "fleet.jsonl", "superlink.log",
        "superexec.log", "serverapp.log", "server.log", "ada.log", "trainer.log", "egress.jsonl",
        "ledger.db", "ledger-witness.jsonl", "receipts.jsonl", "checkpoint.npz",
    }  # fmt: skip
    assert searched <= names
    assert {path: forms for path, data in run.files.items() if (forms := found(data, FORMS))} == {}


# What follows shows that the search would have found it.

Leak = Callable[[str, NDArray[np.int64]], bytes]


def _npy(tokens: NDArray[np.int64]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, tokens)
    return stream.getvalue()


LEAKS: dict[str, Leak] = {
    "plain": lambda text, _: text.encode(),
    "a part": lambda text, _: text[20:40].encode(),
    "other case": lambda text, _: text.upper().encode(),
    "reversed": lambda text, _: text[::-1].encode(),
    "utf-16-le": lambda text, _: text.encode("utf-16-le"),
    "utf-16-be": lambda text, _: text.encode("utf-16-be"),
    "hex": lambda text, _: text.encode().hex().encode(),
    "HEX": lambda text, _: base64.b16encode(text.encode()),
    "percent": lambda text, _: quote(text).encode(),
    "percent of every character": lambda text, _: "".join(f"%{ord(c):02X}" for c in text).encode(),
    "JSON": lambda text, _: json.dumps({"note": text}).encode(),
    "base64, alignment 0": lambda text, _: base64.b64encode(f"{text}!".encode()),
    "base64, alignment 1": lambda text, _: base64.b64encode(f"x{text}!".encode()),
    "base64, alignment 2": lambda text, _: base64.urlsafe_b64encode(f"xy{text}!".encode()),
    "base64 of utf-16-le": lambda text, _: base64.b64encode(text.encode("utf-16-le")),
    "tokens as int64": lambda _, tokens: tokens.tobytes(),
    "tokens as big-endian int64": lambda _, tokens: tokens.astype(">i8").tobytes(),
    "tokens as int32": lambda _, tokens: tokens.astype(np.int32).tobytes(),
    "tokens as int16": lambda _, tokens: tokens.astype(np.int16).tobytes(),
    "tokens as big-endian int16": lambda _, tokens: tokens.astype(">i2").tobytes(),
    "tokens as uint8": lambda _, tokens: tokens.astype(np.uint8).tobytes(),
    "tokens as float32": lambda _, tokens: tokens.astype(np.float32).tobytes(),
    "one training window": lambda _, tokens: b"\0" + tokens[24:32].astype(np.int32).tobytes(),
    "tokens in an .npy file": lambda _, tokens: _npy(tokens),
    "tokens in JSON": lambda _, tokens: json.dumps(tokens.tolist()).encode(),
    "token names": lambda _, tokens: " ".join(map(VOCABULARY.name, tokens.tolist())).encode(),
    "token names in JSON": lambda _, tokens: json.dumps(
        [VOCABULARY.name(token) for token in tokens.tolist()]
    ).encode(),
    "zlib": lambda text, _: zlib.compress(text.encode()),
    "gzip of UTF-16": lambda text, _: gzip.compress(text.encode("utf-16")),
    "bzip2 of tokens": lambda _, tokens: bz2.compress(tokens.tobytes()),
    "xz of base64": lambda text, _: lzma.compress(base64.b64encode(text.encode())),
    "zlib in gzip": lambda text, _: gzip.compress(b"head" + zlib.compress(text.encode())),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_over_the_same_wire_is_found(run: Run, name: str) -> None:
    tokens = VOCABULARY.encode(typed(SECRET))
    leaked = LEAKS[name](SECRET, tokens[tokens != START])
    noise = np.random.default_rng(1).bytes(1_000)
    _send(run.recorder, b"before " + noise + b" after")
    assert found(_latest(run.recorder), FORMS) == set()
    _send(run.recorder, b"before " + noise + leaked + noise + b" after")
    assert found(_latest(run.recorder), FORMS) != set()


def _send(recorder: TlsRecorder, body: bytes) -> None:
    trust = ssl.create_default_context(cafile=recorder.ca_certificate)
    with httpx.Client(verify=trust, trust_env=False) as client:
        client.post(f"https://127.0.0.1:{recorder.port}/v1/fleet/push-object", content=body)


def _latest(recorder: TlsRecorder) -> bytes:
    return bytes(recorder.conversations[-1].sent)


def test_a_trainer_that_sends_its_tokens_as_the_update_is_found(run: Run) -> None:
    """Through the whole of our own agent: no guard can tell stolen numbers from trained ones."""
    before = len(run.recorder.conversations)
    home, stop = run.writer.home, threading.Event()
    thread = threading.Thread(
        target=run_agent,
        args=(home, read_settings(home)),
        kwargs={"stop": stop},
    )
    with vault(home, [sys.executable, str(LEAKY_TRAINER), str(home.root)]):
        thread.start()
        try:
            for agent in run.deployment.agents[1:]:
                run.deployment.start_agent(agent)
            eventually(
                lambda: "tokens as <i4" in found(_sent(run.recorder.conversations[before:]), FORMS),
                within_seconds=300,
            )
        finally:
            stop.set()
            thread.join()


def _sent(conversations: list[Conversation]) -> bytes:
    return b"\0".join(bytes(one.sent) for one in conversations)
