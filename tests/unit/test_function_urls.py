"""Where functions answer, and what nobody sends anything to."""

import pytest

from skytally.core.errors import Malformed
from skytally.deployment.function_urls import check_base, is_private, url_of

BELOW = "https://sky.example.org/function/agent/vm.py"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://sky.example.org", BELOW),
        ("https://sky.example.org/", BELOW),
        ("https://sky.example.org/x/", "https://sky.example.org/x/function/agent/vm.py"),
        ("https://{function}.sky.example.org", "https://agent.sky.example.org/vm.py"),
        ("https://sky.example.org/fn/{function}/", "https://sky.example.org/fn/agent/vm.py"),
    ],
)
def test_a_function_answers_below_the_base_or_at_a_host_of_its_own(base, url):
    assert url_of(base, "agent/vm.py") == url


NO_URLS = [
    "",
    "sky.example.org",
    "sky.example.org:8080",
    "127.0.0.1:8080",
    "https://",
    "https:sky",
    "ftp://x",
    "http://[",
    "http://x:port",
]


@pytest.mark.parametrize("base", NO_URLS)
@pytest.mark.parametrize("insecure", [True, False])
def test_what_is_no_url_is_refused(base, insecure):
    with pytest.raises(Malformed, match="https://"):
        check_base(base, insecure=insecure)


@pytest.mark.parametrize("host", ["sky.example.org", "10.0.0.1", "localhost.example.org", "127.0.0.1.example.org"])
def test_nothing_travels_in_clear_unless_somebody_said_so(host):
    with pytest.raises(Malformed, match="--insecure"):
        check_base(f"http://{host}:8080", insecure=False)
    check_base(f"http://{host}:8080", insecure=True)
    check_base(f"https://{host}:8080", insecure=False)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "{function}.localhost"])
def test_this_machine_needs_no_tls(host):
    check_base(f"http://{host}:8080", insecure=False)


@pytest.mark.parametrize(
    ("base", "private"),
    [
        ("https://sky.example.org", True),
        ("http://localhost:8080", True),
        ("http://[::1]:80", True),
        ("http://sky.example.org", False),
    ],
)
def test_what_nobody_else_can_read(base, private):
    assert is_private(base) is private


@pytest.mark.parametrize("user", ["somebody:hunter2", "localhost", "127.0.0.1"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_base_with_a_user_or_a_password_is_refused_and_not_shown(scheme, user):
    with pytest.raises(Malformed) as refused:
        check_base(f"{scheme}://{user}@sky.example.org", insecure=False)
    assert user not in str(refused.value)
