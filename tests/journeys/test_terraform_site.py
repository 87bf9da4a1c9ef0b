"""A site as Terraform makes it:
a bucket, an Elasticsearch with a key a group of functions, and all functions on both.

On real servers.
"""

from datetime import UTC, datetime

import boto3
import pytest

from localstack import servers
from localstack.search_server import secured
from skytally.adapters.documents_search import access
from tests.support.gateway import SKYTALLY, TERRAFORM, Gateway, terraform_or_skip
from tests.support.vm_life import lives_through

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]
EXAMPLE = "openfaas-ceph"


@pytest.fixture
def search(tmp_path):
    try:
        with secured("elasticsearch", tmp_path) as (node, server):
            yield node, server
    except servers.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def gateway(tmp_path):
    terraform_or_skip()
    gateway = Gateway(tmp_path)
    gateway.use_mirror_or_skip()
    gateway.start()
    gateway.run(SKYTALLY, "keys", "init")
    yield gateway
    gateway.stop()


def test_a_site_on_s3_and_elasticsearch(gateway, running, search, tmp_path):
    (node, elastic), s3 = search, running["ministack"]
    site = Site(gateway, tmp_path, node, elastic, s3)
    gateway.terraform("init", "-lockfile=readonly", example=EXAMPLE)
    site.apply()
    bucket = site.bucket()
    assert bucket.get_bucket_versioning(Bucket="site-secrets").get("Status") != "Enabled"
    rules = bucket.get_bucket_lifecycle_configuration(Bucket="site-secrets")["Rules"]
    assert {rule["ID"] for rule in rules} == {"prep", "idempotency", "mark", "audit"}

    life = lives_through(gateway, tmp_path, lambda *_: None)
    assert [(boot["vm"], boot["coverage"]) for boot in life.statement()["boots"]] == [("journey-1", 1.0)]
    site.terraform("plan", "-detailed-exitcode")

    deployed = gateway.deployed()
    assert [name for name in deployed["usage-report"]["secrets"] if name.startswith("search-")] == ["search-ingest-1"]
    assert [name for name in deployed["agent"]["secrets"] if name.startswith("search-")] == []
    assert site.keys_that_hold() == len(access.FUNCTIONS)

    site.apply(renewed="2")
    assert "search-ingest-2" in deployed_secrets(gateway)
    assert not any(name.endswith("-1") for name in deployed_secrets(gateway) if name.startswith("search-"))
    assert life.statement()["boots"], "functions read with their new keys"

    site.empty()
    site.terraform("destroy", "-auto-approve", renewed="2")
    assert (gateway.deployed(), gateway.secrets(), site.keys_that_hold()) == ({}, set(), 0)
    assert "site-secrets" not in [one["Name"] for one in bucket.list_buckets()["Buckets"]]
    month = f"skytally-interval-{datetime.now(UTC):%Y-%m}"
    assert node.call(elastic.url, f"/{month}/_count")["count"] > 0, "documents stay"


@pytest.mark.parametrize(("module", "verbs"), [("storage-s3", ("validate", "test")), ("examples/aws", ("validate",))])
def test_what_needs_the_aws_provider_is_valid_and_plans_what_it_promises(tmp_path, module, verbs):
    terraform_or_skip()
    gateway = Gateway(tmp_path)
    gateway.use_mirror_or_skip()
    for verb in (("init", "-backend=false", "-input=false"), *((verb,) for verb in verbs)):
        gateway.run("terraform", f"-chdir={TERRAFORM / module}", *verb)


def deployed_secrets(gateway):
    return gateway.deployed()["usage-report"]["secrets"]


class Site:
    """What an operator writes into variables, and what the stores say."""

    def __init__(self, gateway, folder, node, elastic, s3):
        self._gateway, self._folder, self._node, self._elastic, self._s3 = gateway, folder, node, elastic, s3
        (folder / "password").write_text(node.password)
        user = {name: s3.settings[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        (folder / "credentials").write_text(
            "[default]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in user.items())
        )
        gateway.environment |= user | {"PATH": f"{SKYTALLY.parent}:{gateway.environment['PATH']}"}

    def terraform(self, verb, *more, renewed="1"):
        search = {
            "user": "elastic",
            "password_file": str(self._folder / "password"),
            "keys_folder": str(self._folder / "search"),
        }
        return self._gateway.terraform(
            verb,
            *more,
            example=EXAMPLE,
            image="skytally:1",
            s3_endpoint=self._s3.url,
            s3_credentials_file=str(self._folder / "credentials"),
            bucket="site-secrets",
            documents_url=self._elastic.url,
            search=search | {"renewed": renewed},
        )

    def apply(self, **how):
        self.terraform("apply", "-auto-approve", **how)

    def bucket(self):
        user = {name.lower(): self._s3.settings[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        return boto3.client("s3", endpoint_url=self._s3.url, region_name="us-east-1", **user)

    def empty(self):
        bucket = self.bucket()
        for one in bucket.list_objects_v2(Bucket="site-secrets").get("Contents", ()):
            bucket.delete_object(Bucket="site-secrets", Key=one["Key"])

    def keys_that_hold(self):
        query = {"query": {"bool": {"filter": [{"term": {"invalidated": False}}, {"prefix": {"name": "skytally-"}}]}}}
        return self._node.call(self._elastic.url, "/_security/_query/api_key", query)["total"]
