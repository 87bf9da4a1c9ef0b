"""Where every example begins: a copy of the site as it was built, on SQLite or on a search engine."""

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from click.testing import CliRunner

from skytally.app.wiring import open_documents
from skytally.cli import cli
from skytally.core.config import Config
from tests.properties.deployment import NOW, A, B, Site, deployed
from tests.properties.world import build, dirac, panda_jobs
from tests.support.builders import remove

Settings = dict[str, str]


class Beginning:
    """The site as it was built, to which every example goes back."""

    def __init__(self, site: Site, folder: Path, documents_of: Callable[[Path], Settings]) -> None:
        self.site, self._folder, self._documents_of = site, folder, documents_of
        self._numbers = count(1)

    def again(self) -> Path:
        """Go back to it, in a folder of its own; the one before is gone."""
        number = next(self._numbers)
        folder = self._folder / f"copy-{number}"
        shutil.copytree(self._folder / "built", folder)
        self.site.open(folder, self._documents_of(folder))
        shutil.rmtree(self._folder / f"copy-{number - 1}", ignore_errors=True)
        return folder


@contextlib.contextmanager
def beginning(folder: Path, documents_of: Callable[[Path], Settings] = lambda _: {}) -> Iterator[Beginning]:
    """Build the site and what it needs outside; its documents stay in its folder, or are brought elsewhere."""
    with deployed([job for cloud in (A, B) for job in panda_jobs(cloud)], dirac()) as site:
        (folder / "built").mkdir()
        build(site, folder / "built")
        yield Beginning(site, folder, documents_of)


class SearchEngine:
    """A search engine that holds the documents of one site, each time under another prefix."""

    def __init__(self, settings: Settings) -> None:
        self._server = settings
        self._now: Settings = {}

    def __call__(self, folder: Path) -> Settings:
        """Bring a folder's documents there, as a site that moves up does; those before are gone."""
        self.clear()
        self._now = {**self._server, "SKYTALLY_DOCUMENTS_PREFIX": f"t{secrets.token_hex(8)}"}
        with contextlib.closing(open_documents(Config.from_env(self._now))) as documents:
            documents.install(NOW)
        source, target = f"sqlite:///{folder}/documents.sqlite", self._now["SKYTALLY_DOCUMENTS"]
        command = ["copy", "--from", source, "--to", target]
        done = CliRunner(env=self._now).invoke(cli, command)
        assert done.exit_code == 0, done.output
        return self._now

    def clear(self) -> None:
        """Remove what lies there."""
        if self._now:
            with contextlib.closing(open_documents(Config.from_env(self._now))) as documents:
                remove(documents.client, self._now["SKYTALLY_DOCUMENTS_PREFIX"])
        self._now = {}
