"""Write the test vectors beside this file: `python tests/vectors/make_vectors.py`.

Every opener of bundles is held to the same files: vm.py, open.sh and the server's own code. A file `NAME.txt` has three
parts with a blank line between them::

    expect: success | no match | MAC failure      what an opener must say; the last two leave no output file
    claim: CLAIM.EXPIRES.SECRET                   the token from the user-data
    vm: NAME                                      only for a batch: the name that was claimed
    payload_sha256: HEX                           only with success: SHA-256 of the payload
    reporter: TOKEN                               only with success: the reporter token
    comment: …                                    what was done to it

    -----BEGIN PRIVATE KEY-----                   the vm's key as PEM: a throw-away key for tests
    …

    base64 of the bundle, in lines

`no match`: members, digests, claim, name or key are not what the opener expects, or R.enc does not decrypt with its
key. `MAC failure`: all of that fits, but whoever made the bundle does not know the claim secret.
"""

import base64
import hashlib
import hmac
import secrets
import tarfile
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HERE = Path(__file__).parent
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
CLAIM, EXPIRES = "k3v9x2m8q7w1z5t4r6y0p2n8", 1_795_644_000
SECRET = hashlib.sha256(b"skytally test vectors").hexdigest()
REPORTER = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
PAYLOAD = b"-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n"


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = size, 0o600, kind
    info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return info.tobuf(tarfile.USTAR_FORMAT)


def tar(members: list[tuple[str, bytes]], *, blocks: int = 2, kinds: dict[str, bytes] | None = None) -> bytes:
    """Write a ustar archive with as many zero blocks at its end."""
    out = b""
    for name, data in members:
        kind = (kinds or {}).get(name, tarfile.REGTYPE)
        content = data if kind == tarfile.REGTYPE else b""
        out += header(name, len(content), kind) + content + bytes(-len(content) % 512)
    return out + bytes(512 * blocks)


class Maker:
    """Makes one bundle step by step, so that each step can be done wrongly."""

    def __init__(
        self, key: rsa.RSAPrivateKey, payload: bytes = PAYLOAD, vm: str | None = None, secret: str = SECRET
    ) -> None:
        self.key, self.payload, self.vm, self.secret = key, payload, vm, secret.encode()
        self.content_key = secrets.token_bytes(32)
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.fields = {
            "v": "1",
            "claim": CLAIM,
            "exp": str(EXPIRES),
            **({"vm": vm} if vm else {}),
            "spki_sha256": hashlib.sha256(spki).hexdigest(),
        }
        self.sealed_key = key.public_key().encrypt(self.content_key, OAEP)
        self.sealed = self.seal()
        self.its_mac: bytes | None = None

    def expand(self, use: str) -> bytes:
        return mac(mac(self.secret, self.content_key), f"skytally/v1 {use} {CLAIM}".encode() + b"\x01")

    def seal(self) -> bytes:
        plain = tar([("payload", self.payload), ("reporter", REPORTER.encode())])
        password, salt = self.expand("enc").hex().encode(), secrets.token_bytes(8)
        key = hashlib.sha256(password + salt).digest()
        counter = hashlib.sha256(key + password + salt).digest()[:16]
        return b"Salted__" + salt + Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(plain)

    @property
    def manifest(self) -> bytes:
        digests = {
            "R_sha256": hashlib.sha256(self.sealed_key).hexdigest(),
            "P_sha256": hashlib.sha256(self.sealed).hexdigest(),
        }
        return "".join(f"{name}={value}\n" for name, value in {**self.fields, **digests}.items()).encode()

    @property
    def members(self) -> list[tuple[str, bytes]]:
        its_mac = self.its_mac or mac(self.expand("mac"), self.manifest).hex().encode() + b"\n"
        return [
            ("manifest", self.manifest),
            ("manifest.mac", its_mac),
            ("R.enc", self.sealed_key),
            ("P.enc", self.sealed),
        ]

    @property
    def bundle(self) -> bytes:
        return tar(self.members)


def flip(data: bytes, at: int, bit: int = 1) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def write(
    name: str,
    expect: str,
    key: rsa.RSAPrivateKey,
    bundle: bytes,
    comment: str,
    *,
    payload: bytes = PAYLOAD,
    vm: str | None = None,
    claim: str = CLAIM,
    expires: int = EXPIRES,
    secret: str = SECRET,
) -> None:
    lines = [f"expect: {expect}", f"claim: {claim}.{expires}.{secret}", *([f"vm: {vm}"] if vm else [])]
    if expect == "success":
        lines += [f"payload_sha256: {hashlib.sha256(payload).hexdigest()}", f"reporter: {REPORTER}"]
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    text = "\n".join([*lines, f"comment: {comment}", "", pem, base64.encodebytes(bundle).decode()])
    (HERE / f"{name}.txt").write_text(text)


def main() -> None:
    for old in HERE.glob("*.txt"):
        old.unlink()
    key = rsa.generate_private_key(65_537, 2_048)
    other = rsa.generate_private_key(65_537, 2_048)
    successes(key)
    batches(key)
    tampered_members(key)
    tampered_archives(key)
    strangers(key, other)


def successes(key: rsa.RSAPrivateKey) -> None:
    write("success", "success", key, Maker(key).bundle, "as it should be")
    write("success_padded", "success", key, tar(Maker(key).members, blocks=12), "zeros behind the archive, as tar pads")
    for bits in (3_072, 4_096):
        large = rsa.generate_private_key(65_537, bits)
        write(f"success_rsa_{bits}", "success", large, Maker(large).bundle, f"a key of {bits} bits")
    for name, payload in (
        ("empty", b""),
        ("binary", bytes(range(256)) * 3),
        ("block", b"x" * 512),
        ("newlines", b"\n\n\r\n"),
        ("large", bytes(20_000)),
    ):
        write(
            f"success_{name}",
            "success",
            key,
            Maker(key, payload).bundle,
            f"a payload of {len(payload)} bytes",
            payload=payload,
        )


def batches(key: rsa.RSAPrivateKey) -> None:
    write("batch", "success", key, Maker(key, vm="host-2").bundle, "one name of a batch", vm="host-2")
    write(
        "batch_odd_name",
        "success",
        key,
        Maker(key, vm="a b|c=d%é").bundle,
        "a name with everything in it",
        vm="a b|c=d%é",
    )
    write("batch_other_name", "no match", key, Maker(key, vm="host-3").bundle, "made for another name", vm="host-2")
    write("batch_name_missing", "no match", key, Maker(key).bundle, "made for no name", vm="host-2")
    write("batch_name_too_many", "no match", key, Maker(key, vm="host-2").bundle, "made for a name, claimed without")


def tampered_members(key: rsa.RSAPrivateKey) -> None:
    """Each member, each region; with and without the digests made to fit again."""
    for name in ("v", "claim", "exp", "spki_sha256"):
        made = Maker(key)
        good_mac = dict(made.members)["manifest.mac"]
        made.fields[name] = flip(made.fields[name].encode(), -1).decode()
        made.its_mac = good_mac
        write(f"manifest_{name}", "no match", key, made.bundle, f"{name} in the manifest changed")
    for region in ("R_sha256", "P_sha256"):
        members = dict(Maker(key).members)
        at = members["manifest"].index(region.encode()) + len(region) + 3
        members["manifest"] = flip(members["manifest"], at)
        write(f"manifest_{region}", "no match", key, tar(list(members.items())), f"{region} in the manifest changed")
    for name, extra in (("line_more", b"note=hello\n"), ("no_newline", b"")):
        members = dict(Maker(key).members)
        members["manifest"] = members["manifest"] + extra if extra else members["manifest"][:-1]
        write(f"manifest_{name}", "no match", key, tar(list(members.items())), f"manifest: {name}")
    for name, at in (("first", 0), ("middle", 30), ("last", 63)):
        members = dict(Maker(key).members)
        members["manifest.mac"] = flip(members["manifest.mac"], at)
        write(f"mac_{name}", "MAC failure", key, tar(list(members.items())), f"the MAC's {name} digit changed")
    for name, content in (("empty", b""), ("short", None), ("zeros", b"0" * 64 + b"\n")):
        members = dict(Maker(key).members)
        members["manifest.mac"] = members["manifest.mac"][:32] + b"\n" if content is None else content
        write(f"mac_{name}", "MAC failure", key, tar(list(members.items())), f"the MAC is {name}")
    for name, at in (("first", 0), ("middle", 128), ("last", -1)):
        members = dict(Maker(key).members)
        members["R.enc"] = flip(members["R.enc"], at)
        write(f"R_{name}", "no match", key, tar(list(members.items())), f"R.enc: {name} byte changed")
        refitted = Maker(key)
        refitted.its_mac = dict(refitted.members)["manifest.mac"]
        refitted.sealed_key = flip(refitted.sealed_key, at)
        write(f"R_{name}_refitted", "no match", key, refitted.bundle, f"R.enc: {name} byte changed, digest made to fit")
    for name, at in (
        ("magic", 0),
        ("salt", 8),
        ("header", 20),
        ("payload", 16 + 512),
        ("reporter", 16 + 1_536 + 10),
        ("last", -1),
    ):
        members = dict(Maker(key).members)
        members["P.enc"] = flip(members["P.enc"], at)
        write(f"P_{name}", "no match", key, tar(list(members.items())), f"P.enc: changed in its {name}")
        refitted = Maker(key)
        refitted.its_mac = dict(refitted.members)["manifest.mac"]
        refitted.sealed = flip(refitted.sealed, at)
        write(
            f"P_{name}_refitted",
            "MAC failure",
            key,
            refitted.bundle,
            f"P.enc: changed in its {name}, digest made to fit",
        )


def tampered_archives(key: rsa.RSAPrivateKey) -> None:
    made = Maker(key).members
    write("order_mac_first", "no match", key, tar([made[1], made[0], made[2], made[3]]), "MAC before manifest")
    write("order_P_before_R", "no match", key, tar([made[0], made[1], made[3], made[2]]), "P.enc before R.enc")
    write("member_more", "no match", key, tar([*made, ("extra", b"x")]), "a fifth member")
    write("member_first", "no match", key, tar([("extra", b"x"), *made]), "a member before the manifest")
    write("member_twice", "no match", key, tar([*made, made[3]]), "P.enc twice")
    write("member_path", "no match", key, tar([*made[:3], ("../P.enc", made[3][1])]), "P.enc by a path")
    for index, (name, _) in enumerate(made):
        write(f"member_missing_{name}", "no match", key, tar(made[:index] + made[index + 1 :]), f"without {name}")
    write("member_symlink", "no match", key, tar(made, kinds={"P.enc": tarfile.SYMTYPE}), "P.enc is a symbolic link")
    write("member_directory", "no match", key, tar(made, kinds={"R.enc": tarfile.DIRTYPE}), "R.enc is a folder")
    whole = tar(made)
    for name, at in (("name", 0), ("size", 130), ("mtime", 140), ("checksum", 150)):
        write(f"header_{name}", "no match", key, flip(whole, at), f"the first header's {name} changed")
    for name, size in (("empty", 0), ("header", 300), ("manifest", 700), ("R", 2_700), ("P", len(whole) - 1_800)):
        write(f"truncated_{name}", "no match", key, whole[:size], f"cut off in its {name}: {size} bytes left")
    write(
        "not_a_tar",
        "no match",
        key,
        b'{"error": {"code": "taken", "message": "an answer that is no bundle"}}',
        "JSON instead of a tar",
    )


def strangers(key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey) -> None:
    write("key_other", "no match", key, Maker(other).bundle, "made for another key")
    mixed = Maker(other)
    mixed.fields["spki_sha256"] = Maker(key).fields["spki_sha256"]
    write("key_other_claims_mine", "no match", key, mixed.bundle, "encrypted to another key, but naming this one")
    secret = hashlib.sha256(b"another claim").hexdigest()
    write(
        "secret_other",
        "MAC failure",
        key,
        Maker(key, secret=secret).bundle,
        "made by somebody who does not know the claim secret",
    )
    write("secret_mine_other", "MAC failure", key, Maker(key).bundle, "opened with another claim secret", secret=secret)
    write("claim_other", "no match", key, Maker(key).bundle, "another claim's token", claim="z" * 24)
    write("expires_other", "no match", key, Maker(key).bundle, "a token with another expiry", expires=EXPIRES + 1)


if __name__ == "__main__":
    main()
