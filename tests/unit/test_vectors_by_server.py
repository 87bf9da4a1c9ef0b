"""The server's own code opens every vector, and refuses every tampered one, as the agents do."""

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from skytally.core.errors import Forbidden
from skytally.secrets import envelope

VECTORS = sorted((Path(__file__).resolve().parents[1] / "vectors").glob("*.txt"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector(path):
    head, key, bundle = path.read_text().split("\n\n", 2)
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    private_key = serialization.load_pem_private_key(key.encode(), None)
    claim, expires, secret = headers["claim"].split(".")

    def opened():
        return envelope.open_bundle(
            base64.b64decode(bundle), secret.encode(), private_key, claim, int(expires), headers.get("vm")
        )

    if headers["expect"] == "success":
        payload, reporter = opened()
        assert (hashlib.sha256(payload).hexdigest(), reporter) == (headers["payload_sha256"], headers["reporter"])
    else:
        with pytest.raises(Forbidden):
            opened()


def test_there_are_vectors_of_every_kind():
    kinds = {path.read_text().partition("\n")[0] for path in VECTORS}
    assert kinds == {"expect: success", "expect: no match", "expect: MAC failure"}
