"""The image: its size, and for each function how long it takes from exec to the first 200,
and how much memory it holds at rest.

Times depend on the machine and its load, which processor time shows. Every function starts from the read-only root,
alone, as nobody; the file cache is warm. Memory is the proportional set size while all of them run, as on one node:
what processes share counts in parts.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from localstack.image import Image, image
from localstack.server_process import Missing
from skytally.adapters.keys_files import KeyFiles
from skytally.deployment.catalog import FUNCTIONS

STARTS = 9
AIM_SIZE_MB, AIM_SECONDS, AIM_MEMORY_MB = 120, 0.30, 36
MB = 1_000_000
console = Console()


def size_mb(folder: Path) -> float:
    """Return the size of all files of a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / MB


def first_answer_seconds(built: Image, name: str, secrets: Path, log: Path) -> tuple[float, float]:
    """Return how long a function takes from exec until it is ready, and how much of that is its own processor time."""
    began = time.perf_counter()
    with built.running(name, {}, secrets, log) as function:
        function.wait_until_ready()
        return time.perf_counter() - began, function.cpu_seconds()


def memory_mb(built: Image, secrets: Mapping[str, Path], folder: Path) -> dict[str, float]:
    """Return what each function holds at rest while all of them run."""
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(built.running(name, {}, secrets[name], folder / name)) for name in secrets}
        for function in running.values():
            function.wait_until_ready()
        return {name: function.memory_bytes() / MB for name, function in running.items()}


def verdict(value: float, aim: float) -> str:
    """Say whether a number is within its aim."""
    return "[green]yes[/]" if value <= aim else "[red]no[/]"


def measure(built: Image, folder: Path) -> None:
    """Print the size of the image, and a row for each function."""
    (packages,) = built.root.glob("opt/skytally/lib/python3*/site-packages")
    size = size_mb(packages)
    console.print(
        f"site-packages with bytecode: {size:.0f} MB (aim {AIM_SIZE_MB}: {verdict(size, AIM_SIZE_MB)}); "
        f"the whole image: {size_mb(built.root):.0f} MB"
    )
    keys, none = folder / "keys", folder / "none"
    none.mkdir()
    for path in KeyFiles(keys, lambda: datetime.now(UTC)).init():
        path.chmod(0o644)
    keys.chmod(0o755)
    secrets = {function.name: keys if function.keys else none for function in FUNCTIONS}
    memory = memory_mb(built, secrets, folder)
    columns = ("function", "first 200, s", "CPU, s", f"≤ {AIM_SECONDS:.2f}", "memory, MB", f"≤ {AIM_MEMORY_MB}")
    table = Table(*columns, title=f"median of {STARTS} starts")
    for name, own in secrets.items():
        starts = [first_answer_seconds(built, name, own, folder / "log") for _ in range(STARTS)]
        seconds, cpu_seconds = (statistics.median(values) for values in zip(*starts, strict=True))
        cells = (f"{seconds:.3f}", f"{cpu_seconds:.2f}", verdict(seconds, AIM_SECONDS))
        table.add_row(name, *cells, f"{memory[name]:.1f}", verdict(memory[name], AIM_MEMORY_MB))
    console.print(table)


def main() -> None:
    """Build the image and measure it."""
    with contextlib.ExitStack() as stack:
        try:
            built = stack.enter_context(image())
        except Missing as missing:
            console.print(f"{missing}: nothing is measured")
            return
        measure(built, Path(stack.enter_context(tempfile.TemporaryDirectory())))


if __name__ == "__main__":
    main()
