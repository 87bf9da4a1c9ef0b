"""GET /agent/<file>: the scripts that vms and schedulers run, with their digests."""

from hashlib import sha256
from pathlib import Path

import functions_framework.aio

from skytally.core.errors import NotFound
from skytally.http import web

SCRIPTS = ("open.sh", "scheduler.py", "vm.py")


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"), paths=True)
def agent(request: web.Request) -> web.Reply:
    """Return a script as it stands in this folder, or the digests of all."""
    files = {
        name: (Path(__file__).parent / name).read_bytes()
        for name in SCRIPTS
        if (Path(__file__).parent / name).is_file()
    }
    if request.path == "SHA256SUMS":
        return web.Reply(
            "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in files.items()), media_type="text/plain"
        )
    if request.path not in files:
        raise NotFound(f"there is {', '.join(files)} and SHA256SUMS")
    return web.Reply(files[request.path], media_type="text/plain; charset=utf-8")
