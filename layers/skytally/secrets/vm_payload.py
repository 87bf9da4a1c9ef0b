"""Payloads: checked by vm.py's own unpacking code before a deposit."""

import os
import tarfile
import zlib
from functools import cache
from importlib.resources import as_file, files
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from tempfile import TemporaryDirectory
from types import ModuleType

from skytally.core.errors import Malformed
from skytally.core.records import MOST_PAYLOAD_BYTES

GZIP = b"\x1f\x8b"


def looks_packed(payload: bytes) -> bool:
    """Return whether a payload begins as a tar or a gzip does."""
    return payload.startswith(GZIP) or payload[257:262] == b"ustar"


def plain_tar(payload: bytes) -> bytes:
    """Return a payload's tar, decompressed; raise Malformed for a payload that vm.py would refuse.

    It is unpacked in a folder in memory where there is one, as on the vm: no secret may stay on this machine's disk.
    """
    tar = _gunzipped(payload) if payload.startswith(GZIP) else payload
    if len(tar) > MOST_PAYLOAD_BYTES:
        raise Malformed(f"the payload is over {MOST_PAYLOAD_BYTES} bytes: leave less for a vm")
    agent = _agent()
    in_memory = (folder for folder in agent.SECRET_DIRS if os.access(folder, os.W_OK))
    with TemporaryDirectory(dir=next(in_memory, None)) as folder:
        try:
            agent.unpack(tar, f"{folder}/payload")
        except agent.Stop as stop:
            sentence = str(stop.args[1]).replace(folder, "")
            raise Malformed(
                f"vm.py would refuse the payload, so nothing is left for the vm: {sentence}{_first_odd(tar)}"
            ) from None
    return tar


def _gunzipped(payload: bytes) -> bytes:
    """Return a gzip's content, at most one byte more than a payload may have."""
    gunzip = zlib.decompressobj(31)
    try:
        tar = gunzip.decompress(payload, MOST_PAYLOAD_BYTES + 1)
    except zlib.error as damage:
        raise Malformed(f"the payload is a damaged gzip: {damage}") from None
    if len(tar) <= MOST_PAYLOAD_BYTES and (not gunzip.eof or gunzip.unused_data):
        raise Malformed("the payload is a gzip that is cut short, or something stands behind it")
    return tar


def _first_odd(tar: bytes) -> str:
    """Return the first member that is neither a plain file nor a folder."""
    try:
        with tarfile.open(fileobj=BytesIO(tar), mode="r:") as archive:
            names = (member.name for member in archive if member.issparse() or not (member.isreg() or member.isdir()))
            return "".join(f" (its member {name!r} is none)" for name in [next(names, None)] if name is not None)
    except (tarfile.TarError, OSError, ValueError):
        return ""


@cache
def _agent() -> ModuleType:
    """Return vm.py as a module: data/vm.py is a link to the one file that the function `agent` serves."""
    with as_file(files("skytally") / "data" / "vm.py") as path:
        spec = spec_from_file_location("skytally_vm", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"no module can be made of {path}")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module
