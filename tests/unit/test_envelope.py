"""The envelope: what opens, what must not, and what no key may cost us."""

import base64
import gzip
import shutil
import subprocess
import time
import tracemalloc

import lab
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from skytally import envelope
from skytally.errors import Forbidden, Malformed

SECRET = envelope.claim_secret(b"m" * 32, "abcdefghijklmnopqrstuvwxyz", 1_800_000_000)
CLAIM = "abcdefghijklmnopqrstuvwxyz"
PUBLIC = lab.public_key()


def packed(line: bytes) -> str:
    return base64.b64encode(gzip.compress(line)).decode()


def ssh_line(exponent: int, modulus: int, blob: bytes | None = None) -> bytes:
    """Write a key line of any numbers, sound or not."""
    parts = [b"ssh-rsa", *(n.to_bytes(n.bit_length() // 8 + 1, "big") for n in (exponent, modulus))]
    return b"ssh-rsa " + base64.b64encode(blob or b"".join(len(p).to_bytes(4, "big") + p for p in parts)) + b" x\n"


MODULUS = lab.SHARED_KEY.public_key().public_numbers().n
GOOD_LINE = ssh_line(65_537, MODULUS)
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
BLOB = base64.b64decode(GOOD_LINE.split()[1])


def test_a_sound_key_is_read():
    key = envelope.parse_public_key(packed(GOOD_LINE))
    assert key.public_numbers == (MODULUS, 65_537)
    assert key.comment == "x"
    assert envelope.parse_public_key(PUBLIC).spki_sha256 == key.spki_sha256
    assert envelope.parse_public_key(packed(GOOD_LINE.strip())).comment == "x"


HOSTILE = {
    "not base64": "!!!!",
    "not gzip": base64.b64encode(b"ssh-rsa AAAA").decode(),
    "empty": packed(b""),
    "a bomb": packed(b"ssh-rsa " + b"A" * 50_000_000),
    "a tail behind the gzip": base64.b64encode(gzip.compress(GOOD_LINE) + b"tail").decode(),
    "two members": base64.b64encode(gzip.compress(GOOD_LINE) * 2).decode(),
    "a cut gzip": base64.b64encode(gzip.compress(GOOD_LINE)[:-4]).decode(),
    "two keys": packed(GOOD_LINE * 2),
    "a newline in the comment": packed(GOOD_LINE.strip() + b"\nroot ALL"),
    "a control character": packed(GOOD_LINE.strip() + b"\x1b[2J\n"),
    "a long comment": packed(GOOD_LINE.strip() + b"y" * 300),
    "ed25519": packed(ED25519),
    "no key at all": packed(b"ssh-rsa AAAA\n"),
    "1024 bits": packed(ssh_line(65_537, (1 << 1_023) | 1)),
    "16384 bits": packed(ssh_line(65_537, (1 << 16_383) | 1)),
    "exponent 1": packed(ssh_line(1, MODULUS)),
    "exponent 3": packed(ssh_line(3, MODULUS)),
    "exponent 0": packed(ssh_line(0, MODULUS)),
    "an even modulus": packed(ssh_line(65_537, MODULUS - 1)),
    "a small factor": packed(ssh_line(65_537, (MODULUS // 3) * 3 if (MODULUS // 3) % 2 else (MODULUS // 3 + 1) * 3)),
    "a padded number": packed(ssh_line(0, 0, BLOB.replace(b"\x00\x00\x00\x03\x01\x00\x01", b"\x00\x00\x00\x04\x00\x01\x00\x01"))),
    "a tail in the blob": packed(ssh_line(0, 0, BLOB + b"x")),
    "a cut blob": packed(ssh_line(0, 0, BLOB[:-1])),
    "a length beyond the end": packed(ssh_line(0, 0, b"\xff\xff\xff\xff" + BLOB)),
    "not ASCII": "ü" * 40,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_key_is_refused_fast_and_small(name):
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(Malformed) as refusal:
        envelope.parse_public_key(HOSTILE[name])
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
    return envelope.bundle(box, content_key, SECRET, envelope.parse_public_key(PUBLIC), CLAIM, 1_800_000_000, vm)


@given(st.binary(max_size=5_000), st.text(max_size=50))
def test_what_was_sealed_opens(payload, reporter):
    opened = envelope.open_bundle(sealed(None, payload, reporter), SECRET, lab.SHARED_KEY, CLAIM)
    assert opened == (payload, reporter)


def test_a_name_is_part_of_what_is_signed():
    assert envelope.open_bundle(sealed("vm-1"), SECRET, lab.SHARED_KEY, CLAIM, "vm-1")[0] == b"payload"
    for bundle, vm in ((sealed("vm-1"), "vm-2"), (sealed("vm-1"), None), (sealed(), "vm-1")):
        with pytest.raises(Forbidden):
            envelope.open_bundle(bundle, SECRET, lab.SHARED_KEY, CLAIM, vm)


def test_another_key_claim_or_secret_opens_nothing():
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    for secret, key, claim in ((SECRET, other, CLAIM), (SECRET, lab.SHARED_KEY, "z" * 26), (SECRET[::-1], lab.SHARED_KEY, CLAIM)):
        with pytest.raises(Forbidden):
            envelope.open_bundle(sealed(), secret, key, claim)


@pytest.mark.parametrize("member", envelope.MEMBERS)
def test_every_byte_of_every_member_counts(member):
    members = envelope.untar(sealed())
    data = members[member]
    for at in {*range(0, len(data), max(1, len(data) // 40)), len(data) - 1}:
        changed = {**members, member: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
        with pytest.raises(Forbidden):
            envelope.open_bundle(envelope.tar(changed), SECRET, lab.SHARED_KEY, CLAIM)


def test_order_number_and_kind_of_members_count():
    members = envelope.untar(sealed())
    for changed in (dict(reversed(members.items())), members | {"extra": b""}, {k: v for k, v in members.items() if k != "R.enc"}):
        with pytest.raises(Forbidden):
            envelope.open_bundle(envelope.tar(changed), SECRET, lab.SHARED_KEY, CLAIM)
    with pytest.raises(Forbidden):
        envelope.open_bundle(sealed()[:700], SECRET, lab.SHARED_KEY, CLAIM)


def test_a_wrapped_key_opens_for_its_claim_only():
    wrapped = envelope.wrap(b"r" * 32, b"k" * 32, "prep/1/a")
    assert envelope.unwrap(wrapped, b"k" * 32, "prep/1/a") == b"r" * 32
    for data, key, bound in ((wrapped, b"k" * 32, "prep/1/b"), (wrapped, b"x" * 32, "prep/1/a"), (wrapped[:-1], b"k" * 32, "prep/1/a")):
        with pytest.raises(Forbidden):
            envelope.unwrap(data, key, bound)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="without openssl: the format is not tested against it")
def test_openssl_opens_every_part(tmp_path):
    members = envelope.untar(sealed(payload=b"a certificate"))
    key_file = tmp_path / "key.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    key_file.write_bytes(lab.SHARED_KEY.private_bytes(*form))
    oaep = [word for option in ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256") for word in ("-pkeyopt", option)]
    content_key = openssl("pkeyutl", "-decrypt", "-inkey", key_file, *oaep, data=members["R.enc"])
    assert len(content_key) == 32
    root = hmac_by_openssl(SECRET, content_key)
    password = hmac_by_openssl(root, f"skytally/v1 enc {CLAIM}".encode() + b"\x01").hex()
    (tmp_path / "password").write_text(password)
    plain = openssl("enc", "-d", "-aes-256-ctr", "-md", "sha256", "-pass", f"file:{tmp_path / 'password'}", data=members["P.enc"])
    assert envelope.untar(plain) == {"payload": b"a certificate", "reporter": b"reporter"}
    mac_key = hmac_by_openssl(root, f"skytally/v1 mac {CLAIM}".encode() + b"\x01")
    assert hmac_by_openssl(mac_key, members["manifest"]).hex().encode() + b"\n" == members["manifest.mac"]


def openssl(*arguments, data):
    return subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=True, timeout=30).stdout


def hmac_by_openssl(key, message):
    return openssl("dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", data=message)
