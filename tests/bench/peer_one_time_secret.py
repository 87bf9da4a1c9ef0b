"""A plain one-time secret, as one would write it in an afternoon: Flask, and SQLite that is durable before it answers.

Reading deletes, in one transaction. It seals nothing for its reader's key, proves nothing, and keeps no evidence of who
had it: it is what a claim costs without all that.

`gunicorn tests.bench.peer_one_time_secret:app`; the file is ONE_TIME_SECRETS.
"""

import os
import sqlite3
import threading

from flask import Flask, Response, request

app = Flask(__name__)
_local = threading.local()


def database(path: str) -> sqlite3.Connection:
    """Open the file, as durable as a claim of ours is."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS secret (token TEXT PRIMARY KEY, payload BLOB NOT NULL)")
    return connection


@app.post("/claim")
def claim() -> Response:
    """Return a secret and forget it."""
    if not hasattr(_local, "database"):
        _local.database = database(os.environ["ONE_TIME_SECRETS"])
    connection = _local.database
    connection.execute("BEGIN IMMEDIATE")
    row = connection.execute(
        "DELETE FROM secret WHERE token = ? RETURNING payload", (request.form["token"],)
    ).fetchone()
    connection.execute("COMMIT")
    return Response(status=404) if row is None else Response(row[0], mimetype="application/octet-stream")
