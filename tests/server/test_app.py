import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign_home import CampaignHome, make_home, subject
from flwr.app import Context, RecordDict
from inprocess_grid import FakeClock, InProcessGrid, honest

from tacitly_common.campaign import PlanError
from tacitly_common.errors import ValidationError
from tacitly_server.app import main
from tacitly_server.home import HOME_VARIABLE
from tacitly_server.ledger.subjects import Subjects
from tacitly_server.rounds.checkpoint import read_checkpoint
from tacitly_server.rounds.receipts import read_receipts

NODES = range(1, 9)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignHome:
    made = make_home(tmp_path, rounds=2, participations=2)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return made


def context(run_config: dict[str, Any]) -> Context:
    return Context(
        run_id=1,
        node_id=1,
        node_config={},
        state=RecordDict(),
        run_config=run_config,
        series_id=1,
    )


def grid(made: CampaignHome) -> InProcessGrid:
    update = np.ones(made.plan.model.trainable_parameters, dtype=np.int32)
    return InProcessGrid({n: honest(made.plan, update) for n in NODES}, FakeClock())


def test_the_app_runs_the_campaign_that_its_configuration_names(made: CampaignHome) -> None:
    with Subjects(made.home.population_database) as subjects:
        for node_id in NODES:
            subjects.enrol(node_id, f"key-{node_id}", subject(node_id))
    main(grid(made), context({"campaign": made.plan.hash}))
    assert read_checkpoint(made.directory.checkpoint, made.plan).round == 2
    receipts = read_receipts(made.directory.receipts)
    assert [(r.round, r.usable) for r in receipts] == [(1, 8), (2, 8)]


def test_what_is_published_names_no_device_and_no_subject(made: CampaignHome) -> None:
    with Subjects(made.home.population_database) as subjects:
        for node_id in NODES:
            subjects.enrol(node_id, f"key-{node_id}", subject(node_id))
    main(grid(made), context({"campaign": made.plan.hash}))
    text = made.directory.receipts.read_text()
    assert not any(subject(n) in text for n in NODES)
    assert set(json.loads(text.splitlines()[0])) == {
        "plan_hash",
        "round",
        "attempt",
        "outcome",
        "selected",
        "usable",
        "refusals",
        "noise_multiplier",
        "cost_nano_rho",
        "model_sha256",
        "seconds",
        "bytes_up",
    }


@pytest.mark.parametrize("run_config", [{}, {"campaign": 5}, {"campaign": "../../etc"}])
def test_a_run_without_a_campaigns_hash_is_refused(
    made: CampaignHome, run_config: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="campaign"):
        main(grid(made), context(run_config))


def test_an_unknown_campaign_is_refused(made: CampaignHome) -> None:
    with pytest.raises(PlanError, match=r"plan\.json"):
        main(grid(made), context({"campaign": "f" * 64}))


def test_a_plan_that_was_changed_on_disk_is_refused(made: CampaignHome) -> None:
    document = made.directory.plan.read_bytes().replace(b'"rounds":2', b'"rounds":3')
    made.directory.plan.write_bytes(document)
    with pytest.raises(ValidationError, match="the run names"):
        main(grid(made), context({"campaign": made.plan.hash}))


def test_without_a_home_it_says_how_to_start(
    made: CampaignHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HOME_VARIABLE)
    with pytest.raises(ValidationError, match="tacitly-server up"):
        main(grid(made), context({"campaign": made.plan.hash}))


def test_the_server_app_holds_no_torch() -> None:
    code = "import sys, tacitly_server.app; print('torch' in sys.modules, 'opacus' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
