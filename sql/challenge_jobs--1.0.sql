/*
 * challenge_jobs 1.0: the install script.
 *
 * Order: guard, schema, tables, functions, views, rights, comments. The job functions go into the schema
 * of CREATE EXTENSION (@extschema@), everything else into the schema challenge_jobs.
 */

\echo Use "CREATE EXTENSION challenge_jobs" to load this file. \quit

/*
 * A superuser runs the script. If the schema of the job functions were in the path, functions and operators
 * that others created there could be called instead of built-in ones.
 */
SET LOCAL search_path TO pg_catalog, pg_temp;

/*
 * Guard. A second function with the name of a job function would make every existing call ambiguous, so the
 * function that it replaces must be dropped first.
 */
DO $guard$
DECLARE
    functions   constant text[] := ARRAY['auto_complete_challenges', 'refresh_challenge_stats',
                                     'send_streak_reminders', 'cleanup_expired_notifications'];
    home    constant regnamespace := '@extschema@';
    drops   text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = home AND p.proname = ANY (functions)) THEN
        RETURN;
    END IF;

    /* Every name comes out qualified, as only pg_catalog is in the path: it can be typed anywhere. */
    SELECT pg_catalog.string_agg(
               pg_catalog.format('DROP %s %I.%I(%s);',
                                 CASE p.prokind WHEN 'p' THEN 'PROCEDURE'
                                                WHEN 'a' THEN 'AGGREGATE'
                                                ELSE 'FUNCTION' END,
                                 n.nspname, p.proname,
                                 CASE WHEN p.prokind = 'a' AND p.pronargs = 0 THEN '*'
                                      ELSE pg_catalog.pg_get_function_identity_arguments(p.oid) END),
               ' ' ORDER BY p.oid)
      INTO drops
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE p.pronamespace = home
       AND p.proname = ANY (functions);

    RAISE EXCEPTION USING
        errcode = 'duplicate_function',
        message = pg_catalog.format('schema "%s" already has a function with the name of a job function of challenge_jobs',
                                    (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = home)),
        detail  = 'Next to the job function every existing call would be ambiguous.',
        hint    = pg_catalog.format('Drop what the extension replaces, then create the extension again: %s', drops);
END
$guard$;

CREATE SCHEMA challenge_jobs;

/* The library refuses to work with a script of another revision (CJ_SCRIPT_REVISION). */
CREATE FUNCTION challenge_jobs.script_revision()
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 9';

/* ---- tables ------------------------------------------------------------------------------- */

CREATE TABLE challenge_jobs.binding (
    entity      text PRIMARY KEY
                CHECK (entity IN ('challenges', 'challenge_members', 'challenge_member_stats',
                                  'notifications', 'users')),
    relation    text NOT NULL,
    columns     jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(columns) = 'object'),
    labels      jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(labels) = 'object')
);
SELECT pg_catalog.pg_extension_config_dump('challenge_jobs.binding', '');

/*
 * The identity of this installation: one row, not dumped. Schedules store the id, and are in force only in the
 * database that has this id and OID.
 */
CREATE TABLE challenge_jobs.installation (
    installation_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    database_id     oid NOT NULL,
    resumed_at      timestamptz
);
CREATE UNIQUE INDEX installation_one_row_idx ON challenge_jobs.installation ((true));
INSERT INTO challenge_jobs.installation (database_id)
SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database();

/* At most one row: while there is one, all jobs are paused. Dumped: a copy of a paused database is paused. */
CREATE TABLE challenge_jobs.pause (
    paused_at       timestamptz NOT NULL,
    reason          text,
    role_name       text NOT NULL
);
CREATE UNIQUE INDEX pause_one_row_idx ON challenge_jobs.pause ((true));
SELECT pg_catalog.pg_extension_config_dump('challenge_jobs.pause', '');

CREATE TABLE challenge_jobs.job_override (
    job             text PRIMARY KEY,
    enabled         boolean,
    schedule        text,
    max_runtime     interval,
    max_retries     integer CHECK (max_retries BETWEEN 0 AND 100),
    retry_delay     interval,
    catch_up        text CHECK (catch_up IN ('once', 'skip')),
    grace           interval,
    settings        jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(settings) = 'object'),
    engine          text CHECK (engine IN ('pg_cron', 'worker', 'external')),
    scheduled_at    timestamptz,
    installation_id uuid,
    CHECK ((engine IS NULL) = (scheduled_at IS NULL))
);
SELECT pg_catalog.pg_extension_config_dump('challenge_jobs.job_override', '');

CREATE TABLE challenge_jobs.job_run (
    run_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job             text NOT NULL,
    triggered_by    text NOT NULL,
    dry_run         boolean NOT NULL DEFAULT false,
    attempt         integer NOT NULL DEFAULT 1,
    scheduled_for   timestamptz,
    as_of           timestamptz,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    duration        interval GENERATED ALWAYS AS (finished_at - started_at) STORED,
    status          text NOT NULL
                    CHECK (status IN ('running', 'succeeded', 'failed', 'skipped', 'cancelled',
                                      'crashed', 'rolled_back')),
    rows_affected   bigint,
    result          jsonb,
    sqlstate        text,
    message         text,
    detail          text,
    hint            text,
    context         text,
    role_name       text NOT NULL,
    pid             integer NOT NULL,
    CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE INDEX job_run_job_started_at_idx ON challenge_jobs.job_run (job, started_at);
CREATE INDEX job_run_running_idx ON challenge_jobs.job_run (job) WHERE status = 'running';
/*
 * For the watchdog, job_status and the alerts: the last runs, those of run(), those that cover scheduled times, failures,
 * and those started for a scheduled time. A job's state is read from the rows that count, however many others the log
 * has. The last runs are ordered by - run_id: for run_id DESC the planner would use the primary key and read past all
 * runs of other jobs. They are not ordered by time, since clocks are set back.
 */
CREATE INDEX job_run_last_idx ON challenge_jobs.job_run (job, (- run_id)) WHERE NOT dry_run;
CREATE INDEX job_run_status_idx ON challenge_jobs.job_run (job, status) WHERE NOT dry_run; -- for metrics, to count
CREATE INDEX job_run_procedure_idx ON challenge_jobs.job_run (job, (- run_id)) WHERE triggered_by <> 'function' AND NOT dry_run;
CREATE INDEX job_run_covering_idx ON challenge_jobs.job_run (job, as_of, run_id)
    WHERE status = 'succeeded' AND NOT dry_run AND COALESCE(result ->> 'locked', '0') = '0' AND COALESCE(result ->> 'undecidable', '0') = '0';
CREATE INDEX job_run_failure_idx ON challenge_jobs.job_run (job, (- run_id))
    WHERE status IN ('failed', 'cancelled', 'crashed') AND NOT dry_run;
CREATE INDEX job_run_failure_as_of_idx ON challenge_jobs.job_run (job, as_of)
    WHERE status IN ('failed', 'cancelled', 'crashed') AND NOT dry_run;
CREATE INDEX job_run_scheduled_for_idx ON challenge_jobs.job_run (job, scheduled_for) WHERE scheduled_for IS NOT NULL;
CREATE INDEX job_run_catch_up_idx ON challenge_jobs.job_run (job, scheduled_for)
    WHERE triggered_by = 'catch_up' AND scheduled_for IS NOT NULL;

/* What was decided, and on which average. Not dumped, as job_run is not; without a foreign key, as the row of a run comes later. */
CREATE TABLE challenge_jobs.decision (
    run_id          bigint NOT NULL,
    challenge_key   text COLLATE "C" NOT NULL,
    outcome         text NOT NULL,
    average         numeric,
    threshold       numeric NOT NULL,
    members         bigint NOT NULL,
    decided_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (run_id, challenge_key)
);
CREATE INDEX decision_challenge_key_idx ON challenge_jobs.decision (challenge_key, run_id);

/*
 * Committed runs of job functions whose alerts are still to be raised. A job function does not raise them itself: its
 * caller may keep the transaction open, and others would wait for it.
 */
CREATE TABLE challenge_jobs.unsettled_run (
    run_id      bigint PRIMARY KEY
);

/*
 * Refused calls of the job functions. Only the background worker writes here, from shared memory. "other" stands for
 * kinds beyond the limit.
 */
CREATE TABLE challenge_jobs.refusal (
    job         text NOT NULL,
    role_name   text NOT NULL,
    sqlstate    text NOT NULL,
    message     text NOT NULL,
    calls       bigint NOT NULL,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (job, role_name, sqlstate)
);

/* Finds which tables had rows when challenges were last decided. */
CREATE INDEX job_run_sources_idx ON challenge_jobs.job_run (job, as_of)
    WHERE status = 'succeeded' AND NOT dry_run AND result ? 'sources';

/* Names are qualified, so that they do not depend on a search_path. */
CREATE TABLE challenge_jobs.stats_view (
    view_name   text PRIMARY KEY
                CHECK (pg_catalog.cardinality(pg_catalog.parse_ident(view_name)) = 2)
);
SELECT pg_catalog.pg_extension_config_dump('challenge_jobs.stats_view', '');

/*
 * A row is committed before a view is refreshed and deleted afterwards. A row that is still there when the next run
 * begins belongs to a view whose refresh did not end; that view goes last.
 */
CREATE TABLE challenge_jobs.view_attempt (
    view_name   text PRIMARY KEY,
    started_at  timestamptz NOT NULL
);

/* Arguments of track(), by name, dumped. The tables below are about relations of this database and are not dumped. */
CREATE TABLE challenge_jobs.tracking (
    view_name   text PRIMARY KEY
                CHECK (pg_catalog.cardinality(pg_catalog.parse_ident(view_name)) = 2),
    key_column  text NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('challenge_jobs.tracking', '');

/* The views behind the names, by OID: not dumped. */
CREATE TABLE challenge_jobs.known_view (
    view_name   text PRIMARY KEY REFERENCES challenge_jobs.stats_view ON DELETE CASCADE,
    view_id     oid NOT NULL,
    key_number  smallint
);

CREATE TABLE challenge_jobs.tracking_state (
    view_id     oid PRIMARY KEY,
    view_name   text NOT NULL,
    definition_hash bigint,
    view_version bigint,
    keys        bigint
);

/* The library reads and writes this table and change_log by column numbers. */
CREATE TABLE challenge_jobs.tracked_source (
    view_id         oid NOT NULL,
    source_id       oid NOT NULL,
    key_path        smallint NOT NULL,
    column_number   smallint NOT NULL,
    read_columns    smallint[] NOT NULL,
    via_id          oid NOT NULL,
    via_column      smallint NOT NULL,
    via_key         smallint NOT NULL,
    reason          text
) USING heap;
CREATE INDEX tracked_source_view_id_idx ON challenge_jobs.tracked_source (view_id);
CREATE INDEX tracked_source_source_id_idx ON challenge_jobs.tracked_source (source_id);

/*
 * No index: every transaction that changes tables of a tracked view appends rows, and a refresh reads them all. The
 * replica identity allows deletions also where all tables are published.
 */
CREATE TABLE challenge_jobs.change_log (
    view_id     oid NOT NULL,
    key_path    smallint NOT NULL,
    key_bytes   bytea
) USING heap WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE challenge_jobs.change_log REPLICA IDENTITY FULL;

/* Not dumped: the alerts of one server do not concern another. */
CREATE TABLE challenge_jobs.alert (
    alert_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job             text NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('failed', 'overdue', 'crashed', 'recovered', 'restored')),
    episode         bigint NOT NULL,
    run_id          bigint,
    scheduled_for   timestamptz,
    raised_at       timestamptz NOT NULL,
    payload         jsonb NOT NULL CHECK (pg_catalog.jsonb_typeof(payload) = 'object'),
    announced_at    timestamptz,
    delivered_at    timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error      text,
    CHECK (delivered_at IS NULL OR next_attempt_at IS NULL)
);
/* An alert of a job function, which may be its caller's fault, does not stand in the way of one of run(). */
CREATE UNIQUE INDEX alert_once_idx ON challenge_jobs.alert
    (job, kind, episode, scheduled_for, ((payload ->> 'triggered_by') IS NOT DISTINCT FROM 'function')) NULLS NOT DISTINCT;
CREATE INDEX alert_waiting_idx ON challenge_jobs.alert (alert_id) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX alert_new_idx ON challenge_jobs.alert (alert_id) WHERE announced_at IS NULL;

/* Dumped: after a restore nobody must be reminded a second time. */
CREATE TABLE challenge_jobs.reminder (
    user_key        text COLLATE "C" NOT NULL,
    local_date      date NOT NULL,
    reminded_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (local_date, user_key)
);
SELECT pg_catalog.pg_extension_config_dump('challenge_jobs.reminder', '');

CREATE TABLE challenge_jobs.reminder_zone (
    time_zone       text COLLATE "C",
    local_date      date NOT NULL,
    reminder_time   time,
    state_hash      bigint NOT NULL,
    examined_at     timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (local_date, time_zone, reminder_time)
);

/* ---- job functions ------------------------------------------------------------------------ */

CREATE FUNCTION @extschema@.auto_complete_challenges(
    as_of timestamptz DEFAULT pg_catalog.now(),
    dry_run boolean DEFAULT false,
    OUT completed bigint,
    OUT failed bigint,
    OUT notified bigint,
    OUT undecidable bigint,
    OUT not_notified bigint,
    OUT locked bigint,
    OUT errors bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_auto_complete_challenges';

CREATE FUNCTION @extschema@.refresh_challenge_stats(force_full boolean DEFAULT false)
RETURNS TABLE (view_name text, method text, rows_changed bigint, duration interval)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_refresh_challenge_stats';

CREATE FUNCTION @extschema@.send_streak_reminders(
    as_of timestamptz DEFAULT pg_catalog.now(),
    dry_run boolean DEFAULT false,
    OUT time_zones bigint,
    OUT reminded bigint,
    OUT missed bigint,
    OUT locked bigint,
    OUT errors bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_send_streak_reminders';

CREATE FUNCTION @extschema@.cleanup_expired_notifications(
    as_of timestamptz DEFAULT pg_catalog.now(),
    dry_run boolean DEFAULT false,
    OUT notifications bigint,
    OUT job_runs bigint,
    OUT locked bigint,
    OUT errors bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_cleanup_expired_notifications';

/* ---- the production run ------------------------------------------------------------------- */

/* No SET clause and no SECURITY DEFINER: either would forbid the commits between batches. */
CREATE PROCEDURE challenge_jobs.run(job text, triggered_by text DEFAULT 'manual')
LANGUAGE c
AS 'MODULE_PATHNAME', 'cj_api_run';

CREATE FUNCTION challenge_jobs.start(job text)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_start';

CREATE FUNCTION challenge_jobs.preview(job text)
RETURNS TABLE (challenge_key text, challenge_name text, ended_at timestamptz, age interval, average numeric,
               threshold numeric, members bigint, outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_preview';

/* As run(): it commits after every batch. */
CREATE PROCEDURE challenge_jobs.undo_decisions(run_id bigint)
LANGUAGE c
AS 'MODULE_PATHNAME', 'cj_api_undo_decisions';

/* ---- the app's tables --------------------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.bind(entity text, relation text, columns jsonb DEFAULT NULL,
                                    labels jsonb DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_bind';

CREATE FUNCTION challenge_jobs.unbind(entity text)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_unbind';

CREATE FUNCTION challenge_jobs.add_stats_view(view text)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_add_stats_view';

CREATE FUNCTION challenge_jobs.remove_stats_view(view text)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_remove_stats_view';

/* ---- tracked views ------------------------------------------------------------------------ */

CREATE FUNCTION challenge_jobs.capture_change()
RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_capture_change';

CREATE FUNCTION challenge_jobs.track(view regclass, key name DEFAULT 'challenge_id', dry_run boolean DEFAULT false)
RETURNS TABLE (source text, column_name text, key_path text, via_table text, reason text)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5
AS 'MODULE_PATHNAME', 'cj_api_track';

CREATE FUNCTION challenge_jobs.untrack(view regclass)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_untrack';

/* A name that resolves is right, whatever it resolved to before. */
CREATE VIEW challenge_jobs.renamed_view AS
SELECT k.view_name,
       k.view_id,
       pg_catalog.format('%I.%I', n.nspname, c.relname) AS new_name
  FROM challenge_jobs.known_view k
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.view_id AND c.relkind OPERATOR(pg_catalog.=) 'm'
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE NOT EXISTS (SELECT
                     FROM pg_catalog.parse_ident(k.view_name) p(parts)
                     JOIN pg_catalog.pg_namespace o ON o.nspname OPERATOR(pg_catalog.=) p.parts[1]::pg_catalog.name
                     JOIN pg_catalog.pg_class r ON r.relnamespace OPERATOR(pg_catalog.=) o.oid
                                               AND r.relname OPERATOR(pg_catalog.=) p.parts[2]::pg_catalog.name);

CREATE VIEW challenge_jobs.tracked_view AS
SELECT t.view_name,
       t.key_column,
       CASE WHEN i.view_id IS NULL THEN 'inactive'
            WHEN i.definition_hash IS NULL THEN 'new'
            ELSE 'tracked'
       END AS state,
       CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) END AS source,
       a.attname::text AS column_name,
       CASE WHEN s.key_path = 0 THEN 'direct' WHEN s.key_path > 0 THEN 'via' WHEN s.key_path < 0 THEN 'whole_view' END AS key_path,
       CASE WHEN s.key_path > 0 AND tc.oid IS NOT NULL AND ta.attname IS NOT NULL AND tk.attname IS NOT NULL
            THEN pg_catalog.format('%I.%I: %I -> %I', tn.nspname, tc.relname, ta.attname, tk.attname)
       END AS via_table,
       s.reason
  FROM challenge_jobs.tracking t
  LEFT JOIN challenge_jobs.tracking_state i
         ON i.view_name OPERATOR(pg_catalog.=) t.view_name
        AND EXISTS (SELECT FROM pg_catalog.pg_class v WHERE v.oid OPERATOR(pg_catalog.=) i.view_id)
  LEFT JOIN (challenge_jobs.tracked_source s
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.source_id
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace)
         ON s.view_id OPERATOR(pg_catalog.=) i.view_id
  LEFT JOIN pg_catalog.pg_attribute a
         ON a.attrelid OPERATOR(pg_catalog.=) s.source_id
        AND a.attnum OPERATOR(pg_catalog.=) s.column_number
        AND s.column_number OPERATOR(pg_catalog.>) 0
  LEFT JOIN (pg_catalog.pg_class tc JOIN pg_catalog.pg_namespace tn ON tn.oid OPERATOR(pg_catalog.=) tc.relnamespace)
         ON tc.oid OPERATOR(pg_catalog.=) s.via_id
  LEFT JOIN pg_catalog.pg_attribute ta
         ON ta.attrelid OPERATOR(pg_catalog.=) s.via_id AND ta.attnum OPERATOR(pg_catalog.=) s.via_column
  LEFT JOIN pg_catalog.pg_attribute tk
         ON tk.attrelid OPERATOR(pg_catalog.=) s.via_id AND tk.attnum OPERATOR(pg_catalog.=) s.via_key;

/* ---- jobs: what is in force, and changing it ---------------------------------------------- */

CREATE FUNCTION challenge_jobs.job_default(
    OUT job text,
    OUT description text,
    OUT schedule text,
    OUT max_runtime interval,
    OUT max_retries integer,
    OUT retry_delay interval,
    OUT catch_up text,
    OUT grace interval,
    OUT settings jsonb)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL SAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_job_default';

CREATE VIEW challenge_jobs.job AS
SELECT d.job,
       d.description,
       COALESCE(o.enabled, true) AS enabled,
       COALESCE(o.schedule, d.schedule) AS schedule,
       o.engine,
       o.scheduled_at,
       CASE WHEN h.is_copy AND NOT h.is_adopted THEN 'restored'
            WHEN h.is_paused THEN 'paused'
       END AS held,
       COALESCE(o.max_runtime, d.max_runtime) AS max_runtime,
       COALESCE(o.max_retries, d.max_retries) AS max_retries,
       COALESCE(o.retry_delay, d.retry_delay) AS retry_delay,
       COALESCE(o.catch_up, d.catch_up) AS catch_up,
       COALESCE(o.grace, d.grace) AS grace,
       d.settings OPERATOR(pg_catalog.||) COALESCE(o.settings, '{}'::jsonb) AS settings
  FROM challenge_jobs.job_default() d
  LEFT JOIN challenge_jobs.job_override o ON o.job OPERATOR(pg_catalog.=) d.job
  LEFT JOIN challenge_jobs.installation i ON true
 CROSS JOIN LATERAL (
        SELECT i.database_id IS DISTINCT FROM c.database_id
               OR EXISTS (SELECT FROM challenge_jobs.job_override f
                           WHERE f.engine IS NOT NULL
                             AND f.installation_id IS DISTINCT FROM i.installation_id) AS is_copy,
               o.engine IS NOT NULL
               AND o.installation_id IS NOT DISTINCT FROM i.installation_id
               AND i.database_id IS NOT DISTINCT FROM c.database_id AS is_adopted,
               EXISTS (SELECT FROM challenge_jobs.pause) AS is_paused
          FROM (SELECT b.oid AS database_id FROM pg_catalog.pg_database b
                 WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) c
       ) h;

CREATE FUNCTION challenge_jobs.alter_job(
    job text,
    schedule text DEFAULT NULL,
    enabled boolean DEFAULT NULL,
    max_runtime interval DEFAULT NULL,
    max_retries integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    catch_up text DEFAULT NULL,
    grace interval DEFAULT NULL,
    settings jsonb DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_alter_job';

CREATE FUNCTION challenge_jobs.reset_job(job text)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_reset_job';

CREATE FUNCTION challenge_jobs.schedule(job text DEFAULT NULL, engine text DEFAULT NULL)
RETURNS TABLE (job text, engine text, schedule text, command text)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_schedule';

CREATE FUNCTION challenge_jobs.unschedule(job text DEFAULT NULL)
RETURNS TABLE (job text, engine text)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_unschedule';

CREATE FUNCTION challenge_jobs.pause(reason text DEFAULT NULL)
RETURNS TABLE (run_id bigint, job text, pid integer, started_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_pause';

CREATE FUNCTION challenge_jobs.resume()
RETURNS TABLE (job text, engine text, next_due timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_resume';

CREATE FUNCTION challenge_jobs.next_runs(job text, n integer DEFAULT 5)
RETURNS TABLE (scheduled_for timestamptz)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 5
AS 'MODULE_PATHNAME', 'cj_api_next_runs';

/* ---- alerts ------------------------------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.settle_alerts()
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_settle_alerts';

/* It runs a shell command: the library checks that the caller is a superuser. */
CREATE PROCEDURE challenge_jobs.deliver_alerts()
LANGUAGE c
AS 'MODULE_PATHNAME', 'cj_api_deliver_alerts';

/* ---- is it running as it should? ----------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.watchdog(at timestamptz DEFAULT pg_catalog.clock_timestamp())
RETURNS TABLE (job text, next_scheduled timestamptz, last_scheduled timestamptz, covered_until timestamptz,
               overdue boolean, missed timestamptz, action text, action_at timestamptz, scheduled_for timestamptz,
               attempt integer, reason text, running boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', 'cj_api_watchdog';

/*
 * Each part reads a bounded number of rows through an index of its own. A job is failing while a failure came after its
 * last success or has a later as_of. A success with an as_of in the past, or with locked or undecidable rows, does not
 * end a failure. The last success is the one with the latest as_of. Rows with an as_of in the future, since the clock was
 * set back, do not count.
 */
CREATE VIEW challenge_jobs.job_status AS
SELECT j.job,
       CASE WHEN j.held IS NOT NULL THEN j.held
            WHEN NOT j.enabled THEN 'disabled'
            WHEN f.consecutive_failures > 0 THEN 'failing'
            WHEN w.overdue THEN 'overdue'
            WHEN w.running THEN 'running'
            WHEN s.run_id IS NULL AND w.covered_until IS NULL THEN 'never_run'
            ELSE 'ok'
       END AS state,
       j.engine,
       j.schedule,
       l.started_at AS last_run,
       CASE WHEN l.status = 'running' AND NOT w.running THEN 'crashed' ELSE l.status END AS last_status,
       s.finished_at AS last_success,
       w.next_scheduled AS next_due,
       f.consecutive_failures,
       d.avg_duration,
       d.p95_duration,
       l.message AS last_message
  FROM challenge_jobs.job j
  JOIN challenge_jobs.watchdog() w ON w.job = j.job
  LEFT JOIN LATERAL (
        SELECT r.started_at, r.status, r.message
          FROM challenge_jobs.job_run r
         WHERE r.job = j.job AND NOT r.dry_run
         ORDER BY - r.run_id
         LIMIT 1
       ) l ON true
  LEFT JOIN LATERAL (
        SELECT r.run_id, r.as_of, r.finished_at
          FROM challenge_jobs.job_run r
         WHERE r.job = j.job AND r.status = 'succeeded' AND NOT r.dry_run
           AND COALESCE(r.result ->> 'locked', '0') = '0' AND COALESCE(r.result ->> 'undecidable', '0') = '0'
           AND r.as_of <= pg_catalog.statement_timestamp()
         ORDER BY r.as_of DESC, r.run_id DESC
         LIMIT 1
       ) s ON true
 CROSS JOIN LATERAL (
        SELECT GREATEST((SELECT pg_catalog.count(*)
                           FROM (SELECT
                                   FROM challenge_jobs.job_run r
                                  WHERE r.job = j.job AND r.status IN ('failed', 'cancelled', 'crashed') AND NOT r.dry_run
                                    AND - r.run_id < - COALESCE(s.run_id, 0)
                                  ORDER BY - r.run_id
                                  LIMIT 1000) later),
                        (SELECT pg_catalog.count(*)
                           FROM (SELECT
                                   FROM challenge_jobs.job_run r
                                  WHERE r.job = j.job AND r.status IN ('failed', 'cancelled', 'crashed') AND NOT r.dry_run
                                    AND r.as_of > COALESCE(s.as_of, '-infinity')
                                    AND r.as_of <= pg_catalog.statement_timestamp()
                                  ORDER BY r.as_of DESC
                                  LIMIT 1000) as_of_later)) AS consecutive_failures
       ) f
 CROSS JOIN LATERAL (
        SELECT pg_catalog.avg(e.duration) AS avg_duration,
               pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY e.duration) AS p95_duration
          FROM (SELECT r.duration
                  FROM challenge_jobs.job_run r
                 WHERE r.job = j.job AND r.status = 'succeeded' AND NOT r.dry_run
           AND COALESCE(r.result ->> 'locked', '0') = '0' AND COALESCE(r.result ->> 'undecidable', '0') = '0'
                 ORDER BY r.as_of DESC, r.run_id DESC
                 LIMIT 100) e
       ) d;

/*
 * A row for each sample. All are gauges, since the log is cleaned up. Runs are counted in an index; everything else reads
 * a bounded number of rows.
 */
CREATE VIEW challenge_jobs.metrics AS
SELECT m.name, pg_catalog.jsonb_build_object('job', s.job) AS labels, m.value::double precision AS value
  FROM challenge_jobs.job_status s
  JOIN challenge_jobs.watchdog() w ON w.job = s.job
  LEFT JOIN LATERAL (
        SELECT r.duration, r.rows_affected, r.result
          FROM challenge_jobs.job_run r
         WHERE r.job = s.job AND r.status = 'succeeded' AND NOT r.dry_run
           AND COALESCE(r.result ->> 'locked', '0') = '0' AND COALESCE(r.result ->> 'undecidable', '0') = '0' AND r.as_of IS NOT NULL
         ORDER BY r.as_of DESC, r.run_id DESC
         LIMIT 1
       ) r ON true
 CROSS JOIN LATERAL (
        VALUES ('challenge_jobs_failing', (s.state = 'failing')::int::numeric),
               ('challenge_jobs_overdue', w.overdue::int),
               ('challenge_jobs_running', w.running::int),
               ('challenge_jobs_paused', (s.state = 'paused')::int),
               ('challenge_jobs_restored', (s.state = 'restored')::int),
               ('challenge_jobs_consecutive_failures', s.consecutive_failures),
               ('challenge_jobs_seconds_since_last_success',
                EXTRACT(epoch FROM pg_catalog.clock_timestamp() - s.last_success)),
               ('challenge_jobs_last_duration_seconds', EXTRACT(epoch FROM r.duration)),
               ('challenge_jobs_last_rows_affected', r.rows_affected),
               ('challenge_jobs_last_missed', (r.result ->> 'missed')::numeric)
       ) m(name, value)
 WHERE m.value IS NOT NULL
UNION ALL
SELECT 'challenge_jobs_runs', pg_catalog.jsonb_build_object('job', j.job, 'status', t.status),
       (SELECT pg_catalog.count(*)
          FROM challenge_jobs.job_run r
         WHERE r.job = j.job AND r.status = t.status AND NOT r.dry_run)
  FROM challenge_jobs.job_default() j
 CROSS JOIN (VALUES ('running'), ('succeeded'), ('failed'), ('skipped'), ('cancelled'), ('crashed'),
                    ('rolled_back')) t(status)
UNION ALL
SELECT 'challenge_jobs_alerts_undelivered', pg_catalog.jsonb_build_object('job', j.job), pg_catalog.count(a.job)
  FROM challenge_jobs.job_default() j
  LEFT JOIN challenge_jobs.alert a ON a.job = j.job AND a.next_attempt_at IS NOT NULL
 GROUP BY j.job;

/* ---- what is wrong? ----------------------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.doctor()
RETURNS TABLE (check_name text, status text, finding text, remedy text, advice text, run_as text)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'cj_api_doctor';

/* ---- a user who leaves --------------------------------------------------------------------- */

/*
 * A text names a user by his key, as a word of its own. The key goes into a pattern with everything escaped in it
 * that could mean something there.
 */
CREATE FUNCTION challenge_jobs.forget_user(user_key text, OUT reminders bigint, OUT job_runs bigint, OUT alerts bigint)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $forget$
    WITH named(pattern) AS (
        SELECT '(?<![[:alnum:]_])' || pg_catalog.regexp_replace(forget_user.user_key, '([^[:alnum:]])', '\\\1', 'g') || '(?![[:alnum:]_])'
         WHERE forget_user.user_key <> ''
    ), reminder AS (
        DELETE FROM challenge_jobs.reminder r
         WHERE r.user_key = forget_user.user_key COLLATE "C"
        RETURNING 1
    ), run AS (
        UPDATE challenge_jobs.job_run r
           SET message = pg_catalog.regexp_replace(r.message, n.pattern, '(forgotten)', 'g'),
               detail = pg_catalog.regexp_replace(r.detail, n.pattern, '(forgotten)', 'g'),
               hint = pg_catalog.regexp_replace(r.hint, n.pattern, '(forgotten)', 'g'),
               context = pg_catalog.regexp_replace(r.context, n.pattern, '(forgotten)', 'g')
          FROM named n
         WHERE pg_catalog.concat_ws(E'\n', r.message, r.detail, r.hint, r.context) ~ n.pattern
        RETURNING 1
    ), alert AS (
        UPDATE challenge_jobs.alert a
           SET payload = (SELECT pg_catalog.jsonb_object_agg(p.key,
                                     CASE WHEN p.key IN ('message', 'detail', 'hint') AND pg_catalog.jsonb_typeof(p.value) = 'string'
                                          THEN pg_catalog.to_jsonb(pg_catalog.regexp_replace(p.value #>> '{}', n.pattern, '(forgotten)', 'g'))
                                          ELSE p.value END)
                            FROM pg_catalog.jsonb_each(a.payload) p),
               last_error = pg_catalog.regexp_replace(a.last_error, n.pattern, '(forgotten)', 'g')
          FROM named n
         WHERE pg_catalog.concat_ws(E'\n', a.payload ->> 'message', a.payload ->> 'detail', a.payload ->> 'hint', a.last_error) ~ n.pattern
        RETURNING 1
    )
    SELECT (SELECT pg_catalog.count(*) FROM reminder),
           (SELECT pg_catalog.count(*) FROM run),
           (SELECT pg_catalog.count(*) FROM alert)
$forget$;

/* ---- what is going on? -------------------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.progress(
    OUT run_id bigint,
    OUT job text,
    OUT pid integer,
    OUT phase text,
    OUT done bigint,
    OUT total bigint,
    OUT started_at timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'cj_api_progress';

CREATE VIEW challenge_jobs.job_progress AS
SELECT p.run_id,
       p.job,
       p.pid,
       p.phase,
       p.done,
       p.total,
       pg_catalog.round(100.0 OPERATOR(pg_catalog.*) p.done OPERATOR(pg_catalog./) p.total, 1) AS percent,
       pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.started_at AS elapsed
  FROM challenge_jobs.progress() p;

/* A job function has no row before it ends, and without preloading there is no progress. */
CREATE VIEW challenge_jobs.run_at_work AS
SELECT p.run_id, p.job, p.pid, p.started_at
  FROM challenge_jobs.progress() p
 UNION
SELECT r.run_id, r.job, r.pid, r.started_at
  FROM challenge_jobs.job_run r
 WHERE r.status = 'running'
   AND EXISTS (SELECT
                 FROM pg_catalog.pg_locks l
                WHERE l.pid OPERATOR(pg_catalog.=) r.pid AND l.locktype OPERATOR(pg_catalog.=) 'object'
                  AND l.objsubid OPERATOR(pg_catalog.>) 0
                  AND l.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass);

/* ---- a report to look at ------------------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.report_html(since interval DEFAULT '7 days')
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cj_api_report_html';

/* ---- rights: nobody but the owner --------------------------------------------------------- */

/* Not only PUBLIC: default privileges may have granted rights to any role while the script ran. */
DO $rights$
DECLARE
    g   record;
BEGIN
    FOR g IN
        WITH member AS (
            SELECT d.classid, d.objid
              FROM pg_catalog.pg_depend d
              JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
             WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
               AND d.deptype = 'e'
               AND e.extname = 'challenge_jobs'
        ), object AS (
            SELECT 'SCHEMA' AS kind, pg_catalog.quote_ident(n.nspname) AS name, n.nspowner AS owner,
                   COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner)) AS acl
              FROM member m
              JOIN pg_catalog.pg_namespace n ON n.oid = m.objid
             WHERE m.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
            UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                   c.oid::pg_catalog.regclass::text, c.relowner,
                   COALESCE(c.relacl, pg_catalog.acldefault(
                       CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))
              FROM member m
              JOIN pg_catalog.pg_class c ON c.oid = m.objid
             WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND c.relkind IN ('r', 'v', 'S')
            UNION ALL
            SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::text, p.proowner,
                   COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))
              FROM member m
              JOIN pg_catalog.pg_proc p ON p.oid = m.objid
             WHERE m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        )
        SELECT DISTINCT o.kind, o.name, a.grantee
          FROM object o
         CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
         WHERE a.grantee <> o.owner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', g.kind, g.name,
                                  CASE WHEN g.grantee = 0 THEN 'PUBLIC'
                                       ELSE g.grantee::pg_catalog.regrole::text END);
    END LOOP;
END
$rights$;

/*
 * The one exception: owners of the app's tables must be able to restore a dump with triggers that call this function.
 * On a table without a tracked view it does nothing.
 */
GRANT EXECUTE ON FUNCTION challenge_jobs.capture_change() TO PUBLIC;

/* ---- comments ----------------------------------------------------------------------------- */

COMMENT ON SCHEMA challenge_jobs IS
    'challenge_jobs: everything of the extension but the job functions';

COMMENT ON FUNCTION @extschema@.auto_complete_challenges(timestamptz, boolean) IS
    'decides every active challenge whose end date has passed as of as_of and notifies its members, in the caller''s transaction; dry_run computes the same figures and changes nothing';
COMMENT ON FUNCTION @extschema@.refresh_challenge_stats(boolean) IS
    'refreshes the statistics views in the order of their dependencies, in the caller''s transaction, and returns the method used for each; force_full: no view is refreshed concurrently or incrementally';
COMMENT ON FUNCTION @extschema@.send_streak_reminders(timestamptz, boolean) IS
    'reminds every user whose streak is at stake once reminder_time is reached in the user''s own time zone, as of as_of, in the caller''s transaction, once per user and local date; dry_run computes the same figures and changes nothing';
COMMENT ON FUNCTION @extschema@.cleanup_expired_notifications(timestamptz, boolean) IS
    'deletes notifications that are old or past their own expiry as of as_of, and the extension''s own old history, in the caller''s transaction; dry_run computes the same figures and changes nothing';
COMMENT ON PROCEDURE challenge_jobs.run(text, text) IS
    'runs a job now, commits batch by batch, and records the run in job_run; if the job is already running, the run is recorded as skipped';
COMMENT ON FUNCTION challenge_jobs.preview(text) IS
    'what auto_complete_challenges would decide now: which challenges, on which average; changes nothing';
COMMENT ON PROCEDURE challenge_jobs.undo_decisions(bigint) IS
    'takes back what a run decided, batch by batch: challenges are active again, unread notifications and the decisions are removed; the job must be paused or disabled';
COMMENT ON FUNCTION challenge_jobs.start(text) IS
    'starts run() of a job in a background worker, as the owner of the extension, and returns at once; the row in job_run shows how the run ends';
COMMENT ON FUNCTION challenge_jobs.bind(text, text, jsonb, jsonb) IS
    'binds an entity to a table of the app, and optionally its columns and labels to columns and values of that table; replaces the previous binding of the entity';
COMMENT ON FUNCTION challenge_jobs.unbind(text) IS
    'removes the binding of an entity, which then resolves to its default name in the schema of the job functions';
COMMENT ON FUNCTION challenge_jobs.add_stats_view(text) IS
    'registers a materialized view for refresh_challenge_stats, in addition to the one bound to challenge_member_stats';
COMMENT ON FUNCTION challenge_jobs.remove_stats_view(text) IS
    'removes the registration of a view, which need not exist any more';
COMMENT ON FUNCTION challenge_jobs.capture_change() IS
    'trigger function on the tables of tracked views: records which keys of the views must be recomputed';
COMMENT ON FUNCTION challenge_jobs.track(regclass, name, boolean) IS
    'captures changes of the tables of a materialized view by the view''s column key, so that the view is refreshed incrementally, and registers the view; returns the key path of each table; dry_run: changes nothing';
COMMENT ON FUNCTION challenge_jobs.untrack(regclass) IS
    'stops tracking a view, which stays registered';
COMMENT ON FUNCTION challenge_jobs.job_default() IS
    'the jobs of this version of the library with their default configuration';
COMMENT ON FUNCTION challenge_jobs.alter_job(text, text, boolean, interval, integer, interval, text, interval, jsonb) IS
    'changes the configuration of a job: NULL arguments change nothing, settings are merged key by key, and a key with the value null returns to its default';
COMMENT ON FUNCTION challenge_jobs.reset_job(text) IS
    'resets the configuration of a job to its defaults; whether and by which engine it is scheduled does not change';
COMMENT ON FUNCTION challenge_jobs.schedule(text, text) IS
    'schedules a job (without argument: all jobs) with an engine: pg_cron (default if it is installed in this database), worker or external; idempotent';
COMMENT ON FUNCTION challenge_jobs.unschedule(text) IS
    'ends what schedule() started';
COMMENT ON FUNCTION challenge_jobs.pause(text) IS
    'pauses all jobs: runs are skipped, job functions raise an error, nothing is overdue; dry runs work. returns the runs that are still at work';
COMMENT ON FUNCTION challenge_jobs.forget_user(text) IS
    'removes what names a user who has left: reminders, and the key in the texts of runs and alerts; returns how many rows that were';
COMMENT ON FUNCTION challenge_jobs.resume() IS
    'ends a pause; in a restored or copied database it also adopts the stored schedules, from now on; returns what is scheduled';
COMMENT ON FUNCTION challenge_jobs.next_runs(text, integer) IS
    'the next n (1 to 1000) scheduled times of a job, whether or not it is scheduled and enabled; none if the schedule names a day that does not exist';
COMMENT ON FUNCTION challenge_jobs.settle_alerts() IS
    'raises the alerts for committed runs of job functions, in this transaction; the background worker, run() and deliver_alerts() also do that';
COMMENT ON PROCEDURE challenge_jobs.deliver_alerts() IS
    'announces new alerts and passes all waiting alerts to challenge_jobs.alert_command now; for superusers';
COMMENT ON FUNCTION challenge_jobs.watchdog(timestamptz) IS
    'what the background worker would do for each job at a given time, and why: the last and next scheduled time that count, whether one was missed, and the run that the worker would start';
COMMENT ON FUNCTION challenge_jobs.doctor() IS
    'checks bindings, indexes, privileges, preloading, schedules and the state of the jobs; returns for each check what was found, SQL that mends it (remedy) or advice, and the role that must run the SQL';

COMMENT ON FUNCTION challenge_jobs.progress() IS
    'the runs that are at work in this database, read from shared memory; empty if the library is not preloaded';
COMMENT ON FUNCTION challenge_jobs.report_html(interval) IS
    'a self-contained HTML page about the jobs: state, runs and durations over the given period, failures, waiting alerts, next runs, and, for callers who may execute doctor(), its findings';

COMMENT ON FUNCTION challenge_jobs.script_revision() IS 'the revision of the install script; the library refuses to work with a different one';
COMMENT ON TABLE challenge_jobs.binding IS
    'the app''s tables as set by bind(); an entity without a row resolves to its default name in the schema of the job functions';
COMMENT ON COLUMN challenge_jobs.binding.entity IS 'the entity: challenges, challenge_members, challenge_member_stats, notifications or users';
COMMENT ON COLUMN challenge_jobs.binding.relation IS 'the table, schema-qualified and quoted where needed';
COMMENT ON COLUMN challenge_jobs.binding.columns IS 'name of the entity''s column -> name of the table''s column; null: the optional column is not used';
COMMENT ON COLUMN challenge_jobs.binding.labels IS 'label -> its value in the app''s status or type column';

COMMENT ON TABLE challenge_jobs.job_override IS
    'configuration of jobs where it differs from the default (alter_job), and how they are scheduled (schedule)';
COMMENT ON COLUMN challenge_jobs.job_override.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.job_override.enabled IS 'false: runs of the job are refused or skipped; NULL: default (true)';
COMMENT ON COLUMN challenge_jobs.job_override.schedule IS 'cron expression, five fields, UTC; NULL: default';
COMMENT ON COLUMN challenge_jobs.job_override.max_runtime IS 'a run is cancelled after this time, 0: never; NULL: default';
COMMENT ON COLUMN challenge_jobs.job_override.max_retries IS 'how often a failed run is retried; NULL: default';
COMMENT ON COLUMN challenge_jobs.job_override.retry_delay IS 'wait before the first retry; NULL: default';
COMMENT ON COLUMN challenge_jobs.job_override.catch_up IS 'once: one run however many scheduled times were missed; skip: none; NULL: default';
COMMENT ON COLUMN challenge_jobs.job_override.grace IS 'a scheduled time not covered this long after it is overdue; NULL: default';
COMMENT ON COLUMN challenge_jobs.job_override.settings IS 'settings of the job that differ from the default';
COMMENT ON COLUMN challenge_jobs.job_override.engine IS 'what starts the job: pg_cron, worker (the background worker of this extension) or external; NULL: not scheduled';
COMMENT ON COLUMN challenge_jobs.job_override.scheduled_at IS 'when schedule() was called, the schedule last changed or the job was last enabled; earlier scheduled times are never overdue';

COMMENT ON COLUMN challenge_jobs.job_override.installation_id IS 'the installation in which schedule() was called; if it is not this one, the job is held back until resume() or schedule()';

COMMENT ON TABLE challenge_jobs.installation IS 'the identity of this installation: one row, not dumped';
COMMENT ON COLUMN challenge_jobs.installation.installation_id IS 'random; stored with each schedule made here';
COMMENT ON COLUMN challenge_jobs.installation.database_id IS 'OID of the database in which the row was written; it differs in a database made from a template';
COMMENT ON COLUMN challenge_jobs.installation.resumed_at IS 'when a pause last ended: scheduled times before it are not overdue';

COMMENT ON TABLE challenge_jobs.pause IS 'a row while all jobs are paused';
COMMENT ON COLUMN challenge_jobs.pause.paused_at IS 'when pause() was called first (clock time)';
COMMENT ON COLUMN challenge_jobs.pause.reason IS 'the reason given';
COMMENT ON COLUMN challenge_jobs.pause.role_name IS 'the role that called';

COMMENT ON TABLE challenge_jobs.stats_view IS
    'the materialized views registered by add_stats_view()';
COMMENT ON COLUMN challenge_jobs.stats_view.view_name IS 'the view, schema-qualified and quoted where needed';

COMMENT ON TABLE challenge_jobs.unsettled_run IS 'committed runs of job functions for which alerts are still to be raised, by the worker, run() or deliver_alerts()';
COMMENT ON COLUMN challenge_jobs.unsettled_run.run_id IS 'number of the run';
COMMENT ON TABLE challenge_jobs.refusal IS 'refused calls of the job functions (job disabled or already running, as_of out of range), a row for each kind; written by the background worker, which deletes a kind after 30 days';
COMMENT ON COLUMN challenge_jobs.refusal.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.refusal.role_name IS 'the role that called';
COMMENT ON COLUMN challenge_jobs.refusal.sqlstate IS 'SQLSTATE of the error that the caller got';
COMMENT ON COLUMN challenge_jobs.refusal.message IS 'message of the last one';
COMMENT ON COLUMN challenge_jobs.refusal.calls IS 'how many calls';
COMMENT ON COLUMN challenge_jobs.refusal.first_at IS 'time of the first call';
COMMENT ON COLUMN challenge_jobs.refusal.last_at IS 'time of the last call';
COMMENT ON TABLE challenge_jobs.job_run IS 'the execution log: a row for every run';
COMMENT ON COLUMN challenge_jobs.job_run.run_id IS 'number of the run';
COMMENT ON COLUMN challenge_jobs.job_run.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.job_run.triggered_by IS 'who started the run, as given to run(); function: the job function was called; worker, retry, catch_up: the background worker started it';
COMMENT ON COLUMN challenge_jobs.job_run.dry_run IS 'the run computed its figures and changed nothing';
COMMENT ON COLUMN challenge_jobs.job_run.attempt IS '1; 2 and more: a retry of a run that failed, crashed, was skipped or found rows locked';
COMMENT ON COLUMN challenge_jobs.job_run.scheduled_for IS 'the scheduled time that the run is for, if the background worker started it';
COMMENT ON COLUMN challenge_jobs.job_run.as_of IS 'the time as of which the run worked';
COMMENT ON COLUMN challenge_jobs.job_run.started_at IS 'when the run began (clock time)';
COMMENT ON COLUMN challenge_jobs.job_run.finished_at IS 'when the run ended (clock time); NULL while it is running';
COMMENT ON COLUMN challenge_jobs.job_run.duration IS 'finished_at - started_at';
COMMENT ON COLUMN challenge_jobs.job_run.status IS 'running, succeeded, failed, skipped (another run held the job''s lock, or the job is disabled), cancelled, crashed or rolled_back';
COMMENT ON COLUMN challenge_jobs.job_run.rows_affected IS 'rows of the app''s tables that the run changed or inserted (dry run: would have)';
COMMENT ON COLUMN challenge_jobs.job_run.result IS 'the figures of the run (the columns that the job function returns), and for refresh_challenge_stats the outcome for each view';
COMMENT ON COLUMN challenge_jobs.job_run.sqlstate IS 'SQLSTATE of the first error';
COMMENT ON COLUMN challenge_jobs.job_run.message IS 'message of the first error, or why the run was skipped';
COMMENT ON COLUMN challenge_jobs.job_run.detail IS 'detail of the first error, and the items that could not be done';
COMMENT ON COLUMN challenge_jobs.job_run.hint IS 'hint of the first error';
COMMENT ON COLUMN challenge_jobs.job_run.context IS 'context of the first error';
COMMENT ON COLUMN challenge_jobs.job_run.role_name IS 'the role that called';
COMMENT ON COLUMN challenge_jobs.job_run.pid IS 'process id of the backend that ran';

COMMENT ON TABLE challenge_jobs.decision IS 'the decisions of auto_complete_challenges, removed with their runs';
COMMENT ON COLUMN challenge_jobs.decision.run_id IS 'the run that decided';
COMMENT ON COLUMN challenge_jobs.decision.challenge_key IS 'the key of the challenge, as text';
COMMENT ON COLUMN challenge_jobs.decision.outcome IS 'completed, failed or cancelled, whatever label the app has for it';
COMMENT ON COLUMN challenge_jobs.decision.average IS 'the average completion rate, rounded as it was compared; NULL: no rate';
COMMENT ON COLUMN challenge_jobs.decision.threshold IS 'what it was compared with';
COMMENT ON COLUMN challenge_jobs.decision.members IS 'how many rates the average is of';
COMMENT ON COLUMN challenge_jobs.decision.decided_at IS 'start of the transaction that decided';

COMMENT ON TABLE challenge_jobs.view_attempt IS 'views whose refresh by run() started and did not end; the next run refreshes them last';
COMMENT ON COLUMN challenge_jobs.view_attempt.view_name IS 'schema and name, quoted where necessary';
COMMENT ON COLUMN challenge_jobs.view_attempt.started_at IS 'when the refresh started (clock time)';
COMMENT ON TABLE challenge_jobs.tracking IS 'the views that track() was called for';
COMMENT ON COLUMN challenge_jobs.tracking.view_name IS 'the view, schema-qualified and quoted where needed';
COMMENT ON COLUMN challenge_jobs.tracking.key_column IS 'the column of the view whose values are its keys';

COMMENT ON TABLE challenge_jobs.known_view IS 'the views of this database behind the names in stats_view';
COMMENT ON COLUMN challenge_jobs.known_view.view_name IS 'the name, as in stats_view';
COMMENT ON COLUMN challenge_jobs.known_view.view_id IS 'the view';
COMMENT ON COLUMN challenge_jobs.known_view.key_number IS 'if it is tracked, the number of its column that is the key';
COMMENT ON VIEW challenge_jobs.renamed_view IS 'registered views that were renamed or moved; the next refresh stores the new name';
COMMENT ON COLUMN challenge_jobs.renamed_view.view_name IS 'the name, as in stats_view';
COMMENT ON COLUMN challenge_jobs.renamed_view.view_id IS 'the view';
COMMENT ON COLUMN challenge_jobs.renamed_view.new_name IS 'its name now';
COMMENT ON TABLE challenge_jobs.tracking_state IS 'the tracked views whose capture is installed';
COMMENT ON COLUMN challenge_jobs.tracking_state.view_id IS 'the view';
COMMENT ON COLUMN challenge_jobs.tracking_state.view_name IS 'its name, as in tracking';
COMMENT ON COLUMN challenge_jobs.tracking_state.definition_hash IS 'hash of everything the view depends on that row triggers do not see, as of its last full refresh; NULL: a full refresh is needed';
COMMENT ON COLUMN challenge_jobs.tracking_state.view_version IS 'identifies the row of the view in pg_class as of then, which each REFRESH replaces';
COMMENT ON COLUMN challenge_jobs.tracking_state.keys IS 'the number of keys in the view as of then';

COMMENT ON TABLE challenge_jobs.tracked_source IS 'the tables of tracked views and their key paths, see the view tracked_view';
COMMENT ON COLUMN challenge_jobs.tracked_source.view_id IS 'the view';
COMMENT ON COLUMN challenge_jobs.tracked_source.source_id IS 'the table';
COMMENT ON COLUMN challenge_jobs.tracked_source.key_path IS '0: direct; above 0: via another table; -1: whole_view';
COMMENT ON COLUMN challenge_jobs.tracked_source.column_number IS 'the column whose value is captured; 0: none';
COMMENT ON COLUMN challenge_jobs.tracked_source.read_columns IS 'the columns that the view reads; updates of others are ignored';
COMMENT ON COLUMN challenge_jobs.tracked_source.via_id IS 'via: the other table; 0: none';
COMMENT ON COLUMN challenge_jobs.tracked_source.via_column IS 'its column with the value';
COMMENT ON COLUMN challenge_jobs.tracked_source.via_key IS 'its column with the key';
COMMENT ON COLUMN challenge_jobs.tracked_source.reason IS 'whole_view: why';

COMMENT ON TABLE challenge_jobs.change_log IS 'changes of the tables of tracked views since the last refresh';
COMMENT ON COLUMN challenge_jobs.change_log.view_id IS 'the view';
COMMENT ON COLUMN challenge_jobs.change_log.key_path IS 'the key path of the value, as in tracked_source; -1: everything must be recomputed';
COMMENT ON COLUMN challenge_jobs.change_log.key_bytes IS 'the bytes of the value in memory; NULL: null';

COMMENT ON VIEW challenge_jobs.tracked_view IS 'the tracked views, with the key path of each of their tables';
COMMENT ON COLUMN challenge_jobs.tracked_view.view_name IS 'the view';
COMMENT ON COLUMN challenge_jobs.tracked_view.key_column IS 'the column by whose values it is refreshed';
COMMENT ON COLUMN challenge_jobs.tracked_view.state IS 'tracked; new: the next refresh is a full one; inactive: after a restore, until the next refresh';
COMMENT ON COLUMN challenge_jobs.tracked_view.source IS 'a table';
COMMENT ON COLUMN challenge_jobs.tracked_view.column_name IS 'its column whose value is captured when a row changes';
COMMENT ON COLUMN challenge_jobs.tracked_view.key_path IS 'direct: the value is the key; via: another table leads from the value to keys; whole_view: any change causes a full refresh';
COMMENT ON COLUMN challenge_jobs.tracked_view.via_table IS 'via: the other table, its column with the value, and its column with the key';
COMMENT ON COLUMN challenge_jobs.tracked_view.reason IS 'whole_view: why';

COMMENT ON TABLE challenge_jobs.alert IS 'alerts: a row for each change of a job''s state';
COMMENT ON COLUMN challenge_jobs.alert.alert_id IS 'number of the alert';
COMMENT ON COLUMN challenge_jobs.alert.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.alert.kind IS 'failed (the first failure after a success), crashed, overdue (a scheduled time was not covered in time), recovered or restored (this database is a copy of one in which the job was scheduled)';
COMMENT ON COLUMN challenge_jobs.alert.episode IS 'number of the job''s previous alert "recovered"; 0: none';
COMMENT ON COLUMN challenge_jobs.alert.run_id IS 'the run that it is about, if there is one';
COMMENT ON COLUMN challenge_jobs.alert.scheduled_for IS 'overdue: the scheduled time';
COMMENT ON COLUMN challenge_jobs.alert.raised_at IS 'when it was raised (clock time)';
COMMENT ON COLUMN challenge_jobs.alert.payload IS 'the alert as JSON, as challenge_jobs.alert_command receives it';
COMMENT ON COLUMN challenge_jobs.alert.announced_at IS 'when it went to the server log and by NOTIFY; NULL: not yet';
COMMENT ON COLUMN challenge_jobs.alert.delivered_at IS 'when challenge_jobs.alert_command succeeded; NULL: not yet, or never';
COMMENT ON COLUMN challenge_jobs.alert.attempts IS 'how often the command was started';
COMMENT ON COLUMN challenge_jobs.alert.next_attempt_at IS 'time of the next attempt; NULL: delivered, or given up (after 7 days, or because a later "recovered" was delivered)';
COMMENT ON COLUMN challenge_jobs.alert.last_error IS 'how the last attempt failed: exit status and first line of standard error';

COMMENT ON VIEW challenge_jobs.run_at_work IS 'the runs that are at work in all sessions';
COMMENT ON COLUMN challenge_jobs.run_at_work.run_id IS 'NULL: a job function, whose row is written when it ends';
COMMENT ON COLUMN challenge_jobs.run_at_work.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.run_at_work.pid IS 'process of the session';
COMMENT ON COLUMN challenge_jobs.run_at_work.started_at IS 'when the run began';
COMMENT ON VIEW challenge_jobs.job_progress IS 'progress of the runs that are at work in this database; empty if the library is not preloaded';
COMMENT ON COLUMN challenge_jobs.job_progress.run_id IS 'number of the run; NULL: a job function, whose row is written when it ends';
COMMENT ON COLUMN challenge_jobs.job_progress.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.job_progress.pid IS 'process id of the backend that runs';
COMMENT ON COLUMN challenge_jobs.job_progress.phase IS 'what the job is doing; NULL: it is starting';
COMMENT ON COLUMN challenge_jobs.job_progress.done IS 'finished items of the phase';
COMMENT ON COLUMN challenge_jobs.job_progress.total IS 'items of the phase; NULL: unknown';
COMMENT ON COLUMN challenge_jobs.job_progress.percent IS 'finished items in per cent';
COMMENT ON COLUMN challenge_jobs.job_progress.elapsed IS 'how long the run has been at work';

COMMENT ON TABLE challenge_jobs.reminder IS 'the ledger of send_streak_reminders: a user is not reminded twice for one local date';
COMMENT ON COLUMN challenge_jobs.reminder.user_key IS 'the key of the user, as text';
COMMENT ON COLUMN challenge_jobs.reminder.local_date IS 'the date in the user''s time zone';
COMMENT ON COLUMN challenge_jobs.reminder.reminded_at IS 'start of the transaction that reminded the user';

COMMENT ON TABLE challenge_jobs.reminder_zone IS 'time zones all of whose users were examined for a local date, so that they need not be examined again';
COMMENT ON COLUMN challenge_jobs.reminder_zone.time_zone IS 'the zone as stored for the users; NULL: users without a zone';
COMMENT ON COLUMN challenge_jobs.reminder_zone.local_date IS 'the date in that zone';
COMMENT ON COLUMN challenge_jobs.reminder_zone.reminder_time IS 'the time of day that these users have for themselves; NULL: users without one';
COMMENT ON COLUMN challenge_jobs.reminder_zone.state_hash IS 'hash of settings, bindings and the numbers of rows written; if it differs, the zone is examined again';
COMMENT ON COLUMN challenge_jobs.reminder_zone.examined_at IS 'when the zone was examined (clock time)';

COMMENT ON VIEW challenge_jobs.job IS 'the jobs and the configuration in force';
COMMENT ON COLUMN challenge_jobs.job.job IS 'name of the job, and of its job function';
COMMENT ON COLUMN challenge_jobs.job.description IS 'what the job does';
COMMENT ON COLUMN challenge_jobs.job.enabled IS 'false: runs of the job are refused or skipped';
COMMENT ON COLUMN challenge_jobs.job.schedule IS 'cron expression, five fields, UTC';
COMMENT ON COLUMN challenge_jobs.job.engine IS 'what starts the job: pg_cron, worker (the background worker of this extension) or external; NULL: not scheduled';
COMMENT ON COLUMN challenge_jobs.job.scheduled_at IS 'when schedule() was called, the schedule last changed or the job was last enabled; earlier scheduled times are never overdue';
COMMENT ON COLUMN challenge_jobs.job.held IS 'restored: this database is a copy, and the job was scheduled in the original; paused: all jobs are paused; NULL: not held back';
COMMENT ON COLUMN challenge_jobs.job.max_runtime IS 'a run is cancelled after this time, 0: never';
COMMENT ON COLUMN challenge_jobs.job.max_retries IS 'how often a failed run is retried';
COMMENT ON COLUMN challenge_jobs.job.retry_delay IS 'wait before the first retry';
COMMENT ON COLUMN challenge_jobs.job.catch_up IS 'once: one run however many scheduled times were missed; skip: none';
COMMENT ON COLUMN challenge_jobs.job.grace IS 'a scheduled time not covered this long after it is overdue';
COMMENT ON COLUMN challenge_jobs.job.settings IS 'settings of the job in force';

COMMENT ON VIEW challenge_jobs.job_status IS 'the state of the jobs, a row for each; dry, skipped and rolled-back runs do not count';
COMMENT ON COLUMN challenge_jobs.job_status.job IS 'name of the job';
COMMENT ON COLUMN challenge_jobs.job_status.state IS 'the first that applies of restored (this database is a copy), paused, disabled, failing (a run failed, crashed or was cancelled after the last successful one, or with a later as_of), overdue (a scheduled time was not covered within grace), running, never_run, ok';
COMMENT ON COLUMN challenge_jobs.job_status.engine IS 'what starts the job: pg_cron, worker or external; NULL: not scheduled';
COMMENT ON COLUMN challenge_jobs.job_status.schedule IS 'cron expression, five fields, UTC';
COMMENT ON COLUMN challenge_jobs.job_status.last_run IS 'when the last run started, whatever its status';
COMMENT ON COLUMN challenge_jobs.job_status.last_status IS 'its status; crashed: the row says running, but no session holds the job''s lock';
COMMENT ON COLUMN challenge_jobs.job_status.last_success IS 'when the successful run with the latest as_of ended';
COMMENT ON COLUMN challenge_jobs.job_status.next_due IS 'the next scheduled time; NULL if the job is disabled or not scheduled';
COMMENT ON COLUMN challenge_jobs.job_status.consecutive_failures IS 'runs that failed, crashed or were cancelled since the last successful one, at most 1000';
COMMENT ON COLUMN challenge_jobs.job_status.avg_duration IS 'average duration of the last 100 successful runs';
COMMENT ON COLUMN challenge_jobs.job_status.p95_duration IS '95th percentile of their durations';
COMMENT ON COLUMN challenge_jobs.job_status.last_message IS 'message of the last run: its first error, or why it was skipped';

COMMENT ON VIEW challenge_jobs.metrics IS 'metrics in the style of Prometheus: a row for each sample; all are gauges';
COMMENT ON COLUMN challenge_jobs.metrics.name IS 'name of the metric, with its unit where it has one';
COMMENT ON COLUMN challenge_jobs.metrics.labels IS 'labels of the sample: job, and for challenge_jobs_runs status';
COMMENT ON COLUMN challenge_jobs.metrics.value IS 'the value';
