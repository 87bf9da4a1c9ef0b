"""compose.yml as far as it can be held to its promises without Docker."""

import re
from pathlib import Path

import pytest
import yaml

from localstack import elasticsearch_node
from skytally.core.config import setting_names
from skytally.deployment.catalog import FUNCTIONS

HERE = Path(__file__).resolve().parents[2] / "localstack"
COMPOSE = yaml.safe_load((HERE / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
KNOWN = {
    "image",
    "build",
    "environment",
    "ports",
    "volumes",
    "healthcheck",
    "depends_on",
    "command",
    "entrypoint",
    "restart",
}
KNOWN |= {"user", "read_only", "tmpfs", "cap_drop", "security_opt"}
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_what_is_promised_is_there():
    assert set(COMPOSE) == {"name", "services", "volumes"}
    assert {"elasticsearch", "kibana", "grafana", "localstack", "fake-gcs-server"} <= set(SERVICES)
    assert OURS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_pinned_image_and_ports_of_this_machine_alone(name):
    service = SERVICES[name]
    assert set(service) <= KNOWN
    assert service["image"] == "skytally:local" if name in OURS else re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    for value in service.get("environment", {}).values():
        assert isinstance(value, str), "an unquoted true or number is no environment"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_is_there_and_says_when_it_is_up(name):
    for other, told in SERVICES[name].get("depends_on", {}).items():
        assert told == {"condition": "service_healthy"}
        assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"


def test_no_two_ports_and_no_unknown_volume():
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == len(set(ports))
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("../.skytally/")


@pytest.mark.parametrize("name", OURS)
def test_our_image_runs_a_function_as_the_dockerfile_makes_it(name):
    service = OURS[name]
    assert (HERE / service["build"]["context"] / service["build"]["dockerfile"]).resolve().is_file()
    assert service["environment"]["FUNCTION_TARGET"] == name.replace("-", "_")
    assert service["environment"]["FUNCTION_TARGET"] in {function.name for function in FUNCTIONS}
    assert {told for told in service["environment"] if not told.startswith("AWS_")} <= set(setting_names().values())
    assert service["read_only"] is True


def test_it_is_the_elasticsearch_that_the_tests_run():
    assert SERVICES["elasticsearch"]["image"].endswith(f":{elasticsearch_node.VERSION}")
    assert SERVICES["kibana"]["image"].endswith(f":{elasticsearch_node.VERSION}")
