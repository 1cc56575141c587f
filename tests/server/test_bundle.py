"""The bundle that names the application: the same bytes everywhere, no code, taken by Flower."""

import io
import tomllib
import zipfile
from pathlib import Path

from flwr.cli.config_utils import get_fab_config
from flwr.cli.install import install_from_fab
from flwr.common.config import get_fused_config_from_dir

from tacitly_server.bundle import app_hash, bundle


def test_the_hash_is_the_one_that_plans_name() -> None:
    """Whoever changes the bundle changes what every device must agree to: do it knowingly."""
    assert app_hash() == "a0d13e7aef9aa4f89f3284bb680e5355acf804f3492d17dfc439e1bc28e020c6"


def test_nothing_of_this_machine_is_in_it() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle())) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (2024, 10, 1, 0, 0, 0)
            assert entry.create_system == 3


def test_it_holds_a_pointer_and_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle())) as archive:
        assert archive.namelist() == ["pyproject.toml", ".info/CONTENT"]
        application = tomllib.loads(archive.read("pyproject.toml").decode())
    assert application["project"]["dependencies"] == []
    components = application["tool"]["flwr"]["app"]["components"]
    assert components["serverapp"] == "tacitly_server.app:app"


def test_flower_unpacks_it_and_takes_the_campaign_from_the_run(tmp_path: Path) -> None:
    installed = install_from_fab(bundle(), tmp_path, skip_prompt=True)
    assert get_fab_config(bundle())["project"]["name"] == "tacitly"
    assert get_fused_config_from_dir(installed, {"campaign": "x"}) == {"campaign": "x"}
