"""Deployment: what a platform must be told of each function, made from the one list in catalog.py.

The shapes are OpenFaaS's: `POST|PUT /system/functions` of its gateway, and `stack.yml` for faas-cli. One image holds all functions;
FUNCTION_TARGET chooses. Secrets are files that the platform mounts at SECRETS_FOLDER and are named here, never held.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from skytally.catalog import FUNCTIONS, Function

MEMORY = {"limit": "256Mi", "request": "96Mi"}
SECRETS_FOLDER = "/var/openfaas/secrets"
KEY_NAME = re.compile(r"(master|wrapping|token)-[0-9]{14}")


def specification(function: Function, image: str, settings: Mapping[str, str], secrets: Sequence[str]) -> dict[str, Any]:
    """Answer the body that the gateway takes to make or change a function."""
    return {
        "service": function.service,
        "image": image,
        "envVars": {"SKYTALLY_KEYS": SECRETS_FOLDER, **settings, "FUNCTION_TARGET": function.name},
        "secrets": sorted(name for name in secrets if function.keys or not KEY_NAME.fullmatch(name)),
        "labels": {"app": "skytally"},
        "annotations": schedule(function),
        "limits": {"memory": MEMORY["limit"]},
        "requests": {"memory": MEMORY["request"]},
        "readOnlyRootFilesystem": True,
    }


def schedule(function: Function) -> dict[str, str]:
    """Answer cron-connector's annotations of a timer function."""
    return {"topic": "cron-function", "schedule": function.schedule} if function.schedule else {}


def stack(image: str, settings: Mapping[str, str], secrets: Sequence[str]) -> dict[str, Any]:
    """Answer what stack.yml says: the same functions, as faas-cli takes them."""
    functions = {}
    for function in FUNCTIONS:
        spec = specification(function, image, settings, secrets)
        functions[spec["service"]] = {
            "lang": "dockerfile",
            "handler": "..",
            "image": image,
            "environment": spec["envVars"],
            "secrets": spec["secrets"],
            "labels": spec["labels"],
            "annotations": spec["annotations"],
            "limits": spec["limits"],
            "requests": spec["requests"],
            "readonly_root_filesystem": True,
        }
    return {"version": "1.0", "provider": {"name": "openfaas"}, "functions": functions}
