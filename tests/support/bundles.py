"""A deposit that seals a bundle for every key that proves its token, by the maker of the vectors."""

import base64
import gzip
import hashlib
import hmac
import urllib.parse
from pathlib import Path

from tests.vectors import make_vectors

VECTORS = Path(__file__).parents[1] / "vectors"
CLAIM, EXPIRES, SECRET = "c0ffee" * 5, "1795700000", hashlib.sha256(b"a claim").hexdigest()


def proof_of(form: dict[str, str]) -> str:
    words = [
        "skytally/v1 claim",
        form["claim"],
        hashlib.sha256(form["public_key"].encode()).hexdigest(),
        *([form["vm"]] if "vm" in form else []),
    ]
    return hmac.new(SECRET.encode(), "|".join(words).encode(), "sha256").hexdigest()


def vector_maker():
    """Return the module that makes vectors, for this claim."""
    make_vectors.CLAIM, make_vectors.EXPIRES = CLAIM, EXPIRES
    return make_vectors


class Deposit:
    """Answers secret_claim with a bundle for whatever key came with a right proof."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.forms: list[dict[str, str]] = []

    def __call__(self, _office, path, _headers, body):
        from cryptography.hazmat.primitives import serialization

        form = dict(urllib.parse.parse_qsl(body.decode("ascii"), strict_parsing=True))
        self.forms.append(form)
        if path != "/function/secret-claim" or form["proof"] != proof_of(form):
            return 403, {}, b'{"error": {"code": "forbidden", "message": "no"}}'
        line = gzip.decompress(base64.b64decode(form["public_key"], validate=True))
        key = serialization.load_ssh_public_key(line)
        made_for = type("Public", (), {"public_key": lambda _: key})()
        return (
            200,
            {"Content-Type": "application/x-tar"},
            vector_maker().Maker(made_for, self.payload, form.get("vm"), SECRET).bundle,
        )
