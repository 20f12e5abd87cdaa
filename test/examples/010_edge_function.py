#!/usr/bin/python3
"""examples/edge-function: the function in Deno, calling the jobs by supabase-js and an API in front of the
database, which changes to the role service_role as PostgREST does."""

import json
import os
import re
import shutil
import urllib.error
import urllib.request

from harness import ROOT, BREAKABLE, UNDECIDE, done, equal, folder, like, npm_ci, ok, psql, run, skip_all, start, wait_for

EXAMPLE = ROOT / "examples/edge-function"
JOBS = ["auto_complete_challenges", "refresh_challenge_stats", "send_streak_reminders",
        "cleanup_expired_notifications"]
API_KEY = "sb_secret_of_the_test"
SECRET = "a secret of the test"

# ---- Deno, the function, the API ----

home = npm_ci("test/examples/edge_function")
deno = next(home.glob("node_modules/@deno/*/deno"), None)
if not deno:
    skip_all("npm has no Deno for this machine")
shutil.copytree(EXAMPLE / "daily-jobs", home / "daily-jobs")
shutil.copy(ROOT / "test/examples/edge_function/rest_server.mjs", home)
plain = {name: value for name, value in os.environ.items() if not re.match("SUPABASE_|CRON_SECRET", name)}
plain |= {"DENO_DIR": str(folder()), "DENO_NO_UPDATE_CHECK": "1", "DENO_SERVE_ADDRESS": "tcp:127.0.0.1:0",
          "DO_NOT_TRACK": "1", "NO_COLOR": "1"}


def serve(name, *options, **environment):
    """Starts a program in Deno that listens on a free port; returns its address."""
    log = folder() / "log"
    process = start(deno, "run", "--node-modules-dir=manual", *options, name, cwd=home,
                    env=plain | environment, log=log)

    def address():
        if process.poll() is not None:
            raise RuntimeError(f"{name} has ended: {log.read_text()}")
        return re.search(r"http://127\.0\.0\.1:\d+", log.read_text())

    return wait_for(address, f"{name} to listen").group()


def serve_function(**environment):
    return serve("daily-jobs/index.ts", "--allow-net=127.0.0.1", "--allow-env", **environment)


def call(base, query="", secret=SECRET, method="POST", header="Bearer {}"):
    """Calls the function; returns the HTTP status and what it answers."""
    request = urllib.request.Request(base + "/daily-jobs" + query, method=method)
    if secret is not None:
        request.add_header("Authorization", header.format(secret))
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


checked = run(deno, "check", "--quiet", "--node-modules-dir=manual", "daily-jobs/index.ts", cwd=home, env=plain)
ok(checked.returncode == 0, "the function is right in its types", checked.stderr)

psql("CREATE ROLE service_role NOLOGIN BYPASSRLS; CREATE ROLE anon NOLOGIN; GRANT USAGE ON SCHEMA public TO service_role, anon")
api = serve("rest_server.mjs", "--allow-all", SECRET_KEY=API_KEY)
settings = {"SUPABASE_URL": api, "SUPABASE_SERVICE_ROLE_KEY": API_KEY, "CRON_SECRET": SECRET}
function = serve_function(**settings)


def runs():
    return psql("SELECT count(*) FROM challenge_jobs.job_run")


# ---- who may call ----

for missing in settings:
    unset = serve_function(**(settings | {missing: ""}))
    equal([call(unset)[0], call(unset, secret="")[0], call(unset, secret=None)[0]], [503] * 3,
          f"without {missing} nobody is let in")
equal(call(function, secret=None), (401, {"error": "not allowed"}), "without a secret nobody is let in")
for wrong in (SECRET[:-1], SECRET + "x", SECRET.upper(), "", API_KEY):
    equal(call(function, secret=wrong)[0], 401, f'nor with "{wrong}"')
equal(call(function, header="Basic {}")[0], 401, "nor with another scheme")
equal(call(function, method="GET")[0], 405, "nothing is done by a GET")
equal(call(function, "?job=drop_everything"), (400, {"error": "no such job: drop_everything"}),
      "a job that there is not is refused")
equal(call(function, f"?job={JOBS[0]}&job=nosuch")[0], 400, "also beside one that there is")
equal(call(function, f"?jobs={JOBS[0]}"), (400, {"error": "no such parameter: jobs"}), "a parameter that there is not is refused")
equal(call(function, f"?job={JOBS[0]}&dry_run=true")[0], 400, "also beside one that there is")
status, answer = call(serve_function(**(settings | {"SUPABASE_URL": "no address"})))
equal(status, 500, "where SUPABASE_URL is no address, that is an error")
like(answer.get("error", ""), "^SUPABASE_URL: ", "and said to be")
equal(runs(), "0", "and no job has run for any of these")

# ---- what the role of the API may do ----

status, answer = call(function)
equal(status, 500, "without the grants, the call fails")
equal({job: error["code"] for job, error in answer["errors"].items()}, {job: "42501" for job in JOBS},
      "for each job, since the API's role may not use it")

grants = re.search(r"```sql\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.S).group(1)
psql(grants)

# ---- all goes well ----

due = psql("SELECT count(*) FROM challenges WHERE status = 'active' AND end_date < (now() AT TIME ZONE 'UTC')::date")
members = psql("""SELECT count(*) FROM challenge_members JOIN challenges c ON c.id = challenge_id
                   WHERE c.status = 'active' AND c.end_date < (now() AT TIME ZONE 'UTC')::date""")
expired = psql("SELECT count(*) FROM notifications WHERE created_at < now() - interval '30 days' OR expires_at < now()")
status, answer = call(function)
equal(status, 200, "with them, it succeeds")
equal(list(answer), ["results"], "and there are results alone")
results = answer["results"]
equal(list(results), JOBS, "of each job, in this order")
decided = results["auto_complete_challenges"]
equal(sorted(decided), ["completed", "errors", "failed", "locked", "not_notified", "notified", "undecidable"], "the figures of the job are one object")
equal([decided["completed"] + decided["failed"], decided["notified"]], [int(due), int(members)],
      "and are right: all that was due is decided, all members are notified")
ok(int(due) > 0 and int(expired) > 0, "of which there were some")
equal([(view["view_name"], view["method"]) for view in results["refresh_challenge_stats"]],
      [("public.challenge_member_stats", "concurrent")], "the refreshed views are an array")
equal(sorted(results["send_streak_reminders"]), ["errors", "locked", "missed", "reminded", "time_zones"], "the reminders are counted")
equal(results["cleanup_expired_notifications"]["notifications"], int(expired), "so is what was cleaned up")
equal(psql("SELECT job, status, role_name FROM challenge_jobs.job_run ORDER BY run_id", "-F,"),
      "\n".join(f"{job},succeeded,service_role" for job in JOBS),
      "each call is a run in the log, of the API's role")

status, answer = call(function, "?job=send_streak_reminders")
equal((status, list(answer["results"])), (200, ["send_streak_reminders"]), "one job alone can be asked for")
equal(runs(), "5", "and no other has run")

# ---- one job fails ----

psql(BREAKABLE + UNDECIDE + "INSERT INTO broken VALUES ('no more challenges today', 'the detail')")
status, answer = call(function)
equal(status, 500, "a job that fails makes the call fail")
equal(list(answer.get("errors", {})), ["auto_complete_challenges"], "with the error of that job alone")
like(answer["errors"]["auto_complete_challenges"]["message"], "no more challenges today", "which says what was wrong")
equal(list(answer["results"]), JOBS[1:], "while the other jobs have run")
wait_for(lambda: psql("SELECT count(*) FROM challenge_jobs.job_run WHERE status = 'failed' AND message ~ 'no more'") == "1",
         "the failure to be recorded")
ok(True, "the failure is in the log of the jobs as well")
psql("TRUNCATE broken")
equal(call(function)[0], 200, "and when it is mended, all is well again")

# ---- a job fails in part ----

psql("""CREATE TABLE divisor AS SELECT 1 AS n;
CREATE MATERIALIZED VIEW broken_view AS SELECT 1 / n AS n FROM divisor;
SELECT challenge_jobs.add_stats_view('broken_view');
UPDATE divisor SET n = 0;""")
status, answer = call(function)
equal((status, answer.get("errors")), (500, {"refresh_challenge_stats": {
    "message": "not refreshed: public.broken_view", "hint": "challenge_jobs.job_run says why."}}),
      "a view that is not refreshed is an error")
equal(list(answer["results"]), JOBS, "beside the results of all jobs")
equal([view["method"] for view in answer["results"]["refresh_challenge_stats"]], ["failed", "concurrent"],
      "and the other views are refreshed")
wait_for(lambda: psql("SELECT count(*) FROM challenge_jobs.job_run WHERE status = 'failed' AND message ~ 'division by zero'") == "1",
         "the failure to be recorded")
ok(True, "why is in the log of the jobs")

psql("DROP OWNED BY service_role, anon; DROP ROLE service_role, anon")
done()
