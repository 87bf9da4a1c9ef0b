"""User-data as cloud-init takes them: merged with what a site's own user-data write and run."""

import base64
import os

import pytest
import yaml

from localstack import cloud_init
from localstack.server_process import Missing
from skytally import userdata

SITE = """#cloud-config
merge_type: "list(append)+dict(recurse_array)+str()"
write_files:
- path: /etc/condor/config.d/local
  content: |
    A = 1
runcmd:
- [systemctl, start, condor]
"""


def ours(**change):
    taking = userdata.Taking(unpack="/etc/condor", owner="condor", mode="0600")
    made = userdata.cloud_config(userdata.Door("https://sky.example.org", ca="PEM\n"), "the-token", "d" * 64, taking) | change
    return "#cloud-config\n" + yaml.safe_dump(made, sort_keys=False)


def merged(*parts):
    try:
        return cloud_init.merged(parts)
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.mark.parametrize("parts", [(SITE, ours()), (ours(), SITE), (SITE.replace("merge_type", "no_merge_type"), ours())])
def test_what_a_site_s_user_data_write_and_run_is_done_too(parts):
    made = merged(*parts)
    paths = {file["path"] for file in made["write_files"]}
    assert paths == {"/etc/condor/config.d/local", userdata.CLAIM_FILE, userdata.SCRIPT, userdata.CA_FILE}
    assert sorted(made["runcmd"]) == [[userdata.SCRIPT], ["systemctl", "start", "condor"]]


def test_without_merge_how_ours_would_wipe_a_site_s():
    made = merged(SITE, ours(merge_how="dict(replace)+list()+str()"))
    assert made["runcmd"] == [[userdata.SCRIPT]]


def test_no_line_but_the_first_begins_with_what_cloudscheduler_takes_away():
    text = ours()
    lines = text.splitlines()
    assert lines[0] == "#cloud-config"
    kept = [line for line in lines[1:] if line.strip() and not line.lstrip().startswith("#")]
    assert yaml.safe_load("\n".join(kept)) == yaml.safe_load(text)
    (script,) = [file for file in yaml.safe_load(text)["write_files"] if file["path"] == userdata.SCRIPT]
    assert base64.b64decode(script["content"]).startswith(b"#!/bin/sh\n")
