"""Ask pip-audit what is known of the packages in the image: `make audit`.

Ends with 1 where something is, and says where nobody could tell.

A network without a service that knows vulnerabilities is no vulnerability: then it says in one line that nothing was
audited.
"""

import json
import subprocess
import sys
from typing import Any

LOCK = "requirements.lock"
SECONDS = 300


def main() -> int:
    """Audit the lock file with the program that the command line names; return the exit code."""
    command = [
        sys.argv[1],
        "--disable-pip",
        "--require-hashes",
        "--requirement",
        LOCK,
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        dependencies = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("nothing was audited: pip-audit reached no service that knows vulnerabilities")
        return 0
    return told(dependencies)


def told(dependencies: list[dict[str, Any]]) -> int:
    """Print what is known of each package; return 1 where one has a known vulnerability."""
    unknown = [dependency["name"] for dependency in dependencies if "skip_reason" in dependency]
    if len(unknown) == len(dependencies):
        print("nothing was audited: pip-audit reached no service that knows vulnerabilities")
        return 0
    flaws = [(dependency, flaw) for dependency in dependencies for flaw in dependency.get("vulns", ())]
    for dependency, flaw in flaws:
        print(
            f"{dependency['name']} {dependency['version']}: {flaw['id']}, mended in "
            f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        )
    print(
        f"{len(dependencies) - len(unknown)} packages audited, {len(flaws)} vulnerabilities known, {len(unknown)} "
        "packages not known"
    )
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
