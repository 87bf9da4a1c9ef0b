"""User-data as cloudscheduler sends them and cloud-init takes them: one part beside those of the site's own."""

import base64
import bisect
import gzip
import os
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
import yaml

from localstack import cloud_init
from localstack.server_process import Missing
from skytally.core.errors import Malformed
from skytally.secrets import user_data

SITE = """#cloud-config
merge_type: "list(append)+dict(recurse_array)+str()"
write_files:
- path: /etc/condor/config.d/local
  content: |
    A = 1
runcmd:
- [systemctl, start, condor]
"""
TAKING = user_data.Taking(unpack="/etc/condor", owner="condor", mode="0600")
TOKEN = f"{'k' * 26}.1795000000.{'0' * 64}"


def certificate():
    """Make what is as long as a real certificate of 2048 bits, and like it without a pattern that packing could use."""
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(os.urandom(900)).decode()}-----END CERTIFICATE-----\n"


CERTIFICATE = certificate()


def door(ca=CERTIFICATE):
    return user_data.Door("https://sky.example.org", ca=ca)


def ours(**change):
    return user_data.text_of(user_data.cloud_config(door(), TOKEN, "d" * 64, TAKING) | change)


def sent(*parts):
    """Send parts as one message from which blank lines and comments are gone,
    but for the lines that say what a part is; packed.
    """
    message = MIMEMultipart()
    for part in parts:
        message.attach(MIMEText(part, "cloud-config", "ascii"))
    lines = str(message).splitlines()
    kept = [
        line
        for line in lines
        if line.strip() and (not line.lstrip().startswith("#") or line.startswith(("#cloud", "#!")))
    ]
    return gzip.compress("\n".join(kept).encode())


def read(user_data):
    try:
        return cloud_init.read(user_data)
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def content(file):
    data = file["content"].encode()
    encoding = file.get("encoding", "")
    data = base64.b64decode(data) if encoding.endswith("b64") else data
    return (gzip.decompress(data) if encoding.startswith("gz") else data).decode()


@pytest.mark.parametrize(
    "parts", [(SITE, ours()), (ours(), SITE), (SITE.replace("merge_type", "no_merge_type"), ours())]
)
def test_what_a_site_s_user_data_write_and_run_is_done_too(parts):
    made = read(sent(*parts))
    files = {file["path"]: content(file) for file in made["write_files"]}
    assert files.keys() == {"/etc/condor/config.d/local", user_data.CLAIM_FILE, user_data.SCRIPT, user_data.CA_FILE}
    assert (files["/etc/condor/config.d/local"], files[user_data.CLAIM_FILE]) == ("A = 1\n", TOKEN)
    assert files[user_data.CA_FILE] == CERTIFICATE
    assert files[user_data.SCRIPT].startswith("#!/bin/sh\n")
    assert sorted(made["runcmd"]) == [list(user_data.RUN), ["systemctl", "start", "condor"]]


@pytest.mark.parametrize("packed", [str.encode, lambda text: gzip.compress(text.encode())], ids=["plain", "gzip"])
def test_ours_alone_is_read_as_it_is_or_packed(packed):
    made = read(packed(ours()))
    assert [file["path"] for file in made["write_files"]] == [user_data.CLAIM_FILE, user_data.SCRIPT, user_data.CA_FILE]


def test_without_merge_how_ours_would_wipe_a_site_s():
    made = read(sent(SITE, ours(merge_how="dict(replace)+list()+str()")))
    assert made["runcmd"] == [list(user_data.RUN)]


def test_no_line_but_the_first_begins_with_what_cloudscheduler_takes_away():
    text = ours()
    lines = text.splitlines()
    assert lines[0] == "#cloud-config"
    kept = [line for line in lines[1:] if line.strip() and not line.lstrip().startswith("#")]
    assert yaml.safe_load("\n".join(kept)) == yaml.safe_load(text)
    assert text.isascii()


# ---- size ----


def test_user_data_with_one_certificate_leave_most_of_the_room_to_the_site():
    assert len(ours()) < user_data.MOST_BYTES / 4
    user_data.check_size(door(), "d" * 64, TAKING)


def test_a_file_goes_in_its_shorter_encoding_and_is_always_the_same_bytes():
    encodings = {file["path"]: file.get("encoding") for file in yaml.safe_load(ours())["write_files"]}
    assert encodings == {user_data.CLAIM_FILE: None, user_data.SCRIPT: "gz+b64", user_data.CA_FILE: "gz+b64"}
    short = user_data.text_of(user_data.cloud_config(door("short\n"), TOKEN, "d" * 64, TAKING))
    assert yaml.safe_load(short)["write_files"][2]["encoding"] == "b64"
    assert ours() == ours()


def test_a_bundle_is_refused_with_what_to_do_before_a_secret_is_left():
    with pytest.raises(Malformed) as refused:
        user_data.check_size(door("".join(certificate() for _ in range(137))), "d" * 64, TAKING)
    for words in ("clouds take 16384", "holds 137 certificates", "the one of the CA that signed", "SSL_CERT_FILE"):
        assert words in refused.value.message


def test_the_check_holds_for_the_longest_token_there_is():
    noise = base64.b64encode(os.urandom(user_data.MOST_BYTES)).decode()

    def taking(length):
        return user_data.Taking(unpack=noise[:length], owner="root", mode="0400")

    def size(length):
        return len(user_data.text_of(user_data.cloud_config(door(), user_data.LONGEST_TOKEN, "d" * 64, taking(length))))

    longest = bisect.bisect(range(user_data.MOST_BYTES), user_data.MOST_BYTES, key=size) - 1
    assert size(longest) <= user_data.MOST_BYTES < size(longest + 1)
    user_data.check_size(door(), "d" * 64, taking(longest))
    with pytest.raises(Malformed, match="shorten --base, --unpack or --owner"):
        user_data.check_size(door(), "d" * 64, taking(longest + 1))


@pytest.mark.parametrize(
    ("file", "certificates"),
    [
        (CERTIFICATE, 1),
        (f"# a comment\n\n{CERTIFICATE}subject=/CN=x\n{CERTIFICATE}", 2),
        (CERTIFICATE.replace("\n", " \n"), 1),
        (CERTIFICATE.rstrip(), 1),
        (CERTIFICATE + CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY"), 1),
    ],
)
def test_of_a_ca_file_only_certificates_go_into_user_data(file, certificates):
    found = user_data.certificates_of(file)
    assert len(found) == certificates
    assert not any(word in "".join(found) for word in ("PRIVATE", "comment", "subject"))
    assert all(one.endswith("-----END CERTIFICATE-----\n") for one in found)


@pytest.mark.parametrize("file", ["", "none", CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY"), CERTIFICATE[:200]])
def test_a_ca_file_without_a_certificate_is_refused(file):
    with pytest.raises(Malformed, match="holds no certificate in PEM"):
        user_data.certificates_of(file)
