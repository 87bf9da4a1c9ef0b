#!/usr/bin/env python3
"""skytally on a vm: takes its secret once, measures it, reports it. Needs Python 3.6+ and `openssl`, nothing else.

boot    take the secret, benchmark, report       jobs       report the DIRAC jobs that run here
report  measure, send what is not accepted yet   benchmark  print it
stop    report for the last time in this boot    install    let systemd or cron `run` it
run     boot, report every hour, stop at SIGTERM resend     offer again what the server refused

vm.py boot --base https://sky.example.org --claim-file /run/claim --unpack /etc/grid-security --owner condor --mode 0400

--base URL (or https://{function}.HOST)   --ca FILE   --insecure yes (http to another machine)
--claim-file FILE (- is stdin)   --vm NAME (of several with one user-data)   or --token-file FILE (a reporter's)
--payload FILE (STATE/payload) or --unpack DIR (a tar)   --owner USER[:GROUP]   --mode 0600
--benchmark-report FILE (of the HEP Benchmark Suite) or none   --jobs yes (run does jobs too)
--patience SECONDS (since the last answer)   --state, --proc, --root DIR; or SKYTALLY_BASE and so on in the environment.

Exit codes: 0 done; 2 usage; 3 refused, taken, or no bundle of ours: tell the operator; 4 expired or revoked;
5 server away, nothing is lost; 6 this machine lacks something.
"""

# What few calls need is imported there: imports are most of what a report costs.
import argparse
import base64
import calendar
import contextlib
import email.utils
import fcntl
import functools
import gzip
import hashlib
import hmac
import http.client
import json
import math
import os
import random
import re
import signal
import socket
import ssl
import sys
import time
import types
import urllib.parse
import zlib

VERSION = "1.1"
DONE, USAGE, REFUSED, GONE, UNAVAILABLE, LOCAL = 0, 2, 3, 4, 5, 6
AGAIN = UNAVAILABLE, LOCAL  # what `run` tries again
OPTIONS = dict(
    dict.fromkeys("base insecure ca claim_file vm token_file payload unpack owner benchmark_report jobs".split()),
    mode="0600",
    patience="120",
    state="/var/lib/skytally",
    proc="/proc",
    root="/",
)
PATHS = set("ca claim_file token_file payload unpack benchmark_report state proc".split())
BLANK = dict.fromkeys(
    "format written boot_id machine_id name token token_seen claimed boot_at epoch heard lost month month_start "
    "estimated last measured machine points pending benchmark beats refused version".split()
)
SPOOL_SAMPLES, SPOOL_BEATS, BEAT_SECONDS, STEP_SECONDS, EXACT_SECONDS = 1000, 200, 2 * 86400, 5, 90
KEPT_SECONDS, KEPT_ITEMS, KEPT_BYTES = 14 * 86400, 1000, 1 << 20  # of what the server refused
ANSWER_BYTES, MEMBERS, REQUEST_SECONDS = 4 << 20, 1000, 60
ENDINGS = signal.SIGTERM, signal.SIGINT
RUN, CONSOLE, SECRET_DIRS, MACHINE_FILE = "/run", "/dev/console", ("/dev/shm", "/run"), "/sys/class/dmi/id/product_uuid"
TICKED = tuple(kind + "_seconds" for kind in "user nice system idle iowait steal".split())
BYTES = "network_received_bytes", "network_sent_bytes"
ZERO = dict.fromkeys(("wall_seconds", "core_seconds", "suspended_seconds") + TICKED + BYTES, 0)
join, suppress = os.path.join, contextlib.suppress
# Every time comes from here or from PROC/uptime.
clock = types.SimpleNamespace(
    unix=time.time, sleep=time.sleep, monotonic=lambda: time.clock_gettime(time.CLOCK_MONOTONIC)
)


class Stop(Exception):
    """Ends a verb: exit code, sentence."""


class Refused(Stop):
    """A no that waiting does not change: exit code, sentence, status; the server's code and message."""


def printable(text):
    """Return text that does nothing to a terminal: printable ASCII, all else escaped, and cut."""
    shown = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in str(text)[:600])
    return shown + "..." * (len(str(text)) > 600)


def say(sentence):
    """Tell the journal and the console: the only way for words of others."""
    sentence = "skytally: " + printable(sentence)
    print(sentence, file=sys.stderr)
    with suppress(OSError), open(CONSOLE, "w") as console:
        print(sentence, file=console)


def iso(at):
    """Write unix seconds as UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // 1))


def unix(text):
    """Read what `iso` or the server wrote."""
    return calendar.timegm(tuple(map(int, re.split("[-T:]", text[:19])))) + float("0" + text[19:-1])


def month_at(at, later=False):
    """Return when the month of a moment begins, or the month after it."""
    begin = calendar.timegm(time.gmtime(at)[:2] + (1, 0, 0, 0))
    return month_at(begin + 32 * 86400) if later else begin


# ---- the wire ----


def connect(url, tls):
    """Return a connection to a URL's server; what is encrypted goes by the environment's proxy."""
    if url.scheme == "http":
        return http.client.HTTPConnection(url.netloc, timeout=20)
    proxy = None
    if any(name.lower() == "https_proxy" for name in os.environ):
        import urllib.request

        proxy = not urllib.request.proxy_bypass(url.netloc) and urllib.request.getproxies().get("https")
    if not proxy:
        return http.client.HTTPSConnection(url.netloc, timeout=20, context=tls)
    login, _, server = proxy.split("://")[-1].split("/")[0].rpartition("@")
    word = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
    connection = http.client.HTTPSConnection(server, timeout=20, context=tls)
    connection.set_tunnel(url.netloc, headers={"Proxy-Authorization": "Basic " + word} if login else {})
    return connection


def error_in(answer):
    """Return code and message of the server's own error, or (None, None)."""
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        error = json.loads(answer.decode())["error"]
        return str(error["code"])[:100], str(error.get("message"))[:300]
    return None, None


def url_of(vm, name):
    """Return where a function answers; nothing travels in clear."""
    base = vm.base or ""
    allowed = r"https?://[^/]" if vm.insecure else r"https://[^/]|http://(localhost|127[\d.]+|\[::1])(:\d+)?(/|$)"
    if not re.match(allowed, base):
        raise Stop(USAGE, "give --base URL as https://..., or --insecure yes with http, not %r" % base)
    if "{function}" not in base:
        base = base.rstrip("/") + "/function/{function}"
    return base.replace("{function}", name)


def retry_after(vm, headers):
    """Return the seconds of Retry-After, in either form: 120 at most."""
    with suppress(ValueError, LookupError, TypeError, OverflowError):
        date = email.utils.parsedate(headers["Retry-After"])
        return max(0, min(120, calendar.timegm(date) - now(vm) if date else int(headers["Retry-After"])))
    return 0


def too_slow(*_):
    """End a request at SIGALRM."""
    raise TimeoutError("no whole answer in time")


@contextlib.contextmanager
def unbroken():
    """Let SIGTERM and SIGINT wait for the end of a block."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def answer_of(url, tls, body, headers, keep):
    """Send a request; return (status, headers, body) as they come, and whether the server was reached.

    A redirect is an answer as well: a token must not travel.
    """
    path = (url.path or "/") + ("?" + url.query) * bool(url.query)
    with unbroken():  # a bundle that came is kept before this process ends
        signal.alarm(REQUEST_SECONDS)  # the time-out is for each read
        try:
            with contextlib.closing(connect(url, tls)) as connection:
                connection.request("GET" if body is None else "POST", path, body, headers)
                reply = connection.getresponse()
                status, headers, answer = reply.status, reply.headers, reply.read(ANSWER_BYTES)
                if reply.length:
                    raise http.client.IncompleteRead(answer)
        except (OSError, http.client.HTTPException) as error:
            return 503, {}, repr(error).encode(), False
        finally:
            signal.alarm(0)
        if status == 200 and keep:
            if not answer.startswith(b"manifest\0"):
                return 503, headers, b"no bundle: somebody between us and the server answers", True
            write_file(keep, answer)
        return status, headers, answer, True


def post(vm, name, body=None, headers=None, keep=None):
    """Return the body of a 200, also written to `keep`, or raise Stop.

    Patience counts from the last answer, and ends after four times that.
    """
    url = urllib.parse.urlsplit(url_of(vm, name))
    tls = ssl.create_default_context(cafile=vm.ca) if vm.ca or url.scheme == "https" else None
    headers = dict({"User-Agent": "vm.py/" + VERSION, "Connection": "close"}, **headers or {})
    delay, patience = 1, float(vm.patience)
    begun = answered = clock.monotonic()
    while True:
        vm.sent_at = uptime_of(vm)
        status, reply_headers, answer, reached = answer_of(url, tls, body, headers, keep)
        answered = clock.monotonic() if reached else answered
        date = email.utils.parsedate(reply_headers.get("Date"))
        if date and not vm.heard and 2019 < date[0] < 2100:
            hear(vm, calendar.timegm(date) + 0.5 - uptime_of(vm))  # a Date is cut to seconds
        if status == 200 or (not body and (date or status < 500)):  # a GET asks for the time
            return answer
        code, message = error_in(answer)
        problem = "%s: %d %s" % (name, status, message or answer[:300].decode("utf-8", "replace"))
        if 400 <= status < 500 and status not in (404, 408, 429):
            raise Refused(GONE if status == 410 else REFUSED, problem, status, code, message)
        asked_seconds = retry_after(vm, reply_headers) * random.uniform(1, 1.25)
        wait_seconds = asked_seconds + random.uniform(delay / 2, delay)
        if clock.monotonic() + wait_seconds > min(answered + asked_seconds + patience, begun + 4 * patience):
            raise Stop(UNAVAILABLE, problem)
        clock.sleep(wait_seconds)
        delay = min(2 * delay, 60)


# ---- the secret ----


def openssl(*args, feed=b""):
    """Return openssl's stdout; no secret is in an argument."""
    import subprocess

    done = subprocess.run(("openssl",) + args, input=feed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        decrypts = done.returncode > 0 and args[0] in ("pkeyutl", "enc")  # else it is openssl that is broken
        raise Stop(REFUSED if decrypts else LOCAL, "no match: openssl %s: %r" % (args[0], done.stderr[:300]))
    return done.stdout


def mac(key, message):
    """Return HMAC-SHA256."""
    return hmac.new(key, message, "sha256").digest()


def digest(data):
    """Return SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def spki_of(key_file):
    """Return the public half as DER."""
    return openssl("rsa", "-in", key_file, "-pubout", "-outform", "DER")


def take_bundle(vm, token, key_file, bundle_file):
    """Claim, with a proof that we hold the token, and keep the answer."""
    claim, expires, secret = token
    # DER of 3072 bits ends in a modulus of 385 bytes and the exponent, as in ssh-rsa.
    parts = b"ssh-rsa", b"\1\0\1", spki_of(key_file)[-390:-5]
    blob = base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()
    line = "ssh-rsa %s %s\n" % (blob, re.sub(r"[^!-~]", "?", socket.gethostname()))
    public_key = base64.b64encode(gzip.compress(line.encode()))
    proven = "|".join(["skytally/v1 claim", claim, digest(public_key)] + [vm.vm] * bool(vm.vm))
    form = dict(claim=claim, expires=expires, public_key=public_key, proof=mac(secret.encode(), proven.encode()).hex())
    if vm.vm:
        form["vm"] = vm.vm
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    post(vm, "secret-claim", urllib.parse.urlencode(form).encode(), headers, bundle_file)


def untar(archive, fault="no match"):
    """Return a tar's [(name, content)], a folder as (name/, None); raise Stop for anything but plain files and folders.

    Not by tarfile, since nothing is proven of a bundle yet. Links, devices and sparse files are refused before their
    sizes are believed: what is unpacked is no larger than the archive.
    """
    members: list = []
    at, long_name = 0, b""
    unsound = Stop(REFUSED, "%s: not a sound tar of plain files" % fault)
    if len(archive) < 512:
        raise unsound
    while archive[at : at + 512].strip(b"\0"):
        header = archive[at : at + 512]
        size, checksum = [octal(header[begin:end]) for begin, end in ((124, 136), (148, 156))]
        # The checksum counts its own field as eight blanks.
        if len(header) < 512 or size is None or checksum != sum(header[:148] + header[156:]) + 256:
            raise unsound
        kind, content = header[156:157], archive[at + 512 : at + 512 + size]
        at += 512 + -(-size // 512) * 512
        if len(content) < size or len(members) == MEMBERS or (kind in (b"L", b"x", b"g") and size > 65536):
            raise unsound
        prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
        name = long_name or b"/".join(filter(None, (prefix, header[:100].split(b"\0")[0])))
        if kind == b"L":
            long_name = content.rstrip(b"\0")
        elif kind in (b"x", b"g"):
            fields = pax_fields(content)
            if fields is None or (kind == b"g" and b"path" in fields):
                raise unsound
            long_name = fields.get(b"path", long_name)
        elif kind in (b"0", b"\0", b"5"):
            folder = kind == b"5" or name[-1:] == b"/"
            members.append((os.fsdecode(name.rstrip(b"/") + b"/" if folder else name), None if folder else content))
            long_name = b""
        else:
            raise unsound
    return members


def octal(field):
    """Return a tar header's number; None for none."""
    digits = re.match(rb" *([0-7]{1,12})[ \0]*\Z", field)
    return int(digits.group(1), 8) if digits else None


def pax_fields(records):
    """Return a pax header's fields; None for an unsound one, or one of sizes, as sparse files have."""
    fields = {}
    while records:
        head = re.match(rb"([0-9]{1,9}) ([^=\n]+)=", records)
        end = int(head.group(1)) if head else 0
        if not head or not head.end() < end <= len(records) or records[end - 1 : end] != b"\n":
            return None
        fields[head.group(2)], records = records[head.end() : end - 1], records[end:]
    return None if any(name == b"size" or name.startswith(b"GNU.sparse") for name in fields) else fields


def open_bundle(bundle, token, name, key_file):
    """Return (payload, reporter token); decrypts only after all else is proven."""
    claim, expires, secret = token
    members = untar(bundle)
    if [member for member, _ in members] != "manifest manifest.mac R.enc P.enc".split():
        raise Stop(REFUSED, "no match: no bundle")
    manifest, its_mac, sealed_key, sealed = [content for _, content in members]
    lines = ["v=1", "claim=" + claim, "exp=" + expires] + ["vm=%s" % name] * bool(name)
    lines += ["spki_sha256=" + digest(spki_of(key_file))]
    lines += ["R_sha256=" + digest(sealed_key), "P_sha256=" + digest(sealed), ""]
    if manifest != "\n".join(lines).encode():
        raise Stop(REFUSED, "no match: for another claim or key, or changed")
    options = "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256".split()
    root = mac(secret.encode(), openssl("pkeyutl", "-decrypt", "-inkey", key_file, *options, feed=sealed_key))
    mac_key, password = [mac(root, ("skytally/v1 %s %s\1" % (use, claim)).encode()) for use in ("mac", "enc")]
    if not hmac.compare_digest(mac(mac_key, manifest).hex().encode() + b"\n", its_mac):
        raise Stop(REFUSED, "MAC failure: the bundle is not from who made the token")
    write_file(key_file + ".P", sealed)
    decrypt = "enc -d -aes-256-ctr -md sha256 -pass stdin -in".split()
    plain = openssl(*decrypt, key_file + ".P", feed=password.hex().encode())
    inside = dict(untar(plain))
    if list(inside) != ["payload", "reporter"]:
        raise Stop(REFUSED, "no match: no payload and reporter inside")
    return inside["payload"], inside["reporter"].decode().strip()


def write_new(name, data, mode=0o600, owner=None, folder=None):
    """Write a new file; `folder` is a descriptor."""
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
        if owner:
            import shutil

            shutil.chown(out.fileno(), *owner.split(":"))
        os.fchmod(out.fileno(), mode)


def write_file(path, data, mode=0o600, owner=None):
    """Put a file there whole or not at all."""
    with suppress(FileNotFoundError):
        os.unlink(path + ".new")
    write_new(path + ".new", data, mode, owner)
    os.rename(path + ".new", path)


# ---- unpacking ----


def parts_of(name):
    """Return a member's path as names, all below the folder; raise Stop for one that leads elsewhere."""
    if not re.match(r"[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,999}\Z", name) or ".." in name.split("/"):
        raise Stop(REFUSED, "the payload is not unpacked: it holds the name %r" % name[:80])
    return [part for part in name.split("/") if part not in ("", ".")]


def open_folder(stack, path, parent=None):
    """Return a folder's descriptor; a link is an error."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    stack.callback(os.close, descriptor)
    return descriptor


@contextlib.contextmanager
def folder_in(top, parts, made):
    """Yield a descriptor of a folder below another, noting in `made` what is made; follow no link."""
    with contextlib.ExitStack() as stack:
        here = top
        for depth, part in enumerate(parts, 1):
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=here)
                made.append(parts[:depth])
            here = open_folder(stack, part, here)
        yield here


def put_in_place(top, stage, files, folders):
    """Rename staged files to their paths, all or none. File n is n.new in `stage`, n.old what it replaces."""
    made: list = []
    renamed: list = []
    try:
        for parts in folders:
            with folder_in(top, parts, made):
                pass
        for number, parts in enumerate(files):
            with folder_in(top, parts[:-1], made) as parent, suppress(FileNotFoundError):
                os.link(parts[-1], "%d.old" % number, src_dir_fd=parent, dst_dir_fd=stage, follow_symlinks=False)
        for number, parts in enumerate(files):
            with folder_in(top, parts[:-1], made) as parent:
                renamed.append(number)
                os.rename("%d.new" % number, parts[-1], src_dir_fd=stage, dst_dir_fd=parent)
                os.fsync(parent)
    except BaseException:
        for number in renamed:
            with suppress(OSError), folder_in(top, files[number][:-1], made) as parent:
                try:
                    os.rename("%d.old" % number, files[number][-1], src_dir_fd=stage, dst_dir_fd=parent)
                except FileNotFoundError:
                    os.unlink(files[number][-1], dir_fd=parent)
        for parts in reversed(made):
            with suppress(OSError), folder_in(top, parts[:-1], []) as parent:
                os.rmdir(parts[-1], dir_fd=parent)
        raise


def staging_base(root):
    """Return where files for `root` are staged: in it or, if it is missing, its parent."""
    base = root if os.path.isdir(root) else os.path.dirname(root)
    if base != root and os.path.lexists(root):
        raise Stop(LOCAL, "%s is no folder" % root)
    os.makedirs(base, exist_ok=True)
    return base


def unpack(payload, folder, mode=0o600, owner=None):
    """Write a tar's files into a folder: all of them or, whatever fails, none.

    A folder that is not there yet appears whole, by one rename; one that is there keeps its other files. Nothing is
    renamed before all new files lie synced in a private folder beside it, where a second link to what they replace
    puts it back if a later step fails. Paths are walked by descriptors, and no link below the folder is followed.
    A power cut between two renames leaves whole files, some new and some old, and the private folder, which the next
    call removes.
    """
    import shutil
    import tempfile

    members = [(parts_of(name), content) for name, content in untar(payload, "the payload is not unpacked")]
    contents = {"/".join(parts): content for parts, content in members if content is not None}  # of one name the last
    files = [name.split("/") for name in contents]
    folders = [parts for parts, content in members if content is None]
    root = os.path.realpath(folder)
    base, prefix = staging_base(root), ".%s.skytally-" % os.path.basename(root)
    try:
        for place in {base, os.path.dirname(root)}:
            for name in filter(lambda name: name.startswith(prefix), os.listdir(place)):
                shutil.rmtree(join(place, name), ignore_errors=True)  # left by a power cut
        with contextlib.ExitStack() as stack:
            private = tempfile.mkdtemp(prefix=prefix, dir=base)
            stack.callback(shutil.rmtree, private, ignore_errors=True)
            stage = open_folder(stack, private)
            for number, content in enumerate(contents.values()):
                write_new("%d.new" % number, content, mode, owner, stage)
            os.fsync(stage)
            if base == root:
                put_in_place(open_folder(stack, root), stage, files, folders)
            else:
                os.mkdir("whole", 0o755, dir_fd=stage)
                put_in_place(open_folder(stack, "whole", stage), stage, files, folders)
                os.rename(join(private, "whole"), root)
                with suppress(OSError):
                    os.fsync(open_folder(stack, base))
    except OSError as error:
        raise Stop(LOCAL, "the payload is not unpacked, %s is as it was: %s" % (folder, error))


def claim_text(vm):
    """Return what the claim file holds; once the secret is here, a file that is gone counts as spent."""
    if vm.claim_file == "-":
        vm.standard_input = getattr(vm, "standard_input", "") or sys.stdin.read().strip()  # it can be read once
        return vm.standard_input
    try:
        with open(vm.claim_file) as source:
            return source.read().strip()
    except FileNotFoundError:
        if not vm.claimed:
            raise
        return ""


def take_secret(vm):
    """Claim, open, put payload and token in place, once for a machine.

    The next call goes on with the same key and bundle, kept in memory: it is no other taker. Where the claim is
    refused, its file is emptied before the key goes.
    """
    import shutil

    text = claim_text(vm)
    if vm.claimed and not text:
        return
    match = re.match(r"([a-z0-9]{20,64})\.(\d{1,12})\.([0-9a-f]{64})\Z", text)
    if not match:
        raise Stop(USAGE, "the claim file holds no token" + " any more" * (not text))
    memory = [folder for folder in SECRET_DIRS if os.access(folder, os.W_OK)]
    if not memory:
        raise Stop(LOCAL, "neither %s can be written: keys are kept in memory only" % " nor ".join(SECRET_DIRS))
    work = join(memory[0], "skytally-" + digest(text.encode())[:32])
    os.makedirs(work, 0o700, exist_ok=True)
    if os.lstat(work).st_uid != os.geteuid():
        raise Stop(LOCAL, "%s is not ours" % work)
    bundle, judged = join(work, "bundle"), True
    try:
        keep_secret(vm, match.groups(), join(work, "key.pem"), bundle)
        shutil.rmtree(work)
    except BaseException as end:
        # Judged: the server's own no, or a bundle that is none of ours.
        judged = isinstance(end, Stop) and (any(end.args[3:4]) or (end.args[0] == REFUSED and os.path.exists(bundle)))
        raise
    finally:
        if judged:
            with suppress(OSError):
                os.truncate(vm.claim_file, 0)
            shutil.rmtree(work, ignore_errors=True)


def keep_secret(vm, token, key_file, bundle_file):
    """Take the bundle, unless it lies there, and put in place what it holds."""
    if vm.claimed == token[0]:
        return
    path, how = os.path.abspath(vm.payload or join(vm.state, "payload")), (int(vm.mode, 8), vm.owner)
    probe = join(staging_base(os.path.realpath(vm.unpack or os.path.dirname(path))), ".skytally")
    write_file(probe, b"", *how)  # what cannot be kept must not be claimed
    os.unlink(probe)
    if not save_state(vm):
        raise Stop(LOCAL, "no state can be kept")
    if not os.path.exists(key_file):
        write_file(key_file, openssl("genrsa", "3072"))
    if not os.path.exists(bundle_file):
        take_bundle(vm, token, key_file, bundle_file)
    with open(bundle_file, "rb") as source:
        payload, vm.token = open_bundle(source.read(), token, vm.vm, key_file)
    if vm.unpack:
        unpack(payload, vm.unpack, *how)
    else:
        write_file(path, payload, *how)
    vm.claimed, vm.name = token[0], vm.vm or name_in(vm.token) or vm.name
    save_state(vm)


# ---- /proc ----


def text_of(vm, path, *default):
    """Return a file's text, in PROC unless absolute; without a default it must be there."""
    with suppress(*[OSError] * len(default)), open(join(vm.proc, path), errors="replace") as source:
        return source.read()
    return default[0]


def uptime_of(vm):
    """Return the seconds since boot, asleep or not."""
    return float(text_of(vm, "uptime").split()[0])


def parse_stat(text):
    """Return (seconds by kind, online cores)."""
    ticks = [int(word) for word in text.splitlines()[0].split()[1:]] + [0] * 8
    cores = len(re.findall(r"^cpu\d", text, re.MULTILINE))
    return [tick / os.sysconf("SC_CLK_TCK") for tick in ticks[:8]], max(1, cores)


def parse_interfaces(text):
    """Return {interface: [received, sent]} without loopback."""
    rows = re.findall(r"^\s*([^\s|]+):\s*(\d+)(?:\s+\d+){7}\s+(\d+)", text, re.MULTILINE)
    return {name: [int(received), int(sent)] for name, received, sent in rows if name != "lo"}


def cpu_model(vm):
    """Return the processor's name."""
    return (re.findall(r"model name\s*:\s*(.*)", text_of(vm, "cpuinfo", "")) + [os.uname().machine])[0][:255]


def bound(seconds):
    """Return what another counter may show of so many seconds."""
    return seconds * 1.02 + 60


def core_time(past, wall, cores, ticked):
    """Return this boot's core seconds: its online cores over time; where `past` is lost, at most the kernel's ticks.

    Those of all cores, also of cores that are gone, add up. Linux before 6.8 loses idle ones of a core that comes back.
    """
    if past:  # where the cores changed in between, ticks say when
        since = max(0, wall - past["counters"]["wall_seconds"])
        low, high = [count * since for count in sorted((past["cores"], cores))]
        return past["counters"]["core_seconds"] + min(max(ticked - past["ticked"], low), high)
    whole = cores * wall
    return ticked if ticked > bound(whole) else min(ticked or whole, whole)


def measure(vm):
    """Count what this boot has used and keep it."""
    up, (seconds, cores) = uptime_of(vm), parse_stat(text_of(vm, "stat"))
    wall, interfaces = min(clock.monotonic(), up), parse_interfaces(text_of(vm, "net/dev", ""))
    # Guest time is inside user. Kernels let iowait and steal run back, or underflow to centuries.
    ticked = sum(value for value in seconds if value < 9e9)
    core, past = core_time(vm.measured, wall, cores, ticked), vm.measured or dict(counters=ZERO, interfaces={})
    before = past["counters"]
    now = dict(
        before,
        wall_seconds=max(wall, before["wall_seconds"]),
        core_seconds=core,
        suspended_seconds=max(up - wall, before["suspended_seconds"]),
    )
    user, nice, system, idle, iowait, irq, softirq, steal = seconds
    for name, value in zip(TICKED, (user, nice, system + irq + softirq, idle, iowait, steal)):
        now[name] = value if before[name] <= value <= bound(core) else before[name]
    for column, name in enumerate(BYTES):
        for interface, count in interfaces.items():
            last = past["interfaces"].get(interface, (0, 0))[column]
            now[name] += count[column] - (last if last <= count[column] else 0)  # smaller: it was reset
    vm.measured = dict(
        up=up,
        counters={name: round(value, 3) for name, value in now.items()},
        cores=cores,
        ticked=ticked,
        most_cores=max(cores, past.get("most_cores", 1), math.ceil(core / bound(wall))),
        interfaces=interfaces,
        unix=clock.unix(),
        final=vm.verb == "stop",
    )
    vm.points = vm.points[1 - SPOOL_SAMPLES :] + [vm.measured]
    disk = os.statvfs("/")
    vm.machine = dict(
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        disk_bytes=disk.f_blocks * disk.f_frsize,
        cpu_model=cpu_model(vm),
        agent_version=VERSION,
    )
    save_state(vm)


# ---- the month split: samples are dated by boot time and uptime, so no step of a clock matters ----


def mix(before, after, fraction, names=ZERO):
    """Return counters at a fraction of the way."""
    return {
        name: round(before[name] + (after[name] - before[name]) * fraction, None if name in BYTES else 3)
        for name in names
    }


def begin_boot(vm, point):
    """Begin the account with the boot, unless one was begun and lost."""
    vm.boot_at = vm.boot_at or iso(vm.epoch)
    counters = point["counters"]
    core, whole = counters["core_seconds"], point["cores"] * counters["wall_seconds"]
    vm.month, vm.month_start = month_at(unix(vm.boot_at)), ZERO
    vm.estimated = max(core, whole) > bound(min(core, whole))
    vm.last = dict(sampled_at=vm.boot_at, uptime_seconds=0, counters=ZERO)
    if vm.lost:
        # No interval: it might overlap one that was sent. The month's begin is guessed; months before were reported.
        vm.month = month_at(vm.epoch + point["up"])
        fraction = max(0, vm.month - vm.epoch) / max(point["up"], 1)
        vm.last, vm.month_start, vm.estimated = None, mix(ZERO, counters, fraction), vm.estimated or fraction > 0
        if fraction and core > whole:  # this month may have had no more cores than now
            vm.month_start.update(mix(ZERO, counters, 1 - (1 - fraction) * whole / core, ("core_seconds",) + TICKED))


def end_month(vm, point, at):
    """Close a month with an interpolated sample, begin the next."""
    last, edge = vm.last, month_at(vm.month, later=True)
    span = point["up"] - last["uptime_seconds"]
    since = max(0, span - (at - edge))
    counters = mix(last["counters"], point["counters"], since / span if span > 0 else 1)
    estimated = min(at - edge, edge - unix(last["sampled_at"])) > EXACT_SECONDS
    if since > 0:
        closing = dict(
            point,
            up=round(last["uptime_seconds"] + since, 3),
            counters=counters,
            final=False,
            unix=point["unix"] - (at - edge),
        )
        spool(vm, closing, edge, vm.estimated or estimated)
    vm.month, vm.month_start, vm.estimated = edge, counters, estimated


def spool(vm, point, at, estimated):
    """Make a sample; its `previous` never changes: no intervals overlap."""
    here = dict(sampled_at=iso(at), uptime_seconds=point["up"], counters=point["counters"])
    vm.pending.append(
        dict(
            vm.machine,
            vm=vm.name,
            boot_id=vm.boot_id,
            boot_at=vm.boot_at,
            month=iso(vm.month)[:7],
            month_start=vm.month_start,
            previous=vm.last,
            cores=point["cores"],
            most_cores=point.get("most_cores"),
            final=point["final"],
            estimated=estimated,
            benchmark=vm.benchmark,
            clock_offset_seconds=round(at - point["unix"], 3) if vm.heard else None,
            **here,
        )
    )
    vm.last = here
    if len(vm.pending) > SPOOL_SAMPLES:  # the oldest that ends no month or boot
        ends = [s["final"] or s["month"] != s["sampled_at"][:7] for s in vm.pending]
        del vm.pending[ends.index(min(ends))]


def add_samples(vm):
    """Turn measurements into samples, with one at each month's edge."""
    for point in vm.points:
        if vm.month is None:
            begin_boot(vm, point)
        at = max(vm.epoch + point["up"], vm.month)
        while at >= month_at(vm.month, later=True):
            end_month(vm, point, at)
        spool(vm, point, at, vm.estimated)
    vm.points = []


def hear(vm, epoch):
    """Take the server's time at boot, smoothed unless a clock was set."""
    near = vm.heard and abs(epoch - vm.epoch) <= STEP_SECONDS
    vm.epoch, vm.heard = vm.epoch + (epoch - vm.epoch) / 4 if near else epoch, True


def ask_time(vm):
    """Learn the server's time; say whether it is known."""
    if not vm.heard:
        vm.epoch = clock.unix() - uptime_of(vm)
        post(vm, "usage-report")
    return vm.heard


def now(vm):
    """Return the server's time, our own while it is unknown."""
    return vm.epoch + uptime_of(vm) if vm.heard else clock.unix()


# ---- the state ----


def state_files(vm):
    """Name both copies: one outlives the boot, one a lost, torn or full disk."""
    name = digest((vm.boot_id + os.path.abspath(vm.state)).encode())[:16]
    return join(vm.state, "state.json"), join(RUN, "skytally-%s.json" % name)


def read_state(path):
    """Return a state, or None if absent or damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError), open(path) as source:
        state = types.SimpleNamespace(**dict(BLANK, **json.load(source)))
        return state if state.format == 1 else None


def load_state(vm):
    """Take up this boot's newer state, or begin one with what the boot before left."""
    begin_state(vm)
    states = [state for state in map(read_state, state_files(vm)) if state]
    ours = [state for state in states if state.boot_id == vm.boot_id]
    if ours:
        vars(vm).update(vars(max(ours, key=lambda state: state.written)))
    vm.refused = vm.refused or []
    if vm.measured and vm.measured["up"] > uptime_of(vm) + 1:
        # Back from a memory snapshot: the same boot_id with smaller counters.
        vm.lost, vm.month, vm.measured, vm.points = True, None, None, []
    elif not ours:
        vm.lost = has_lost_state(vm, states)
        for state in states:
            inherit(vm, state)
    if vm.token_file:
        token = text_of(vm, os.path.abspath(vm.token_file)).strip()
        if token != vm.token_seen:  # else the server may have sent a fresher one
            vm.token = vm.token_seen = token
    vm.name = vm.vm or vm.name or name_in(vm.token) or socket.gethostname()


def begin_state(vm):
    """Set a state without a measurement."""
    vars(vm).update(
        BLANK, format=1, written=0, version=VERSION, boot_id=text_of(vm, "sys/kernel/random/boot_id").strip()
    )
    vm.machine_id = text_of(vm, MACHINE_FILE, socket.gethostname())
    vm.points, vm.pending, vm.beats, vm.refused = [], [], [], []


def has_lost_state(vm, states):
    """Say whether this boot kept a state that cannot be read any more."""
    on_disk, in_run = map(os.path.exists, state_files(vm))
    # A damaged copy in RUN: this boot has reported. Only on disk: torn when the boot before ended.
    return in_run or (not states and on_disk and not os.access(RUN, os.W_OK))


def inherit(vm, old):
    """Take over what an earlier boot of this machine has not told."""
    if old.machine_id != vm.machine_id:  # a copied image would report in the original's name
        say("another machine's state is not used")
        return
    if old.points:  # nobody told that boot the time
        old.epoch = old.epoch or old.points[-1]["unix"] - old.points[-1]["up"]
        add_samples(old)
    vars(vm).update({name: vars(old)[name] for name in "name token token_seen claimed pending version".split()})
    vm.refused = old.refused or []
    vm.beats = [(at, None, named) for at, _, named in old.beats or ()]


def name_in(token):
    """Return the vm that a token names, or None."""
    with suppress(ValueError, AttributeError):
        return json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "===").decode()).get("vm")


def save_state(vm):
    """Keep both copies, return how many are; a full disk costs no report."""
    vm.written, kept = vm.written + 1, 0
    for path in state_files(vm):
        try:
            write_file(path, json.dumps({name: vars(vm)[name] for name in BLANK}).encode())
            kept += 1
        except OSError as error:
            say("the state is not kept: %s" % error)
    return kept


# ---- reports ----


def report(vm):
    """Measure, send what was not judged yet, keep apart what is refused."""
    measure(vm)
    naive = not ask_time(vm)
    add_samples(vm)
    save_state(vm)
    samples, refused = vm.pending, send_samples(vm, vm.pending)
    code = REFUSED if len(samples) - 1 in refused else DONE
    again = naive and vm.heard and code == REFUSED  # our clock was wrong
    kept = [index for index in refused if not again or samples[index]["boot_id"] != vm.boot_id]
    keep_refused(vm, "usage-report", [dict(sample=samples[index]) for index in kept], refused)
    vm.pending = []
    if again:
        vm.month = vm.boot_at = None
        return report(vm)
    save_state(vm)
    if vm.version != VERSION:
        resend(vm)
    return code


def ask(vm, name, fields, count):
    """POST `count` items, take time and token from the receipt; return {index: (message, code)} of those refused.

    A receipt refuses some, an error in the server's form all. Whatever else is no 200 raises Stop: they wait.
    """
    if not vm.token:
        raise Stop(REFUSED, "no reporter token: boot first")
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + vm.token}
    body = json.dumps(fields).encode()
    if name == "usage-report":
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    try:
        receipt = json.loads(post(vm, name, body, headers).decode())
        refused = {int(item["index"]): (item["message"][:300], item["code"][:100]) for item in receipt["rejected"]}
        if count and not refused.keys() <= set(range(count)):
            raise ValueError(refused)
        hear(vm, unix(receipt["server_time"]) - vm.sent_at)
        fresh = receipt.get("token")
        vm.token = fresh if isinstance(fresh, str) and re.match(r"[!-~]{1,4096}\Z", fresh) else vm.token
        return refused
    except Refused as no:
        code, sentence, status, error, message = no.args
        if status == 413 and count > 1:
            raise
        if error is None or status not in (400, 413, 415, 422):
            raise Stop(code, sentence + "; the next report tries again")
        return dict.fromkeys(range(max(1, count)), (message, error))
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        raise Stop(UNAVAILABLE, "%s answered no receipt: is --base right?" % name)


def send_samples(vm, samples):
    """Send samples, in halves where they are too many; return what `ask` does."""
    try:
        return ask(vm, "usage-report", dict(samples=samples), len(samples)) if samples else {}
    except Refused:
        half = len(samples) // 2
    refused = send_samples(vm, samples[:half])
    refused.update({half + index: why for index, why in send_samples(vm, samples[half:]).items()})
    return refused


def send_beat(vm, beat):
    """Send a heartbeat; return what `ask` does, and [the entry to keep] where jobs are refused."""
    refused = ask(vm, "job-heartbeat", beat, len(beat["jobs"]))
    left = [job for index, job in enumerate(beat["jobs"]) if index in refused]
    return refused, [dict(beat=dict(beat, jobs=left))] * bool(left)


def keep_refused(vm, name, entries, refused):
    """Keep what is refused for 14 days; let go what is too old or, oldest first, too much."""
    for why in list(refused.values())[:1]:
        say("%s: %d refused, kept 14 days for `vm.py resend`: %s (%s)" % ((name, len(refused)) + tuple(why)))
        entries = [dict(entry, at=now(vm), why=why) for entry in entries]
    kept: list = []
    room = KEPT_BYTES
    for entry in reversed((vm.refused + entries)[-KEPT_ITEMS:]):
        room -= len(json.dumps(entry))
        if room >= 0 and now(vm) - entry["at"] < KEPT_SECONDS:
            kept.insert(0, entry)
    vm.refused = kept


def resend(vm):
    """Offer again what was refused: a person does it, and a newer vm.py once."""
    samples, beats = [[entry for entry in vm.refused if kind in entry] for kind in ("sample", "beat")]
    again = send_samples(vm, [entry["sample"] for entry in samples])
    kept = [dict(samples[index], why=why) for index, why in again.items()]
    for entry in beats:
        refused, left = send_beat(vm, entry["beat"])
        kept += [dict(entry, beat=changed["beat"], why=next(iter(refused.values()))) for changed in left]
    if vm.refused:
        why = "".join(": %s (%s)" % tuple(entry["why"]) for entry in kept[:1])
        say("of %d refused before, %d are refused again%s" % (len(vm.refused), len(kept), why))
    vm.refused, vm.version = sorted(kept, key=lambda entry: entry["at"]), VERSION
    keep_refused(vm, "", [], {})
    save_state(vm)
    return REFUSED if kept else DONE


# ---- DIRAC jobs ----


def job_of(command_line, environ):
    """Return a process's DIRAC job, or None; pilots are no jobs."""
    if re.search(r"(^|[/\0])dirac-pilot[^/\0]*(\0|\Z)", command_line):
        return None
    wrapper = re.match(
        r"[^\0 ]*python[\d.]*(\0-\w+)*[\0 ][^\0 ]*/job/Wrapper/Wrapper_(\d+)(\.json)?([\0 ]|\Z)", command_line
    )
    pairs = dict(pair.partition("=")[::2] for pair in environ.split("\0"))
    found = wrapper[2] if wrapper else pairs.get("DIRACJOBID") or ("DIRACSITE" in pairs and pairs.get("JOBID")) or ""
    return found if re.match(r"[1-9][0-9]{0,17}\Z", found) else None


def running_jobs(vm):
    """Return (job ids, how many processes let us read what)."""
    found, sources = set(), dict(processes=0, cmdline=0, environ=0)
    for pid in filter(str.isdigit, os.listdir(vm.proc)):
        texts = [text_of(vm, join(pid, name), None) for name in ("cmdline", "environ")]
        for name, text in zip(sources, [pid] + texts):
            sources[name] += text is not None
        found.add(job_of(*(text or "" for text in texts)))
    return sorted(found - {None}, key=int), sources


def jobs(vm):
    """Tell the server which DIRAC jobs run here, first those not told before."""
    ids, sources = running_jobs(vm)
    beat = now(vm), not vm.heard and uptime_of(vm), dict(jobs=ids, sources=sources)
    vm.beats = (vm.beats or [])[1 - SPOOL_BEATS :] + [beat]
    save_state(vm)
    try:
        ask_time(vm)
        while vm.beats:
            at, undated, named = vm.beats[0]
            at = vm.epoch + undated if undated else at
            if now(vm) - at < BEAT_SECONDS:
                refused, left = send_beat(vm, dict(named, vm=vm.name, seen_at=iso(at)))
                keep_refused(vm, "job-heartbeat", left, refused)
            del vm.beats[0]
    finally:
        save_state(vm)


# ---- staying ----


def boot(vm):
    """Claim and benchmark once, then report."""
    if vm.claim_file:
        take_secret(vm)
    vm.benchmark = vm.benchmark or benchmark_block(vm)
    return report(vm)


def do(vm, verb):
    """Do a verb alone with the state; answer the exit code."""
    with suppress(OSError):
        os.makedirs(vm.state, 0o700, exist_ok=True)
    folder = os.open(vm.state if os.path.isdir(vm.state) else RUN, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        load_state(vm)
        return verb(vm) or DONE
    except Stop as end:
        say(end.args[1])
        return end.args[0]
    except (OSError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        # What a UnicodeError says holds what was read: a token.
        say("this machine lacks something: %s" % (type(error).__name__ if isinstance(error, UnicodeError) else error))
        return LOCAL
    finally:
        os.close(folder)


def run(vm):
    """Boot until that is done or refused, report hourly and at SIGTERM, measure at each month's edge."""
    hour = quarter = month = None
    try:
        code = do(vm, boot)
        shift = int(digest(vm.boot_id.encode())[:8], 16) % 3600
        while code in AGAIN or (code != USAGE and vm.token):
            up, at = uptime_of(vm) + shift, now(vm)
            if month not in (None, month_at(at)):
                do(vm, measure)
            if hour not in (None, up // 3600):
                do(vm, report if vm.token else measure)
            if vm.jobs and quarter != up // 900:
                do(vm, jobs)
            hour, quarter, month = up // 3600, up // 900, month_at(at)
            clock.sleep(min(60, 900 - up % 900, max(0, month_at(at, later=True) - at)) + 0.1)
            if code in AGAIN:
                code = do(vm, boot)
        return code
    finally:
        vm.verb, vm.patience = "stop", 20
        if vm.jobs:
            do(vm, jobs)
        if vm.token:
            do(vm, report)


def install(vm):
    """Let systemd or cron `run` this now and at every boot, by a script with the options."""
    import shlex
    import subprocess

    options = {name: vars(vm)[name] for name in OPTIONS if vars(vm)[name] and name != "root"}
    for name in PATHS & set(options):
        if options[name] not in ("-", "none"):
            options[name] = os.path.abspath(options[name])  # a service starts elsewhere
    lines = ["export SKYTALLY_%s=%s" % (name.upper(), shlex.quote(value)) for name, value in options.items()]
    lines.append("exec %s %s run\n" % (shlex.quote(sys.executable), shlex.quote(os.path.abspath(__file__))))
    if os.path.isdir(join(vm.root, "run/systemd/system")):
        start, path, text = "systemctl enable --now skytally.service", "etc/systemd/system/skytally.service", UNIT
    else:
        start, path, text = "sh -c 'sh /etc/skytally/run &'", "etc/cron.d/skytally", CRON_LINE
    os.makedirs(join(vm.root, "etc/skytally"), exist_ok=True)
    write_file(join(vm.root, "etc/skytally/run"), os.fsencode("\n".join(lines)))
    write_file(join(vm.root, path), text.encode(), 0o644)
    if vm.root == "/" and subprocess.call(shlex.split(start)):
        raise Stop(LOCAL, "not started: " + start)


CRON_LINE = "@reboot root sh /etc/skytally/run\n"
UNIT = """[Unit]
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=/bin/sh /etc/skytally/run
Restart=on-failure
RestartSec=60
RestartPreventExitStatus=2 3 4
[Install]
WantedBy=multi-user.target
"""


# ---- the benchmark: zlib, bzip2 and SQLite, whichever Python runs it ----

BENCHMARK_SECONDS = 8
SQL = """WITH RECURSIVE n(i, x) AS (SELECT 1, 0.5 UNION ALL SELECT i + 1, x * 3.7 * (1 - x) FROM n WHERE i < 60000)
SELECT sum(i * x), count(DISTINCT i * 7919 % 10007) FROM n"""


def kinds():
    """Return three kinds of work, with their milliseconds on a core of score 10."""
    import bz2
    import sqlite3

    words = "charm beauty pion kaon muon tau cluster track".split()
    lines = (
        "%s %d %x %.5f" % (words[i * 2654435761 >> 7 & 7], i, i * 2654435761 % 2**32, i * 0.6180339887 % 97)
        for i in range(13000)
    )
    text, database = "\n".join(lines).encode()[:300000], sqlite3.connect(":memory:")
    return (
        (lambda: zlib.compress(text, 9), 11.4),
        (lambda: bz2.compress(text, 9), 13.7),
        (lambda: database.execute(SQL).fetchall(), 22.5),
    )


def benchmark_copy(start_at):
    """Return each kind's mean wall time and lowest tenth of CPU time, by a core of 10's."""
    times: list = [(work, ms, [], []) for work, ms in kinds() if work()]
    time.sleep(max(0, start_at - time.monotonic()))
    while not times[-1][3] or time.monotonic() < start_at + BENCHMARK_SECONDS:
        for work, ms, walls, cpus in times:
            wall, cpu = time.monotonic(), time.process_time()
            work()
            walls.append((time.monotonic() - wall) * 1e3 / ms)
            cpus.append((time.process_time() - cpu) * 1e3 / ms)
    return [(sum(walls) / len(walls), sorted(cpus)[len(cpus) // 10]) for _, _, walls, cpus in times]


def benchmark(vm):
    """Run a copy on every core; score_wall is what it got, score_cpu what it can do."""
    import multiprocessing

    (before, copies), begun = parse_stat(text_of(vm, "stat")), time.monotonic()
    with multiprocessing.get_context("fork").Pool(copies, signal.signal, (signal.SIGTERM, signal.SIG_DFL)) as pool:
        relative = [pair for copy in pool.map(benchmark_copy, [begun + 1] * copies, 1) for pair in copy]
        pool.close()
        pool.join()  # else the pool sends SIGTERM, and has our handler
    took, steal = time.monotonic() - begun, parse_stat(text_of(vm, "stat"))[0][7] - before[7]
    wall, cpu = [score(column) for column in zip(*relative)]
    return dict(
        kernel="zbs",
        kernel_version="1",
        score_wall=wall,
        score_cpu=cpu,
        copies=copies,
        steal_fraction=steal_share(steal, took * copies),
        duration_seconds=round(took, 2),
        measured_at=iso(now(vm)),
        cpu_model=cpu_model(vm),
        interpreter="%s %s, zlib %s, SQLite %s" % versions(),
    )


def versions():
    """Return what the benchmark's speed may depend on."""
    import sqlite3

    return sys.implementation.name, sys.version.split()[0], zlib.ZLIB_RUNTIME_VERSION, sqlite3.sqlite_version


def score(relative):
    """Return the score, where a core of 10 takes 1 each; None where a clock stood."""
    return round(10 / math.exp(sum(map(math.log, relative)) / len(relative)), 3) if min(relative) > 0 else None


def steal_share(steal, core):
    """Return the stolen part of core seconds; what ran back counts as none."""
    return round(min(1.0, steal / core), 4) if 0 < steal <= core * 1.02 + 1 else 0.0


def benchmark_block(vm):
    """Return the benchmark as the server takes it, or None."""
    try:
        if vm.benchmark_report != "none":
            return checked(handed_over(vm) if vm.benchmark_report else benchmark(vm), now(vm))
    except Exception as error:
        say("no benchmark: %r" % error)


def is_good(name, value, until):
    """Say whether the server takes a field: text, a time as `iso` writes it, or a number."""
    if name in ("kernel", "kernel_version", "interpreter", "cpu_model"):
        return isinstance(value, str) and 0 < len(value) < 256 and value.isprintable()
    if name == "measured_at":
        with suppress(ValueError, TypeError):
            return iso(unix(value)) == value and 946684800 <= unix(value) <= until
        return False
    low, high = dict(copies=(1, 65536), steal_fraction=(0, 1), duration_seconds=(0, 366 * 86400)).get(name, (1e-6, 1e6))
    return type(value) in (int, float)[: 1 + (name != "copies")] and low <= value <= high


def checked(block, at):
    """Return a benchmark of fields that the server takes; say which are left out; raise ValueError for none."""
    odd = {name: value for name, value in block.items() if value is not None and not is_good(name, value, at + 86400)}
    good = {name: None if name in odd else value for name, value in block.items()}
    if odd:
        say("the benchmark goes without %s" % ", ".join("%s (%.60r)" % pair for pair in sorted(odd.items())))
    if not good["kernel"] or (not good["score_wall"] and not good.get("score_cpu")):
        raise ValueError("no score of a kernel is left")
    return good


def handed_over(vm):
    """Read a HEP Benchmark Suite's report; HEPscore is of all cores, DB12 of one."""
    with open(vm.benchmark_report) as source:
        suite = json.load(source)
    hepscore, copies = suite["profiles"].get("hepscore"), os.cpu_count()
    score = hepscore["score"] / copies if hepscore else suite["profiles"]["DB12"]["value"]
    return dict(
        kernel="HEPscore" if hepscore else "DB12",
        copies=copies,
        score_wall=score,
        score_hs23=score if hepscore else None,
        measured_at=suite.get("_timestamp_end"),
    )


def main(argv=None):
    """Do what the command line says; answer the exit code."""
    verbs = dict(
        boot=boot,
        report=report,
        stop=report,
        jobs=jobs,
        install=install,
        run=run,
        resend=resend,
        benchmark=lambda vm: print(json.dumps(benchmark_block(vm))),
    )
    layout = functools.partial(argparse.RawDescriptionHelpFormatter, width=118)  # to ask how wide loads shutil
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("verb", choices=verbs)
    for name, default in OPTIONS.items():
        parser.add_argument("--" + name.replace("_", "-"), default=os.environ.get("SKYTALLY_" + name.upper(), default))
    vm = parser.parse_args(argv)
    if not re.match(r"\d+(\.\d+)?\Z", vm.patience) or not re.match(r"[0-7]{1,4}\Z", vm.mode):
        say("--patience is a number of seconds, and --mode octal digits such as 0600")
        return USAGE
    os.umask(0o022)
    signal.signal(signal.SIGALRM, too_slow)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE if vm.verb == "run" else 143))
    return run(vm) if vm.verb == "run" else do(vm, verbs[vm.verb])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # taking modules apart is a tenth of what a report costs
