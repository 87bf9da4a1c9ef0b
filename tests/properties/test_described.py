"""Whatever anybody sends to a path of the description is answered as it says: status, type and body."""

import pytest
import requests
import schemathesis
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation

from skytally.deployment.catalog import service_of
from tests.properties.budget import budget, is_thorough
from tests.properties.deployment import NOW, TIMERS, A, Headers, Site, caller
from tests.support import described

FEW, MANY = 150, 20_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if is_thorough() else 1_200)]
# What each role may do: there it gets furthest, and is tried most.
ROLES = {
    "nobody": ("secret_claim", "agent", *TIMERS),
    "reader": ("dashboard", "statement"),
    "reporter": ("usage_report", "job_heartbeat"),
    "scheduler": ("secret_deposit", "secret_revoke", "placement_report"),
}
WITHOUT_OUTAGE = 500


def cases(role: str) -> st.SearchStrategy[Case]:
    """Any request of any path, as its schema wants it or not; half of them of paths that are the role's."""
    operations = [result.ok() for result in schemathesis.openapi.from_dict(described.DESCRIBED).get_all_operations()]
    own = [operation for operation in operations if operation.path.split("/")[2] in map(service_of, ROLES[role])]
    own_cases, all_cases = (st.one_of([_of(operation) for operation in some]) for some in (own, operations))
    return st.booleans().flatmap(lambda is_own: own_cases if is_own else all_cases)


def _of(operation: APIOperation) -> st.SearchStrategy[Case]:
    positive = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    takes_any = operation.query or operation.body
    return positive | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) if takes_any else positive


def headers_of(role: str) -> Headers:
    """Return who calls: whoever may, of all clouds, so that any name of one gets in."""
    return {} if role == "nobody" else caller(role, A if role == "reporter" else None)


def sent(site: Site, case: Case, who: Headers) -> Response:
    """Send a case as it would go over the wire."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://skytally.test")).prepare()
    headers = {
        name: value for name, value in prepared.headers.items() if name.lower() in {"content-type", "content-encoding"}
    }
    site.clock.at = NOW
    return site.client.request(prepared.method, prepared.url, content=prepared.body, headers=headers | who)


@pytest.mark.parametrize("role", ROLES)
def test_every_answer_is_as_described(beginning, role):
    beginning.again()
    who = headers_of(role)

    @budget(FEW, MANY)
    @given(cases(role))
    def property_of(case):
        answer = sent(beginning.site, case, who)
        assert answer.status_code < WITHOUT_OUTAGE, answer.text
        described.check(answer)
        if case.method == "POST" and answer.status_code < 300:
            beginning.again()

    property_of()
