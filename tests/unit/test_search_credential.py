"""What a credential's file may hold, and as whom a search engine is called by it."""

import base64

import pytest

from localstack.ca import CertificateAuthority
from skytally.adapters.documents_search import credential
from skytally.adapters.documents_search.credential import Credential

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb2JvdCJ9.c2ln"


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("VnVhQ2ZHY0JDZGJrUW0=\n", "ApiKey VnVhQ2ZHY0JDZGJrUW0="),
        ("user:pass:wörd", "Basic " + base64.b64encode("user:pass:wörd".encode()).decode()),
        (JWT, f"Bearer {JWT}"),
        ("Bearer opaque", "Bearer opaque"),
        (f"  Bearer {JWT}\n", f"Bearer {JWT}"),
    ],
)
def test_one_line_says_who_calls(tmp_path, text, header):
    (tmp_path / "file").write_text(text)
    assert credential.read(str(tmp_path / "file")) == Credential({"authorization": header})


def test_no_file_is_nobody():
    assert credential.read("") == Credential()


def test_a_certificate_and_its_key_are_shown_at_the_connections_begin(tmp_path):
    certificate, key = CertificateAuthority(tmp_path).issue("robot")
    (tmp_path / "both").write_text(key.read_text() + certificate.read_text())
    assert credential.read(str(tmp_path / "both")) == Credential(certificate={"client_cert": str(tmp_path / "both")})


def test_a_certificate_without_its_key_and_two_lines_are_refused(tmp_path):
    authority = CertificateAuthority(tmp_path)
    (certificate, _), (_, other) = authority.issue("robot"), authority.issue("other")
    (tmp_path / "wrong-key").write_text(other.read_text() + certificate.read_text())
    (tmp_path / "lines").write_text("user:password\nuser2:password2\n")
    for name in (certificate, tmp_path / "wrong-key", tmp_path / "lines", tmp_path / "nowhere"):
        with pytest.raises((OSError, ValueError)):
            credential.read(str(name))


def test_it_shows_no_secret(tmp_path):
    (tmp_path / "file").write_text("user:hidden")
    assert "hidden" not in repr(credential.read(str(tmp_path / "file")))
    assert "Basic" not in repr(credential.read(str(tmp_path / "file")))
