#!/usr/bin/env python3
"""Tells skytally which cloud and vm each job of an HTCondor pool ran on. Runs on the schedd's host, needs Python 3.6 and nothing else.

    scheduler.py report    --base https://skytally.example.org --token-file /etc/skytally/scheduler
    scheduler.py report    --dry-run                 print what would be sent, move nothing
    scheduler.py install   --base … --token-file …   as a systemd timer, every five minutes

Reads the history files from where it stopped, the queue, and the pool's machines; a vm's cloud is what cloudscheduler wrote into its
machine's attributes. What it has read counts as sent only after the server's answer, so an outage loses nothing.

--state FOLDER (/var/lib/skytally-scheduler)   --ca FILE   --cloud-attribute cloud_name   --history FILE   --epoch-history FILE
--cloudscheduler URL --cloudscheduler-user NAME --cloudscheduler-password-file FILE --zone Europe/Zurich   its list of vms, and its zone

Exit codes: 0 done, 2 wrong usage, 3 refused by the server, 4 another copy runs, 5 something is away (the next run goes on).
"""

import argparse
import base64
import fcntl
import gzip
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone

BATCH_ADS = 2000
COMMAND_SECONDS, HTTP_SECONDS = 300, 60
ROUNDS_MISSING = 2
STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring output", 7: "suspended"}
ON_A_VM = (2, 6, 7)
ATTRIBUTES = """GlobalJobId JobStatus RemoteHost LastRemoteHost JobCurrentStartDate JobStartDate CompletionDate EnteredCurrentStatus
RemoteWallClockTime LastRemoteWallClockTime NumShadowStarts NumJobStarts RemoteUserCpu RemoteSysCpu ExitCode""".split()
BANNER = b"*** "
UNIT = """[Unit]
Description=skytally: which cloud each batch job ran on

[Service]
Type=oneshot
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
    """A source does not answer: what it would have said stays as it is."""


# ---- ads ----


def value_of(text):
    """Read one value of an ad; an expression, which nobody can evaluate here, is its own text."""
    if text[:1] == '"' and text[-1:] == '"' and len(text) > 1:
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None if lowered in ("undefined", "error") else text


def number(ad, *names):
    """Answer the first of these attributes that is a number above zero."""
    for name in names:
        value = ad.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12:
            return value
    return None


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

    A file is known by its inode and its first banner, since a rename keeps both and a new file that gets an old inode has another banner.
    Of each we remember how far it has been read, so neither names, nor times, nor the order of files matter. An ad counts once its banner
    line is whole.
    """

    def __init__(self, path, known):
        self.path = path
        self.known = {(one["inode"], one["banner"]): one["offset"] for one in known}
        self.last = next(((one["inode"], one["banner"]) for one in known if one.get("last")), None)
        self.gaps = 0

    def files(self):
        """Answer the current file and all that it was before."""
        folder, name = os.path.split(self.path)
        names = [one for one in os.listdir(folder) if one == name or re.fullmatch(re.escape(name) + r"\.\d{8}T\d{6}(\.\d+)?", one)]
        return [os.path.join(folder, one) for one in sorted(names, key=lambda one: (one == name, one))]

    def batches(self):
        """Yield lists of ads; what was yielded counts as read from then on, so save `state` only after it was sent."""
        there = {}
        for path in self.files():
            try:
                with open(path, "rb") as file:
                    about, banner = os.fstat(file.fileno()), first_banner(file)
                    if banner is None:
                        continue
                    there[about.st_ino, banner] = about.st_mtime
                    for batch in self.new_ads(file, (about.st_ino, banner)):
                        yield batch
            except FileNotFoundError:
                continue
        self.forget(there)

    def new_ads(self, file, identity):
        """Yield what was appended to a file since."""
        offset = self.known.get(identity, 0)
        if os.fstat(file.fileno()).st_size < offset:
            offset, self.gaps = 0, self.gaps + 1
        file.seek(offset)
        ads, lines = [], []
        for line in file:
            if line[-1:] != b"\n":
                break
            lines.append(line)
            if line.startswith(BANNER):
                ad = parse_ad(lines[:-1])
                ad["banner_time"] = banner_time(line)
                ads.append(ad)
                offset += sum(map(len, lines))
                lines = []
                if len(ads) == BATCH_ADS:
                    self.known[identity] = offset
                    yield ads
                    ads = []
        self.known[identity] = offset
        if ads:
            yield ads

    def forget(self, there):
        """Drop files that are gone; where the one written to last is among them, ads that nobody read may have gone with it."""
        if self.last is not None and self.last not in there:
            self.gaps += 1
        self.last = max(there, key=lambda identity: there[identity]) if there else None
        self.known = {identity: offset for identity, offset in self.known.items() if identity in there}

    @property
    def state(self):
        """Answer what to remember."""
        return [
            {"inode": identity[0], "banner": identity[1], "offset": offset, "last": identity == self.last}
            for identity, offset in self.known.items()
        ]


def first_banner(file):
    """Answer a file's first whole banner line, or None."""
    file.seek(0)
    for line in file:
        if line.startswith(BANNER):
            return line.decode("utf-8", "replace") if line[-1:] == b"\n" else None
    return None


def banner_time(line):
    """Answer the newest time that a banner names: when its ad was written, or its job ended."""
    times = [int(found) for found in re.findall(rb"(?:CurrentTime|CompletionDate) ?= ?(\d+)", line)]
    return max(times) if times else None


# ---- what is sent ----


def run_of(ad, cloud_attribute):
    """Describe the last run of a job on a vm; None for one that never ran."""
    host = ad.get("RemoteHost") or ad.get("LastRemoteHost")
    started = number(ad, "JobCurrentStartDate", "JobStartDate")
    batch_id = ad.get("GlobalJobId")
    if not (isinstance(host, str) and isinstance(batch_id, str) and started):
        return None
    slot, _, vm = host.rpartition("@")
    status = ad.get("JobStatus")
    ended = None if status in ON_A_VM else number(ad, "CompletionDate", "EnteredCurrentStatus", "banner_time")
    wall = wall_of(ad, started, ended)
    cpu = [number(ad, name) for name in ("RemoteUserCpu", "RemoteSysCpu")]
    told = {
        "batch_id": batch_id,
        "vm": vm,
        "cloud": cloud_of(ad, cloud_attribute),
        "slot": slot or None,
        "started_at": iso(started),
        "ended_at": iso(max(ended, started)) if ended else None,
        "wall_seconds": wall,
        "cpu_seconds": sum(part or 0 for part in cpu) if any(cpu) else None,
        "exit_code": ad["ExitCode"] if isinstance(ad.get("ExitCode"), int) else None,
        "state": STATES.get(status, "ended" if ended else "unknown"),
    }
    return {name: value for name, value in told.items() if value is not None}


def epoch_of(ad, cloud_attribute):
    """Describe one run as the epoch history has it: its ad is written when the run ends, and its wall time is that of earlier runs."""
    told = run_of({**ad, "JobStatus": None, "CompletionDate": None, "EnteredCurrentStatus": ad.get("banner_time")}, cloud_attribute)
    if told is not None:
        started = number(ad, "JobCurrentStartDate", "JobStartDate")
        told["wall_seconds"] = max(0, (ad.get("banner_time") or started) - started)
        told.pop("cpu_seconds", None)
    return told


def wall_of(ad, started, ended):
    """Answer the wall time of the last run alone; the sum over all runs only where there was one."""
    last = number(ad, "LastRemoteWallClockTime")
    if last is not None:
        return last
    starts = [number(ad, name) for name in ("NumShadowStarts", "NumJobStarts")]
    if ended and max(start or 0 for start in starts) <= 1:
        return number(ad, "RemoteWallClockTime")
    return max(0, ended - started) if ended else None


def cloud_of(ad, attribute):
    """Answer the cloud that the machine named when it was matched."""
    for name in ("MachineAttr%s0" % attribute, "MATCH_EXP_JOB_%s" % attribute, "MATCH_%s" % attribute):
        if isinstance(ad.get(name), str) and ad[name] not in ("", "unknown", "undefined"):
            return ad[name]
    return None


def machines(ads, cloud_attribute):
    """Describe each machine of the pool that says its cloud, once however many slots it has."""
    found = {}
    for ad in ads:
        vm, cloud, started = ad.get("Machine"), ad.get(cloud_attribute), number(ad, "DaemonStartTime")
        if isinstance(vm, str) and isinstance(cloud, str) and started:
            told = {"vm": vm, "cloud": cloud, "started_at": iso(started), "state": "in the pool"}
            flavor, cores = ad.get("flavor"), number(ad, "TotalCpus")
            found["%s %s" % (vm, started)] = dict(
                told, **({"flavor": flavor} if isinstance(flavor, str) else {}), **({"cores": int(cores)} if cores else {})
            )
    return found


def cloudscheduler_vms(rows, zone):
    """Describe the vms that cloudscheduler lists; its times are local, and of a repeated hour the earlier one is meant."""
    found = {}
    for row in rows:
        try:
            started = datetime.strptime(row["start_time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
            told = {
                "vm": row["hostname"],
                "cloud": row["cloud_name"],
                "started_at": iso(started.timestamp()),
                "state": str(row.get("status")),
            }
        except (KeyError, TypeError, ValueError):
            continue
        told.update({"flavor": row["flavor_name"]} if row.get("flavor_name") else {})
        if str(row.get("cores") or "").isdigit() and int(row["cores"]):
            told["cores"] = int(row["cores"])
        found["%s %s %s" % (row.get("group_name"), row["cloud_name"], row.get("vmid"))] = told
    return found


class Lives:
    """The vms known so far: one has ended when it was not listed in two answers one after another."""

    def __init__(self, known):
        self.known = known

    def seen(self, listed, now):
        """Answer what to report: all that is listed, and the end of what is not any more."""
        for key, vm in listed.items():
            self.known[key] = {"vm": vm, "seen": now, "missing": 0}
        ended = []
        for key in [key for key in self.known if key not in listed]:
            self.known[key]["missing"] += 1
            if self.known[key]["missing"] >= ROUNDS_MISSING:
                gone = self.known.pop(key)
                ended.append(dict(gone["vm"], ended_at=iso(gone["seen"]), state="gone"))
        return list(listed.values()) + ended


# ---- sources and the server ----


def command(*words):
    """Run one of HTCondor's commands and read its JSON: nothing at all is none, any exit code but 0 is an outage."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("%s cannot be run: %s" % (words[0], error))
    if done.returncode:
        raise Unavailable("%s failed: %s" % (words[0], " ".join(done.stderr.decode("utf-8", "replace").split())[:200]))
    text = done.stdout.decode("utf-8", "replace").strip()
    try:
        return json.loads(text) if text else []
    except ValueError:
        raise Unavailable("%s was cut short" % words[0])


def setting(name):
    """Ask HTCondor for one of its settings; None where there is none."""
    try:
        done = subprocess.run(["condor_config_val", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


def context(options):
    """Trust the given CA, or the system's."""
    return ssl.create_default_context(cafile=options.ca) if options.ca else ssl.create_default_context()


def send(options, body):
    """Send a report and answer the receipt; nothing of it counts before that."""
    if options.dry_run:
        print(json.dumps(body, indent=2))
        return {"accepted": 0, "stale": 0, "rejected": []}
    with open(options.token_file) as file:
        token = file.read().strip()
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    url = options.base.rstrip("/") + "/function/placement_report"
    request = urllib.request.Request(url, gzip.compress(json.dumps(body).encode()), headers)
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS, context=context(options) if url.startswith("https") else None) as answer:
            return json.loads(answer.read().decode())
    except urllib.error.HTTPError as error:
        words = error.read().decode("utf-8", "replace")[:300]
        if error.code in (400, 401, 403, 413):
            raise Stop(3, "the server refused the report (%d): %s" % (error.code, words))
        raise Unavailable("the server answered %d" % error.code)
    except (OSError, ValueError) as error:
        raise Unavailable("the server does not answer: %s" % error)


def cloudscheduler(options):
    """Ask cloudscheduler for its vms; an error comes with status 200 and a response code."""
    url = options.cloudscheduler.rstrip("/")
    with open(options.cloudscheduler_password_file) as file:
        secret = base64.b64encode(("%s:%s" % (options.cloudscheduler_user, file.read().strip())).encode()).decode()
    headers = {"Accept": "application/json", "Referer": url, "Authorization": "Basic " + secret}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url + "/vm/list/", None, headers),
            timeout=HTTP_SECONDS,
            context=context(options) if url.startswith("https") else None,
        ) as answer:
            told = json.loads(answer.read().decode("utf-8", "replace"))
        rows = told["vm_list"]
        rows = json.loads(rows) if isinstance(rows, str) else rows
        if told.get("response_code") != 0 or not isinstance(rows, list):
            raise ValueError(told.get("message"))
        return rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable("cloudscheduler does not list its vms: %s" % error)


def zone_of(name):
    """Answer the zone of cloudscheduler's times."""
    try:
        from zoneinfo import ZoneInfo

        return ZoneInfo(name)
    except ImportError:
        raise Stop(2, "--cloudscheduler needs Python 3.9 or later for --zone")
    except (KeyError, ValueError):
        raise Stop(2, "--zone %s is not known, use one such as Europe/Zurich" % name)


# ---- a run ----


class State:
    """What is remembered between runs, replaced as a whole."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "state.json")
        try:
            with open(self.path) as file:
                self.told = json.load(file)
        except (OSError, ValueError):
            self.told = {}

    def save(self, **more):
        """Write it so that it is there, whole, whatever happens to the machine."""
        self.told.update(more)
        with open(self.path + ".new", "w") as file:
            json.dump(self.told, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)


class Report:
    """One run: each source by itself, so that one that is away keeps no other from being told."""

    def __init__(self, options, state):
        self.options, self.state = options, state
        self.counts = {"accepted": 0, "stale": 0, "rejected": 0}
        self.troubles = []

    def run(self):
        """Tell everything; answers the exit code."""
        epoch = self.options.epoch_history or setting("JOB_EPOCH_HISTORY")
        history = self.options.history or setting("HISTORY")
        steps = [(self.from_files, "epoch", epoch, epoch_of)] if epoch and os.path.exists(epoch) else []
        steps += [
            (self.from_files, "history", history, run_of) if history and os.access(history, os.R_OK) else (self.from_history_command,)
        ]
        steps += [(self.from_queue,), (self.from_pool,)] + ([(self.from_cloudscheduler,)] if self.options.cloudscheduler else [])
        for step, *arguments in steps:
            try:
                step(*arguments)
            except Unavailable as trouble:
                self.troubles.append(str(trouble))
        for trouble in self.troubles:
            print("scheduler.py: %s" % trouble, file=sys.stderr)
        print("{accepted} kept, {stale} known in a newer form, {rejected} refused".format(**self.counts))
        return 5 if self.troubles else 0

    def tell(self, vms=(), jobs=()):
        """Send in batches, and say what the server would not take."""
        vms, jobs = list(vms), list(jobs)
        for start in range(0, max(len(vms), len(jobs)), BATCH_ADS):
            receipt = send(self.options, {"vms": vms[start : start + BATCH_ADS], "jobs": jobs[start : start + BATCH_ADS]})
            self.counts["accepted"] += receipt["accepted"]
            self.counts["stale"] += receipt["stale"]
            self.counts["rejected"] += len(receipt["rejected"])
            for one in receipt["rejected"][:3]:
                print("scheduler.py: refused: %s" % one["message"], file=sys.stderr)

    def from_files(self, name, path, describe):
        """Tell the new ads of history files, and go on behind them only once they are kept."""
        history = History(path, self.state.told.get(name, []))
        for ads in history.batches():
            self.tell(jobs=[told for told in (describe(ad, self.options.cloud_attribute) for ad in ads) if told])
            self.keep(**{name: history.state})
        self.keep(**{name: history.state})
        if history.gaps:
            print(
                "scheduler.py: %s: a file went before it was read whole; keep more of them (MAX_HISTORY_ROTATIONS)" % path, file=sys.stderr
            )

    def from_history_command(self):
        """Tell what condor_history knows since the newest that was told, where the files cannot be read."""
        last = self.state.told.get("newest")
        since = ["-since", 'GlobalJobId == "%s"' % last] if last else []
        if last and not command(
            "condor_history", "-json", "-attributes", "GlobalJobId", "-limit", "1", "-constraint", 'GlobalJobId == "%s"' % last
        ):
            print("scheduler.py: the job told last is in no history any more: some may be missing before what is told now", file=sys.stderr)
        ads = command("condor_history", "-json", "-attributes", ",".join(self.attributes()), *since)
        self.tell(jobs=[told for told in (run_of(ad, self.options.cloud_attribute) for ad in ads) if told])
        if ads:
            self.keep(newest=ads[0].get("GlobalJobId"))

    def from_queue(self):
        """Tell what runs now."""
        ads = command("condor_q", "-allusers", "-json", "-attributes", ",".join(self.attributes()))
        running = [ad for ad in ads if ad.get("JobStatus") in ON_A_VM]
        self.tell(jobs=[told for told in (run_of(ad, self.options.cloud_attribute) for ad in running) if told])

    def attributes(self):
        cloud = self.options.cloud_attribute
        return ATTRIBUTES + ["MachineAttr%s0" % cloud, "MATCH_EXP_JOB_%s" % cloud]

    def from_pool(self):
        """Tell the machines of the pool, and which have gone."""
        wanted = ["Machine", "DaemonStartTime", "TotalCpus", "flavor", self.options.cloud_attribute]
        self.lives("pool", machines(command("condor_status", "-json", "-attributes", ",".join(wanted)), self.options.cloud_attribute))

    def from_cloudscheduler(self):
        """Tell the vms that cloudscheduler lists, and which have gone."""
        self.lives("cloudscheduler", cloudscheduler_vms(cloudscheduler(self.options), zone_of(self.options.zone)))

    def lives(self, name, listed):
        lives = Lives(self.state.told.get(name, {}))
        self.tell(vms=lives.seen(listed, time.time()))
        self.keep(**{name: lives.known})

    def keep(self, **more):
        if not self.options.dry_run:
            self.state.save(**more)


def report(options):
    """Do one run, alone."""
    os.makedirs(options.state, mode=0o700, exist_ok=True)
    with open(os.path.join(options.state, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop(4, "another copy is running on %s" % options.state)
        return Report(options, State(options.state)).run()


def install(options):
    """Write a systemd service and timer, and start it."""
    told = ["base", "token_file", "ca", "state", "cloud_attribute", "history", "epoch_history", "cloudscheduler", "cloudscheduler_user"]
    words = [sys.executable, os.path.abspath(__file__), "report"]
    for name in told + ["cloudscheduler_password_file", "zone"]:
        if getattr(options, name):
            words += ["--" + name.replace("_", "-"), getattr(options, name)]
    for ending, text in (("service", UNIT.format(command=" ".join('"%s"' % word.replace("%", "%%") for word in words))), ("timer", TIMER)):
        with open(os.path.join(options.units, "skytally-scheduler." + ending), "w") as file:
            file.write(text)
    if options.units == "/etc/systemd/system":
        subprocess.check_call(["systemctl", "daemon-reload"])
        subprocess.check_call(["systemctl", "enable", "--now", "skytally-scheduler.timer"])
    print("it reports every five minutes: systemctl list-timers skytally-scheduler")
    return 0


def main():
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("verb", choices=("report", "install"), metavar="report|install")
    for name in (
        "base",
        "token-file",
        "ca",
        "history",
        "epoch-history",
        "cloudscheduler",
        "cloudscheduler-user",
        "cloudscheduler-password-file",
    ):
        parser.add_argument("--" + name, help=argparse.SUPPRESS)
    for name, usual in (
        ("state", "/var/lib/skytally-scheduler"),
        ("cloud-attribute", "cloud_name"),
        ("zone", "UTC"),
        ("units", "/etc/systemd/system"),
    ):
        parser.add_argument("--" + name, default=usual, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.dry_run and not (options.base and options.token_file):
        parser.error("--base and --token-file are needed; see --help")
    try:
        return report(options) if options.verb == "report" else install(options)
    except Stop as stop:
        print("scheduler.py: %s" % stop, file=sys.stderr)
        return stop.code
    except (OSError, Unavailable) as error:
        print("scheduler.py: %s" % error, file=sys.stderr)
        return 5


if __name__ == "__main__":
    sys.exit(main())
