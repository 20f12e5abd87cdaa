"""What the tests of examples/ share: TAP, psql, waiting, servers on loopback, programs from npm.

How such a test is run (bash test/check.sh --only examples):

- Every test/examples/NNN_name.py, .sh or .pl is executed by its first line, one after another, as the
  account CJ_USER and never as root, in a copy of the sources. (Write #!/usr/bin/python3, not "env python3":
  Debian's packages are for Debian's Python.)
- It prints TAP and ends with status 0 if nothing has failed. Where the machine lacks what it needs, it prints
  "1..0 # skip REASON" and ends with status 0: then it is reported as skipped, and not counted.
- PGHOST, PGPORT, PGUSER (a superuser) and PGDATABASE are those of a throwaway server, on a Unix socket only.
  The database has a small test/fixtures/demo_app.sql and the extension, and nothing is scheduled. It is made
  anew for each test; the worker looks after it every second. Roles are shared: drop those that you make.
- CJ_ROOT is the folder of the sources; CJ_DATA the data directory, CJ_SERVER_LOG the log of the server. The
  server reads settings from CJ_DATA/examples.conf, which is removed before the next test: see configure().
- HOME and TMPDIR are temporary. PATH begins with the programs of the server.
- Debian packages stand in the group "examples" of test/lib.sh.
- What a test starts, it ends; servers listen on 127.0.0.1. It waits for conditions, never for time.
"""

import atexit
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(os.environ["CJ_ROOT"])
LIMIT = 180  # seconds until what is waited for is given up

# What the shell of whoever runs the tests is set to must not lead programs away from loopback.
for _name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)

# ---- TAP ------------------------------------------------------------------------------------

_ran = 0
_failed = 0


def ok(passed, name, *remarks):
    """Notes one test; the remarks are shown if it failed."""
    global _ran, _failed
    _ran += 1
    print(f"{'ok' if passed else 'not ok'} {_ran} - {name}", flush=True)
    if not passed:
        _failed += 1
        for remark in remarks:
            for line in str(remark).splitlines():
                print(f"#   {line}", flush=True)
    return bool(passed)


def equal(got, wanted, name):
    return ok(got == wanted, name, f"got:    {got!r}", f"wanted: {wanted!r}")


def like(got, pattern, name):
    return ok(re.search(pattern, got), name, f"got: {got!r}", f"does not match {pattern!r}")


def done():
    """Prints the plan and ends the program."""
    print(f"1..{_ran}", flush=True)
    sys.exit(1 if _failed else 0)


def skip_all(reason):
    """Ends the program: nothing can be tested here."""
    if _ran:
        raise RuntimeError(f"too late to skip: {reason}")
    print(f"1..0 # skip {reason}", flush=True)
    sys.exit(0)


def need(*programs):
    """Skips everything unless the programs are there."""
    for program in programs:
        if not shutil.which(program):
            skip_all(f"{program} is not installed")


# ---- waiting, programs ----------------------------------------------------------------------


def wait_for(condition, what, seconds=LIMIT):
    """Waits until the condition returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"gave up waiting for {what}")
        time.sleep(0.05)


def folder():
    """Makes a temporary folder, which goes away with the rest of them."""
    return pathlib.Path(tempfile.mkdtemp())


def run(*command, **more):
    """Runs a program to its end; returns it, with status and texts."""
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=LIMIT, **more)


def start(*command, log, **more):
    """Starts a program that stays until it is stopped, at the end of the test at the latest."""
    with open(log, "ab") as file:
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=file,
                                   stderr=file, **more)
    atexit.register(stop, process)
    return process


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    """Returns a port for a program that cannot look for one itself."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def black_hole():
    """Returns a port of this machine that takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    atexit.register(server.close)
    return server.getsockname()[1]


def listens(port):
    """Tells whether somebody listens on a port of this machine."""
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def npm_ci(source, missing=skip_all):
    """Installs what a package-lock.json names, in a temporary folder; returns that. What is missing is reported to
    the function given, which does not return."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            missing(f"{program} is not installed")
    target = folder()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / source / name, target)
    install = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"],
                             cwd=target, capture_output=True, text=True)
    if install.returncode:
        if re.search(r"ENOTFOUND|ECONN|EAI_AGAIN|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|SELF_SIGNED", install.stderr):
            missing("the npm registry cannot be reached")
        raise RuntimeError(f"npm ci: {install.stderr}")
    return target


# ---- the database ---------------------------------------------------------------------------


def psql(sql, *options):
    """Runs statements one by one (not in one transaction) and returns what they give."""
    result = run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *options, input=sql)
    if result.returncode:
        raise RuntimeError(f"psql: {result.stderr}\n{sql}")
    return result.stdout.rstrip("\n")


def configure(**settings):
    """Sets settings named challenge_jobs.*, given without that, and waits until they are in force."""
    lines = []
    for name, value in settings.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"challenge_jobs.{name} = '{quoted}'\n")
    pathlib.Path(os.environ["CJ_DATA"], "examples.conf").write_text("".join(lines))
    psql("SELECT pg_reload_conf()")
    for name, value in settings.items():
        wait_for(lambda: psql(f"SHOW challenge_jobs.{name}") == value, f"{name} to be in force")


# A trigger of the app: whoever decides a challenge gets the error that stands in the table "broken".
BREAKABLE = """
CREATE TABLE broken (message text NOT NULL, detail text);
GRANT SELECT ON broken TO app_owner;
CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE b broken;
BEGIN
    SELECT * INTO b FROM broken;
    IF FOUND THEN
        RAISE EXCEPTION USING message = b.message, detail = coalesce(b.detail, '');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER break BEFORE UPDATE ON challenges
    FOR EACH ROW WHEN (OLD.status = 'active') EXECUTE FUNCTION break();
"""

# Makes something to decide again, where all has been decided.
UNDECIDE = """
UPDATE challenges SET status = 'active'
 WHERE id = (SELECT id FROM challenges WHERE status IN ('completed', 'failed') LIMIT 1);
"""

# ---- a web server that takes down what it is sent ---------------------------------------------


class HttpSink:
    """Listens on loopback, keeps every request in "requests", and answers with "status"."""

    def __init__(self, status=200):
        self.status = status
        self.requests = []
        self.on_request = lambda: None
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                sink.on_request()
                sink.requests.append({"method": self.command, "path": self.path,
                                      "headers": self.headers, "body": body})
                self.send_response(sink.status)
                if 300 <= sink.status < 400:
                    self.send_header("Location", f"http://127.0.0.1:{sink.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def bodies(self):
        """Returns what has been sent so far, as JSON."""
        return [json.loads(request["body"]) for request in self.requests]
