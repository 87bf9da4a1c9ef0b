#!/usr/bin/env python3
"""Tells skytally which cloud and vm each job of an HTCondor pool ran on.

Runs on the schedd's host, needs Python 3.6 and nothing else.

    scheduler.py report    --base https://skytally.example.org --token-file /etc/skytally/scheduler
    scheduler.py report    --dry-run                 print what would be sent, move nothing
    scheduler.py resend    --base URL --token-file FILE   offer again what the server refused
    scheduler.py install   --base URL --token-file FILE   as a systemd timer, every five minutes

Reads the history files from where it stopped, the queue, and the pool's machines; a vm's cloud is what cloudscheduler
wrote into its machine's attributes. What it has read counts as read once the server has it, or, while the server is
away, once it lies in the spool. What the server refuses is kept for 14 days in STATE/refused. `resend` offers it
again, a newer scheduler.py does once.

--insecure lets --base be http:// on another machine; it may hold {function}, as https://{function}.example.org.
--state FOLDER (/var/lib/skytally-scheduler)   --ca FILE   --cloud-attribute cloud_name
--history FILE   --epoch-history FILE
--cloudscheduler URL --cloudscheduler-user NAME --cloudscheduler-password-file FILE   its list of vms
--zone Europe/Zurich                                                                  cloudscheduler's zone

Exit codes: 0 done, 2 wrong usage, 3 refused by the server, 4 another copy runs,
5 something is away (the next run goes on), 6 history went before it was read.
"""

import argparse
import base64
import calendar
import contextlib
import email.utils
import fcntl
import gzip
import http.client
import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
import zlib
from datetime import datetime, timezone
from functools import partial

VERSION = "1.1"
DONE, USAGE, REFUSED, BUSY, AWAY, GAP = 0, 2, 3, 4, 5, 6
KINDS = "vms", "jobs"  # of a report's items; the server numbers them in this order
BATCH_ITEMS, SPOOL_BYTES = 2000, 256 << 20
KEPT_SECONDS, KEPT_FILES, KEPT_BYTES = 14 * 86400, 10000, 64 << 20  # of what the server refused
ANSWER_BYTES = 64 << 20
COMMAND_SECONDS, HTTP_SECONDS, ANSWER_SECONDS = 300, 60, 300
TRIES = 3
ROUNDS_MISSING, LOOKS, REMEMBERED = 2, 20, 2000
STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring output", 7: "suspended"}
ON_A_VM, OTHERWISE = (2, 6, 7), (1, 3, 5)
ATTRIBUTES = (
    "GlobalJobId JobStatus RemoteHost LastRemoteHost JobCurrentStartDate JobStartDate CompletionDate "
    "LastVacateTime EnteredCurrentStatus RemoteWallClockTime LastRemoteWallClockTime NumShadowStarts "
    "NumJobStarts RemoteUserCpu RemoteSysCpu ExitCode"
).split()
HAS_RUN = "RemoteHost =!= undefined || LastRemoteHost =!= undefined"
BANNER = b"*** "
ROTATED = r"\.\d{8}T\d{6}(\.\d+)?\Z"
ZONES = "/usr/share/zoneinfo"
UNITS = "/etc/systemd/system"
ENDING = ".json.gz"
FILES = "token_file ca state history epoch_history cloudscheduler_password_file".split()
SETTINGS = FILES + "base cloud_attribute cloudscheduler cloudscheduler_user zone".split()
UNIT = """[Unit]
Description=skytally: which cloud each batch job ran on
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
Nice=10
TimeoutStartSec=1h
ExecStart={command}
"""
TIMER = """[Unit]
Description=skytally: which cloud each batch job ran on, every five minutes

[Timer]
OnBootSec=2min
OnUnitActiveSec=5min
RandomizedDelaySec=30

[Install]
WantedBy=timers.target
"""


class Stop(Exception):
    """Ends the run with an exit code and one line that says what to do."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Unavailable(Exception):
    """A source or the server does not answer: what it would have said stays as it is."""

    code = AWAY


class Closed(Unavailable):
    """There are no history files that we may read."""


class Locked(Unavailable):
    """The server does not take our token: an outage, until somebody brings another."""

    code = REFUSED


class Refused(Exception):
    """The server will never take this report: the status, and why, as the message and the code of its error."""

    def __init__(self, status, code, message):
        super().__init__(status, code, message)
        self.status, self.why = status, (message, code)


def printable(text, most=1000):
    """Return text that does nothing to a terminal: printable ASCII, all else written out (\\x1b), and cut."""
    shown = "".join(one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in str(text)[:most])
    return shown + "..." if len(str(text)) > most else shown


def say(sentence):
    """Tell the operator, in one line; the only way by which words of others reach a terminal."""
    print("scheduler.py: %s" % printable(sentence), file=sys.stderr)


# ---- ads ----


def value_of(text):
    """Read one value of an ad; an expression, which nobody can evaluate here, is its own text."""
    if text[:1] == '"' and text[-1:] == '"' and len(text) > 1:
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return None if lowered in ("undefined", "error") else text


def number(ad, *names):
    """Return the first of these attributes that is a number above zero, and small enough to be a time."""
    for name in names:
        value = ad.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e11:
            return value
    return None


def text(ad, name):
    """Return an attribute that is a name: no unprintable characters in it, and no longer than the server takes."""
    value = ad.get(name)
    if not isinstance(value, str) or not 0 < len(value) < 256:
        return None
    return "".join(one if one.isprintable() else "?" for one in value)


def whole(value):
    """Return a whole number, written as a number or as text, or None."""
    return int(value) if re.match(r"[0-9]{1,6}(\.0*)?\Z", str(value)) and float(value) else None


def given(told):
    """Leave out what nobody knows."""
    return {name: value for name, value in told.items() if value is not None}


def parse_ad(lines):
    """Read `Name = value` lines."""
    pairs = (line.decode("utf-8", "replace").partition(" = ") for line in lines)
    return {name.strip(): value_of(value.strip()) for name, equals, value in pairs if equals}


def iso(seconds):
    """Write a UNIX time in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


# ---- history files ----


class History:
    """Reads files to which ads are appended and that are renamed and deleted meanwhile: each ad once, none left out.

    A file is known by its inode and its first banner, since a rename keeps both and a new file that gets an old inode
    has another banner. Of each we remember how far it has been read, so neither names, nor times, nor the order of
    files matter. An ad counts once its banner line is whole. `with` opens the files as they are, and what is appended
    later is for another time. `gap` is None, or the times between
    which ads have gone unread.
    """

    def __init__(self, path, known):
        self.path = path
        self.known = {(one["inode"], one["banner"]): one for one in known}
        self.last = next((identity for identity, one in self.known.items() if one["last"]), None)
        self.lost, self.gap = None, None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            found, current = self.opened(stack)
            banners = {inode: first_banner(file) for inode, file in found.items()}
            self.files = {(inode, banner): found[inode] for inode, banner in banners.items() if banner is not None}
            self.about = {identity: os.fstat(file.fileno()) for identity, file in self.files.items()}
            self.stack = stack.pop_all()
        if self.last is not None and self.last not in self.files:
            self.lost = self.known[self.last]["until"]
            self.gap = (self.lost, None)
        self.known = {identity: one for identity, one in self.known.items() if identity in self.files}
        self.last = max(
            self.files, key=lambda identity: (identity[0] == current, self.about[identity].st_mtime), default=None
        )
        return self

    def __exit__(self, *_):
        self.stack.close()

    def names(self):
        """Name the files of the moment, the current one last."""
        folder, name = os.path.split(self.path)
        try:
            names = [one for one in os.listdir(folder) if one == name or re.match(re.escape(name) + ROTATED, one)]
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise Closed("%s cannot be listed: %s" % (folder, error.strerror))
        return [os.path.join(folder, one) for one in sorted(names, key=lambda one: (one == name, one))]

    def opened(self, stack):
        """Open every file, by inode, and name the current one's; look until nothing is new, so no rename hides one."""
        found: dict = {}
        current, new = None, True
        for _ in range(LOOKS):
            seen, new = len(found), False
            for path in self.names():
                try:
                    file = open(path, "rb")
                except FileNotFoundError:
                    new = True
                    continue
                except PermissionError as error:
                    raise Closed("%s cannot be read: %s" % (path, error.strerror))
                inode = os.fstat(file.fileno()).st_ino
                current = inode if path == self.path else current
                if inode in found:
                    file.close()
                else:
                    found[inode] = stack.enter_context(file)
            if found and not new and len(found) == seen:
                break
        if not found:
            raise Closed("there is no %s" % self.path)
        return found, current

    def batches(self):
        """Yield lists of ads; what was yielded counts as read from then on, so save `state` only after it is safe."""
        for identity, file in self.files.items():
            for ads in self.new_ads(identity, file):
                if self.gap == (self.lost, None):
                    self.gap = (self.lost, ads[0]["banner_time"])
                yield ads

    def new_ads(self, identity, file):
        """Yield what was appended to a file since; one that was cut short is another file."""
        before = self.known.get(identity, {"offset": 0, "until": 0})
        offset, until = before["offset"], before["until"]
        if self.about[identity].st_size < offset:
            offset, self.gap = 0, (until, None)
        file.seek(offset)
        ads, lines, room = [], [], self.about[identity].st_size - offset
        for line in file:
            room -= len(line)
            if room < 0 or line[-1:] != b"\n":
                break
            lines.append(line)
            if line.startswith(BANNER):
                ads.append(dict(parse_ad(lines[:-1]), banner_time=banner_time(line)))
                offset, until, lines = offset + sum(map(len, lines)), ads[-1]["banner_time"] or until, []
                if len(ads) == BATCH_ITEMS:
                    self.remember(identity, offset, until)
                    yield ads
                    ads = []
        self.remember(identity, offset, until)
        if ads:
            yield ads

    def remember(self, identity, offset, until):
        """Keep how far a file has been read, and the newest time in it."""
        self.known[identity] = {"inode": identity[0], "banner": identity[1], "offset": offset, "until": until}

    @property
    def state(self):
        """Return what to remember."""
        return [dict(one, last=identity == self.last) for identity, one in self.known.items()]


def first_banner(file):
    """Return a file's first whole banner line, or None."""
    file.seek(0)
    for line in file:
        if line.startswith(BANNER):
            return line.decode("utf-8", "replace") if line[-1:] == b"\n" else None
    return None


def banner_time(line):
    """Return the newest time that a banner names: when its ad was written, or its job ended."""
    times = [int(found) for found in re.findall(rb"(?:CurrentTime|CompletionDate) ?= ?(\d{1,11})", line)]
    return max(times) if times else None


# ---- jobs ----


def run_of(ad, cloud_attribute):
    """Describe the last run of a job on a vm, in the queue or after it; None for one that never ran."""
    status = ad.get("JobStatus")
    host = text(ad, "RemoteHost") or text(ad, "LastRemoteHost")
    batch_id, started = text(ad, "GlobalJobId"), number(ad, "JobCurrentStartDate", "JobStartDate")
    if not (host and batch_id and started):
        return None
    slot, _, vm = host.rpartition("@")
    told = {
        "batch_id": batch_id,
        "vm": vm,
        "cloud": cloud_of(ad, cloud_attribute),
        "slot": slot or None,
        "started_at": iso(started),
    }
    told["state"] = STATES.get(status, "ended")
    # Of a job that runs, times and exit code are still those of the run before.
    return given(told if status in ON_A_VM else dict(told, **ending_of(ad, started)))


def ending_of(ad, started):
    """Describe the end of the last run: its own times, never the sum over all runs."""
    last, ended, code = number(ad, "LastRemoteWallClockTime"), end_of(ad, started), ad.get("ExitCode")
    starts = max(number(ad, name) or 0 for name in ("NumShadowStarts", "NumJobStarts"))
    cpu = [number(ad, name) for name in ("RemoteUserCpu", "RemoteSysCpu")]
    return {
        "ended_at": iso(ended),
        "wall_seconds": last or (number(ad, "RemoteWallClockTime") if starts <= 1 else None) or ended - started,
        "cpu_seconds": sum(part or 0 for part in cpu) if any(cpu) else None,
        "exit_code": code if type(code) is int and abs(code) < 2**31 else None,
    }


def end_of(ad, started):
    """Return when the last run ended, not when the job was removed after days on hold; never before the run began."""
    wall = number(ad, "LastRemoteWallClockTime")
    times = [number(ad, "CompletionDate")] if ad.get("JobStatus") not in OTHERWISE else []
    times += [
        number(ad, "LastVacateTime"),
        wall and started + wall,
        number(ad, "EnteredCurrentStatus"),
        number(ad, "banner_time"),
    ]
    return next((one for one in times if one and one >= started), started)


def epoch_of(ad, cloud_attribute):
    """Describe one run of the epoch history: its ad is written as the run ends, its wall and CPU are earlier runs'."""
    started = number(ad, "JobCurrentStartDate", "JobStartDate")
    told = run_of(dict(ad, JobStatus=2), cloud_attribute)
    if told is None:
        return None
    ended = max(started, ad.get("banner_time") or started)
    return dict(told, state="ended", ended_at=iso(ended), wall_seconds=ended - started)


def cloud_of(ad, attribute):
    """Return the cloud that the machine named when it was matched."""
    names = [text(ad, prefix % attribute) for prefix in ("MachineAttr%s0", "MATCH_EXP_JOB_%s", "MATCH_%s")]
    return next((name for name in names if name and name not in ("unknown", "undefined")), None)


# ---- vms ----


def machines(ads, cloud_attribute):
    """Describe each machine of the pool that says its cloud, once however many slots it has."""
    found = {}
    for ad in ads:
        vm, cloud, started = text(ad, "Machine"), text(ad, cloud_attribute), number(ad, "DaemonStartTime")
        if vm and cloud and started:
            told = {"vm": vm, "cloud": cloud, "flavor": text(ad, "flavor"), "cores": whole(ad.get("TotalCpus"))}
            found["%s %s" % (vm, started)] = given(dict(told, started_at=iso(started), state="in the pool"))
    return found


def cloudscheduler_vms(rows, zone):
    """Describe the vms that cloudscheduler lists, in local time; an hour that comes twice is the earlier one."""
    found = {}
    for row in rows:
        times = local_times(row.get("start_time"), zone)
        vm, cloud, state = text(row, "hostname"), text(row, "cloud_name"), text(row, "status")
        if vm and cloud and times:
            told = {"vm": vm, "cloud": cloud, "flavor": text(row, "flavor_name"), "cores": whole(row.get("cores"))}
            state = "%s, started in an hour that came twice" % state if len(times) > 1 else state
            key = "%s %s %s" % (row.get("group_name"), cloud, row.get("vmid"))
            found[key] = given(dict(told, started_at=iso(times[0]), state=state))
    return found


def local_times(told, zone):
    """Return every moment at which clocks of a zone showed this; `zone` is the process's from then on."""
    os.environ["TZ"] = zone
    time.tzset()
    try:
        shown = time.strptime(told, "%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError):
        return []
    moments = sorted({time.mktime(shown[:8] + (summer,)) for summer in (0, 1)})
    return [one for one in moments if time.localtime(one)[:6] == shown[:6]] or moments[:1]


class Lives:
    """The vms known so far: one has ended when it was not listed in two answers one after another."""

    def __init__(self, known):
        self.known = known

    def ended(self, listed, now):
        """Return the vms that are listed no more, each with its end: when it was seen last."""
        for key, vm in listed.items():
            self.known[key] = {"vm": vm, "seen": now, "missing": 0}
        ended = []
        for key in [key for key in self.known if key not in listed]:
            self.known[key]["missing"] += 1
            if self.known[key]["missing"] >= ROUNDS_MISSING:
                gone = self.known.pop(key)
                ended.append(dict(gone["vm"], ended_at=max(iso(gone["seen"]), gone["vm"]["started_at"]), state="gone"))
        return ended


# ---- sources and the server ----


def command(*words):
    """Run one of HTCondor's commands and read its JSON: nothing at all is none, any exit code but 0 is an outage."""
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("%s cannot be run: %s" % (words[0], error))
    if done.returncode:
        raise Unavailable("%s failed: %s" % (words[0], " ".join(done.stderr.decode("utf-8", "replace").split())[:200]))
    try:
        ads = json.loads(done.stdout.decode("utf-8", "replace").strip() or "[]")
    except ValueError:
        raise Unavailable("%s was cut short" % words[0])
    if not (isinstance(ads, list) and all(isinstance(ad, dict) for ad in ads)):
        raise Unavailable("%s printed something else than ads" % words[0])
    return ads


def setting(name):
    """Ask HTCondor for one of its settings; None where there is none."""
    try:
        done = subprocess.run(
            ["condor_config_val", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).strip() or None if done.returncode == 0 else None


def read_secret(path, what):
    """Read a token or a password, which never stands in arguments."""
    try:
        with open(path, "rb") as file:
            secret = file.read().strip().decode("ascii", "replace")
    except OSError as error:
        raise Stop(USAGE, "the %s cannot be read: %s: %s" % (what, path, error.strerror))
    if not re.match(r"[\x21-\x7e]+\Z", secret):
        raise Stop(USAGE, "%s holds no %s: put it there, alone on one line" % (path, what))
    return secret


class AsIs(urllib.request.HTTPErrorProcessor):
    """Follows no redirect: a token must not travel."""

    def http_response(self, _, response):
        """Return the response as it is."""
        return response

    https_response = http_response


def function_url(base, name):
    """Return where a function answers: below the base, or at a host of its own where the base holds `{function}`."""
    return (base if "{function}" in base else base.rstrip("/") + "/function/{function}").replace("{function}", name)


def seconds_of(headers, name):
    """Return the moment of a header's HTTP date in unix seconds, or None."""
    with contextlib.suppress(ValueError, LookupError, TypeError, OverflowError):
        return calendar.timegm(email.utils.parsedate(headers[name]))


def retry_after(headers):
    """Return the seconds of Retry-After, a number or an HTTP date by the server's clock: 120 at most, 0 for neither."""
    until = seconds_of(headers, "Retry-After")
    with contextlib.suppress(ValueError):
        seconds = int(headers["Retry-After"]) if until is None else until - (seconds_of(headers, "Date") or time.time())
        return max(0, min(120, seconds))
    return 0


def too_slow(*_):
    """End a request at SIGALRM: its time-out is for each read."""
    raise TimeoutError("no whole answer in %d s" % ANSWER_SECONDS)


def ask(options, url, headers, body=None):
    """Return status and body of a request; raise Unavailable for no answer.

    Ask again where the server says when, three times at most.
    """
    for tries_left in reversed(range(TRIES)):
        signal.alarm(ANSWER_SECONDS)
        try:
            tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=options.ca))
            with urllib.request.build_opener(AsIs, tls).open(
                urllib.request.Request(url, body, headers), timeout=HTTP_SECONDS
            ) as answer:
                status, told, content = answer.status, answer.headers, answer.read(ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("%s does not answer: %s" % (url, error or type(error).__name__))
        finally:
            signal.alarm(0)
        if status not in (429, 503) or "Retry-After" not in told or not tries_left:
            break
        time.sleep(retry_after(told) * random.uniform(1, 1.25))
    return status, content


def send(options, token, report):
    """Send a report and return its receipt; nothing of it counts before that."""
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, answer = ask(options, function_url(options.base, "placement-report"), headers, packed(report))
    words = "%d %s" % (status, " ".join(answer[:2000].decode("utf-8", "replace").split())[:300])
    if status in (401, 403):
        raise Locked("the server does not take the token in %s, bring a new one: %s" % (options.token_file, words))
    sent = range(len(items_of(report)))
    try:
        told = json.loads(answer.decode())
        if status in (400, 413, 415, 422):
            raise Refused(status, str(told["error"]["code"])[:100], str(told["error"].get("message"))[:300])
        rejected = {int(one["index"]): (str(one["message"])[:300], str(one["code"])[:100]) for one in told["rejected"]}
        if status == 200 and told["accepted"] + told["stale"] >= 0 and rejected.keys() <= set(sent):
            return {"accepted": told["accepted"], "stale": told["stale"], "rejected": rejected}
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        if status == 413 and len(sent) > 1:  # a proxy's limit: the half may pass
            raise Refused(status, "too_large", words)
    raise Unavailable("the server answered without a receipt (is --base right?): %s" % words)


def items_of(report):
    """Return a report's items as [(kind, item)], in the order in which the server numbers them."""
    return [(kind, item) for kind in KINDS for item in report[kind]]


def packed(report):
    """Write a report as gzip."""
    return gzip.compress(json.dumps(report).encode())


def unpacked(path):
    """Read a report that was kept; raises ValueError for a damaged one."""
    try:
        with gzip.open(path) as file:
            report = json.loads(file.read().decode())
        return {kind: list(report[kind]) for kind in KINDS}
    except (EOFError, zlib.error, KeyError, TypeError, OSError) as error:
        raise ValueError("%s is damaged: %s" % (path, error))


def cloudscheduler(options):
    """Ask cloudscheduler for its vms; an error comes with status 200 and a response code."""
    url = options.cloudscheduler.rstrip("/")
    secret = "%s:%s" % (options.cloudscheduler_user, read_secret(options.cloudscheduler_password_file, "password"))
    headers = {
        "Accept": "application/json",
        "Referer": url,
        "Authorization": "Basic " + base64.b64encode(secret.encode()).decode(),
    }
    status, answer = ask(options, url + "/vm/list/", headers)
    try:
        told = json.loads(answer.decode("utf-8", "replace"))
        rows = told["vm_list"]
        rows = json.loads(rows) if isinstance(rows, str) else rows
        if status == 200 and told["response_code"] == 0 and all(isinstance(row, dict) for row in rows):
            return rows
        raise ValueError("%d %s" % (status, told.get("message")))
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable("cloudscheduler does not list its vms: %s" % error)


# ---- what is kept between runs ----


def write(path, data, at=None):
    """Write a file of mode 0600 so that it is there, whole, whatever happens to the machine; it bears the time `at`."""
    with open(path + ".new", "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if at is not None:
        os.utime(path + ".new", (at, at))
    os.replace(path + ".new", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class State:
    """What is remembered between runs, replaced as a whole."""

    def __init__(self, folder):
        self.path, self.told = os.path.join(folder, "state.json"), {}
        try:
            with open(self.path) as file:
                self.told = json.load(file)
        except FileNotFoundError:
            pass
        except ValueError:
            say("%s is damaged: everything that is left in the history is told again, which is harmless" % self.path)

    def save(self, **more):
        """Write the state with these changes."""
        self.told.update(more)
        write(self.path, json.dumps(self.told).encode())


class Spool:
    """Reports that the server has yet to take, the oldest first. Each is a file until its receipt is there."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "spool")

    def waiting(self):
        """Name what waits; what was never written whole does not."""
        return numbered(self.folder)

    def add(self, body):
        """Keep a report; raises Unavailable when there is no room, so that it stays where it came from."""
        if sum(map(os.path.getsize, self.waiting())) + len(body) > SPOOL_BYTES:
            raise Unavailable("%s is full: what comes now waits in HTCondor's own history" % self.folder)
        append(self.folder, body)


class Aside:
    """What the server refused, with its reasons, for 14 days and within bounds.

    Each report is a file that bears the time of the refusal.
    """

    def __init__(self, folder):
        self.folder = os.path.join(folder, "refused")

    def waiting(self):
        """Name what was refused, the oldest first."""
        return numbered(self.folder)

    def add(self, refused):
        """Keep [(kind, item, reason)] and return the path."""
        path = append(self.folder, self.body(refused))
        self.prune()
        return path

    def prune(self):
        """Let go what is too old and, the oldest first, what is too much."""
        room, now = KEPT_BYTES, time.time()
        for place, path in enumerate(reversed(self.waiting()), 1):
            room -= os.path.getsize(path)
            if place > KEPT_FILES or room < 0 or now - os.path.getmtime(path) > KEPT_SECONDS:
                os.unlink(path)

    def change(self, path, refused):
        """Keep of a file what was refused again, under the time of its first refusal."""
        if refused:
            write(path, self.body(refused), os.path.getmtime(path))
        else:
            os.unlink(path)

    def body(self, refused):
        """Write refused items as a report, with the reason of each beside it."""
        report = {kind: [item for one, item, _ in refused if one == kind] for kind in KINDS}
        return packed(dict(report, reasons=[reason for _, _, reason in refused]))


def numbered(folder):
    """List a folder's files in the order in which they came."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.endswith(ENDING)]


def append(folder, body):
    """Write the next file of a folder; answers its path."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    newest = [int(os.path.basename(path)[: -len(ENDING)]) for path in numbered(folder)[-1:]]
    path = os.path.join(folder, "%012d%s" % (sum(newest) + 1, ENDING))
    write(path, body)
    return path


# ---- a run ----


class Report:
    """One run: each source by itself, so that one that is away keeps no other from being told."""

    def __init__(self, options, token):
        self.options, self.token = options, token
        self.state, self.spool, self.aside = State(options.state), Spool(options.state), Aside(options.state)
        self.counts = {"accepted": 0, "stale": 0, "rejected": 0}
        self.codes, self.away = set(), False

    def run(self):
        """Tell everything; return the exit code."""
        if not self.options.dry_run:
            self.aside.prune()
            if self.state.told.get("version") != VERSION:
                self.resend()
        self.attempt(self.from_spool)
        self.attempt(self.from_pool)
        if self.options.cloudscheduler:
            self.attempt(self.from_cloudscheduler)
        self.from_jobs(
            self.options.history or setting("HISTORY"), self.options.epoch_history or setting("JOB_EPOCH_HISTORY")
        )
        return self.result()

    def result(self):
        """Print what became of everything; returns the exit code."""
        told = "{accepted} kept, {stale} known in a newer form, {rejected} refused".format(**self.counts)
        for kept, what in ((self.spool, "reports wait"), (self.aside, "were refused and are kept")):
            told += ", %d %s in %s" % (len(kept.waiting()), what, kept.folder) if kept.waiting() else ""
        print(printable(told))
        return next((code for code in (REFUSED, AWAY, GAP) if code in self.codes), DONE)

    def attempt(self, step, *arguments):
        """Take a step; None where its source is away, which is said."""
        try:
            return step(*arguments)
        except Unavailable as trouble:
            self.trouble(trouble.code, str(trouble))
            return None

    def trouble(self, code, sentence):
        """Say what went wrong, and note its exit code."""
        self.codes.add(code)
        say(sentence)

    # -- to the server --

    def from_spool(self):
        """Send what waited, the oldest first."""
        for path, items in [] if self.options.dry_run else self.undamaged(self.spool):
            if not self.sent(items):
                return
            os.unlink(path)

    def resend(self):
        """Offer again what was refused; what is refused again stays until its 14 days are over.

        A person does it, and a newer version of this file once: the state has its version as soon as all was judged.
        """
        for path, items in self.undamaged(self.aside):
            refused = self.judged(items)
            if refused is None:
                return
            if refused:
                counts = len(refused), len(items)
                self.trouble(REFUSED, "%d of %d are refused again: %s (%s)" % (counts + refused[0][2]))
            self.aside.change(path, refused)
        self.keep(version=VERSION)

    def undamaged(self, kept):
        """Yield path and items of each file that is kept; a damaged one is put out of the way and said."""
        for path in kept.waiting():
            try:
                items = items_of(unpacked(path))
            except ValueError as damage:
                os.rename(path, path + ".damaged")
                say(damage)
            else:
                yield path, items

    def tell(self, vms=(), jobs=(), comes_again=False):
        """Send in batches; while the server is away, spool what no source will say again."""
        vms, jobs = list(vms), list(jobs)
        for start in range(0, max(len(vms), len(jobs)), BATCH_ITEMS):
            report = {"vms": vms[start : start + BATCH_ITEMS], "jobs": jobs[start : start + BATCH_ITEMS]}
            if self.options.dry_run:
                print(json.dumps(report, indent=2))
            elif not self.sent(items_of(report), comes_again) and not comes_again:
                self.spool.add(packed(report))

    def sent(self, items, comes_again=False):
        """Say whether the server has judged these; what it refused lies safe by then, unless a source says it again."""
        refused = self.judged(items)
        if refused:
            part = "" if len(refused) == len(items) else "%d of %d items of " % (len(refused), len(items))
            where = "which comes with the next run again"
            if not comes_again:
                where = "which is now kept for 14 days (`scheduler.py resend`) in %s" % self.aside.add(refused)
            say("the server refused %sa report, %s: %s (%s)" % ((part, where) + refused[0][2]))
        return refused is not None

    def judged(self, items):
        """Send [(kind, item)] and return [(kind, item, (message, code))] of those refused; None if the server is away.

        Once away, it is away for the rest of the run. What is too large goes in halves. Where the server refuses a
        report as a whole, it refuses every item.
        """
        if self.away:
            return None
        try:
            report = {kind: [item for one, item in items if one == kind] for kind in KINDS}
            receipt = send(self.options, self.token, report)
        except Unavailable as trouble:
            self.away = True
            self.trouble(trouble.code, str(trouble))
            return None
        except Refused as refusal:
            if refusal.status == 413 and len(items) > 1:
                halves = [self.judged(half) for half in (items[: len(items) // 2], items[len(items) // 2 :])]
                return None if None in halves else halves[0] + halves[1]
            self.codes.add(REFUSED)
            receipt = {"accepted": 0, "stale": 0, "rejected": dict.fromkeys(range(len(items)), refusal.why)}
        for name in ("accepted", "stale"):
            self.counts[name] += receipt[name]
        self.counts["rejected"] += len(receipt["rejected"])
        return [items[index] + (why,) for index, why in sorted(receipt["rejected"].items())]

    def keep(self, **more):
        """Write the state with these changes, unless nothing is to be moved."""
        if not self.options.dry_run:
            self.state.save(**more)

    # -- from HTCondor and cloudscheduler --

    def from_jobs(self, history, epochs):
        """Tell runs from the epochs, the queue and the history.

        In that order: the later say more of a run, and the server keeps the last. They are looked at in another order.
        A run is in the epochs before anything else calls it ended, so they are read last, and so no later round tells
        less of it.
        """
        with contextlib.ExitStack() as stack:
            tell_queue = self.attempt(self.queue)
            tell_history = self.attempt(self.history, stack, history)
            if epochs:
                self.attempt(self.from_epochs, stack, epochs)
            for tell in (tell_queue, tell_history):
                if tell:
                    self.attempt(tell)

    def history(self, stack, path):
        """Look at the jobs that left the queue, by command where the files are closed to us; return what tells them."""
        if path:
            with contextlib.suppress(Closed):
                history = stack.enter_context(History(path, self.state.told.get("history", [])))
                return partial(self.from_files, "history", history, run_of)
        return partial(self.from_command, *self.by_command())

    def from_epochs(self, stack, path):
        """Tell every run, also those before a job's last; a pool that keeps no epochs has no such files."""
        epochs = History(path, self.state.told.get("epoch", []))
        try:
            if epochs.names():
                self.from_files("epoch", stack.enter_context(epochs), epoch_of)
        except Closed as closed:
            say("%s; of jobs that ran more than once only the last run is told" % closed)

    def from_files(self, name, history, describe):
        """Tell the new ads of history files, and go on behind them only once they are safe."""
        for ads in history.batches():
            self.tell(jobs=self.runs(ads, describe))
            self.keep(**{name: history.state})
        self.keep(**{name: history.state})
        if history.gap:
            since, until = (iso(moment) if moment else "an unknown time" for moment in history.gap)
            lost = "jobs that ended between %s and %s may be missing: their file went before it was read whole" % (
                since,
                until,
            )
            self.trouble(
                GAP,
                "%s: %s; keep more of them (MAX_HISTORY_ROTATIONS, MAX_EPOCH_HISTORY_ROTATIONS)" % (history.path, lost),
            )

    def by_command(self):
        """Ask condor_history back to before the newest job that was told: a rotation may have hidden a file from it."""
        told = self.state.told.get("by_command", [])
        same, words = 'GlobalJobId == "%s"', ["condor_history", "-json", "-attributes"]
        if told and not command(*words, "GlobalJobId", "-limit", "1", "-constraint", same % told[0]):
            self.trouble(
                GAP, "the job told last is in no history any more: some may be missing before what is told now"
            )
        ads = command(*words, ",".join(self.attributes()), *(["-since", same % told[-1]] if told else []))
        return [ad for ad in ads if text(ad, "GlobalJobId") and ad["GlobalJobId"] not in set(told)], told

    def from_command(self, ads, told):
        """Tell the runs of these ads, and remember them."""
        self.tell(jobs=self.runs(ads, run_of))
        self.keep(by_command=([ad["GlobalJobId"] for ad in ads] + told)[:REMEMBERED])

    def queue(self):
        """Look at the jobs in the queue that run or have run; return what tells them."""
        words = ["condor_q", "-allusers", "-json", "-constraint", HAS_RUN, "-attributes", ",".join(self.attributes())]
        return partial(self.from_queue, self.runs(command(*words), run_of))

    def from_queue(self, runs):
        """Tell what runs, and once of each job that waits again or is held where it ran last."""
        ended = {"%(batch_id)s %(started_at)s" % run: run for run in runs if "ended_at" in run}
        known = set(self.state.told.get("queue", []))
        self.tell(jobs=[run for key, run in ended.items() if key not in known])
        self.keep(queue=sorted(ended))
        self.tell(jobs=[run for run in runs if "ended_at" not in run], comes_again=True)

    def runs(self, ads, describe):
        """Describe the ads that tell a run."""
        return [told for told in (describe(ad, self.options.cloud_attribute) for ad in ads) if told]

    def attributes(self):
        """Return the attributes to ask HTCondor for."""
        cloud = self.options.cloud_attribute
        return ATTRIBUTES + ["MachineAttr%s0" % cloud, "MATCH_EXP_JOB_%s" % cloud, "MATCH_%s" % cloud]

    def from_pool(self):
        """Tell the machines of the pool, and which have gone."""
        wanted = ["Machine", "DaemonStartTime", "TotalCpus", "flavor", self.options.cloud_attribute]
        self.lives(
            "pool",
            machines(command("condor_status", "-json", "-attributes", ",".join(wanted)), self.options.cloud_attribute),
        )

    def from_cloudscheduler(self):
        """Tell the vms that cloudscheduler lists, and which have gone."""
        self.lives("cloudscheduler", cloudscheduler_vms(cloudscheduler(self.options), self.options.zone))

    def lives(self, name, listed):
        """Tell the vms that are listed, and those that are no longer."""
        lives = Lives(self.state.told.get(name, {}))
        ended = lives.ended(listed, time.time())
        self.tell(vms=ended)
        self.keep(**{name: lives.known})
        self.tell(vms=listed.values(), comes_again=True)


# ---- verbs ----


def report(options):
    """Do one run; a dry one touches nothing."""
    return Report(options, None).run() if options.dry_run else alone(options, Report.run)


def resend(options):
    """Offer again what the server refused."""

    def again(run):
        run.resend()
        return run.result()

    return alone(options, again)


def alone(options, run):
    """Do a run while no other copy does one."""
    token = read_secret(options.token_file, "scheduler token")
    os.makedirs(options.state, mode=0o700, exist_ok=True)
    with open(os.path.join(options.state, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(BUSY, "another copy is running on %s" % options.state)
        return run(Report(options, token))


def install(options):
    """Write a systemd service and timer, and start it."""
    read_secret(options.token_file, "scheduler token")
    words = [sys.executable, os.path.abspath(__file__), "report"]
    for name in SETTINGS:
        value = getattr(options, name)
        if value:
            words += ["--" + name.replace("_", "-"), value]
    words += ["--insecure"] * options.insecure
    for ending, text in (("service", UNIT.format(command=" ".join(map(quoted, words)))), ("timer", TIMER)):
        with open(os.path.join(options.units, "skytally-scheduler." + ending), "w") as file:
            file.write(text)
    if options.units == UNITS:
        try:
            for words in (["daemon-reload"], ["enable", "--now", "skytally-scheduler.timer"]):
                subprocess.run(["systemctl"] + words, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Stop(AWAY, "the units are written, but systemd did not start them: %s" % error)
    print("it reports every five minutes: systemctl list-timers skytally-scheduler")
    return DONE


def quoted(word):
    """Write a word as systemd reads it back."""
    for one, two in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(one, two)
    return '"%s"' % word


def options_of(arguments):
    """Read the command line; wrong usage ends here, with a line that says what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("verb", choices=("report", "resend", "install"), metavar="report|resend|install")
    usual = {"state": "/var/lib/skytally-scheduler", "cloud_attribute": "cloud_name", "zone": "UTC", "units": UNITS}
    for name in SETTINGS + ["units"]:
        parser.add_argument("--" + name.replace("_", "-"), default=usual.get(name), help=argparse.SUPPRESS)
    for flag in ("--dry-run", "--insecure"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in FILES:
        setattr(options, name, getattr(options, name) and os.path.abspath(getattr(options, name)))
    if not ((options.dry_run and options.verb == "report") or (options.base and options.token_file)):
        parser.error("--base and --token-file are needed; see --help")
    for problem in problems_of(options):
        parser.error(problem)
    return options


def problems_of(options):
    """Yield what is wrong with the options, each with what is right."""
    for name in ("base", "cloudscheduler"):
        if not re.match(r"https?://[^/]|\Z", getattr(options, name) or ""):
            yield "--%s is an address such as https://skytally.example.org" % name
    if options.base and not (
        options.insecure or re.match(r"https:|http://(localhost|127[\d.]+|\[::1])(:\d+)?(/|\Z)", options.base)
    ):
        yield "the token would travel in clear: --base https://..., or --insecure where the network is yours"
    if not re.match(r"[A-Za-z_]\w*\Z", options.cloud_attribute):
        yield "--cloud-attribute is the name of an attribute, such as cloud_name"
    if options.cloudscheduler and not (options.cloudscheduler_user and options.cloudscheduler_password_file):
        yield "--cloudscheduler needs --cloudscheduler-user and --cloudscheduler-password-file"
    if options.ca and not os.path.isfile(options.ca):
        yield "--ca %s is not there" % options.ca
    if options.zone != "UTC" and not os.path.isfile(os.path.join(ZONES, options.zone)):
        yield "--zone %s is not known here, use one such as Europe/Zurich" % options.zone


def main(arguments=None):
    """Do what the command line says; return the exit code."""
    options = options_of(arguments)
    signal.signal(signal.SIGALRM, too_slow)
    try:
        return {"report": report, "resend": resend, "install": install}[options.verb](options)
    except Stop as stop:
        say(stop)
        return stop.code
    except OSError as error:
        say("%s; run it as a user who may use that, or name another with --state or --units" % error)
        return AWAY


if __name__ == "__main__":
    sys.exit(main())
