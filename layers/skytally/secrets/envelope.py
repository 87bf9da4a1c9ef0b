"""Envelopes: a payload that only one holder of a claim secret and of one RSA key opens, with openssl and HMAC-SHA256.

::

    S      claim secret: hex HMAC(master key, "skytally/v1 claim|" cid "|" exp), 64 ASCII characters
    R      content key: 32 random bytes
    PRK    = HMAC(key=S, R)                                  HKDF-Extract with salt S (RFC 5869)
    Kenc   = HMAC(PRK, "skytally/v1 enc " cid 0x01)          HKDF-Expand, one block
    Kmac   = HMAC(PRK, "skytally/v1 mac " cid 0x01)
    plain  = ustar { payload, reporter }
    P.enc  = "Salted__" salt(8) AES-256-CTR(plain)           as `openssl enc -aes-256-ctr -md sha256`, password
           hex(Kenc)
    R.enc  = RSA-OAEP(SHA-256, MGF1-SHA-256)(vm's key, R)
    bundle = ustar { manifest, manifest.mac, R.enc, P.enc }  these four, in this order
    manifest     = "v=1\\nclaim=…\\nexp=…\\n[vm=…\\n]spki_sha256=…\\nR_sha256=…\\nP_sha256=…\\n"
    manifest.mac = hex HMAC(Kmac, manifest) "\\n"
    proof        = hex HMAC(S, "skytally/v1 claim|" cid "|" hex sha256(public_key parameter) ["|" vm])

Encrypt-then-MAC: an opener compares the digests, its own key's digest and the MAC before it decrypts anything. The MAC
covers the vm's key, so a bundle made for another key does not open; the salt and the counter mode of P.enc are covered
by P_sha256.
"""

import base64
import hmac
import io
import math
import re
import secrets
import tarfile
import zlib
from hashlib import sha256

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from msgspec import Struct

from skytally.core.errors import Forbidden, Malformed

MEMBERS = ("manifest", "manifest.mac", "R.enc", "P.enc")
CONTENT_KEY_BYTES = 32
MAX_KEY_LINE_BYTES = 8_192
MIN_MODULUS_BITS, MAX_MODULUS_BITS = 2_048, 8_192
PUBLIC_EXPONENT = 65_537
_KEY_LINE = re.compile(rb"ssh-rsa ([A-Za-z0-9+/=]+)(?: ([ -~]{0,255}))?\n?")
_SMALL_PRIMES_PRODUCT = math.prod(n for n in range(3, 2_000, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2)))
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class VmKey(Struct, frozen=True):
    """A vm's public key that passed every check."""

    public_numbers: tuple[int, int]
    spki_sha256: str
    comment: str

    def encrypt(self, content_key: bytes) -> bytes:
        """Return R.enc."""
        modulus, exponent = self.public_numbers
        return rsa.RSAPublicNumbers(exponent, modulus).public_key().encrypt(content_key, _OAEP)


def claim_secret(master_key: bytes, claim: str, expires: int) -> bytes:
    """Return S as the 64 ASCII characters of the token."""
    return _hex_mac(master_key, f"skytally/v1 claim|{claim}|{expires}")


def proof_of(secret: bytes, claim: str, public_key: str, vm: str | None = None) -> str:
    """Return the proof by the claim secret for a public key and, in a batch, for a name."""
    parts = ["skytally/v1 claim", claim, sha256(public_key.encode()).hexdigest(), *([] if vm is None else [vm])]
    return _hex_mac(secret, "|".join(parts)).decode()


def parse_public_key(parameter: str) -> VmKey:
    """Return the key of base64(gzip(ssh-rsa line)).

    Raise Malformed for anything but one sound RSA key of 2048 to 8192 bits.
    """
    line = _inflate(_base64(parameter.encode("ascii", "replace")))
    match = _KEY_LINE.fullmatch(line)
    if match is None:
        raise _bad_key("it must be one line `ssh-rsa BASE64 [COMMENT]`")
    blob = _base64(match[1])
    if base64.b64encode(blob) != match[1]:
        raise _bad_key("its base64 is not canonical")
    exponent, modulus = _ssh_numbers(blob)
    _check_numbers(exponent, modulus)
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return VmKey((modulus, exponent), spki_sha256(key), (match[2] or b"").decode())


def spki_sha256(key: rsa.RSAPublicKey) -> str:
    """Return the SHA-256 of a public key's DER SubjectPublicKeyInfo."""
    return _digest(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def _bad_key(reason: str) -> Malformed:
    return Malformed(f"public_key is refused: {reason}", code="malformed_public_key", field="public_key")


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _bad_key("it is not base64") from None


def _inflate(packed: bytes) -> bytes:
    """Return the content of one gzip member; raise Malformed for more bytes than a key needs."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        line = inflater.decompress(packed, MAX_KEY_LINE_BYTES)
    except zlib.error:
        raise _bad_key("it is not gzip") from None
    if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        raise _bad_key("it must be one gzip member of at most 8 KiB with nothing behind it")
    return line


def _ssh_numbers(blob: bytes) -> tuple[int, int]:
    """Return exponent and modulus; raise Malformed unless the encoding is canonical (RFC 4253 6.6)."""
    fields: list[bytes] = []
    rest = blob
    while rest and len(fields) < 4:
        length = int.from_bytes(rest[:4], "big")
        fields.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    if len(fields) != 3 or fields[0] != b"ssh-rsa":
        raise _bad_key("it is not an ssh-rsa key")
    exponent, modulus = int.from_bytes(fields[1], "big"), int.from_bytes(fields[2], "big")
    if b"".join(_ssh_field(part) for part in (b"ssh-rsa", _mpint(exponent), _mpint(modulus))) != blob:
        raise _bad_key("its encoding is not canonical")
    return exponent, modulus


def _ssh_field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b""


def _check_numbers(exponent: int, modulus: int) -> None:
    if not MIN_MODULUS_BITS <= modulus.bit_length() <= MAX_MODULUS_BITS:
        raise _bad_key("its modulus must have 2048 to 8192 bits")
    if exponent != PUBLIC_EXPONENT:
        raise _bad_key("its exponent must be 65537")
    if modulus % 2 == 0 or math.gcd(modulus, _SMALL_PRIMES_PRODUCT) != 1:
        raise _bad_key("its modulus has a small factor")


def new_content_key() -> bytes:
    """Return a fresh R."""
    return secrets.token_bytes(CONTENT_KEY_BYTES)


def seal_payload(payload: bytes, reporter: str, secret: bytes, content_key: bytes, claim: str) -> bytes:
    """Return P.enc of the payload and the reporter token; it does not depend on the vm's key."""
    plain = tar({"payload": payload, "reporter": reporter.encode()})
    salt = secrets.token_bytes(8)
    return b"Salted__" + salt + _ctr(_expand(secret, content_key, claim, "enc").hex().encode(), salt, plain)


def open_payload(sealed: bytes, secret: bytes, content_key: bytes, claim: str) -> tuple[bytes, str]:
    """Return payload and reporter token of a P.enc whose digest has been verified."""
    password = _expand(secret, content_key, claim, "enc").hex().encode()
    members = untar(_ctr(password, sealed[8:16], sealed[16:]))
    return members["payload"], members["reporter"].decode()


def bundle(
    sealed: bytes, content_key: bytes, secret: bytes, key: VmKey, claim: str, expires: int, vm: str | None = None
) -> bytes:
    """Return the bundle that answers a claim, for one vm's key."""
    content_key_sealed = key.encrypt(content_key)
    manifest = _manifest(claim, expires, vm, key.spki_sha256, content_key_sealed, sealed)
    mac = _manifest_mac(secret, content_key, claim, manifest)
    return tar(dict(zip(MEMBERS, (manifest, mac, content_key_sealed, sealed), strict=True)))


def _manifest(
    claim: str, expires: int, vm: str | None, spki_sha256: str, content_key_sealed: bytes, sealed: bytes
) -> bytes:
    lines = ["v=1", f"claim={claim}", f"exp={expires}", *([] if vm is None else [f"vm={vm}"])]
    lines += [f"spki_sha256={spki_sha256}", f"R_sha256={_digest(content_key_sealed)}", f"P_sha256={_digest(sealed)}"]
    return "".join(f"{line}\n" for line in lines).encode()


def _manifest_mac(secret: bytes, content_key: bytes, claim: str, manifest: bytes) -> bytes:
    return _hex_mac(_expand(secret, content_key, claim, "mac"), manifest) + b"\n"


def open_bundle(
    data: bytes, secret: bytes, private_key: rsa.RSAPrivateKey, claim: str, expires: int, vm: str | None = None
) -> tuple[bytes, str]:
    """Open a bundle as a vm does: check digests, own key and MAC, then decrypt; raise Forbidden for any fault."""
    try:
        members = untar(data)
        if tuple(members) != MEMBERS:
            raise Forbidden("the bundle does not have its four members in order", code="bad_bundle")
        manifest, its_mac, content_key_sealed, sealed = members.values()
        if manifest != _manifest(claim, expires, vm, spki_sha256(private_key.public_key()), content_key_sealed, sealed):
            raise Forbidden("the bundle's manifest is not for this claim and key", code="bad_bundle")
        content_key = private_key.decrypt(content_key_sealed, _OAEP)
    except (ValueError, tarfile.TarError):
        raise Forbidden("the bundle is damaged", code="bad_bundle") from None
    if not hmac.compare_digest(_manifest_mac(secret, content_key, claim, manifest), its_mac):
        raise Forbidden("the bundle's MAC does not match", code="bad_bundle")
    return open_payload(sealed, secret, content_key, claim)


def _expand(secret: bytes, content_key: bytes, claim: str, purpose: str) -> bytes:
    pseudo_random_key = hmac.digest(secret, content_key, "sha256")
    return hmac.digest(pseudo_random_key, f"skytally/v1 {purpose} {claim}".encode() + b"\x01", "sha256")


def _ctr(password: bytes, salt: bytes, data: bytes) -> bytes:
    """AES-256-CTR with key and counter derived as `openssl enc -md sha256` does (EVP_BytesToKey, one round)."""
    key = sha256(password + salt).digest()
    counter = sha256(key + password + salt).digest()[:16]
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(data)


def _hex_mac(key: bytes, message: str | bytes) -> bytes:
    data = message.encode() if isinstance(message, str) else message
    return hmac.digest(key, data, "sha256").hex().encode()


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def tar(members: dict[str, bytes]) -> bytes:
    """Return a ustar archive of plain files, mode 0600, in the given order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def untar(data: bytes) -> dict[str, bytes]:
    """Return the plain files of an archive; raise ValueError for any other member."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isreg() and info.name not in members else None
            if content is None:
                raise ValueError("an archive member is no plain file, or comes twice")
            members[info.name] = content.read()
    return members
