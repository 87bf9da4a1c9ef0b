"""`skytally deploy`: functions and secrets on a FaaS platform by a description; for people and for Terraform."""

import contextlib
import difflib
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console

from skytally.adapters import functions_openfaas
from skytally.adapters.functions_knative import KnativeFunctions, kubeconfig, manifests
from skytally.adapters.functions_knative.cluster import Cluster
from skytally.adapters.functions_knative.manifests import Site
from skytally.cli.terminal import AS_JSON, say, say_json, show
from skytally.core.config import Config, setting_names
from skytally.core.errors import Malformed, Misconfigured
from skytally.core.ports import FunctionPlatform, Specification
from skytally.deployment import catalog, descriptions, rollout
from skytally.deployment.function_urls import check_gateway
from skytally.deployment.rollout import Drift, Pace

EXIT_DRIFT, DEFAULT_SECONDS = 3, 120.0
DEFAULT_KUBECONFIG = Path("~/.kube/config")
PLATFORM_OPTIONS = (
    click.option(
        "--platform",
        type=click.Choice(["openfaas", "knative"]),
        default="openfaas",
        show_default=True,
        envvar="SKYTALLY_PLATFORM",
        help="what runs the functions",
    ),
    click.option("--gateway", envvar="SKYTALLY_GATEWAY", help="openfaas: the gateway's URL"),
    click.option(
        "--password-file",
        envvar="SKYTALLY_GATEWAY_PASSWORD_FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="openfaas: file with the password of the gateway's user admin",
    ),
    click.option(
        "--ca",
        envvar="SKYTALLY_GATEWAY_CA_FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="openfaas: CA of the gateway's certificate",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        envvar="SKYTALLY_GATEWAY_INSECURE",
        help="openfaas: let the password travel in clear to an http:// that is not this machine",
    ),
    click.option(
        "--kubeconfig",
        envvar="KUBECONFIG",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="knative: who calls which cluster; else ~/.kube/config, else the account of the pod that this runs in",
    ),
)
SITE_OPTIONS = (
    click.option(
        "--namespace",
        default="skytally",
        show_default=True,
        envvar="SKYTALLY_NAMESPACE",
        help="knative: the functions' namespace",
    ),
    click.option(
        "--route-gateway",
        envvar="SKYTALLY_ROUTE_GATEWAY",
        metavar="NAMESPACE/NAME",
        help="knative: a Gateway through which functions answer at /function/NAME, instead of host names of their own",
    ),
    click.option("--route-host", envvar="SKYTALLY_ROUTE_HOST", help="knative: the host name of those paths, else any"),
    click.option(
        "--min-scale",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="knative: pods of a function without callers",
    ),
    click.option(
        "--max-scale", default=10, show_default=True, type=click.IntRange(1), help="knative: most pods of a function"
    ),
)
DESCRIPTION = click.argument("description", type=click.File("rb"))


def on_platform(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that gets the platform of its options."""

    @functools.wraps(command)
    def with_platform(platform: str, site: Site, **options: Any) -> Any:
        where = {name: options.pop(name) for name in ("gateway", "password_file", "ca", "insecure", "kubeconfig")}
        seconds = options.get("seconds", DEFAULT_SECONDS)
        selected_platform = (
            _knative(where["kubeconfig"], site, seconds) if platform == "knative" else _openfaas(where, seconds)
        )
        return command(selected_platform, **options)

    return _with_options(PLATFORM_OPTIONS, on_site(with_platform))


def on_site(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that gets the cluster's site of its options."""

    @functools.wraps(command)
    def with_site(**options: Any) -> Any:
        names = {"route_gateway": "gateway", "route_host": "host"}
        named = ("namespace", "route_gateway", "route_host", "min_scale", "max_scale")
        with _usage():
            site = Site(**{names.get(name, name): options.pop(name) for name in named})
        return command(site=site, **options)

    return _with_options(SITE_OPTIONS, with_site)


def _with_options(options: Sequence[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """Raise click's usage error for a malformed option, so that it has click's exit code."""
    try:
        yield
    except Malformed as error:
        raise click.UsageError(error.message) from None


def _openfaas(where: Mapping[str, Any], seconds: float) -> FunctionPlatform:
    if where["gateway"] is None or where["password_file"] is None:
        raise click.UsageError("--platform openfaas needs --gateway and --password-file")
    with _usage():
        check_gateway(where["gateway"], insecure=where["insecure"])
    password, tell = rollout.read_secret(where["password_file"]), functools.partial(say, err=True)
    return functions_openfaas.OpenFaasFunctions(where["gateway"], password, where["ca"], tell, seconds)


def _knative(kubeconfig_path: Path | None, site: Site, seconds: float) -> FunctionPlatform:
    default_path = DEFAULT_KUBECONFIG.expanduser()
    path = kubeconfig_path or (default_path if default_path.is_file() else None)
    access = kubeconfig.from_kubeconfig(path) if path else kubeconfig.from_pod()
    return KnativeFunctions(Cluster(access, site.namespace, seconds), site)


@click.group()
def deploy() -> None:
    """Put functions and secrets onto OpenFaaS or Knative.

    Each command may be repeated: what is so already stays as it is.

    \b
    A DESCRIPTION is YAML or JSON (- is standard input):
      image: registry.example.org/skytally:1
      settings:
        SKYTALLY_DOCUMENTS: https://search.example.org:9200
        SKYTALLY_OBJECTS: s3://bucket
        SKYTALLY_TRUSTED_HOPS: "1"                   # numbers are quoted
      secrets: [master-20261101000000, wrapping-20261101000000,
                token-20261101000000]
      function_settings:                             # by names in paths
        panda-collect: {SKYTALLY_PANDA_URL: "https://bigpanda.cern.ch"}
      function_secrets: {statement: [search-readers]}
      schedules: {panda-collect: "*/30 * * * *"}     # UTC; "": never
      secret_files: {master-20261101000000: keys/master-20261101000000}

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 what runs is not what is wanted, 5 the platform or a function does
    not answer.
    """


@deploy.command("apply")
@on_platform
@DESCRIPTION
@click.option("--only", multiple=True, help="bring this function alone, by its name in paths (repeat it)")
@click.option(
    "--seconds",
    envvar="SKYTALLY_DEPLOY_SECONDS",
    default=DEFAULT_SECONDS,
    show_default=True,
    type=click.FloatRange(1),
    help="how long each function may take to answer",
)
def apply(platform: FunctionPlatform, description: Any, only: tuple[str, ...], seconds: float) -> None:
    """Deploy all functions as DESCRIPTION specifies, and wait until they answer.

    Running functions are changed one after another. If a new version does not answer, the command ends with the
    platform's reason, and the functions after it stay unchanged.

    \b
    Examples:
      export SKYTALLY_GATEWAY=https://gateway.example.org
      export SKYTALLY_GATEWAY_PASSWORD_FILE=password
      skytally deploy apply site.yaml
      skytally deploy apply --platform knative --namespace skytally site.yaml
      terraform output -json deployment | skytally deploy apply -
    """
    parsed, everything = _read(description)
    _check_services(only, {specification.service for specification in everything})
    specifications = [specification for specification in everything if not only or specification.service in only]
    for name in rollout.unwanted(platform.services(), everything):
        say(f"{name} is no function of this version of skytally: `skytally deploy remove {name}` removes it", err=True)
    rollout.hand_over(
        platform, parsed.secret_files, {name for specification in specifications for name in specification.secrets}, say
    )
    with _progress("rolling out"):
        rollout.roll_out(platform, specifications, Pace(seconds=seconds), say)


@deploy.command("status")
@on_platform
@DESCRIPTION
@AS_JSON
def show_status(platform: FunctionPlatform, description: Any, *, as_json: bool) -> None:
    """Show how the deployed functions differ from DESCRIPTION; exit with 3 if they do.

    \b
    Example:
      terraform output -json deployment | skytally deploy status -
    """
    parsed, specifications = _read(description)
    rows = rollout.status(platform, specifications, parsed.secret_names, parsed.secret_files)
    if as_json:
        fields = [{"name": row.name, "kind": row.kind, "state": row.drift.value, "words": row.words} for row in rows]
        say_json(fields)
    else:
        show(
            ("name", "kind", "state", "what the platform says"),
            [(row.name, row.kind, row.drift.value, row.words) for row in rows],
        )
    remedies = dict.fromkeys(row.remedy for row in rows if row.drift is not Drift.NONE)
    if remedies:
        say("what runs is not what is wanted; with the same description and options this puts it right:", err=True)
        for remedy in remedies:
            say(f"  {remedy}", err=True)
        sys.exit(EXIT_DRIFT)


@deploy.command("remove")
@on_platform
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="every function of skytally that the platform has")
@AS_JSON
def remove(platform: FunctionPlatform, names: tuple[str, ...], *, everything: bool, as_json: bool) -> None:
    """Remove functions of skytally; documents, objects and secrets stay, and so does what others deployed.

    \b
    Example:
      skytally deploy remove usage-report
    """
    if bool(names) == everything:
        raise click.UsageError("name the functions, or say --all")
    ours = platform.services().keys()
    _check_services(names, ours | {function.service for function in catalog.FUNCTIONS})
    services = sorted(ours) if everything else names
    _say_states(((name, _removed(platform.remove(name))) for name in services), as_json=as_json)


@deploy.command("secrets")
@on_platform
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@AS_JSON
def put_secrets(platform: FunctionPlatform, folder: Path, *, as_json: bool) -> None:
    """Put the keys in FOLDER that functions use on the platform as secrets; values are never printed.

    FOLDER is made by `skytally keys`. Other files in it stay here, such as the key that signs statements, which no
    function needs.

    \b
    Example:
      skytally deploy secrets keys
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise Malformed(f"cannot read {folder}: {error.strerror}") from None
    values = {path.name: rollout.read_secret(path) for path in files if descriptions.KEY_NAME.fullmatch(path.name)}
    if not values:
        raise Malformed(
            f"{folder} holds no key of a function, such as master-20261101000000: `skytally keys init` makes them"
        )
    left_out = ((path.name, "left out") for path in files if path.name not in values)
    kept = ((name, _kept(platform, name, value)) for name, value in values.items())
    _say_states(itertools.chain(left_out, kept), as_json=as_json)


@deploy.command("secret")
@on_platform
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@AS_JSON
def put_secret(platform: FunctionPlatform, name: str, file: Path, *, as_json: bool) -> None:
    """Put FILE on the platform as the secret NAME; its value is never printed.

    \b
    Example:
      skytally deploy secret s3-credentials credentials
    """
    descriptions.check_secret_name(name)
    _say_states([(name, _kept(platform, name, rollout.read_secret(file)))], as_json=as_json)


@deploy.command("remove-secret")
@on_platform
@click.argument("name")
@AS_JSON
def remove_secret(platform: FunctionPlatform, name: str, *, as_json: bool) -> None:
    """Remove a secret from the platform; running functions keep what they have mounted.

    \b
    Example:
      skytally deploy remove-secret s3-credentials
    """
    _say_states([(name, _removed(platform.remove_secret(name)))], as_json=as_json)


def _kept(platform: FunctionPlatform, name: str, value: str) -> str:
    platform.put_secret(name, value)
    return "kept"


def _removed(was_there: bool) -> str:
    return "removed" if was_there else "was not there"


def _say_states(states: Iterable[tuple[str, str]], *, as_json: bool) -> None:
    """Print the state of each name as soon as it is done, or all together as JSON."""
    if as_json:
        say_json([{"name": name, "state": state} for name, state in states])
        return
    for name, state in states:
        say(f"{name}: {state}")


@deploy.command("catalog")
def show_catalog() -> None:
    """Print the list of functions as Terraform reads it.

    \b
    Example:
      skytally deploy catalog > infra/terraform/functions/catalog.json
    """
    from skytally.adapters.documents_search import access

    functions = [
        {"name": f.name, "service": f.service, "schedule": f.schedule, "keys": f.keys} for f in catalog.FUNCTIONS
    ]
    groups = {group: list(map(catalog.service_of, names)) for group, names in access.FUNCTIONS.items()}
    say_json({"functions": functions, "secrets_folder": descriptions.SECRETS_FOLDER, "search_groups": groups})


@deploy.command("stack-file")
@DESCRIPTION
def show_stack(description: Any) -> None:
    """Print DESCRIPTION as stack.yml for `faas-cli deploy`, with every setting, secret, annotation and limit.

    \b
    Example:
      skytally deploy stack-file site.yaml > stack.yml
      faas-cli deploy -f stack.yml
    """
    _, specifications = _read(description)
    click.echo(yaml.safe_dump(functions_openfaas.stack(specifications), sort_keys=False, width=120), nl=False)


@deploy.command("manifests")
@on_site
@DESCRIPTION
def show_manifests(description: Any, site: Site) -> None:
    """Print DESCRIPTION as Kubernetes objects for GitOps, as `apply --platform knative` applies them, without secrets.

    Secrets are handed over by `skytally deploy secrets --platform knative FOLDER`, or by the cluster's own means: the
    one key of each is its name. Timers stand last, since a tick before its function answers is a failed one.

    \b
    Example:
      skytally deploy manifests site.yaml > skytally.yaml
      kubectl apply --server-side -f skytally.yaml
    """
    _, specifications = _read(description)
    click.echo(
        "---\n".join(manifests.dump(manifest) for manifest in manifests.all_manifests(specifications, site)), nl=False
    )


def _read(description: Any) -> tuple[descriptions.Description, list[Specification]]:
    parsed = descriptions.parse(description.read())
    specifications = descriptions.specifications(parsed)
    for specification in specifications:
        _check_settings(specification.settings)
    return parsed, specifications


def _check_settings(settings: Mapping[str, str]) -> None:
    """Raise Malformed for an unknown setting or an invalid value."""
    valid_names = set(setting_names().values())
    for name in settings:
        if name.startswith("SKYTALLY_") and name not in valid_names:
            raise Malformed(f"{name} is no setting{_suggestion(name, valid_names)}")
    try:
        Config.from_env(settings)
    except Misconfigured as error:
        raise Malformed(f"the description: {error.reason}") from None


def _check_services(names: Iterable[str], valid_names: Iterable[str]) -> None:
    for name in names:
        if name not in valid_names:
            raise click.UsageError(f"there is no function {name}{_suggestion(name, valid_names)}")


def _suggestion(name: str, valid_names: Iterable[str]) -> str:
    closest = difflib.get_close_matches(name, sorted(valid_names), n=1)
    return f": is it {closest[0]}?" if closest else ""


def _progress(words: str) -> Any:
    """Show progress on a terminal."""
    return Console(stderr=True).status(words) if sys.stderr.isatty() else contextlib.nullcontext()
