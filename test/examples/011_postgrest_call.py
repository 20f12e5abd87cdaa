#!/usr/bin/python3
"""What PostgREST makes of the jobs: it finds them in the catalog, calls them as it calls every function, in one
statement that makes JSON of the result, and finds out beforehand whether that is one object or an array."""

import json

from harness import done, equal, ok, psql

# How PostgREST passes the parameters that it has found in the body of a request, {}: none at all.
PARAMETERS = {"as_of": "timestamp with time zone", "dry_run": "boolean", "force_full": "boolean"}
OBJECTS = {
    "auto_complete_challenges": ["completed", "failed", "notified", "undecidable", "not_notified", "locked", "errors"],
    "send_streak_reminders": ["time_zones", "reminded", "missed", "locked", "errors"],
    "cleanup_expired_notifications": ["notifications", "job_runs", "locked", "errors"],
}
ARRAYS = {"refresh_challenge_stats": ["view_name", "method", "rows_changed", "duration"]}


def is_array(function):
    """Tells what PostgREST takes the result for: a row if there are OUT columns, an array if it returns a set."""
    return psql(f"""SELECT proretset, coalesce(proargmodes::text[] && '{{t,b,o}}', false)
                      FROM pg_proc WHERE proname = '{function}' AND pronamespace = 'public'::regnamespace""")


def call(function, body, array, role="service_role"):
    """Calls a function as PostgREST does, in a transaction with the role of the request."""
    names = list(json.loads(body))
    arguments = ", ".join(f'"{name}" := pgrst_body."{name}"' for name in names)
    if names:
        columns = ", ".join(f'"{name}"' for name in names)
        types = ", ".join(f'"{name}" {PARAMETERS[name]}' for name in names)
        source = f"""FROM (SELECT $1 AS json_data) pgrst_payload,
            LATERAL (SELECT {columns} FROM json_to_record(pgrst_payload.json_data) AS _({types}) LIMIT 1) pgrst_body,
            LATERAL "public"."{function}"({arguments}) pgrst_call"""
    else:
        source = f'FROM "public"."{function}"() pgrst_call'
    result = "coalesce(json_agg(_postgrest_t), '[]')" if array else "coalesce(json_agg(_postgrest_t)->0, 'null')"
    return psql(f"""BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
        SET LOCAL client_min_messages = error;
        PREPARE pgrst(json) AS
        WITH pgrst_source AS (SELECT pgrst_call.* {source})
        SELECT {result} AS body FROM (SELECT "{function}".* FROM "pgrst_source" AS "{function}") _postgrest_t;
        SELECT pg_catalog.set_config('search_path', '"public"', true), pg_catalog.set_config('role', '{role}', true),
               pg_catalog.set_config('request.method', 'POST', true) \\gset set_
        EXECUTE pgrst('{body}');
        COMMIT;""")


psql("""CREATE ROLE service_role NOLOGIN BYPASSRLS;
GRANT USAGE ON SCHEMA public TO service_role;
GRANT EXECUTE ON FUNCTION auto_complete_challenges, refresh_challenge_stats, send_streak_reminders,
                          cleanup_expired_notifications TO service_role;""")

for function, columns in (OBJECTS | ARRAYS).items():
    array = function in ARRAYS
    equal(psql(f"SELECT count(*) FROM pg_proc WHERE proname = '{function}'"), "1",
          f"{function}: there is one, so that no call is ambiguous")
    equal(is_array(function), "t|t" if array else "f|t", f"it is taken for {'an array' if array else 'one object'}")
    for name in psql(f"""SELECT name FROM pg_proc, unnest(proargnames, proargmodes) a (name, mode)
                          WHERE proname = '{function}' AND mode = 'i'""").split():
        equal(psql(f"""SELECT format_type(proargtypes[array_position(proargnames, '{name}') - 1], NULL)
                         FROM pg_proc WHERE proname = '{function}'"""), PARAMETERS[name], f"its parameter {name}")

# Named arguments first, without effect; then none.
due = int(psql("SELECT count(*) FROM challenges WHERE status = 'active' AND end_date < (now() AT TIME ZONE 'UTC')::date"))
for function, columns in OBJECTS.items():
    for body in ('{"dry_run": true}', '{"dry_run": true, "as_of": "2030-01-01T00:00:00Z"}', '{"as_of": "2020-01-01T00:00:00+00:00"}'):
        got = json.loads(call(function, body, array=False))
        equal(list(got), columns, f"{function} with {body} is an object with the figures")
equal(json.loads(call("auto_complete_challenges", '{"dry_run": true, "as_of": "1999-12-31T00:00:00Z"}', array=False)),
      {"completed": 0, "failed": 0, "notified": 0, "undecidable": 0, "not_notified": 0, "locked": 0, "errors": 0}, "the arguments have arrived")
equal(psql("SELECT count(*) FROM challenges WHERE status = 'active' AND end_date < (now() AT TIME ZONE 'UTC')::date"),
      str(due), "a dry run has changed nothing")

for function, columns in OBJECTS.items():
    got = json.loads(call(function, "{}", array=False))
    equal(list(got), columns, f"{function} with an empty object is an object with the figures")
    ok(all(type(figure) is int for figure in got.values()), "which are numbers", got)
    if function == "auto_complete_challenges":
        equal(got["completed"] + got["failed"], due, "and what was due is done")
for body in ("{}", '{"force_full": true}'):
    got = json.loads(call("refresh_challenge_stats", body, array=True))
    ok(isinstance(got, list) and len(got) == 1, f"refresh_challenge_stats with {body} is an array with one view", got)
    equal(list(got[0]), ARRAYS["refresh_challenge_stats"], "with its columns")
    equal(got[0]["method"], "full" if "force" in body else "concurrent", "and the argument has arrived")

equal(psql("SELECT count(*) FROM challenges WHERE status = 'active' AND end_date < (now() AT TIME ZONE 'UTC')::date"),
      "0", "what was done is committed")
equal(psql("SELECT DISTINCT role_name, status FROM challenge_jobs.job_run WHERE NOT dry_run"), "service_role|succeeded",
      "and is in the log, as of the role of the request")

psql("DROP OWNED BY service_role; DROP ROLE service_role")
done()
