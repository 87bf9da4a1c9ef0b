"""ILM and ISM: what it is told, and that an edition without it says so and is left as it was, on the real server."""

import contextlib
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from skytally.adapters.documents_search import lifecycle, templates
from skytally.app.wiring import open_documents
from skytally.cli import cli
from skytally.core.config import Config
from skytally.core.errors import Malformed
from tests.support.builders import SEARCH_ENGINES

pytestmark = pytest.mark.servers


@pytest.fixture(params=SEARCH_ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def settings(request, engine, monkeypatch):
    name = "spoilt_settings" if request.node.get_closest_marker("spoils") else "document_settings"
    found = request.getfixturevalue(name)(engine)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def engine_client(settings):
    with contextlib.closing(open_documents(Config.from_env(settings))) as documents:
        yield documents.client


def setup(tmp_path, *more):
    (tmp_path / "password").write_text("nobody asks for it")
    told = ["search-setup", "--user", "elastic", "--password-file", str(tmp_path / "password"), *more]
    return CliRunner().invoke(cli, told)


def test_months_go_as_a_whole_once_all_in_them_is_old_enough():
    phases = lifecycle.policy(760)["phases"]
    assert phases["delete"] == {"min_age": "791d", "actions": {"delete": {}}}
    assert phases["hot"] == {"actions": {}}, "nothing is made read-only: late reports still come"


def test_an_edition_without_a_lifecycle_says_so_and_nothing_has_changed(engine, engine_client, settings, tmp_path):
    prefix = settings["SKYTALLY_DOCUMENTS_PREFIX"]
    before = component(engine_client, prefix)
    refused = setup(tmp_path, "--ilm-days", "760")
    assert isinstance(refused.exception, Malformed)
    assert ("no ILM" if engine == "elasticsearch" else "no ISM") in refused.exception.message
    assert "documents_forget" in refused.exception.message
    assert component(engine_client, prefix) == before == {"settings": {}}


def test_without_the_flag_and_switched_off_nothing_is_asked_of_ilm(engine_client, settings, tmp_path):
    for more in ((), ("--ilm-days", "0")):
        done = setup(tmp_path, *more)
        assert done.exit_code == 0, done.output
        assert "for usage_report" not in done.output, "no key without --out"
    assert json.loads(setup(tmp_path, "--json").stdout) == {"made": [], "keys": []}


def test_a_month_may_not_go_before_it_is_accounted(tmp_path):
    refused = setup(tmp_path, "--ilm-days", "30")
    assert (refused.exit_code, "two months" in refused.output) == (2, True)


@pytest.mark.spoils
def test_new_months_are_made_with_the_policy_that_is_set(engine_client, settings):
    """By a setting that this edition knows, since it does not know ILM's."""
    prefix = settings["SKYTALLY_DOCUMENTS_PREFIX"]
    name = templates.lifecycle_component(prefix)
    engine_client.perform(
        "PUT", f"/_component_template/{name}", body={"template": {"settings": {"index": {"refresh_interval": "7s"}}}}
    )
    with contextlib.closing(open_documents(Config.from_env(settings))) as documents:
        documents.install(datetime.now(UTC))
    assert component(engine_client, prefix) == {"settings": {"index": {"refresh_interval": "7s"}}}, (
        "setting up again leaves it as it is"
    )
    engine_client.perform("PUT", f"/{prefix}-interval-1999-01")
    found = engine_client.perform("GET", f"/{prefix}-interval-1999-01/_settings", {"flat_settings": True})
    assert found[f"{prefix}-interval-1999-01"]["settings"]["index.refresh_interval"] == "7s"
    assert templates.templates(prefix)[f"{prefix}-label"]["composed_of"] == [templates.component(prefix)]


def component(client, prefix):
    found = client.perform("GET", f"/_component_template/{templates.lifecycle_component(prefix)}")
    return found["component_templates"][0]["component_template"]["template"]
