"""Who reads our CSV: pandas, DuckDB and a spreadsheet find the numbers,
moments and names that JSON has, and nothing that runs.
"""

import csv
import io
import math
import re
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import duckdb
import pandas
import pytest

from skytally.app import wiring
from skytally.core.documents import Job
from skytally.core.ports import Write
from skytally.http import csv_table
from skytally.jobs import job_list
from tests.support import builders

NOW = datetime(2026, 11, 24, 19, tzinfo=UTC)
MONTH = "2026-11"
SITE = """
[clouds.uvic]
price_per_core_hour = 0.0117
currency = "CAD"
watts_per_core = 7.3
[clouds."kék; 1,5"]
price_per_core_hour = 1.7
currency = "JPY"
[calibration]
kernels = { zbs = 1.57 }
"""
BENCHMARK = {"kernel": "zbs", "kernel_version": "1", "score_wall": 9.37, "score_cpu": 9.9, "copies": 8}
NAMES = ("vm-1", "=HYPERLINK(1)", "+1", "-2+3", "@SUM(1)", "a;=1+1", "\u00a0=1+1", 'quo"ted', "1,5")
RENAMED = {"coverage": "coverage_share", "efficiency": "efficiency_share"}
SEPARATORS, FOLDERS = {".": ",", ",": ";"}, {".": "point", ",": "comma"}
FILES = ("clouds", "boots", "jobs", "usage", "intervals", "payloads", "health")


class Files:
    """Every kind of CSV that there is, with a point and with a comma, and the rows that each must say."""

    def __init__(self, get, folder):
        self._get, self.folder, self.rows = get, folder, {}
        for decimal in SEPARATORS:
            (folder / FOLDERS[decimal]).mkdir()
        statement = self._statement(None, "clouds")
        for row in statement["clouds"]:
            assert row["hs23_complete"] is not True
        self._statement("boots", "boots")
        self._write(
            "jobs",
            "statement",
            {"month": MONTH, "detail": "jobs"},
            list(job_list.job_rows(MONTH, (), wiring.documents())),
        )
        views = {
            "usage": {"by": "vm"},
            "intervals": {"by": "interval", "vm": "vm-1"},
            "payloads": {"view": "jobs", "by": "job"},
            "health": {"view": "health"},
        }
        for name, query in views.items():
            window = {"from": "2026-11-01T00:00:00Z", "until": "2026-11-24T19:00:00Z"}
            rows = self._get("dashboard/data", query | window).json()["table"]
            self._write(name, "dashboard/data", query | window, rows)

    def _statement(self, detail, part):
        query = {"month": MONTH, **({"detail": detail} if detail else {})}
        answer = self._get("statement", query).json()
        self._write(part, "statement", query, [{"month": MONTH} | row for row in answer[part]])
        return answer

    def _write(self, name, path, query, rows):
        assert rows, name
        self.rows[name] = rows
        for decimal in SEPARATORS:
            answer = self._get(path, query | {"format": "csv", "decimal": decimal})
            assert not re.search(rf"\d{re.escape(decimal)}\d{{7}}", answer.text)
            self.path(name, decimal).write_bytes(answer.content)

    def path(self, name, decimal):
        return self.folder / FOLDERS[decimal] / f"{name}.csv"

    def columns(self, name):
        """List the columns of a file: their header, kind and values in JSON."""
        return [(header(column), *kind_of([row[column] for row in self.rows[name]])) for column in self.rows[name][0]]


def header(name):
    return f"{name}_utc" if name.endswith("_at") or name in {"from", "until"} else RENAMED.get(name, name)


def kind_of(values):
    """Say what a column of JSON is, and what it holds."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        return "number", values
    if kinds == {bool}:
        return "truth", values
    moments = [moment(value) for value in values]
    return ("moment", moments) if any(moments) else ("text", values)


def moment(value):
    try:
        return datetime.fromisoformat(value).replace(tzinfo=None, microsecond=0) if "T" in value else None
    except (TypeError, ValueError):
        return None


@pytest.fixture
def files(home, client, bearer, monkeypatch, tmp_path_factory):
    """Report of a month with odd names, partly scored, in two currencies, with jobs, and fetch all files of it."""
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    (home / "clouds.toml").write_text(SITE)
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    for cloud in ("uvic", "kék; 1,5"):
        vms = [
            builders.FakeVm(name, NOW - timedelta(seconds=19_201 * n, milliseconds=7), n, 0.37)
            for n, name in enumerate(NAMES, 1)
        ]
        samples = [
            vm.sample(NOW, benchmark=BENCHMARK if vm.cores % 2 else None, memory_bytes=2**35 + vm.cores) for vm in vms
        ]
        reporter = bearer("reporter", clouds=(cloud,), site="Grün, =1", issued=NOW)
        answer = client.post("usage-report", json={"samples": samples}, headers=reporter)
        assert answer.json()["accepted"] == len(NAMES), answer.text
    wiring.documents().write([job(number) for number in range(1, 40)]).result()
    reader = bearer("reader", issued=NOW)

    def get(path, query):
        answer = client.get(path, params=query, headers=reader)
        assert answer.status_code == 200, answer.text
        return answer

    return Files(get, tmp_path_factory.mktemp("files"))


def job(number):
    blank = dict.fromkeys(Job.__struct_fields__) | {"job_id": f"{10**9 + number}", "changed_at": NOW, "seen_at": NOW}
    times = {
        "created_at": NOW,
        "started_at": NOW - timedelta(hours=2),
        "ended_at": NOW - timedelta(hours=1),
        "final_at": NOW - timedelta(hours=1),
    }
    words = {
        "system": "panda",
        "status": "finished",
        "cloud": "uvic",
        "vm": NAMES[number % 5],
        "error_message": f"\t=cmd()|{number}\n=1; -1",
    }
    spent = {
        "wall_ms": 3_600_001,
        "cpu_ms": number * 1_003,
        "core_ms": 8 * 3_600_001,
        "core_ms_with_cpu": 8 * 3_600_001 * (number % 2),
    }
    known = {
        "cores": 8,
        "wasted_core_ms": 0,
        "multicore": True,
        "max_pss_bytes": number * 10**9 if number % 3 else None,
    }
    return Write("job", f"panda/{10**9 + number}", 1, Job(**blank | times | words | spent | known))


def add_up(values):
    return math.fsum(value for value in values if value is not None)


@pytest.mark.parametrize("decimal", SEPARATORS)
def test_pandas_reads_numbers_truths_moments_and_names(files, decimal):
    for name in FILES:
        columns = files.columns(name)
        moments = [column for column, kind, _ in columns if kind == "moment"]
        frame = pandas.read_csv(
            files.path(name, decimal), sep=SEPARATORS[decimal], decimal=decimal, parse_dates=moments
        )
        assert list(frame.columns) == [column for column, _, _ in columns]
        for column, kind, values in columns:
            read = frame[column]
            if kind == "number":
                assert pandas.api.types.is_numeric_dtype(read), column
                assert add_up(read.dropna()) == add_up(values), column
            elif kind == "truth" and None not in values:
                assert read.tolist() == values, column
            elif kind == "moment":
                assert [None if pandas.isna(value) else value.to_pydatetime() for value in read] == values, column
            else:
                texts = [written(text) for text in values if text is not None]
                assert read.dropna().astype(str).tolist() == [text for text in texts if text], column


def written(text):
    """Return a text as a cell of ours has it: an apostrophe makes no formula of it."""
    return next(iter(csv.reader(io.StringIO(csv_table.csv([{"text": text}]).partition("\r\n")[2], newline=""))))[0]


@pytest.mark.parametrize("decimal", SEPARATORS)
def test_duckdb_finds_the_types_by_itself(files, decimal):
    for name in FILES:
        with duckdb.connect() as database:
            read = database.read_csv(str(files.path(name, decimal)), delimiter=SEPARATORS[decimal], decimal=decimal)
            types = dict(zip(read.columns, map(str, read.types), strict=True))
            found = dict(zip(read.columns, zip(*read.fetchall(), strict=True), strict=True))
        for column, kind, values in files.columns(name):
            if kind == "number":
                assert types[column] in {"DOUBLE", "BIGINT"}, (column, types[column])
                assert add_up(found[column]) == add_up(values), column
            elif kind != "text":
                assert types[column] == {"truth": "BOOLEAN", "moment": "TIMESTAMP"}[kind], (column, types[column])
                assert list(found[column]) == values, column


# ---- spreadsheets ----

OFFICE, TABLE = (f"{{urn:oasis:names:tc:opendocument:xmlns:{name}:1.0}}" for name in ("office", "table"))
LOCALES = {"en-US": ".", "de-DE": ","}
LOCALE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Setup/L10N">
<prop oor:name="ooSetupSystemLocale" oor:op="fuse"><value>{}</value></prop>
</item>
</oor:items>
"""


class Office:
    """LibreOffice of one country."""

    def __init__(self, folder, country):
        self.folder, self.profile = folder, folder / "profile"
        (self.profile / "user").mkdir(parents=True)
        (self.profile / "user" / "registrymodifications.xcu").write_text(LOCALE.format(country))

    def convert(self, sources, form, *more):
        """Turn files into another form, and return where they lie."""
        folder = self.folder / form.partition(":")[0]
        command = [
            "soffice",
            "--headless",
            f"-env:UserInstallation=file://{self.profile}",
            "--convert-to",
            form,
            "--outdir",
            folder,
        ]
        done = subprocess.run([*command, *more, *sources], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return folder


def cells(path):
    """List the rows of a sheet: of each cell its kind, its value, and its formula."""
    with zipfile.ZipFile(path) as file:
        root = ElementTree.fromstring(file.read("content.xml"))
    for row in root.iter(f"{TABLE}table-row"):
        found = []
        for cell in row.findall(f"{TABLE}table-cell"):
            value = cell.get(f"{OFFICE}value") or cell.get(f"{OFFICE}date-value")
            one = (cell.get(f"{OFFICE}value-type"), value, cell.get(f"{TABLE}formula"))
            found += [one] * min(int(cell.get(f"{TABLE}number-columns-repeated", "1")), 200)
        if any(kind for kind, _, _ in found):
            yield found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("soffice") is None, reason="no LibreOffice: `make test` brings it on Debian")
@pytest.mark.parametrize("country", LOCALES)
def test_a_spreadsheet_has_numbers_dates_and_no_formula_and_writes_the_same_again(files, country, tmp_path):
    office, decimal = Office(tmp_path / "office", country), LOCALES[country]
    # The separator, quotes, UTF-8, from line 1, no column's format, the system's language, what is quoted may be a
    # number, dates are found.
    how = f"{ord(SEPARATORS[decimal])},34,76,1,,0,false,true"
    sources = [files.path(name, decimal) for name in FILES]
    sheets = office.convert(sources, "ods", f"--infilter=CSV:{how}")
    books = office.convert(sources, "xlsx", f"--infilter=CSV:{how}")
    back = office.convert(
        [books / f"{name}.xlsx" for name in FILES], f"csv:Text - txt - csv (StarCalc):{how.removesuffix('true')}false"
    )
    for name in FILES:
        _, *rows = cells(sheets / f"{name}.ods")
        assert len(rows) == len(files.rows[name])
        assert {formula for row in rows for _, _, formula in row} == {None}
        with (back / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            head, *again = csv.reader(file, delimiter=SEPARATORS[decimal])
        assert head == [column for column, _, _ in files.columns(name)]
        for number, (column, kind, values) in enumerate(files.columns(name)):
            read = [row[number][:2] for row in rows]
            written_again = [row[number] for row in again]
            if kind == "number":
                assert {found for found, _ in read} <= {"float", None}, (name, column, read)
                assert [None if value is None else float(value) for _, value in read] == values, (name, column)
                assert [float(cell.replace(decimal, ".")) if cell else None for cell in written_again] == values, (
                    name,
                    column,
                )
            elif kind == "moment":
                assert {found for found, _ in read} <= {"date", None}, (name, column, read)
                assert [value and datetime.fromisoformat(value) for _, value in read] == values, (name, column)
            else:
                assert not [cell for cell in written_again if cell[:1] in set("=+-@")], (name, column)
