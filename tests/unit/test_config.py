"""Settings: read once, from one place, with errors that name them."""

import pytest

from skytally.core.config import Config, setting_names, settings
from skytally.core.errors import Misconfigured


def test_defaults_are_the_laptop():
    config = Config.from_env({"SKYTALLY_HOME": "/somewhere"})
    assert config.documents_url == "sqlite:////somewhere/documents.sqlite"
    assert config.objects_url == "file:///somewhere/objects"
    assert str(config.keys_path) == "/somewhere/keys"


def test_what_is_given_wins():
    config = Config.from_env(
        {"SKYTALLY_DOCUMENTS": "sqlite:///x", "SKYTALLY_OBJECTS": "file:///y", "SKYTALLY_KEYS": "/z", "PORT": "0"}
    )
    assert (config.documents_url, config.objects_url, str(config.keys_path), config.port) == (
        "sqlite:///x",
        "file:///y",
        "/z",
        0,
    )


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("PORT", "70000"), ("SKYTALLY_TRUSTED_HOPS", "-1")])
def test_a_bad_setting_is_named(name, value):
    with pytest.raises(Misconfigured, match=name):
        Config.from_env({name: value})


def test_an_empty_setting_is_none():
    assert Config.from_env({"PORT": ""}).port == 8080


def test_every_setting_has_a_name_and_a_meaning():
    assert len(set(setting_names().values())) == len(setting_names())
    assert all(name and meaning for name, _, meaning in settings())
