"""cloud-init's own reading and merging of user-data, from Debian's package:
fetched by apt, unpacked, never installed.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from localstack.server_process import CACHE, Missing

FETCH_SECONDS = 300
# As cloudinit/handlers/cloud_config.py merges one part after another.
READING = """
import json, sys
from cloudinit import mergers, user_data, util
merged = {}
for part in user_data.UserDataProcessor(None).process(sys.stdin.buffer.read()).walk():
    if part.get_content_type() == "text/cloud-config":
        config = util.load_yaml(util.fully_decoded_payload(part))
        how = mergers.dict_extract_mergers(config) or mergers.string_extract_mergers("dict(replace)+list()+str()")
        merged = mergers.construct(how).merge(merged, config)
json.dump(merged, sys.stdout)
"""


def read(user_data: bytes) -> dict[str, Any]:
    """Return what cloud-init makes of the cloud-configs in a vm's user-data; raises Missing where it cannot be had."""
    command = [sys.executable, "-c", READING]
    done = subprocess.run(
        command, input=user_data, env={"PYTHONPATH": str(_package())}, capture_output=True, check=True, timeout=60
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _package() -> Path:
    """Return the folder of cloud-init's Python package, fetched once; apt checks that it is Debian's."""
    root = CACHE / "cloud-init"
    package = root / "usr" / "lib" / "python3" / "dist-packages"
    if not (package / "cloudinit" / "mergers").is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise Missing(
                "without apt-get and dpkg-deb: that cloud-init reads our user-data with a site's is not tested"
            )
        fresh = CACHE / "cloud-init.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        how: dict[str, Any] = {
            "cwd": fresh,
            "stdin": subprocess.DEVNULL,
            "capture_output": True,
            "timeout": FETCH_SECONDS,
        }
        if subprocess.run(["apt-get", "download", "-qq", "cloud-init"], check=False, **how).returncode:
            raise Missing("without Debian's packages: that cloud-init reads our user-data with a site's is not tested")
        (archive,) = fresh.glob("cloud-init_*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, fresh], check=True, **how)
        shutil.rmtree(root, ignore_errors=True)
        fresh.rename(root)
    return package
