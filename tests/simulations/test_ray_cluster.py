"""The batched engine on a Ray cluster of two real nodes, one of which is killed."""

import gc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from plans import small_plan
from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.windows import training_windows
from tacitly_common.campaign import revise
from tacitly_common.model import initial_vector
from tacitly_server.rounds.receipts import model_sha256
from tacitly_simulations.engines.batched import simulate
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.ray_pool import ClusterError, connect
from tacitly_simulations.engines.trainers import Work

import ray  # isort: skip - only after its settings, which ray_pool makes
from ray.cluster_utils import Cluster  # isort: skip

CLIENTS = 400


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head and a second node of one CPU each; Ray's reaper ends them if we are killed."""
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    head = {**node, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        gc.collect()


def kill_a_worker(node: "ray._private.node.Node") -> None:
    """SIGKILL for a process that trains there, or is about to."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    titles = ("ray::_run", "ray::IDLE")  # its other children are agents, without which it ends
    workers = [child for child in raylet.children() if child.cmdline()[0].startswith(titles)]
    workers[0].kill()


# Ray leaves its daemons, which it has killed, and their /dev/null to the garbage collector.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed file <.*/dev/null:ResourceWarning")
def test_a_worker_and_a_node_that_die_cost_nothing_but_time(
    tmp_path: Path, cluster: Cluster
) -> None:
    start = initial_vector(small_plan().model, 0)
    plan = small_plan(rounds=3, participations=3, initial_model_hash=model_sha256(start))
    cohort = msgspec.structs.replace(
        plan.cohort, population=CLIENTS, target=CLIENTS, minimum=CLIENTS
    )
    plan = revise(plan, cohort=cohort)
    streams = [np.random.default_rng(seed).integers(2, 11, 150) for seed in range(9)]
    write_clients(
        tmp_path / "clients.npy", [training_windows(stream, plan.record) for stream in streams]
    )
    clients = SimulatedClients(tmp_path / "clients.npy", CLIENTS, seed=5)
    local = PlainSettings(epochs=1, batch_windows=4, learning_rate=0.5)
    work = Work(plan, Privacy.SUBJECT, local, seed=5)
    expected = simulate(tmp_path / "here", work, start, clients, processes=1)

    connect(cluster.address)
    here = ray.get_runtime_context().get_node_id()
    own, other = sorted(cluster.list_all_nodes(), key=lambda node: node.node_id != here)
    happenings = [
        clients.path.unlink,  # whoever starts from here on has the windows from the cluster
        lambda: kill_a_worker(own),
        lambda: cluster.remove_node(other, allow_graceful=False),  # all its processes: SIGKILL
    ]

    def on_clients(trained: int) -> None:
        if happenings:
            assert trained < CLIENTS  # in the middle of a round
            happenings.pop(0)()

    result = simulate(
        tmp_path / "there",
        work,
        start,
        clients,
        processes=1,
        ray_address=cluster.address,
        on_clients=on_clients,
    )
    assert not happenings
    assert model_sha256(result.model) == model_sha256(expected.model)
    assert [r.model_sha256 for r in result.receipts] == [r.model_sha256 for r in expected.receipts]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "HOST:PORT, as in 127.0.0.1:6379, got '127.0.0.1'"),
        ("ray://127.0.0.1:10001", "HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1; start one with"),
    ],
)
def test_a_wrong_address_is_named(address: str, words: str) -> None:
    with pytest.raises(ClusterError, match=words) as refused:
        connect(address)
    assert refused.value.exit_code == 2
