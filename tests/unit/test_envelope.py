"""The envelope: what opens, what must not, and what no key may cost us."""

import base64
import gzip
import math
import shutil
import subprocess
import time
import tracemalloc

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from skytally.access import key_wrapping
from skytally.core.errors import Changed, Forbidden, Malformed
from skytally.secrets import envelope
from tests.support import builders

CLAIM, EXPIRES = "abcdefghijklmnopqrstuvwxyz", 1_800_000_000
SECRET = envelope.claim_secret(b"m" * 32, CLAIM, EXPIRES)
PUBLIC = builders.public_key()


def packed(line: bytes) -> str:
    return base64.b64encode(gzip.compress(line)).decode()


def ssh_line(exponent: int, modulus: int, blob: bytes | None = None) -> bytes:
    """Write a key line of any numbers, sound or not."""
    parts = [b"ssh-rsa", *(n.to_bytes(n.bit_length() // 8 + 1, "big") for n in (exponent, modulus))]
    return b"ssh-rsa " + base64.b64encode(blob or b"".join(len(p).to_bytes(4, "big") + p for p in parts)) + b" x\n"


MODULUS = builders.SHARED_KEY.public_key().public_numbers().n
GOOD_LINE = ssh_line(65_537, MODULUS)
ED25519 = (
    ed25519.Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
)
BLOB = base64.b64decode(GOOD_LINE.split()[1])
PADDED_LINE = ssh_line(
    65_537, next(n for n in range((1 << 3_071) + 1, 1 << 3_072, 2) if math.gcd(n, math.factorial(2_000)) == 1)
)
PADDED = PADDED_LINE.split()[1]
STRAY = PADDED[:-2] + bytes([PADDED[-2] + 1]) + b"="


def test_a_sound_key_is_read():
    key = envelope.parse_public_key(packed(GOOD_LINE))
    assert key.public_numbers == (MODULUS, 65_537)
    assert key.comment == "x"
    assert envelope.parse_public_key(PUBLIC).spki_sha256 == key.spki_sha256
    assert envelope.parse_public_key(packed(GOOD_LINE.strip())).comment == "x"
    assert PADDED.endswith(b"=")
    assert envelope.parse_public_key(packed(PADDED_LINE)).public_numbers[0].bit_length() == 3_072


HOSTILE = {
    "not base64": {
        "not base64": "!!!!",
        "base64 twice": packed(b"ssh-rsa " + base64.b64encode(BLOB[:-1]) + base64.b64encode(BLOB[-1:]) + b"\n"),
        "no padding": packed(PADDED_LINE.replace(b"=", b"")),
        "not ASCII": "ü" * 40,
    },
    "not gzip": {
        "not gzip": base64.b64encode(b"ssh-rsa AAAA").decode(),
    },
    "one line": {
        "empty": packed(b""),
        "two keys": packed(GOOD_LINE * 2),
        "a newline in the comment": packed(GOOD_LINE.strip() + b"\nroot ALL"),
        "a control character": packed(GOOD_LINE.strip() + b"\x1b[2J\n"),
        "a long comment": packed(GOOD_LINE.strip() + b"y" * 300),
        "ed25519": packed(ED25519),
        "a tab": packed(GOOD_LINE.replace(b" ", b"\t", 1)),
        "Windows": packed(GOOD_LINE.strip() + b"\r\n"),
        "options before it": packed(b"no-pty " + GOOD_LINE),
        "a certificate": packed(b"ssh-rsa-cert-v01@openssh.com " + GOOD_LINE.split()[1] + b"\n"),
        "a nest of gzips": base64.b64encode(gzip.compress(gzip.compress(GOOD_LINE))).decode(),
    },
    "one gzip member": {
        "a bomb": packed(b"ssh-rsa " + b"A" * 50_000_000),
        "a tail behind the gzip": base64.b64encode(gzip.compress(GOOD_LINE) + b"tail").decode(),
        "two members": base64.b64encode(gzip.compress(GOOD_LINE) * 2).decode(),
        "a cut gzip": base64.b64encode(gzip.compress(GOOD_LINE)[:-4]).decode(),
        "a bomb with a key in front": packed(GOOD_LINE + b"\n" * 50_000_000),
    },
    "not an ssh-rsa key": {
        "no key at all": packed(b"ssh-rsa AAAA\n"),
        "an ECDSA blob in RSA's clothes": packed(b"ssh-rsa " + ED25519.split()[1] + b"\n"),
        "a tail in the blob": packed(ssh_line(0, 0, BLOB + b"x")),
        "a length beyond the end": packed(ssh_line(0, 0, b"\xff\xff\xff\xff" + BLOB)),
    },
    "2048 to 8192 bits": {
        "1024 bits": packed(ssh_line(65_537, (1 << 1_023) | 1)),
        "16384 bits": packed(ssh_line(65_537, (1 << 16_383) | 1)),
        "2047 bits": packed(ssh_line(65_537, (1 << 2_046) | 1)),
        "8200 bits": packed(ssh_line(65_537, (1 << 8_199) | 1)),
    },
    "65537": {
        "exponent 1": packed(ssh_line(1, MODULUS)),
        "exponent 3": packed(ssh_line(3, MODULUS)),
        "an exponent as large as the modulus": packed(ssh_line(MODULUS - 2, MODULUS)),
    },
    "encoding is not canonical": {
        "exponent 0": packed(ssh_line(0, MODULUS)),
        "a padded number": packed(
            ssh_line(0, 0, BLOB.replace(b"\x00\x00\x00\x03\x01\x00\x01", b"\x00\x00\x00\x04\x00\x01\x00\x01"))
        ),
        "a negative modulus": packed(ssh_line(0, 0, BLOB.replace(b"\x00\x00\x01\x01\x00", b"\x00\x00\x01\x00", 1))),
        "a cut blob": packed(ssh_line(0, 0, BLOB[:-1])),
    },
    "small factor": {
        "an even modulus": packed(ssh_line(65_537, MODULUS - 1)),
        "a small factor": packed(
            ssh_line(65_537, (MODULUS // 3) * 3 if (MODULUS // 3) % 2 else (MODULUS // 3 + 1) * 3)
        ),
    },
    "base64 is not canonical": {
        "base64 with stray bits": packed(b"ssh-rsa " + STRAY + b"\n"),
        "more padding": packed(GOOD_LINE.replace(b" x", b"= x")),
    },
}


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, names in HOSTILE.items() for name in names])
def test_a_hostile_key_is_refused_fast_and_small(reason, name):
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(Malformed, match=reason) as refusal:
        envelope.parse_public_key(HOSTILE[reason][name])
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refusal.value.code == "malformed_public_key"
    assert (took < 1, peak < 2_000_000) == (True, True)


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_key_reader(data):
    for parameter in (packed(data), base64.b64encode(data).decode(), data.decode("latin-1")):
        with pytest.raises(Malformed):
            envelope.parse_public_key(parameter)


def sealed(vm: str | None = None, payload: bytes = b"payload", reporter: str = "reporter") -> bytes:
    content_key = envelope.new_content_key()
    box = envelope.seal_payload(payload, reporter, SECRET, content_key, CLAIM)
    return envelope.bundle(box, content_key, SECRET, envelope.parse_public_key(PUBLIC), CLAIM, EXPIRES, vm)


@given(st.binary(max_size=5_000), st.text(max_size=50))
def test_what_was_sealed_opens(payload, reporter):
    opened = envelope.open_bundle(sealed(None, payload, reporter), SECRET, builders.SHARED_KEY, CLAIM, EXPIRES)
    assert opened == (payload, reporter)


def test_a_name_is_part_of_what_is_signed():
    assert envelope.open_bundle(sealed("vm-1"), SECRET, builders.SHARED_KEY, CLAIM, EXPIRES, "vm-1")[0] == b"payload"
    for bundle, vm in ((sealed("vm-1"), "vm-2"), (sealed("vm-1"), None), (sealed(), "vm-1")):
        with pytest.raises(Forbidden):
            envelope.open_bundle(bundle, SECRET, builders.SHARED_KEY, CLAIM, EXPIRES, vm)


def test_another_key_claim_expiry_or_secret_opens_nothing():
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    good = {"secret": SECRET, "private_key": builders.SHARED_KEY, "claim": CLAIM, "expires": EXPIRES}
    for wrong in ({"private_key": other}, {"claim": "z" * 26}, {"secret": SECRET[::-1]}, {"expires": EXPIRES + 1}):
        with pytest.raises(Forbidden):
            envelope.open_bundle(sealed(), **(good | wrong))


@pytest.mark.parametrize("member", envelope.MEMBERS)
def test_every_byte_of_every_member_counts(member):
    members = envelope.untar(sealed())
    data = members[member]
    whole = member.startswith("manifest")
    for at in {*range(0, len(data), 1 if whole else max(1, len(data) // 60)), len(data) - 1}:
        changed = {**members, member: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
        with pytest.raises(Forbidden):
            envelope.open_bundle(envelope.tar(changed), SECRET, builders.SHARED_KEY, CLAIM, EXPIRES)


@given(st.binary(max_size=3_000))
def test_no_bytes_crash_the_opener(data):
    for bundle in (data, envelope.tar(dict.fromkeys(envelope.MEMBERS, data)), sealed()[: len(data)] + data):
        with pytest.raises(Forbidden):
            envelope.open_bundle(bundle, SECRET, builders.SHARED_KEY, CLAIM, EXPIRES)


def test_order_number_and_kind_of_members_count():
    members = envelope.untar(sealed())
    for changed in (
        dict(reversed(members.items())),
        members | {"extra": b""},
        {k: v for k, v in members.items() if k != "R.enc"},
    ):
        with pytest.raises(Forbidden):
            envelope.open_bundle(envelope.tar(changed), SECRET, builders.SHARED_KEY, CLAIM, EXPIRES)
    with pytest.raises(Forbidden):
        envelope.open_bundle(sealed()[:700], SECRET, builders.SHARED_KEY, CLAIM, EXPIRES)


def test_a_wrapped_key_opens_only_with_what_it_came_with():
    wrapped = key_wrapping.wrap(b"r" * 32, b"k" * 32, b"a deposit")
    assert key_wrapping.unwrap(wrapped, b"k" * 32, b"a deposit") == b"r" * 32
    cases = (
        (wrapped, b"k", b"another"),
        (wrapped, b"x", b"a deposit"),
        (wrapped[:-1], b"k", b"a deposit"),
        (b"", b"k", b"a deposit"),
    )
    for data, key, bound in cases:
        with pytest.raises(Changed):
            key_wrapping.unwrap(data, key * 32, bound)


def test_a_proof_is_for_one_claim_key_and_name():
    proofs = {
        envelope.proof_of(secret, claim, key, vm)
        for secret in (SECRET, SECRET[::-1])
        for claim in (CLAIM, CLAIM + "a")
        for key in (PUBLIC, PUBLIC + "=")
        for vm in (None, "", "vm-1", "vm-1|vm-1")
    }
    assert len(proofs) == 32


@pytest.mark.skipif(shutil.which("openssl") is None, reason="without openssl: the format is not tested against it")
def test_openssl_opens_every_part(tmp_path):
    members = envelope.untar(sealed(payload=b"a certificate"))
    key_file = tmp_path / "key.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    key_file.write_bytes(builders.SHARED_KEY.private_bytes(*form))
    oaep = [
        word
        for option in ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256")
        for word in ("-pkeyopt", option)
    ]
    content_key = openssl("pkeyutl", "-decrypt", "-inkey", key_file, *oaep, data=members["R.enc"])
    assert len(content_key) == 32
    root = hmac_by_openssl(SECRET, content_key)
    password = hmac_by_openssl(root, f"skytally/v1 enc {CLAIM}".encode() + b"\x01").hex()
    (tmp_path / "password").write_text(password)
    plain = openssl(
        "enc", "-d", "-aes-256-ctr", "-md", "sha256", "-pass", f"file:{tmp_path / 'password'}", data=members["P.enc"]
    )
    assert envelope.untar(plain) == {"payload": b"a certificate", "reporter": b"reporter"}
    mac_key = hmac_by_openssl(root, f"skytally/v1 mac {CLAIM}".encode() + b"\x01")
    assert hmac_by_openssl(mac_key, members["manifest"]).hex().encode() + b"\n" == members["manifest.mac"]


def openssl(*arguments, data):
    return subprocess.run(
        ["openssl", *map(str, arguments)], input=data, capture_output=True, check=True, timeout=30
    ).stdout


def hmac_by_openssl(key, message):
    return openssl("dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", data=message)
