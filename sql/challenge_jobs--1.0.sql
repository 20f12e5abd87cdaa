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
AS 'SELECT 18';

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
    WHERE status = 'succeeded' AND NOT dry_run AND COALESCE(result ->> 'locked', '0') = '0' AND COALESCE(result ->> 'undecidable', '0') = '0'
      AND COALESCE(result ->> 'not_refreshed', '0') = '0';
CREATE INDEX job_run_failure_idx ON challenge_jobs.job_run (job, (- run_id))
    WHERE status IN ('failed', 'cancelled', 'crashed') AND NOT dry_run;
CREATE INDEX job_run_failure_as_of_idx ON challenge_jobs.job_run (job, as_of)
    WHERE status IN ('failed', 'cancelled', 'crashed') AND NOT dry_run;
CREATE INDEX job_run_scheduled_for_idx ON challenge_jobs.job_run (job, scheduled_for) WHERE scheduled_for IS NOT NULL;
CREATE INDEX job_run_catch_up_idx ON challenge_jobs.job_run (job, scheduled_for)
    WHERE triggered_by = 'catch_up' AND scheduled_for IS NOT NULL;
/* The last run that decided challenges (of one that crashed nobody knows), and the last one that a refresh has seen. */
CREATE INDEX job_run_decided_idx ON challenge_jobs.job_run (job, (- run_id))
    WHERE job = 'auto_complete_challenges' AND NOT dry_run AND status NOT IN ('running', 'rolled_back') AND COALESCE(rows_affected, 1) > 0;
CREATE INDEX job_run_after_run_idx ON challenge_jobs.job_run (job, (- run_id))
    WHERE NOT dry_run AND status <> 'rolled_back' AND result ? 'after_run';

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

/*
 * Follows a view whose name has changed; both names may be registered. A refresh that did not end stays so: renaming a view does not
 * bring it to the front again.
 */
CREATE FUNCTION challenge_jobs.rename_view(old_name text, new_name text, view_id oid)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH old AS (DELETE FROM challenge_jobs.tracking t WHERE t.view_name = old_name RETURNING t.key_column),
     state AS (UPDATE challenge_jobs.tracking_state s SET view_name = new_name WHERE s.view_id = rename_view.view_id)
INSERT INTO challenge_jobs.tracking (view_name, key_column) SELECT new_name, o.key_column FROM old o ON CONFLICT DO NOTHING;
WITH old AS (DELETE FROM challenge_jobs.stats_view v WHERE v.view_name = old_name RETURNING 1)
INSERT INTO challenge_jobs.stats_view (view_name) SELECT new_name FROM old ON CONFLICT DO NOTHING;
UPDATE challenge_jobs.view_attempt a
   SET view_name = new_name
 WHERE a.view_name = old_name AND NOT EXISTS (SELECT FROM challenge_jobs.view_attempt n WHERE n.view_name = new_name);
END;

/* Follows keys of tracked views that have been renamed. */
CREATE FUNCTION challenge_jobs.rename_keys()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
UPDATE challenge_jobs.tracking t
   SET key_column = a.attname
  FROM challenge_jobs.known_view k
  JOIN pg_attribute a ON a.attrelid = k.view_id AND a.attnum = k.key_number AND NOT a.attisdropped
 WHERE k.view_name = t.view_name
   AND NOT EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = k.view_id AND o.attname = t.key_column::name);
END;

/* Notes which views the names stand for. */
CREATE FUNCTION challenge_jobs.note_known_views()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
INSERT INTO challenge_jobs.known_view AS k (view_name, view_id, key_number)
SELECT v.view_name, c.oid, a.attnum
  FROM challenge_jobs.stats_view v
 CROSS JOIN LATERAL parse_ident(v.view_name) p(parts)
  JOIN pg_namespace n ON n.nspname = p.parts[1]::name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.parts[2]::name AND c.relkind = 'm'
  LEFT JOIN challenge_jobs.tracking t ON t.view_name = v.view_name
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.key_column::name AND NOT a.attisdropped
  LEFT JOIN challenge_jobs.known_view o ON o.view_name = v.view_name
 WHERE o.view_id IS DISTINCT FROM c.oid OR (t.view_name IS NOT NULL AND o.key_number IS DISTINCT FROM a.attnum)
    ON CONFLICT (view_name) DO UPDATE SET view_id = excluded.view_id, key_number = excluded.key_number;
END;

/*
 * What views read: the relations and functions in their rules, in the rules of those relations if they are views, and in the bodies of
 * those functions (as far as PostgreSQL knows them: bodies in standard SQL); each view itself, too.
 */
CREATE FUNCTION challenge_jobs.view_reads(views oid[])
RETURNS TABLE (view_id oid, class oid, object oid)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
WITH RECURSIVE reads(view_id, class, object) AS (
    SELECT v.oid, 'pg_class'::regclass::oid, v.oid FROM unnest(views) v(oid)
     UNION
    SELECT s.view_id, d.refclassid, d.refobjid
      FROM reads s
      LEFT JOIN pg_rewrite r ON s.class = 'pg_class'::regclass AND r.ev_class = s.object AND r.ev_type = '1'
      JOIN pg_depend d
        ON d.classid = CASE WHEN r.oid IS NULL THEN 'pg_proc'::regclass ELSE 'pg_rewrite'::regclass END
       AND d.objid = CASE WHEN r.oid IS NOT NULL THEN r.oid WHEN s.class = 'pg_proc'::regclass THEN s.object END
     WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
)
SELECT r.view_id, r.class, r.object FROM reads r;
END;

/* Puts views in the order of their dependencies. What reads another view reads all that this one reads, and this one as well. */
CREATE FUNCTION challenge_jobs.order_views(names text[], views oid[])
RETURNS SETOF text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT v.name
  FROM ROWS FROM (unnest(names), unnest(views)) v(name, oid)
  LEFT JOIN (SELECT r.view_id, count(DISTINCT r.object) AS views
               FROM challenge_jobs.view_reads(views) r
              WHERE r.class = 'pg_class'::regclass AND r.object <> r.view_id AND r.object = ANY (order_views.views)
              GROUP BY r.view_id) r ON r.view_id = v.oid
 ORDER BY COALESCE(r.views, 0), v.name COLLATE "C";
END;

/* Materialized views that views read, and that are not among them. */
CREATE FUNCTION challenge_jobs.missing_views(names text[], views oid[])
RETURNS TABLE (reader text, view_name text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT DISTINCT v.name, format('%I.%I', n.nspname, c.relname)
  FROM ROWS FROM (unnest(names), unnest(views)) v(name, oid)
  JOIN challenge_jobs.view_reads(views) r ON r.view_id = v.oid AND r.class = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = r.object AND c.relkind = 'm' AND NOT (c.oid = ANY (views))
  JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2;
END;

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

/* What is set to nothing but defaults is no override: it is not stored, so that a later version may change them. */
CREATE FUNCTION challenge_jobs.drop_defaults(job text)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
UPDATE challenge_jobs.job_override o
   SET enabled = NULLIF(o.enabled, true),
       schedule = NULLIF(o.schedule, d.schedule),
       max_runtime = NULLIF(o.max_runtime, d.max_runtime),
       max_retries = NULLIF(o.max_retries, d.max_retries),
       retry_delay = NULLIF(o.retry_delay, d.retry_delay),
       catch_up = NULLIF(o.catch_up, d.catch_up),
       grace = NULLIF(o.grace, d.grace),
       settings = COALESCE((SELECT jsonb_object_agg(s.key, s.value)
                              FROM jsonb_each(o.settings) s
                             WHERE s.value <> 'null' AND s.value IS DISTINCT FROM d.settings -> s.key), '{}')
  FROM challenge_jobs.job_default() d
 WHERE o.job = drop_defaults.job AND d.job = drop_defaults.job;
DELETE FROM challenge_jobs.job_override o
 WHERE o.job = drop_defaults.job
   AND (o.enabled, o.schedule, o.max_runtime, o.max_retries, o.retry_delay, o.catch_up, o.grace, o.engine) IS NULL
   AND o.settings = '{}';
END;

/*
 * Stores a change of a job; NULL changes nothing, a setting that is null stands for its default. Scheduled times of a schedule that was
 * not in force, or of a job that was disabled, are not overdue: scheduled_at says from when on they count.
 */
CREATE FUNCTION challenge_jobs.override_job(job text, schedule text, enabled boolean, max_runtime interval, max_retries integer,
                                            retry_delay interval, catch_up text, grace interval, settings jsonb)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
INSERT INTO challenge_jobs.job_override AS o (job, enabled, schedule, max_runtime, max_retries, retry_delay, catch_up, grace, settings)
SELECT override_job.job, override_job.enabled, override_job.schedule, override_job.max_runtime, override_job.max_retries,
       override_job.retry_delay, override_job.catch_up, override_job.grace, COALESCE(override_job.settings, '{}')
    ON CONFLICT (job) DO UPDATE
   SET enabled = COALESCE(excluded.enabled, o.enabled),
       schedule = COALESCE(excluded.schedule, o.schedule),
       max_runtime = COALESCE(excluded.max_runtime, o.max_runtime),
       max_retries = COALESCE(excluded.max_retries, o.max_retries),
       retry_delay = COALESCE(excluded.retry_delay, o.retry_delay),
       catch_up = COALESCE(excluded.catch_up, o.catch_up),
       grace = COALESCE(excluded.grace, o.grace),
       settings = o.settings || excluded.settings,
       scheduled_at = CASE WHEN o.engine IS NOT NULL
                            AND (excluded.schedule <> COALESCE(o.schedule, (SELECT d.schedule FROM challenge_jobs.job_default() d
                                                                             WHERE d.job = o.job))
                                 OR excluded.enabled AND NOT o.enabled)
                           THEN clock_timestamp()
                           ELSE o.scheduled_at END;
SELECT challenge_jobs.drop_defaults(job);
END;

CREATE FUNCTION challenge_jobs.drop_override(job text)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
UPDATE challenge_jobs.job_override o
   SET enabled = NULL, schedule = NULL, max_runtime = NULL, max_retries = NULL, retry_delay = NULL, catch_up = NULL, grace = NULL, settings = '{}',
       scheduled_at = CASE WHEN o.engine IS NOT NULL AND (o.schedule IS NOT NULL OR NOT o.enabled) THEN clock_timestamp() ELSE o.scheduled_at END
 WHERE o.job = drop_override.job;
SELECT challenge_jobs.drop_defaults(job);
END;

/* Notes by which engine a job is scheduled, NULL: by none. */
CREATE FUNCTION challenge_jobs.set_engine(job text, engine text)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
INSERT INTO challenge_jobs.job_override AS o (job, engine, scheduled_at, installation_id)
SELECT set_engine.job, set_engine.engine, CASE WHEN set_engine.engine IS NOT NULL THEN clock_timestamp() END, i.installation_id
  FROM (SELECT) one
  LEFT JOIN challenge_jobs.installation i ON set_engine.engine IS NOT NULL
    ON CONFLICT (job) DO UPDATE
   SET engine = excluded.engine,
       installation_id = excluded.installation_id,
       scheduled_at = CASE WHEN o.engine = excluded.engine AND o.installation_id = excluded.installation_id THEN o.scheduled_at
                           WHEN excluded.engine IS NOT NULL THEN excluded.scheduled_at END;
SELECT challenge_jobs.drop_defaults(job);
END;

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

/*
 * What is wrong with the cron job that is to fire a job, the first of what there is, and how to mend it. Its body is a text as pg_cron need
 * not be there. Whether its launcher is alive only those know who see the sessions of others; a cron job of a role that has been renamed
 * or dropped ends it, again and again.
 */
CREATE FUNCTION challenge_jobs.cron_problem(job text, cron_job text, schedule text, command text, enabled boolean)
RETURNS TABLE (problem text, hint text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $cron$
    WITH found AS (
        SELECT row_number() OVER (ORDER BY (j.username = CURRENT_USER) DESC) AS n, j.jobid, j.username = CURRENT_USER AS is_own, j.username,
               j.active, j.schedule = cron_problem.schedule AND j.command = cron_problem.command AS is_as_put,
               (SELECT CASE d.status WHEN 'failed' THEN d.return_message END
                  FROM cron.job_run_details d
                 WHERE d.jobid = j.jobid
                 ORDER BY d.runid DESC
                 LIMIT 1) AS failure
          FROM cron.job j
         WHERE j.jobname = cron_job AND j.database = current_database()
    )
    SELECT p.problem, p.hint
      FROM (SELECT format('SELECT * FROM challenge_jobs.schedule(%L, ''pg_cron'');', job)) r(remedy)
      LEFT JOIN found f ON f.n = 1
      LEFT JOIN found other ON other.n = 2
      LEFT JOIN LATERAL (
            SELECT j.jobid
              FROM cron.job j
             WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = j.username)
             ORDER BY j.jobid
             LIMIT 1) orphan ON true
     CROSS JOIN LATERAL (
            VALUES (1, orphan.jobid IS NOT NULL,
                    'a cron job belongs to a role that does not exist, which ends pg_cron''s launcher again and again',
                    format('Run: SELECT cron.unschedule(%s);', orphan.jobid)),
                   (2, pg_has_role(CURRENT_USER, 'pg_read_all_stats', 'USAGE')
                       AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type = 'pg_cron launcher'),
                    'pg_cron''s launcher is not running: nothing fires cron jobs',
                    'Restart the server. The server log says why pg_cron''s launcher ended.'),
                   (3, f.jobid IS NULL, format('there is no cron job "%s"', cron_job), 'Run: ' || r.remedy),
                   (4, other.jobid IS NOT NULL,
                    format('there is more than one cron job "%s"; one belongs to "%s"', cron_job, other.username),
                    format('Run: SELECT cron.unschedule(%s);', other.jobid)),
                   (5, NOT f.is_own, format('the cron job "%s" runs as "%s", not as the owner of the extension', cron_job, f.username),
                    format('Run: SELECT cron.unschedule(%s); %s', f.jobid, r.remedy)),
                   (6, NOT f.is_as_put, format('schedule or command of the cron job "%s" was changed', cron_job), 'Run: ' || r.remedy),
                   (7, f.active <> enabled,
                    format('the cron job "%s" is %s', cron_job, CASE WHEN enabled THEN 'not active' ELSE 'active, and the job is disabled' END),
                    'Run: ' || r.remedy),
                   (8, f.failure IS NOT NULL, 'the last run that pg_cron started failed: ' || f.failure,
                    format('Run: SELECT * FROM cron.job_run_details WHERE jobid = %s ORDER BY runid DESC LIMIT 5;', f.jobid))
           ) p(n, is_so, problem, hint)
     WHERE p.is_so
     ORDER BY p.n
     LIMIT 1
$cron$;

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

CREATE FUNCTION challenge_jobs.host_name()
RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cj_api_host_name';

/*
 * Whether a run covers the scheduled times up to its as_of, and ends failures. One that has left something over, as locked,
 * undecidable or not refreshed, does not: whoever holds a lock could have a job succeed by having it pass over what it fails
 * at. As the index job_run_covering_idx has it. In views it is written out: whoever reads them need not be allowed to call it.
 */
CREATE FUNCTION challenge_jobs.run_covers(run challenge_jobs.job_run)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN run.status = 'succeeded' AND NOT run.dry_run AND COALESCE(run.result ->> 'locked', '0') = '0'
       AND COALESCE(run.result ->> 'undecidable', '0') = '0' AND COALESCE(run.result ->> 'not_refreshed', '0') = '0';

/*
 * A run of ours for a time at which another engine did not fire does the work, but that engine is as silent as before: such
 * runs end no alert "overdue".
 */
CREATE FUNCTION challenge_jobs.run_stands_in(run challenge_jobs.job_run)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (run.triggered_by = 'catch_up' OR run.triggered_by = 'retry' AND run.scheduled_for IS NOT NULL)
       AND EXISTS (SELECT FROM challenge_jobs.job_override o WHERE o.job = run.job AND o.engine <> 'worker');

/*
 * A success as of a moment before that of a failure has not done what failed: anybody who may call the job function can have it
 * succeed as of a moment at which nothing was due. A moment that has not come yet was noted before the clock was set back.
 */
CREATE FUNCTION challenge_jobs.run_is_overtaken(run challenge_jobs.job_run)
RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN EXISTS (SELECT FROM challenge_jobs.job_run f
                WHERE f.job = run.job AND f.status IN ('failed', 'cancelled', 'crashed') AND NOT f.dry_run
                  AND f.as_of > run.as_of AND f.as_of <= clock_timestamp());

/* As ISO 8601 in UTC, whatever the session's settings. */
CREATE FUNCTION challenge_jobs.iso_moment(moment timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

/* The number of the last alert "recovered"; 0: none. */
CREATE FUNCTION challenge_jobs.alert_episode(job text)
RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN COALESCE((SELECT r.alert_id
                   FROM challenge_jobs.alert r
                  WHERE r.job = alert_episode.job AND r.kind = 'recovered'
                  ORDER BY r.episode DESC
                  LIMIT 1), 0);

/*
 * Raises an alert unless the job's state says so already; returns how many these are. An alert reports a change. Between two alerts
 * "recovered" of a job, which is an episode, there can be
 *
 *     failed      one: the first failure after a success, or ever; none after "crashed". After a job function's, which may be the fault
 *                 of its caller, another one for the first failure of run()
 *     crashed     one: also after "failed", since whatever kills backends is something else than an error
 *     overdue     one for each scheduled time
 *     restored    one: the database is a copy, in which the job does not run
 *     recovered   one, the last: a success after any of these, if it covers the scheduled times that were overdue
 *
 * The unique index sees to it that nothing is raised twice. That is needed: not everyone who raises holds the job's lock (the
 * watchdog, a run whose configuration cannot be read). The scheduled time stands in "more".
 */
CREATE FUNCTION challenge_jobs.raise_alert(job text, kind text, run_id bigint, more jsonb)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH raised AS (
    INSERT INTO challenge_jobs.alert (job, kind, episode, run_id, scheduled_for, raised_at, next_attempt_at, payload)
    SELECT raise_alert.job, raise_alert.kind, e.episode, raise_alert.run_id, m.scheduled_for, m.moment, m.moment,
           jsonb_build_object(
               'job', raise_alert.job, 'kind', raise_alert.kind, 'raised_at', challenge_jobs.iso_moment(m.moment), 'database', current_database(),
               'host', challenge_jobs.host_name(), 'port', current_setting('port')::integer,
               'cluster_name', NULLIF(current_setting('cluster_name'), ''), 'run_id', raise_alert.run_id,
               'previous_success', challenge_jobs.iso_moment(p.finished_at),
               'consecutive_failures',
               (SELECT count(*)
                  FROM (SELECT
                          FROM challenge_jobs.job_run f
                         WHERE f.job = raise_alert.job AND f.status IN ('failed', 'cancelled', 'crashed') AND NOT f.dry_run
                           AND - f.run_id < - COALESCE(p.run_id, 0)
                         ORDER BY - f.run_id
                         LIMIT 1000) c))
           || COALESCE((SELECT jsonb_build_object(
                                   'status', r.status, 'attempt', r.attempt, 'role_name', r.role_name, 'triggered_by', left(r.triggered_by, 4000),
                                   'started_at', challenge_jobs.iso_moment(r.started_at), 'finished_at', challenge_jobs.iso_moment(r.finished_at),
                                   'duration_seconds', date_part('epoch', r.duration), 'sqlstate', r.sqlstate, 'message', left(r.message, 4000),
                                   'detail', left(r.detail, 4000), 'hint', left(r.hint, 4000))
                          FROM challenge_jobs.job_run r
                         WHERE r.run_id = raise_alert.run_id), '{}')
           || more
      FROM (SELECT clock_timestamp(), (more ->> 'scheduled_for')::timestamptz) m(moment, scheduled_for)
     CROSS JOIN challenge_jobs.alert_episode(job) e(episode)
      LEFT JOIN LATERAL (
            SELECT s.run_id, s.finished_at
              FROM challenge_jobs.job_run s
             WHERE s.job = raise_alert.job AND challenge_jobs.run_covers(s) AND s.run_id IS DISTINCT FROM raise_alert.run_id
               AND s.as_of <= m.moment
             ORDER BY s.as_of DESC, s.run_id DESC
             LIMIT 1) p ON true
     WHERE NOT EXISTS (SELECT
                         FROM challenge_jobs.alert a
                        WHERE a.job = raise_alert.job AND a.kind = raise_alert.kind AND a.scheduled_for = m.scheduled_for)
       AND CASE WHEN kind IN ('failed', 'crashed')
                THEN NOT EXISTS (SELECT
                                   FROM challenge_jobs.alert a
                                  WHERE a.job = raise_alert.job
                                    AND a.episode = e.episode
                                    AND (a.kind = 'crashed'
                                         OR a.kind = 'failed' AND raise_alert.kind = 'failed'
                                            AND (a.payload ->> 'triggered_by' IS DISTINCT FROM 'function'
                                                 OR NOT EXISTS (SELECT
                                                                  FROM challenge_jobs.job_run r
                                                                 WHERE r.run_id = raise_alert.run_id AND r.triggered_by <> 'function'))))
                WHEN kind = 'recovered'
                THEN EXISTS (SELECT
                               FROM challenge_jobs.alert a
                              WHERE a.job = raise_alert.job AND a.episode = e.episode AND a.kind IN ('failed', 'crashed', 'overdue'))
                ELSE true END
        ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM raised;
END;

CREATE FUNCTION challenge_jobs.raise_overdue(job text, scheduled_for timestamptz)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
RETURN (SELECT challenge_jobs.raise_alert(job, 'overdue', NULL, jsonb_build_object(
                   'scheduled_for', m.moment, 'message', format('job "%s" was due at %s but no run covers it', job, m.moment),
                   'hint', format('Run: CALL challenge_jobs.run(%L);', job)))
          FROM to_char(scheduled_for AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') m(moment));

/* For a job that was scheduled where this database was copied from. */
CREATE FUNCTION challenge_jobs.raise_restored(job text)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
RETURN challenge_jobs.raise_alert(job, 'restored', NULL, jsonb_build_object(
           'message', format('this database is a copy: job "%s" was scheduled in another database, and does not run in this one', job),
           'hint', 'Run: SELECT * FROM challenge_jobs.resume();'));

/*
 * Raises the alert for how a run has ended, if that is a change. What changes nothing: dry runs, skipped runs, what a caller has
 * rolled back. A failure that is recorded late (a job function's, by another process: rows recorded by the process that ran are not late,
 * whatever the clock says) changes nothing if the job has succeeded since.
 */
CREATE FUNCTION challenge_jobs.note_run(run_id bigint)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
RETURN (SELECT challenge_jobs.raise_alert(r.job, CASE r.status WHEN 'succeeded' THEN 'recovered' WHEN 'crashed' THEN 'crashed' ELSE 'failed' END,
                                          r.run_id, '{}')
          FROM challenge_jobs.job_run r
         WHERE r.run_id = note_run.run_id
           AND NOT r.dry_run
           AND CASE WHEN r.status = 'succeeded'
                    THEN challenge_jobs.run_covers(r)
                         AND NOT EXISTS (SELECT
                                           FROM challenge_jobs.alert a
                                          WHERE a.job = r.job AND a.kind = 'overdue' AND a.episode = challenge_jobs.alert_episode(r.job)
                                            AND (a.scheduled_for > COALESCE(r.as_of, r.started_at) OR challenge_jobs.run_stands_in(r)))
                         AND NOT challenge_jobs.run_is_overtaken(r)
                    WHEN r.status IN ('failed', 'cancelled', 'crashed')
                    THEN r.pid = pg_backend_pid()
                         OR NOT EXISTS (SELECT
                                          FROM challenge_jobs.job_run s
                                         WHERE s.job = r.job AND challenge_jobs.run_covers(s) AND s.as_of >= r.as_of AND s.started_at >= r.started_at
                                           AND s.finished_at > r.finished_at)
                    ELSE false END);

/*
 * Raises the alerts for runs of job functions that were left for later. Of many successes in a row the last one is enough, so that whoever
 * calls a function again and again keeps nobody waiting.
 */
CREATE FUNCTION challenge_jobs.settle_runs()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH taken AS (
    DELETE FROM challenge_jobs.unsettled_run u
     WHERE u.run_id IN (SELECT o.run_id FROM challenge_jobs.unsettled_run o FOR UPDATE SKIP LOCKED)
    RETURNING u.run_id
), ended AS (
    SELECT r.run_id, r.status, r.as_of, lead(r.as_of) OVER w AS next_as_of, lead(challenge_jobs.run_covers(r)) OVER w AS next_covers
      FROM taken t
      JOIN challenge_jobs.job_run r ON r.run_id = t.run_id
    WINDOW w AS (PARTITION BY r.job ORDER BY r.run_id)
)
SELECT COALESCE(sum(challenge_jobs.note_run(e.run_id)), 0)::bigint
  FROM (SELECT n.run_id
          FROM ended n
         WHERE n.status <> 'succeeded' OR (n.next_covers AND n.next_as_of >= n.as_of) IS NOT TRUE
         ORDER BY n.run_id
        OFFSET 0) e;
END;

/*
 * Raises "recovered" for jobs whose scheduled time was overdue, and has been covered by a run that did not know: it was not to be seen
 * yet that the scheduled time was overdue when the run ended.
 */
CREATE FUNCTION challenge_jobs.settle_overdue()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH overdue AS (
    SELECT a.job, max(a.scheduled_for) AS scheduled_for
      FROM challenge_jobs.alert a
     WHERE a.kind = 'overdue'
       AND NOT EXISTS (SELECT
                         FROM challenge_jobs.alert n
                        WHERE n.job = a.job AND n.kind = 'recovered' AND n.episode = a.episode)
     GROUP BY a.job, a.episode
)
SELECT COALESCE(sum(challenge_jobs.raise_alert(o.job, 'recovered', s.run_id, '{}')), 0)::bigint
  FROM overdue o
 CROSS JOIN LATERAL (
        SELECT r.run_id, challenge_jobs.run_is_overtaken(r) AS is_overtaken
          FROM challenge_jobs.job_run r
         WHERE r.job = o.job AND challenge_jobs.run_covers(r) AND r.as_of >= o.scheduled_for AND r.started_at >= o.scheduled_for
           AND NOT challenge_jobs.run_stands_in(r)
         ORDER BY r.as_of DESC
         LIMIT 1) s
 WHERE NOT s.is_overtaken;
END;

/* Notifies of new alerts; returns what the server log is to say. */
CREATE FUNCTION challenge_jobs.announce_alerts()
RETURNS TABLE (message text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH announced AS (
    UPDATE challenge_jobs.alert a
       SET announced_at = clock_timestamp()
     WHERE a.alert_id IN (SELECT o.alert_id FROM challenge_jobs.alert o WHERE o.announced_at IS NULL FOR UPDATE SKIP LOCKED)
    RETURNING a.*
), notified AS MATERIALIZED (
    SELECT n.*, pg_notify('challenge_jobs_alert', jsonb_build_object('alert_id', n.alert_id, 'job', n.job, 'kind', n.kind)::text)
      FROM (SELECT * FROM announced ORDER BY alert_id) n
)
SELECT concat('alert ', n.alert_id, ', job "', n.job, '": ', n.kind, ', run ' || n.run_id, ', scheduled for ' || (n.payload ->> 'scheduled_for')),
       NULLIF(concat_ws(E'\n', n.payload ->> 'message', n.payload ->> 'detail'), ''), n.payload ->> 'hint'
  FROM notified n
 ORDER BY n.alert_id;
END;

/*
 * Claims the first alert after a number that is due, or with "every" the first that waits, for an attempt of so many milliseconds.
 * After six attempts, half an hour or so, an alert lets later ones of its job pass: it may be the alert itself that the command fails for.
 * A next attempt too far away was noted before the clock was set back.
 */
CREATE FUNCTION challenge_jobs.claim_alert(after bigint, every boolean, milliseconds integer)
RETURNS TABLE (alert_id bigint, attempts bigint, payload text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
UPDATE challenge_jobs.alert a
   SET attempts = a.attempts + 1,
       next_attempt_at = clock_timestamp() + milliseconds * interval '1 ms',
       last_error = 'attempt ' || a.attempts + 1 || ' was begun, and has not ended'
 WHERE a.alert_id = (SELECT c.alert_id
                       FROM challenge_jobs.alert c
                      WHERE c.next_attempt_at IS NOT NULL
                        AND c.alert_id > after
                        AND (every OR c.attempts = 0 OR c.next_attempt_at <= clock_timestamp()
                             OR c.next_attempt_at > clock_timestamp() + interval '1 day')
                        AND NOT EXISTS (SELECT
                                          FROM challenge_jobs.alert e
                                         WHERE e.job = c.job AND e.alert_id < c.alert_id AND e.next_attempt_at IS NOT NULL AND e.attempts < 6)
                      ORDER BY c.alert_id
                      LIMIT 1
                        FOR UPDATE SKIP LOCKED)
RETURNING a.alert_id, a.attempts::bigint, (a.payload || jsonb_build_object('alert_id', a.alert_id, 'delivery', a.attempts))::text;
END;

/*
 * Notes how an attempt has ended. After a failure it is a minute to the next one, doubling up to an hour, give or take a quarter: so that
 * many servers do not come back to a place that was down all at the same moment. Whoever was notified that a job has recovered is not notified
 * afterwards that it had failed: to open an incident then would be to leave it open. If the command works again, there is no reason for
 * others to wait.
 */
CREATE FUNCTION challenge_jobs.finish_alert(alert_id bigint, problem text)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
UPDATE challenge_jobs.alert a
   SET last_error = problem,
       next_attempt_at = clock_timestamp() + LEAST(interval '1 hour', interval '1 minute' * power(2, LEAST(a.attempts - 1, 10)))
                                             * (0.75 + 0.5 * random())
 WHERE problem IS NOT NULL AND a.alert_id = finish_alert.alert_id AND a.delivered_at IS NULL;
UPDATE challenge_jobs.alert a
   SET delivered_at = clock_timestamp(), next_attempt_at = NULL, last_error = NULL
 WHERE problem IS NULL AND a.alert_id = finish_alert.alert_id;
UPDATE challenge_jobs.alert e
   SET next_attempt_at = NULL, last_error = 'given up, as alert ' || a.alert_id || ' was delivered' || COALESCE(': ' || e.last_error, '')
  FROM challenge_jobs.alert a
 WHERE problem IS NULL AND a.alert_id = finish_alert.alert_id AND a.kind = 'recovered'
   AND e.job = a.job AND e.alert_id < a.alert_id AND e.next_attempt_at IS NOT NULL;
UPDATE challenge_jobs.alert e
   SET next_attempt_at = clock_timestamp()
  FROM challenge_jobs.alert a
 WHERE problem IS NULL AND a.alert_id = finish_alert.alert_id AND a.attempts > 1 AND e.next_attempt_at > clock_timestamp();
END;

CREATE FUNCTION challenge_jobs.give_up_alerts()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH given_up AS (
    UPDATE challenge_jobs.alert a
       SET next_attempt_at = NULL, last_error = 'given up' || COALESCE(': ' || a.last_error, '')
     WHERE a.next_attempt_at IS NOT NULL AND a.raised_at < clock_timestamp() - interval '7 days'
    RETURNING 1
)
SELECT count(*) FROM given_up;
END;

/* What is still to be delivered stays, and the alerts by which the state of a job is known: of each job the last "recovered" and all after it. */
CREATE FUNCTION challenge_jobs.remove_alerts(before timestamptz, n integer)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH removed AS (
    DELETE FROM challenge_jobs.alert a
     WHERE a.alert_id IN (SELECT o.alert_id
                            FROM challenge_jobs.alert o
                           WHERE o.raised_at < before
                             AND (o.next_attempt_at IS NULL OR o.raised_at < clock_timestamp() - interval '7 days')
                             AND EXISTS (SELECT
                                           FROM challenge_jobs.alert r
                                          WHERE r.job = o.job AND r.kind = 'recovered' AND r.alert_id > o.alert_id)
                           ORDER BY o.alert_id
                           LIMIT n
                             FOR UPDATE SKIP LOCKED)
    RETURNING 1
)
SELECT count(*) FROM removed;
END;

/* ---- is it running as it should? ----------------------------------------------------------- */

CREATE FUNCTION challenge_jobs.watchdog(at timestamptz DEFAULT pg_catalog.clock_timestamp())
RETURNS TABLE (job text, next_scheduled timestamptz, last_scheduled timestamptz, covered_until timestamptz,
               overdue boolean, missed timestamptz, action text, action_at timestamptz, scheduled_for timestamptz,
               attempt integer, reason text, running boolean, waits_for text)
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
           AND COALESCE(r.result ->> 'not_refreshed', '0') = '0'
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
           AND COALESCE(r.result ->> 'not_refreshed', '0') = '0'
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
           AND COALESCE(r.result ->> 'locked', '0') = '0' AND COALESCE(r.result ->> 'undecidable', '0') = '0'
           AND COALESCE(r.result ->> 'not_refreshed', '0') = '0' AND r.as_of IS NOT NULL
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

/*
 * What the doctor finds by statements, with the columns that findings have: run_as is the role that must run the remedy.
 * Here: the installation as such. "version" is that of the library.
 */
CREATE FUNCTION challenge_jobs.find_general(version text, is_preloaded boolean, has_command boolean)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text, advice text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH member AS (
    SELECT d.classid, d.objid
      FROM pg_depend d
      JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'challenge_jobs'
)
SELECT 'version', v.status, v.finding, v.remedy, v.run_as, NULL
  FROM pg_extension e
 CROSS JOIN LATERAL (
        SELECT 'ok', format('extension and library are %s', version), NULL, NULL WHERE e.extversion = version
         UNION ALL
        SELECT 'error', format('the extension is %s, the library %s', e.extversion, version), 'ALTER EXTENSION challenge_jobs UPDATE;', 'superuser'
         WHERE e.extversion <> version
       ) v(status, finding, remedy, run_as)
 WHERE e.extname = 'challenge_jobs'

UNION ALL
SELECT 'installation', h.status, h.finding, h.remedy, NULL, NULL
  FROM (SELECT) one
  LEFT JOIN (SELECT count(j.engine) AS scheduled FROM challenge_jobs.job j WHERE j.held = 'restored' HAVING count(*) > 0) r ON true
  LEFT JOIN challenge_jobs.pause p ON true
 CROSS JOIN LATERAL (
        SELECT CASE WHEN r.scheduled IS NOT NULL THEN 'error' WHEN p.paused_at IS NOT NULL THEN 'warning' ELSE 'ok' END,
               CASE WHEN r.scheduled IS NOT NULL
                    THEN format('this database is a copy: %s jobs were scheduled in the original, and nothing runs by itself', r.scheduled)
                    WHEN p.paused_at IS NOT NULL
                    THEN format('all jobs are paused since %s by %s%s', p.paused_at, p.role_name, ': ' || p.reason)
                    ELSE 'the jobs are not held back' END,
               CASE WHEN r.scheduled IS NOT NULL OR p.paused_at IS NOT NULL THEN 'SELECT * FROM challenge_jobs.resume();' END
       ) h(status, finding, remedy)

UNION ALL
SELECT 'read_only', 'warning', 'default_transaction_read_only is on: nothing runs, and nothing is recorded',
       format('ALTER DATABASE %I SET default_transaction_read_only = off;', current_database()), 'superuser', NULL
 WHERE current_setting('default_transaction_read_only')::boolean

/* The kind of which most was refused of late: at least 100 calls. */
UNION ALL
SELECT 'refusals', 'warning',
       format('%s calls of job "%s" by role "%s" have been refused: %s', f.calls, f.job, f.role_name, f.message),
       'SELECT * FROM challenge_jobs.refusal ORDER BY last_at DESC;', NULL, NULL
  FROM (SELECT *
          FROM challenge_jobs.refusal
         WHERE last_at > clock_timestamp() - interval '1 day' AND calls >= 100
         ORDER BY calls DESC
         LIMIT 1) f

UNION ALL
SELECT 'execute', CASE WHEN g.to_public THEN 'warning' ELSE 'ok' END,
       CASE WHEN g.to_public THEN 'functions of the extension may be executed by ' || g.names
            ELSE COALESCE('besides the owner, ' || g.names || ' may execute functions of the extension',
                          'nobody but the owner may execute functions of the extension') END,
       g.remedy, 'superuser', NULL
  FROM (SELECT string_agg(DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, ', '),
               bool_or(a.grantee = 0),
               string_agg(DISTINCT format('REVOKE ALL ON ROUTINE %s FROM PUBLIC;', p.oid::regprocedure), ' ') FILTER (WHERE a.grantee = 0)
          FROM member m
          JOIN pg_proc p ON p.oid = m.objid
         CROSS JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a
         WHERE m.classid = 'pg_proc'::regclass AND a.privilege_type = 'EXECUTE'
           /* the trigger function is for everybody: see below */
           AND p.proname <> 'capture_change'
           AND a.grantee <> p.proowner) g(names, to_public, remedy)

/* Whoever may write there has a say in what is done as the owner of the tables or of the extension. */
UNION ALL
SELECT 'tables', 'error',
       format('granted: %s on %s to %s; this gives the rights of the extension''s owner', string_agg(a.privilege_type, ', '), c.oid::regclass, g.name),
       format('REVOKE ALL ON %s FROM %s; GRANT SELECT ON %1$s TO %2$s;', c.oid::regclass, g.name), 'superuser', NULL
  FROM member m
  JOIN pg_class c ON c.oid = m.objid
 CROSS JOIN LATERAL aclexplode(c.relacl) a
 CROSS JOIN LATERAL (SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END) g(name)
 WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'r' AND a.privilege_type <> 'SELECT' AND a.grantee <> c.relowner
 GROUP BY c.oid, g.name

UNION ALL
SELECT 'runs', 'warning',
       format('%s runs are "running" without a backend; the worker, or the next run of the job, marks them as crashed', count(*)),
       format('CALL challenge_jobs.run(%L);', min(r.job)), NULL, NULL
  FROM challenge_jobs.job_run r
 WHERE r.status = 'running' AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = r.pid AND a.backend_start <= r.started_at)
HAVING count(*) > 0

UNION ALL
SELECT 'change_log', 'warning', 'more than a million changes of tracked views wait for a refresh',
       'CALL challenge_jobs.run(''refresh_challenge_stats'');', NULL, NULL
 WHERE EXISTS (SELECT FROM challenge_jobs.change_log OFFSET 1000000)

UNION ALL
SELECT 'preload', 'ok', 'the library is in shared_preload_libraries', NULL, NULL, NULL WHERE is_preloaded
UNION ALL
SELECT 'preload', 'warning',
       'the library is not in shared_preload_libraries: job functions that fail or are rolled back leave no row in job_run', NULL, NULL,
       'Add challenge_jobs to shared_preload_libraries in postgresql.conf, and restart the server.'
 WHERE NOT is_preloaded

/* Alerts that wait although they could have been delivered; the last of those that were tried. */
UNION ALL
SELECT 'alerts', CASE WHEN a.tried + a.waiting > 0 THEN 'warning' ELSE 'ok' END,
       CASE WHEN NOT has_command
            THEN 'challenge_jobs.alert_command is not set: alerts go to challenge_jobs.alert, the server log and NOTIFY only'
            WHEN a.tried > 0 THEN format('%s alerts could not be delivered yet; the last one: %s', a.tried, a.last_error)
            WHEN a.waiting > 0 THEN format('%s alerts wait, and nothing delivers them', a.waiting)
            ELSE 'challenge_jobs.alert_command is set, and no alert waits for it' END,
       CASE WHEN a.tried = 0 AND a.waiting > 0 THEN 'CALL challenge_jobs.deliver_alerts();' END, 'superuser',
       CASE WHEN a.tried > 0
            THEN 'Mend challenge_jobs.alert_command, then run as a superuser: CALL challenge_jobs.deliver_alerts();' END
  FROM (SELECT count(*) FILTER (WHERE l.attempts = 0), count(*) FILTER (WHERE l.attempts > 0),
               (array_agg(l.last_error ORDER BY l.alert_id DESC) FILTER (WHERE l.attempts > 0))[1]
          FROM challenge_jobs.alert l
         WHERE has_command AND l.next_attempt_at IS NOT NULL
           AND (l.attempts > 0 OR l.raised_at < clock_timestamp() - interval '10 minutes')) a(waiting, tried, last_error);
END;

/* A job: functions that stand in the way of its job function, and, if it is enabled, its state. */
CREATE FUNCTION challenge_jobs.find_of_job(job text)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
SELECT 'function:' || p.proname, 'warning', 'another function has that name: calls may be ambiguous, or never reach the job function',
       format('DROP %s %s;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure), NULL
  FROM pg_proc p
 WHERE p.proname = find_of_job.job::name
   AND p.prokind IN ('f', 'p')
   AND NOT EXISTS (SELECT
                     FROM pg_depend d
                     JOIN pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
                      AND e.extname = 'challenge_jobs')

UNION ALL
SELECT 'state:' || s.job, f.status, f.finding, format(f.remedy, s.job), NULL
  FROM challenge_jobs.job j
  JOIN challenge_jobs.job_status s ON s.job = j.job
  JOIN challenge_jobs.watchdog() w ON w.job = j.job
 CROSS JOIN LATERAL (
        VALUES (s.state = 'failing', 'error',
                format('failing: %s runs in a row did not succeed; message of the last one: %s', s.consecutive_failures,
                       COALESCE(s.last_message, 'nothing')),
                'SELECT * FROM challenge_jobs.job_run WHERE job = %L ORDER BY run_id DESC LIMIT 5;'),
               (w.overdue, 'error', 'overdue: no run covers the scheduled time ' || COALESCE(w.missed::text, 'its schedule'),
                'CALL challenge_jobs.run(%L);'),
               (w.covered_until > clock_timestamp() + interval '1 minute', 'warning',
                format('the last successful run has an as_of of %s, in the future: the clock was set back, and until then nothing is overdue',
                       w.covered_until),
                'UPDATE challenge_jobs.job_run SET as_of = now() WHERE job = %L AND as_of > now();')
       ) f(is_so, status, finding, remedy)
 WHERE j.job = find_of_job.job AND j.enabled AND f.is_so;
END;

/*
 * Is there an index that begins with a column, or with another one and then that; a unique one on it alone; or one that can be
 * scanned from value to value, at least of the values that are not null?
 */
CREATE FUNCTION challenge_jobs.has_index(relation oid, first smallint, second smallint, is_unique boolean, is_ordered boolean, ignores_nulls boolean)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN EXISTS (SELECT
                 FROM pg_index i
                 JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_am m ON m.oid = c.relam
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = second
                WHERE i.indrelid = relation
                  AND i.indisvalid
                  AND (i.indkey[0] = second OR i.indkey[0] = first AND i.indkey[1] = second)
                  AND (NOT is_unique OR i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1)
                  /* ascending with nulls last, or the reverse */
                  AND (NOT is_ordered OR m.amname = 'btree' AND i.indoption[0] IN (0, 3) AND i.indcollation[0] = a.attcollation
                       AND (i.indpred IS NULL
                            OR ignores_nulls AND pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname))));

/* Columns of notifications that nobody would fill in. */
CREATE FUNCTION challenge_jobs.find_unfilled(relation oid, filled smallint[], name text)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT 'columns:notifications', 'warning',
       format('columns of %s are NOT NULL without a default, and no job fills them in: %s', name,
              string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)),
       format('ALTER TABLE %s ALTER COLUMN <column> SET DEFAULT <value>;', name), NULL
  FROM pg_attribute a
 WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
   AND NOT (a.attnum = ANY (filled))
HAVING count(*) > 0;
END;

/*
 * Tables of others that are changed along with a table by what foreign keys do, however many of them come one after the other:
 * if its rows are deleted, or else if a column of it, or any where that is null, is changed. Superusers can have anything run anyway.
 */
CREATE FUNCTION challenge_jobs.find_cascades(relation oid, owner oid, deletes boolean, written smallint, name text, owner_name text)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
WITH RECURSIVE changed(oid, deletes, written) AS (
    SELECT relation, deletes, written
     UNION
    SELECT x.*
      FROM changed c
     CROSS JOIN LATERAL (
           SELECT i.inhrelid, c.deletes, c.written FROM pg_inherits i WHERE i.inhparent = c.oid
            UNION ALL
           SELECT f.conrelid, c.deletes AND f.confdeltype = 'c', NULL
             FROM pg_constraint f
            WHERE f.contype = 'f'
              AND f.confrelid = c.oid
              AND CASE WHEN c.deletes THEN f.confdeltype IN ('c', 'n', 'd')
                       ELSE f.confupdtype IN ('c', 'n', 'd') AND COALESCE(c.written = ANY (f.confkey), true) END
           ) x)
SELECT DISTINCT 'cascade:' || t.name, 'warning',
       format('%s of "%s" changes along with %s through foreign keys, so its triggers can run with the rights of "%s"', t.name, o.rolname,
              find_cascades.name, owner_name),
       format('ALTER TABLE %s OWNER TO %I;', t.name, owner_name), 'superuser'
  FROM changed c
  JOIN pg_class r ON r.oid = c.oid AND NOT r.relispartition
  JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_roles o ON o.oid = r.relowner
 CROSS JOIN LATERAL format('%I.%I', n.nspname, r.relname) t(name)
 WHERE c.oid <> relation AND r.relowner <> owner AND NOT o.rolsuper
 ORDER BY 1;
END;

/* Partitions of the notifications that their owner may not delete from; foreign keys to them that forbid deletion, or make it slow. */
CREATE FUNCTION challenge_jobs.find_of_cleanup(relation oid, owner oid, name text)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
WITH RECURSIVE part(oid) AS (
    SELECT relation
     UNION
    SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
), reference AS (
    SELECT format('%I.%I', n.nspname, c.relname) AS referrer, quote_ident(f.conname) AS key,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.position)
              FROM unnest(f.conkey) WITH ORDINALITY AS k(number, position)
              JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number) AS columns,
           regexp_replace(pg_get_constraintdef(f.oid), ' (ON DELETE|DEFERRABLE|NOT VALID|NOT ENFORCED).*$', '') AS definition,
           f.confdeltype IN ('a', 'r') AS forbids,
           EXISTS (SELECT
                     FROM pg_index i
                    WHERE i.indrelid = f.conrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = ANY (f.conkey)) AS has_index,
           CASE c.relkind WHEN 'p' THEN '' ELSE 'CONCURRENTLY ' END AS concurrently
      FROM pg_constraint f
      JOIN part p ON p.oid = f.confrelid
      JOIN pg_class c ON c.oid = f.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE f.contype = 'f' AND f.conparentid = 0
)
(SELECT format('reference:%s(%s)', r.referrer, r.columns), 'warning', f.finding, f.remedy, NULL
   FROM reference r
  CROSS JOIN LATERAL (
         VALUES (1, r.forbids, format('foreign key %s of %s prevents the deletion of notifications that are referred to', r.key, r.referrer),
                 format('ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %2$s %3$s ON DELETE <action>;', r.referrer, r.key, r.definition)),
                (2, NOT r.has_index,
                 format('%s has no index that begins with %s: the whole table is read for each deleted notification', r.referrer, r.columns),
                 format('CREATE INDEX %sON %s (%s);', r.concurrently, r.referrer, r.columns))
        ) f(position, is_so, finding, remedy)
  WHERE f.is_so
  ORDER BY r.referrer, r.key, f.position)

UNION ALL
SELECT 'privileges:notifications', 'error',
       format('the owner of %s may not delete from its partition %s', find_of_cleanup.name, p.oid::regclass),
       format('GRANT SELECT, UPDATE, DELETE ON %s TO %s;', p.oid::regclass, owner::regrole), NULL
  FROM part p
  JOIN pg_class c ON c.oid = p.oid
 WHERE c.relkind <> 'p'
   AND NOT (has_table_privilege(owner, p.oid, 'SELECT') AND has_table_privilege(owner, p.oid, 'UPDATE') AND has_table_privilege(owner, p.oid, 'DELETE'));
END;

/* An index that notifications have not, without which what is kept longer is read each night. */
CREATE FUNCTION challenge_jobs.find_unindexed(relation oid, name text, columns smallint[], condition text)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT format('index:retention(%s%s)', k.names, CASE WHEN condition IS NOT NULL THEN ', read' END), 'warning',
       format('%s has no index on %s%s: what the settings keep longer is read by each run', find_unindexed.name, k.names,
              CASE WHEN condition IS NOT NULL THEN ' of what is read' END),
       format('CREATE INDEX %sON %s (%s)%s;', CASE c.relkind WHEN 'p' THEN '' ELSE 'CONCURRENTLY ' END, find_unindexed.name, k.names,
              ' WHERE ' || condition),
       pg_get_userbyid(c.relowner)
  FROM pg_class c
 CROSS JOIN LATERAL (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.position)
                       FROM unnest(columns) WITH ORDINALITY AS u(number, position)
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number) k(names)
 WHERE c.oid = relation
   AND NOT EXISTS (SELECT
                     FROM pg_index i
                     JOIN pg_class x ON x.oid = i.indexrelid
                     JOIN pg_am m ON m.oid = x.relam
                    WHERE i.indrelid = relation AND m.amname = 'btree' AND i.indisvalid
                      AND (i.indkey::smallint[])[0 : cardinality(columns) - 1] = columns
                      AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM condition);
END;

/*
 * What a materialized view may not read completely. A relation is read as the owner of the view that names it, who need not be
 * the owner of the materialized view; of functions nothing is known.
 */
CREATE FUNCTION challenge_jobs.find_unreadable(view oid, view_name text)
RETURNS TABLE (check_name text, status text, finding text, remedy text, run_as text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
WITH RECURSIVE named(view, object) AS (
    SELECT w.ev_class, d.refobjid
      FROM pg_rewrite w
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
     WHERE w.ev_type = '1'
), reads(view, reader, object) AS (
    SELECT v.oid, v.relowner, n.object
      FROM pg_class v
      JOIN named n ON n.view = v.oid
     WHERE v.oid = find_unreadable.view
     UNION
    SELECT v.oid,
           CASE WHEN EXISTS (SELECT
                               FROM pg_options_to_table(v.reloptions) o
                              WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
                THEN s.reader ELSE v.relowner END,
           n.object
      FROM reads s
      JOIN pg_class v ON v.oid = s.object AND v.relkind = 'v'
      JOIN named n ON n.view = v.oid
), source AS (
    SELECT DISTINCT s.reader, c.oid, c.relforcerowsecurity AS is_forced, pg_has_role(s.reader, c.relowner, 'USAGE') AS is_own,
           format('%I.%I', n.nspname, c.relname) AS name, format('%I', a.rolname) AS reader_name, format('%I', pg_get_userbyid(c.relowner)) AS owner_name,
           format('%s %I.%I', CASE v.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, vn.nspname, v.relname) AS reading_view,
           c.relrowsecurity AND NOT a.rolsuper AND NOT a.rolbypassrls AS has_policies,
           has_any_column_privilege(s.reader, c.oid, 'SELECT') AS may_read
      FROM reads s
      JOIN pg_class c ON c.oid = s.object AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_class v ON v.oid = s.view
      JOIN pg_namespace vn ON vn.oid = v.relnamespace
      JOIN pg_roles a ON a.oid = s.reader
)
SELECT 'refresh:' || view_name, 'error',
       format(CASE WHEN s.may_read THEN 'row-level security hides rows of %s from %s, the role that %s reads it as'
                   ELSE '%s may not be read by %s, the role that %s reads it as' END, s.name, s.reader_name, view_name),
       CASE WHEN NOT s.may_read THEN format('GRANT SELECT ON %s TO %s;', s.name, s.reader_name)
            WHEN s.is_own THEN format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', s.name)
            ELSE format('ALTER %s OWNER TO %s;', s.reading_view, s.owner_name) END, NULL
  FROM source s
 WHERE NOT s.may_read
    OR s.has_policies AND (s.is_forced OR NOT s.is_own)
 ORDER BY s.name, s.reader_name, 4;
END;

/* ---- what the jobs have to know of the catalogs ------------------------------------------------ */

/*
 * The schemas of the operators of a view, as the end of a search_path, and one that is not to be trusted: in which somebody but
 * a superuser or the owner of the view can create anything.
 */
CREATE FUNCTION challenge_jobs.operator_schemas(view oid, owner oid, OUT path text, OUT open_schema text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
WITH schema AS (
    SELECT DISTINCT n.oid, n.nspname, n.nspacl, n.nspowner,
           CASE WHEN pg_get_userbyid(n.nspowner) = 'pg_database_owner' THEN b.datdba ELSE n.nspowner END AS role
      FROM pg_rewrite w
      JOIN pg_depend d ON d.objid = w.oid
      JOIN pg_operator o ON o.oid = d.refobjid
      JOIN pg_namespace n ON n.oid = o.oprnamespace
      JOIN pg_database b ON b.datname = current_database()
     WHERE w.ev_class = view AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_operator'::regclass AND n.nspname <> 'pg_catalog'
), creator AS (
    SELECT s.oid, s.role FROM schema s
     UNION
    SELECT s.oid, a.grantee
      FROM schema s
     CROSS JOIN LATERAL aclexplode(s.nspacl) a
     WHERE a.privilege_type = 'CREATE' AND a.grantee <> s.nspowner
)
SELECT COALESCE((SELECT string_agg(', ' || quote_ident(s.nspname), '' ORDER BY s.nspname) FROM schema s), ''),
       (SELECT min(quote_ident(s.nspname))
          FROM schema s
          JOIN creator c ON c.oid = s.oid
          LEFT JOIN pg_roles r ON r.oid = c.role
         WHERE c.role <> operator_schemas.owner AND NOT COALESCE(r.rolsuper, false));
END;

/* Deferrable constraints of a table, those that refer to it, and those that its triggers may run into: of the same owner. */
CREATE FUNCTION challenge_jobs.deferrable_constraints(relation oid, owner oid)
RETURNS TABLE (name text, schema oid)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT DISTINCT format('%I.%I', n.nspname, c.conname), n.oid
  FROM pg_constraint c
  JOIN pg_namespace n ON n.oid = c.connamespace
  JOIN pg_class r ON r.oid = c.conrelid
 WHERE c.condeferrable
   AND (relation IN (c.conrelid, c.confrelid)
        OR c.conrelid IN (SELECT p.relid FROM pg_partition_tree(relation) p)
        OR c.confrelid IN (SELECT p.relid FROM pg_partition_tree(relation) p)
        OR r.relowner = owner);
END;

/*
 * How many rows have ever been written to some tables. The counters begin anew after a crash of the server, or when somebody
 * resets them: then they could come to the same number again, so the times at which they did begin belong to them. So do the
 * tables with all their parts and the files they are in: what comes with a part that is attached, or is changed as a table is
 * rewritten, is not counted. Null where rows are written elsewhere, or where a session may have committed rows that are not
 * counted yet: it hands in its counters when it is idle, a second after at most, but never while a statement or a transaction
 * goes on.
 */
CREATE FUNCTION challenge_jobs.rows_written(tables oid[])
RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH RECURSIVE t(oid) AS (
    SELECT u.oid FROM unnest(tables) AS u(oid)
     UNION
    SELECT i.inhrelid FROM t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT concat_ws(' ',
           sum(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid)
               + pg_stat_get_xact_tuples_inserted(c.oid) + pg_stat_get_xact_tuples_updated(c.oid)),
           EXTRACT(epoch FROM pg_stat_get_bgwriter_stat_reset_time()),
           EXTRACT(epoch FROM pg_stat_get_db_stat_reset_time(min(b.oid))),
           string_agg(c.oid || ':' || c.relfilenode, ',' ORDER BY c.oid))
  FROM t
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_database b ON b.datname = current_database()
HAVING bool_and(c.relkind IN ('r', 'p'))
   AND NOT EXISTS (SELECT
                     FROM pg_stat_activity a
                    WHERE a.datname = current_database()
                      AND a.pid <> pg_backend_pid()
                      AND (a.state = 'disabled' OR COALESCE(a.state, a.backend_type) IS NULL
                           OR a.state <> 'idle'
                              AND a.backend_type NOT IN ('autovacuum worker', 'parallel worker', 'walsender')
                              AND LEAST(a.xact_start, a.state_change) < clock_timestamp() - interval '10 seconds'));
END;

/* ---- history that goes --------------------------------------------------------------------- */

/* What the state of a job is known by is never removed: the last runs, and those as of the latest moments. */
CREATE FUNCTION challenge_jobs.lasting_runs(job text)
RETURNS SETOF bigint
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
(SELECT r.run_id
   FROM challenge_jobs.job_run r
  WHERE r.job = lasting_runs.job AND challenge_jobs.run_covers(r) AND r.as_of IS NOT NULL
  ORDER BY r.as_of DESC, r.run_id DESC
  LIMIT 1)
UNION ALL
(SELECT r.run_id
   FROM challenge_jobs.job_run r
  WHERE r.job = lasting_runs.job AND r.status IN ('failed', 'cancelled', 'crashed') AND NOT r.dry_run
  ORDER BY - r.run_id
  LIMIT 1)
UNION ALL
(SELECT r.run_id
   FROM challenge_jobs.job_run r
  WHERE r.job = lasting_runs.job AND r.status IN ('failed', 'cancelled', 'crashed') AND NOT r.dry_run AND r.as_of IS NOT NULL
  ORDER BY r.as_of DESC
  LIMIT 1);
END;

/*
 * The runs of a job that have ended, by whether they went well and whether they count: what is dry, skipped or rolled back says
 * nothing about the job, and has a bound of its own, as whoever may call can add as much of it as he likes.
 */
CREATE FUNCTION challenge_jobs.runs_of_kind(job text, went_well boolean, counts boolean)
RETURNS SETOF challenge_jobs.job_run
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT r.*
  FROM challenge_jobs.job_run r
 WHERE r.job = runs_of_kind.job
   AND r.status <> 'running'
   AND (r.status IN ('succeeded', 'skipped')) = went_well
   AND (NOT r.dry_run AND r.status NOT IN ('skipped', 'rolled_back')) = counts;
END;

/* Those that go: which are older than a bound, or not newer than the newest of those that are too many. */
CREATE FUNCTION challenge_jobs.runs_that_go(job text, went_well boolean, counts boolean, before timestamptz, surplus_started_at timestamptz, surplus_run_id bigint)
RETURNS SETOF challenge_jobs.job_run
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT r.*
  FROM challenge_jobs.runs_of_kind(runs_that_go.job, went_well, counts) r
 WHERE r.started_at <= GREATEST(before, surplus_started_at)
   AND (r.finished_at < before OR (r.started_at, r.run_id) <= (surplus_started_at, surplus_run_id))
   AND r.run_id <> ALL (ARRAY(SELECT challenge_jobs.lasting_runs(runs_that_go.job)));
END;

/*
 * Removes a page of these, and returns how many it has, how many are gone, and its last run, where the next page begins. If they
 * have more decisions than that, some of these are removed, and the page is to be removed once more. What others have locked stays.
 */
CREATE FUNCTION challenge_jobs.remove_runs(job text, went_well boolean, counts boolean, before timestamptz, surplus_started_at timestamptz, surplus_run_id bigint,
    after_started_at timestamptz, after_run_id bigint, n integer, OUT found bigint, OUT removed bigint, OUT last_started_at timestamptz, OUT last_run_id bigint)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH page AS MATERIALIZED (
    SELECT r.run_id, r.started_at
      FROM challenge_jobs.runs_that_go(remove_runs.job, went_well, counts, before, surplus_started_at, surplus_run_id) r
     WHERE (r.started_at, r.run_id) > (after_started_at, after_run_id)
     ORDER BY r.started_at, r.run_id
     LIMIT n
), locked AS MATERIALIZED (
    SELECT r.run_id
      FROM challenge_jobs.job_run r
     WHERE r.run_id IN (SELECT p.run_id FROM page p) AND r.status <> 'running'
       FOR UPDATE SKIP LOCKED
), decided AS MATERIALIZED (
    SELECT d.run_id, d.challenge_key FROM challenge_jobs.decision d WHERE d.run_id IN (SELECT l.run_id FROM locked l) LIMIT n
), decision AS (
    DELETE FROM challenge_jobs.decision d
     USING decided o
     WHERE d.run_id = o.run_id AND d.challenge_key = o.challenge_key
), free AS MATERIALIZED (
    SELECT l.run_id FROM locked l WHERE (SELECT count(*) FROM decided) < n
), unsettled AS (
    DELETE FROM challenge_jobs.unsettled_run u WHERE u.run_id IN (SELECT f.run_id FROM free f)
), gone AS (
    DELETE FROM challenge_jobs.job_run r WHERE r.run_id IN (SELECT f.run_id FROM free f)
    RETURNING r.run_id
), result AS (
    SELECT (SELECT count(*) FROM decided) = n AS is_partial
)
SELECT CASE WHEN s.is_partial THEN n ELSE (SELECT count(*) FROM page) END, (SELECT count(*) FROM gone),
       CASE WHEN s.is_partial THEN after_started_at ELSE l.started_at END, CASE WHEN s.is_partial THEN after_run_id ELSE l.run_id END
  FROM result s
  LEFT JOIN (SELECT p.started_at, p.run_id FROM page p ORDER BY p.started_at DESC, p.run_id DESC LIMIT 1) l ON true;
END;

/* Removes reminders of the ledger that come after a row; returns how many, and the last of them. */
CREATE FUNCTION challenge_jobs.remove_reminders(before timestamptz, n integer, after_date date, after_key text, OUT removed bigint, OUT last_date date, OUT last_key text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH page AS (
    SELECT r.local_date, r.user_key
      FROM challenge_jobs.reminder r
     WHERE r.local_date < (before AT TIME ZONE 'UTC')::date
       AND r.reminded_at < before
       AND (r.local_date, r.user_key) > (after_date, after_key)
     ORDER BY r.local_date, r.user_key
     LIMIT n
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM challenge_jobs.reminder r
     USING page p
     WHERE r.local_date = p.local_date AND r.user_key = p.user_key
)
SELECT count(*) OVER (), p.local_date, p.user_key
  FROM page p
 ORDER BY p.local_date DESC, p.user_key DESC
 LIMIT 1;
END;

/* ---- who has been reminded ------------------------------------------------------------------- */

/* The positions of users, by their keys, who are not in the ledger for a date. Users with the same key are one. */
CREATE FUNCTION challenge_jobs.missing_reminders(user_keys text[], on_date date)
RETURNS SETOF bigint
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT min(u.position)
  FROM unnest(user_keys) WITH ORDINALITY AS u(key, position)
 WHERE NOT EXISTS (SELECT FROM challenge_jobs.reminder r WHERE r.local_date = on_date AND r.user_key = u.key COLLATE "C")
 GROUP BY u.key
 ORDER BY 1;
END;

/* The same, and enters them, in their order. */
CREATE FUNCTION challenge_jobs.enter_reminders(user_keys text[], on_date date)
RETURNS SETOF bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH entered AS (
    INSERT INTO challenge_jobs.reminder (user_key, local_date)
    SELECT u.key, on_date
      FROM unnest(user_keys) WITH ORDINALITY AS u(key, position)
     ORDER BY u.position
        ON CONFLICT (local_date, user_key) DO NOTHING
    RETURNING user_key
)
SELECT min(u.position)
  FROM unnest(user_keys) WITH ORDINALITY AS u(key, position)
  JOIN entered e ON e.user_key = u.key COLLATE "C"
 GROUP BY u.key
 ORDER BY 1;
END;

/*
 * The positions of zones that are noted as done, and whether nothing has changed since. What was examined a moment ago may have
 * changed without a trace, since the counters in the state come some seconds late. (Zones are compared in a way that can be
 * hashed, which IS NOT DISTINCT FROM cannot be.)
 */
CREATE FUNCTION challenge_jobs.noted_zones(time_zones text[], local_dates date[], reminder_times time[], state bigint)
RETURNS TABLE ("position" bigint, is_current boolean)
LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
SELECT z.position, n.state_hash = state AND n.examined_at < clock_timestamp() - interval '15 seconds'
  FROM unnest(time_zones, local_dates, reminder_times) WITH ORDINALITY AS z(time_zone, local_date, reminder_time, position)
  JOIN challenge_jobs.reminder_zone n
    ON n.local_date = z.local_date
   AND COALESCE(n.time_zone, '') = COALESCE(z.time_zone, '')
   AND (n.time_zone IS NULL) = (z.time_zone IS NULL)
   AND COALESCE(n.reminder_time, '0:00') = COALESCE(z.reminder_time, '0:00')
   AND (n.reminder_time IS NULL) = (z.reminder_time IS NULL);
END;

/* Notes zones as done. */
CREATE FUNCTION challenge_jobs.note_zones(time_zones text[], local_dates date[], reminder_times time[], state bigint)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
INSERT INTO challenge_jobs.reminder_zone (time_zone, local_date, reminder_time, state_hash, examined_at)
SELECT z.*, state, clock_timestamp()
  FROM unnest(time_zones, local_dates, reminder_times) AS z(time_zone, local_date, reminder_time)
 GROUP BY 1, 2, 3
    ON CONFLICT (local_date, time_zone, reminder_time) DO UPDATE
   SET state_hash = excluded.state_hash, examined_at = excluded.examined_at;
END;

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

/* A text of the database as text of a page; every one that stands in the report comes through here. */
CREATE FUNCTION challenge_jobs.html_text(characters text)
RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cj_api_html_text';

CREATE FUNCTION challenge_jobs.scheduled_times(schedule text, after timestamptz, n integer)
RETURNS SETOF timestamptz
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 3
AS 'MODULE_PATHNAME', 'cj_api_scheduled_times';

CREATE FUNCTION challenge_jobs.report_moment(moment timestamp, pattern text DEFAULT 'YYYY-MM-DD HH24:MI')
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN isfinite(moment)
            THEN format('<time datetime="%s">%s</time>', to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), to_char(moment, pattern))
            ELSE 'never' END;

/* Two units at most: 4.2 ms, 420 ms, 3.5 s, 4 min 12 s, 3 h 20 min, 2 d 4 h. Where rounding gives 1000 ms or 60 s, the next unit begins. */
CREATE FUNCTION challenge_jobs.report_duration(seconds numeric)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT CASE WHEN seconds < 0 THEN '-' ELSE '' END
               || CASE WHEN e.exact < 59.5
                       THEN format('%s %s', CASE WHEN d.number >= 9.95 THEN round(d.number) ELSE trim_scale(round(d.number, 1)) END, d.unit)
                       ELSE format('%s %s', div(w.number, w.per), w.large)
                            || CASE WHEN w.number % w.per > 0 THEN format(' %s %s', w.number % w.per, w.small) ELSE '' END END
          FROM (SELECT abs(seconds), round(abs(seconds))) e(exact, whole)
         CROSS JOIN LATERAL (SELECT CASE WHEN e.exact < 0.9995 THEN e.exact * 1000 ELSE e.exact END,
                                    CASE WHEN e.exact < 0.9995 THEN 'ms' ELSE 's' END) d(number, unit)
         CROSS JOIN LATERAL (VALUES (3600, e.whole, 60, 'min', 's'), (86400, div(e.whole, 60), 60, 'h', 'min'),
                                    ('infinity'::numeric, div(e.whole, 3600), 24, 'd', 'h')) w(below, number, per, large, small)
         WHERE e.whole < w.below
         ORDER BY w.below
         LIMIT 1);

/* 1,234,567, with a unit: 1 run, 2 runs */
CREATE FUNCTION challenge_jobs.report_count(number numeric, unit text DEFAULT NULL)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_char(number, 'FM9,999,999,999,999,999,990')
       || CASE WHEN unit IS NULL THEN '' WHEN number = 1 THEN ' ' || unit ELSE format(' %ss', unit) END;

/* A text that may not be there, between a beginning and an end; NULL if it is not, or is empty. */
CREATE FUNCTION challenge_jobs.report_text(beginning text, characters text, ending text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN beginning || challenge_jobs.html_text(NULLIF(characters, '')) || ending;

/* The end of a list that is not complete. */
CREATE FUNCTION challenge_jobs.report_rest(more numeric, place text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN more > 0 THEN format(E'<li class="rest">%s more, in <code>%s</code></li>\n', challenge_jobs.report_count(more), place) END;

/* The axis of time below a drawing: ticks, and their texts. Every other text is left out on small screens. */
CREATE FUNCTION challenge_jobs.report_axis(since timestamp, until timestamp, top integer, bottom integer)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (WITH step(seconds) AS (
            SELECT COALESCE(min(s.seconds) FILTER (WHERE s.seconds >= floor(EXTRACT(epoch FROM until - since) / 8) + 1), max(s.seconds))
              FROM unnest('{1 min,5 min,15 min,30 min,1 hour,3 hours,6 hours,12 hours,1 day,2 days,7 days,14 days,30 days,91 days,365 days,'
                          '1461 days,5844 days}'::interval[]) i(length)
             CROSS JOIN LATERAL EXTRACT(epoch FROM i.length) s(seconds)
        ), tick AS (
            SELECT s.seconds, t.moment, row_number() OVER (ORDER BY t.moment) AS number,
                   round(100 * EXTRACT(epoch FROM t.moment - since) / EXTRACT(epoch FROM until - since), 2) AS x
              FROM step s
             CROSS JOIN LATERAL make_interval(secs => s.seconds) i(length)
             CROSS JOIN LATERAL generate_series(date_bin(i.length, since, '2000-01-01'), until, i.length) t(moment)
             WHERE t.moment > since AND t.moment < until
        )
        SELECT format(E'<g class="axis">%s</g>\n', string_agg(
                   format('<line x1="%s%%" x2="%1$s%%" y1="%s" y2="%s"/>', t.x, top, bottom + 5)
                   || CASE WHEN t.x < 92
                           THEN format('<text x="%s%%" dx="4" y="%s"%s>%s</text>', t.x, bottom + 15,
                                       CASE WHEN t.number % 2 = 0 THEN ' class="alternate"' END,
                                       to_char(t.moment, CASE WHEN t.seconds >= 91 * 86400 THEN 'Mon YYYY'
                                                              WHEN t.moment = date_trunc('day', t.moment) THEN 'FMDD Mon' ELSE 'HH24:MI' END))
                           ELSE '' END, '' ORDER BY t.moment))
          FROM tick t);

/*
 * How it looks. Colours are named by what they stand for, once for light and once for dark; all that is text has a contrast of 4.5
 * to 1 at least on what it stands on.
 */
CREATE FUNCTION challenge_jobs.report_style()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(replace($style$
:root{color-scheme:light dark;{light}}
@media (prefers-color-scheme:dark){:root{{dark}}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif}
header,main,footer{max-width:68rem;margin:0 auto;padding:0 1.5rem}
header{padding-top:3rem}
h1,h2,h3,p,ul,dl,dd,figure,pre{margin:0;padding:0}
h1{font-size:2.25rem;line-height:1.15;letter-spacing:-.022em;font-weight:650;text-wrap:balance}
h1 .sign{width:1.1em;height:1.1em;vertical-align:-.16em;margin:0 .3em 0 -.15em}
h2{font-size:1.25rem;line-height:1.3;letter-spacing:-.01em;font-weight:650}
h3{font-size:1rem;font-weight:600;line-height:1.4}
code,.name,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;
font-size:.9em}
.name,.message,.where,code,pre,dd{overflow-wrap:anywhere}
time,.figure,td,.number{font-variant-numeric:tabular-nums}
.kicker{color:var(--soft);font-size:.875rem;margin-bottom:.75rem}
.period{color:var(--soft);margin-top:.6rem}
section{margin-top:3.5rem}
section>p{color:var(--soft);max-width:44rem;margin-top:.25rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.25rem 1.5rem}
.nothing{color:var(--soft)}
section>.card{margin-top:1.25rem}

/* the figures at the top */
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:12px;overflow:hidden;margin-top:2rem;list-style:none}
.figures li{background:var(--card);padding:1rem 1.5rem}
.figure{display:block;font-size:1.75rem;line-height:1.2;font-weight:600;letter-spacing:-.02em}
.figure+span{color:var(--soft);font-size:.875rem}

/* signs: a shape, a colour and a word */
.shapes{position:absolute}
.sign{flex:none;vertical-align:-2px;overflow:visible}
.full{fill:currentColor}
.line{fill:none;stroke:currentColor;stroke-width:1.9;stroke-linecap:round;stroke-linejoin:round}
.c-ok,.c-succeeded,.c-recovered{color:var(--good);--wash:var(--good-wash)}
.c-failed,.c-failing,.c-error{color:var(--bad);--wash:var(--bad-wash)}
.c-crashed{color:var(--dead);--wash:var(--bad-wash)}
.c-cancelled,.c-overdue,.c-warning{color:var(--halt);--wash:var(--halt-wash)}
.c-running{color:var(--work);--wash:var(--work-wash)}
.c-skipped,.c-rolled_back,.c-disabled,.c-never_run{color:var(--aside);--wash:var(--aside-wash)}
.badge{display:inline-flex;align-items:center;gap:.35rem;font-size:.8125rem;font-weight:600;line-height:1;
white-space:nowrap;padding:.35rem .6rem .35rem .45rem;border-radius:99px;background:var(--wash)}

/* the jobs */
.jobs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem;margin-top:1.25rem}
.job{display:flex;flex-direction:column;gap:.5rem}
.top{display:flex;flex-wrap:wrap;align-items:center;justify-content:space-between;gap:.5rem .75rem}
.job p{color:var(--soft);font-size:.9375rem}
.job dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.25rem;font-size:.9375rem;
margin-top:.5rem;padding-top:.9rem;border-top:1px solid var(--line)}
dt{color:var(--soft)}
.soft{color:var(--soft)}
.unit{white-space:nowrap}
.job p::first-letter{text-transform:uppercase}

/* drawings */
.chart{display:block;overflow:visible}
.chart text{fill:var(--soft);font-size:12px}
.chart .lane{fill:var(--ink);font-size:13px;font-weight:600}
.chart .lane,.chart .number,.chart .value{paint-order:stroke;stroke:var(--card);stroke-width:6px;
stroke-linejoin:round}
.chart .number{text-anchor:end}
.axis line{stroke:var(--line)}
.track{fill:var(--track)}
.timeline rect{fill:var(--bar)}
.timeline .track{fill:var(--track)}
.timeline g:hover rect{fill:var(--good)}
.durations circle{fill:var(--good);r:2.25px}
.durations g:hover circle{fill:var(--ink)}
.durations g:not(.axis) line{stroke:var(--bar);stroke-width:1.5;opacity:.6}
.mean{overflow:visible}
.mean polyline{fill:none;stroke:var(--bar);stroke-width:1.25;opacity:.75}
.sign.c-succeeded{color:var(--bar)}
.legend{display:flex;flex-wrap:wrap;gap:.4rem 1.25rem;list-style:none;font-size:.8125rem;color:var(--soft);
margin-top:1rem;padding-top:1rem;border-top:1px solid var(--line)}
.legend li{display:inline-flex;align-items:center;gap:.4rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem;margin-top:1.25rem}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.1rem .75rem;margin-bottom:.5rem}
figcaption span:last-child{color:var(--soft);font-size:.875rem}

/* tables */
.sheet{padding:0;overflow:hidden}
summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
caption{text-align:left;color:var(--soft);font-size:.875rem;padding:1rem 1.5rem .25rem}
th,td{padding:.65rem .75rem;text-align:left;border-top:1px solid var(--line);font-weight:400}
thead th{border-top:0;color:var(--soft);font-size:.8125rem;vertical-align:bottom}
th:first-child,td:first-child{padding-left:1.5rem}
th:last-child,td:last-child{padding-right:1.5rem}
.numbers td,.numbers thead th:not(:first-child){text-align:right;white-space:nowrap}
.numbers .sign{margin-right:.35rem}
.zero{color:var(--soft)}
td small{display:block;color:var(--soft);font-size:.8125rem}

/* what went wrong, alerts, findings */
.list{padding:0;overflow:hidden}
.list ul{list-style:none}
.list li{padding:1.1rem 1.5rem;border-top:1px solid var(--line);display:grid;
grid-template-columns:minmax(0,1fr);gap:.4rem}
.list>ul>li:first-child{border-top:0}
.further>summary{width:auto;padding:1rem 1.5rem;border-top:1px solid var(--line);outline-offset:-4px;
font-weight:600;border-radius:0}
.where{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem .75rem;font-size:.9375rem}
.where time,.where .soft{font-size:.875rem;color:var(--soft)}
.message{font-weight:600;white-space:pre-wrap;unicode-bidi:isolate}
.more{color:var(--soft);font-size:.9375rem;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate}
.more b{color:var(--ink);font-weight:600}
details{font-size:.875rem;color:var(--soft)}
summary{cursor:pointer;width:max-content;border-radius:4px}
pre{white-space:pre-wrap;background:var(--track);color:var(--ink);border-radius:8px;padding:.75rem 1rem;
margin-top:.4rem;unicode-bidi:isolate}
.list .rest{color:var(--soft);font-size:.9375rem}
footer{color:var(--soft);font-size:.875rem;margin-top:4rem;padding-top:1.5rem;padding-bottom:3rem}
footer p{border-top:1px solid var(--line);padding-top:1.5rem}
@media (max-width:44rem){
header,main,footer{padding-left:1rem;padding-right:1rem}
header{padding-top:2rem}
h1{font-size:1.75rem}
section{margin-top:2.5rem}
.figures{grid-template-columns:1fr 1fr}
.figures li,.card,.list li,.further>summary{padding-left:1rem;padding-right:1rem}
.sheet,.list{padding-left:0;padding-right:0}
.durations circle{r:1.75px}

/* a row becomes a card */
table,tbody,caption{display:block}
caption{padding:.9rem 1rem}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tbody tr{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding:.9rem 1rem;border-top:1px solid var(--line)}
tbody tr th:first-child,tbody tr td:nth-child(n){border:0;padding:0}
.job .name{font-size:.8125rem}
tbody tr th{flex:1 0 100%;font-weight:600}
.numbers .zero{display:none}
.numbers td::after{content:"\a0" attr(data-label);color:var(--soft)}
.upcoming td{flex:1 0 100%;display:flex;justify-content:space-between}
.alternate{display:none}
}
@media print{:root{{light}}body{font-size:12px}.card,.list li{break-inside:avoid}}
$style$,
    '{light}', '--page:#f6f6f3;--card:#fff;--ink:#1b1f24;--soft:#565d66;--line:#e2e2dd;--track:#efefeb;--link:#2456b8;--good:#1a7a4c;'
               '--bar:#3f9a6f;--bad:#bf2b23;--dead:#8a2f8f;--halt:#8f5a00;--work:#2456b8;--aside:#5f6670;--bad-wash:#fdf1ef;'
               '--good-wash:#eef7f1;--halt-wash:#fbf4e6;--aside-wash:#f1f1ee;--work-wash:#eef3fc;'),
    '{dark}', '--page:#121417;--card:#1a1d21;--ink:#e9eaec;--soft:#a3a9b2;--line:#2d3137;--track:#24282d;--link:#8ab4f8;--good:#5fcf97;'
              '--bar:#3f9d72;--bad:#ff8379;--dead:#dd93e2;--halt:#e5b454;--work:#8ab4f8;--aside:#a3a9b2;--bad-wash:#2d1c1b;'
              '--good-wash:#17271f;--halt-wash:#2b2416;--aside-wash:#24282d;--work-wash:#1b2536;');

/*
 * The page: what it shows is read in one statement, bounded however large the log is. Moments are in UTC. A drawing is laid out in
 * percent from left to right and in pixels from top to bottom, so that it becomes narrower on a phone without its texts and marks
 * becoming smaller. A mark stands for the runs of a 96th of the period; its title says which.
 */
CREATE FUNCTION challenge_jobs.report_page(since timestamp, until timestamp, findings jsonb, has_command boolean, version text)
RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH
/* ---- signs: a status of a run, a state of a job or a finding, as it is drawn around the point 0, 0, within 5 pixels ---- */
shape(name, kind, path) AS (
    VALUES ('succeeded', 'full', 'M-2-5H2Q3-5 3-4V4Q3 5 2 5H-2Q-3 5-3 4V-4Q-3-5-2-5Z'),
           ('failed', 'line', 'M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6'),
           ('crashed', 'full', 'M0-5 5 4H-5Z'),
           ('cancelled', 'full', 'M-3.8-3.8H3.8V3.8H-3.8Z'),
           ('running', 'full', 'M-3.4-4.8 5 0-3.4 4.8Z'),
           ('rolled_back', 'line', 'M3.2-4.2-4 0 3.2 4.2Z'),
           ('skipped', 'line', 'M0-3.6A3.6 3.6 0 1 1 0 3.6 3.6 3.6 0 1 1 0-3.6Z'),
           ('ok', 'line', 'M-4.4.2-1.4 3.4 4.4-3.2'),
           ('failing', 'line', 'M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6'),
           ('overdue', 'line', 'M0-4.6A4.6 4.6 0 1 1 0 4.6 4.6 4.6 0 1 1 0-4.6ZM0-2.4V0L1.8 1.4'),
           ('never_run', 'line', 'M0-3.6A3.6 3.6 0 1 1 0 3.6 3.6 3.6 0 1 1 0-3.6Z'),
           ('disabled', 'line', 'M-2-3.8V3.8M2-3.8V3.8'),
           ('paused', 'line', 'M-2-3.8V3.8M2-3.8V3.8'),
           ('restored', 'line', 'M-2-3.8V3.8M2-3.8V3.8'),
           ('recovered', 'line', 'M-4.4.2-1.4 3.4 4.4-3.2'),
           ('warning', 'full', 'M0-5 5 0 0 5-5 0Z'),
           ('error', 'line', 'M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6')
), sign AS MATERIALIZED (
    SELECT s.name, l.label, v.svg, format('<span class="badge c-%s">%s%s</span>', s.name, v.svg, l.label) AS badge
      FROM shape s
     CROSS JOIN LATERAL (SELECT CASE s.name WHEN 'restored' THEN 'copy, held back' ELSE replace(s.name, '_', ' ') END) l(label)
     CROSS JOIN LATERAL format('<svg xmlns="http://www.w3.org/2000/svg" class="sign c-%s" width="14" height="14" viewBox="-7 -7 14 14" '
                               'aria-hidden="true"><use href="#s-%1$s"/></svg>', s.name) v(svg)
),
/* ---- what is shown: jobs, their runs, what went wrong ---- */
period AS (
    SELECT EXTRACT(epoch FROM until - since) AS seconds, challenge_jobs.report_duration(EXTRACT(epoch FROM until - since) / 96) AS slice
), job AS MATERIALIZED (
    SELECT d.n, d.job, challenge_jobs.html_text(d.job) AS name, challenge_jobs.html_text(d.description) AS description, s.state, s.engine, s.schedule,
           s.last_run AT TIME ZONE 'UTC' AS last_run, s.last_status, s.last_success AT TIME ZONE 'UTC' AS last_success,
           s.consecutive_failures, EXTRACT(epoch FROM s.avg_duration) AS mean, EXTRACT(epoch FROM s.p95_duration) AS p95,
           ARRAY(SELECT t.moment AT TIME ZONE 'UTC'
                   FROM challenge_jobs.scheduled_times(s.schedule, s.next_due - interval '1 microsecond', 3) t(moment)) AS next
      FROM challenge_jobs.job_default() WITH ORDINALITY
           d(job, description, schedule, max_runtime, max_retries, retry_delay, catch_up, grace, settings, n)
      JOIN challenge_jobs.job_status s ON s.job = d.job
), status(n, name, y) AS (
    /* Those of one height share a mark: of what went wrong, and of what did nothing or has not ended, the first has its shape. */
    VALUES (1, 'crashed', 31), (2, 'failed', 31), (3, 'cancelled', 31), (4, 'succeeded', 41), (5, 'running', 67), (6, 'rolled_back', 67),
           (7, 'skipped', 67)
), looked_at AS MATERIALIZED (
    SELECT j.n AS job, r.*
      FROM job j
     CROSS JOIN period p
     CROSS JOIN LATERAL (
            SELECT GREATEST(0, LEAST(95, floor(date_part('epoch', l.started_at - since) * 96 / p.seconds::float8)))::integer AS slice,
                   l.status, l.dry_run, count(*) AS runs, min(l.started_at) AS first, max(l.started_at) AS last,
                   min(l.seconds)::numeric AS shortest, avg(l.seconds)::numeric AS mean, max(l.seconds)::numeric AS longest,
                   COALESCE(sum(l.rows_affected), 0) AS rows
              FROM (SELECT n.status, n.dry_run, n.started_at AT TIME ZONE 'UTC' AS started_at, date_part('epoch', n.duration) AS seconds,
                           n.rows_affected
                      FROM challenge_jobs.job_run n
                     WHERE n.job = j.job AND n.started_at >= since AT TIME ZONE 'UTC' AND n.started_at < 'infinity'
                     ORDER BY n.started_at DESC
                     LIMIT 50000) l
             GROUP BY 1, 2, 3
           ) r
), total AS MATERIALIZED (
    SELECT j.n AS job, s.n AS status, s.name, COALESCE(sum(r.runs), 0) AS runs
      FROM job j
     CROSS JOIN status s
      LEFT JOIN looked_at r ON r.job = j.n AND r.status = s.name AND NOT r.dry_run
     GROUP BY j.n, s.n, s.name
), of_job AS MATERIALIZED (
    SELECT t.job, sum(t.runs) AS runs, sum(t.runs) FILTER (WHERE t.name = 'succeeded') AS succeeded, sum(t.runs) FILTER (WHERE t.status <= 3) AS wrong
      FROM total t
     GROUP BY t.job
), of_all AS (
    SELECT sum(o.runs) AS runs, sum(o.succeeded) AS succeeded, sum(o.wrong) AS wrong FROM of_job o
), mark AS MATERIALIZED (
    SELECT r.job, r.slice, s.y, round(100 * (r.slice + 0.5) / 96, 2) AS x, (array_agg(s.name ORDER BY s.n))[1] AS name,
           format('<title>%s</title>', string_agg(
               concat(challenge_jobs.report_count(r.runs), ' ', replace(s.name, '_', ' '), ', ', to_char(r.first, 'YYYY-MM-DD HH24:MI:SS'),
                      CASE WHEN r.runs > 1 THEN to_char(r.last, '" to "YYYY-MM-DD HH24:MI:SS') END, ' UTC',
                      CASE WHEN s.name <> 'running'
                           THEN concat(', ', CASE WHEN r.runs > 1 THEN 'on average ' END, challenge_jobs.report_duration(r.mean)) END,
                      CASE WHEN s.name = 'succeeded' THEN ', ' || challenge_jobs.report_count(r.rows, 'row') END),
               E'\n' ORDER BY s.n)) AS title
      FROM looked_at r
      JOIN status s ON s.name = r.status
     WHERE NOT r.dry_run
     GROUP BY r.job, r.slice, s.y
), failure AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY f.started_at DESC, f.run_id DESC) AS n, f.*
      FROM job j
     CROSS JOIN LATERAL (
            SELECT r.*
              FROM (SELECT n.*
                      FROM challenge_jobs.job_run n
                     WHERE n.job = j.job AND n.started_at >= since AT TIME ZONE 'UTC' AND n.started_at < 'infinity'
                     ORDER BY n.started_at DESC
                     LIMIT 50000) r
             WHERE r.status IN ('failed', 'crashed', 'cancelled') AND NOT r.dry_run
             ORDER BY r.started_at DESC
             LIMIT 25) f
     ORDER BY f.started_at DESC, f.run_id DESC
     LIMIT 25
), alert AS MATERIALIZED (
    SELECT a.* FROM challenge_jobs.alert a WHERE a.next_attempt_at IS NOT NULL ORDER BY a.alert_id DESC LIMIT 20
), waiting AS (
    SELECT count(*) AS alerts FROM (SELECT FROM challenge_jobs.alert a WHERE a.next_attempt_at IS NOT NULL LIMIT 1001) a
), finding AS MATERIALIZED (
    SELECT f.n, f.value ->> 'check_name' AS check_name, f.value ->> 'status' AS status, f.value ->> 'finding' AS finding,
           f.value ->> 'remedy' AS remedy, f.value ->> 'advice' AS advice
      FROM jsonb_array_elements(findings) WITH ORDINALITY f(value, n)
),
/* ---- the parts of the page ---- */
headline AS (
    SELECT CASE WHEN s.restored > 0 THEN 'error' WHEN s.paused > 0 THEN 'paused' WHEN s.failing > 0 THEN 'failing' WHEN s.overdue > 0 THEN 'overdue'
                WHEN s.never_run + s.disabled < s.jobs THEN 'ok' END AS sign,
           CASE WHEN s.restored > 0 THEN 'This database is a copy: nothing runs until it is resumed'
                WHEN s.paused > 0 THEN 'All jobs are paused'
                WHEN s.failing + s.overdue > 0
                THEN format('%s of %s jobs need%s attention', s.failing + s.overdue, s.jobs, CASE WHEN s.failing + s.overdue = 1 THEN 's' END)
                WHEN s.never_run = s.jobs THEN 'No job has run yet'
                WHEN s.disabled = s.jobs THEN 'All jobs are disabled'
                WHEN s.never_run + s.disabled = s.jobs THEN 'No job that is enabled has run yet'
                ELSE 'All jobs are well' END AS text
      FROM (SELECT count(*), count(*) FILTER (WHERE j.state = 'failing'), count(*) FILTER (WHERE j.state = 'overdue'),
                   count(*) FILTER (WHERE j.state = 'never_run'), count(*) FILTER (WHERE j.state = 'disabled'),
                   count(*) FILTER (WHERE j.state = 'restored'), count(*) FILTER (WHERE j.state = 'paused')
              FROM job j) s(jobs, failing, overdue, never_run, disabled, restored, paused)
), header AS (
    SELECT concat('<header>', E'\n<p class="kicker">challenge_jobs in database <bdi>', challenge_jobs.html_text(current_database()), E'</bdi></p>\n',
                  '<h1>', s.svg, h.text, E'</h1>\n',
                  format(E'<p class="period">%s to %s, <span class="unit">%s.</span> All times are UTC.</p>\n', challenge_jobs.report_moment(since),
                         challenge_jobs.report_moment(until), challenge_jobs.report_duration(p.seconds)),
                  format(E'<ul class="figures">\n%s</ul>\n</header>\n',
                         (SELECT string_agg(format(E'<li><span class="figure">%s</span><span>%s</span></li>\n', f.figure, f.label), '' ORDER BY f.n)
                            FROM (VALUES (1, challenge_jobs.report_count(o.runs), CASE WHEN o.runs = 1 THEN 'run' ELSE 'runs' END),
                                         /* of those that ended by themselves; 100 % are all of them */
                                         (2, COALESCE(trim_scale(trunc(100 * o.succeeded / NULLIF(o.succeeded + o.wrong, 0), 1)) || ' %', '&#x2013;'),
                                          'succeeded'),
                                         (3, challenge_jobs.report_count(o.wrong), 'went wrong'),
                                         (4, CASE WHEN w.alerts > 1000 THEN 'over 1,000' ELSE challenge_jobs.report_count(w.alerts) END,
                                          CASE WHEN w.alerts = 1 THEN 'alert waits' ELSE 'alerts wait' END)) f(n, figure, label)))) AS html
      FROM headline h
     CROSS JOIN period p
     CROSS JOIN of_all o
     CROSS JOIN waiting w
      LEFT JOIN sign s ON s.name = h.sign
), upcoming AS MATERIALIZED (
    SELECT j.n AS job, t.n, challenge_jobs.report_moment(t.moment) AS moment,
           CASE WHEN m.minutes < 1 THEN 'in a moment' ELSE 'in ' || challenge_jobs.report_duration(60 * m.minutes) END AS distance
      FROM job j
     CROSS JOIN unnest(j.next) WITH ORDINALITY t(moment, n)
     CROSS JOIN LATERAL div(EXTRACT(epoch FROM t.moment - until), 60) m(minutes)
), jobs AS (
    SELECT string_agg(concat(
               format(E'<article class="card job" aria-labelledby="job-%s">\n<div class="top"><h3 class="name" id="job-%1$s">%s</h3>%s</div>\n'
                      '<p>%s</p>', j.n, j.name, s.badge, j.description),
               format(E'<dl>\n<dt>Schedule</dt><dd><code>%s</code> <span class="soft">%s</span></dd>\n', challenge_jobs.html_text(j.schedule),
                      COALESCE('by ' || challenge_jobs.html_text(j.engine), 'not scheduled')),
               format(E'<dt>Last run</dt><dd>%s%s</dd>\n', challenge_jobs.report_moment(j.last_run),
                      '<span class="soft"> ' || replace(j.last_status, '_', ' ') || '</span>'),
               format(E'<dt>Last success</dt><dd>%s</dd>\n', challenge_jobs.report_moment(j.last_success)),
               format(E'<dt>Next due</dt><dd>%s</dd>\n',
                      COALESCE(u.moment || ' <span class="soft unit">' || u.distance || '</span>', 'not foreseen')),
               E'<dt>Takes</dt><dd><span class="unit">' || challenge_jobs.report_duration(j.mean)
               || '</span> <span class="soft">on average, 95 of 100 up to <span class="unit">' || challenge_jobs.report_duration(j.p95)
               || E'</span></span></dd>\n',
               CASE WHEN j.consecutive_failures > 0
                    THEN format(E'<dt>Failed</dt><dd>%s in a row</dd>\n', challenge_jobs.report_count(j.consecutive_failures)) END,
               E'</dl>\n</article>\n'), '' ORDER BY j.n) AS html
      FROM job j
      JOIN sign s ON s.name = j.state
      LEFT JOIN upcoming u ON u.job = j.n AND u.n = 1
), left_out AS (
    SELECT string_agg(format(E'<p>Of %s the newest 50,000 runs are looked at and no more: those since %s.</p>\n', j.name,
                             challenge_jobs.report_moment(l.oldest)), '' ORDER BY j.n) AS html
      FROM (SELECT r.job, min(r.first) AS oldest FROM looked_at r GROUP BY r.job HAVING sum(r.runs) >= 50000) l
      JOIN job j ON j.n = l.job
), lane AS (
    SELECT string_agg(concat(
               format(E'<text class="lane" x="0" y="%1$s">%2$s</text><text class="number" x="100%%" y="%1$s">%3$s</text>'
                      '<rect class="track" x="0" y="%4$s" width="100%%" height="16" rx="3"/>\n',
                      l.top + 14, j.name, challenge_jobs.report_count(o.runs, 'run'), l.top + 41),
               (SELECT string_agg(format('<g class="c-%s">%s', m.name, m.title)
                                  || CASE WHEN m.name = 'succeeded'
                                          THEN format('<rect x="%s%%" y="%s" width="%s%%" height="16" rx="2"/>', round(m.x - 40.0 / 96, 2),
                                                      l.top + m.y, round(80.0 / 96, 2))
                                          ELSE format('<use href="#s-%s" x="%s%%" y="%s"/>', m.name, m.x, l.top + m.y) END
                                  || '</g>', '' ORDER BY m.slice, m.y)
                  FROM mark m
                 WHERE m.job = j.n), E'\n'), '' ORDER BY j.n) AS html
      FROM job j
      JOIN of_job o ON o.job = j.n
     CROSS JOIN LATERAL (SELECT 92 * (j.n - 1)) l(top)
), timeline AS (
    SELECT concat(format(E'<svg xmlns="http://www.w3.org/2000/svg" class="chart timeline" role="img" aria-labelledby="timeline-title timeline-desc" '
                         'width="100%%" height="%s">\n<title id="timeline-title">Runs of each job over time</title>\n', 92 * n.jobs + 22),
                  format('<desc id="timeline-desc">From %s to %s UTC.%s The table below has the same numbers.</desc>',
                         to_char(since, 'YYYY-MM-DD HH24:MI'), to_char(until, 'YYYY-MM-DD HH24:MI'), n.totals),
                  E'\n', challenge_jobs.report_axis(since, until, 0, 92 * n.jobs), l.html, E'</svg>\n') AS html
      FROM lane l
     CROSS JOIN (SELECT count(*)::integer, string_agg(
                            format(' %s: %s%s.', j.name, challenge_jobs.report_count(o.runs, 'run'),
                                   (SELECT string_agg(format(', %s %s', challenge_jobs.report_count(t.runs), replace(t.name, '_', ' ')), ''
                                                      ORDER BY t.status)
                                      FROM total t
                                     WHERE t.job = j.n AND t.runs > 0)), '' ORDER BY j.n)
                   FROM job j
                   JOIN of_job o ON o.job = j.n) n(jobs, totals)
), legend AS (
    SELECT string_agg(format(E'<li>%s%s</li>\n', s.svg, s.label), '' ORDER BY t.n) AS html FROM status t JOIN sign s ON s.name = t.name
), numbers AS (
    SELECT string_agg(format(E'<tr role="row"><th scope="row" role="rowheader" class="name">%s</th>%s%s</tr>\n', j.name,
                             (SELECT string_agg(format('<td role="cell" class="%s" data-label="%s">%s%s</td>',
                                                       CASE WHEN t.runs = 0 THEN 'zero' ELSE 'some' END, s.label,
                                                       CASE WHEN t.runs > 0 THEN s.svg END, challenge_jobs.report_count(t.runs)), ''
                                                ORDER BY t.status)
                                FROM total t
                                JOIN sign s ON s.name = t.name
                               WHERE t.job = j.n),
                             format('<td role="cell" class="some" data-label="in all">%s</td>', challenge_jobs.report_count(o.runs))), ''
                      ORDER BY j.n) AS html
      FROM job j
      JOIN of_job o ON o.job = j.n
),
/* the top of the axis of durations: of some round ones, or an even number of days; a negative one, by a clock that was set back, counts as 0 */
scale AS (
    SELECT l.job, l.longest, COALESCE(min(s.seconds) FILTER (WHERE s.seconds >= GREATEST(l.longest, 0.000001)),
                                      86400 * 2 * ceil((div(l.longest, 86400) + 1) / 2)) AS top
      FROM (SELECT r.job, GREATEST(max(r.longest), 0) AS longest FROM looked_at r WHERE r.status = 'succeeded' AND NOT r.dry_run GROUP BY r.job) l
     CROSS JOIN unnest('{1 ms,2 ms,4 ms,6 ms,10 ms,20 ms,40 ms,60 ms,100 ms,200 ms,400 ms,600 ms,1 s,2 s,4 s,6 s,10 s,20 s,40 s,'
                       '1 min,2 min,4 min,6 min,10 min,20 min,40 min,1 h,2 h,4 h,6 h,12 h}'::interval[]) i(length)
     CROSS JOIN LATERAL EXTRACT(epoch FROM i.length) s(seconds)
     GROUP BY l.job, l.longest
), point AS (
    SELECT r.job, r.slice, r.runs, m.x, m.title, y.shortest, y.mean, y.longest
      FROM looked_at r
      JOIN scale c ON c.job = r.job
      JOIN mark m ON m.job = r.job AND m.slice = r.slice AND m.name = 'succeeded'
     CROSS JOIN LATERAL (SELECT round(96 - 96 * GREATEST(r.shortest, 0) / c.top, 1), round(96 - 96 * GREATEST(r.mean, 0) / c.top, 1),
                                round(96 - 96 * GREATEST(r.longest, 0) / c.top, 1)) y(shortest, mean, longest)
     WHERE r.status = 'succeeded' AND NOT r.dry_run
), drawing AS (
    SELECT c.job, concat(
               format(E'<svg xmlns="http://www.w3.org/2000/svg" class="chart durations" role="img" '
                      'aria-labelledby="durations-%s-title durations-%1$s-desc" width="100%%" height="136">\n'
                      '<title id="durations-%1$s-title">Durations of %s</title>\n', j.n, j.name),
               format('<desc id="durations-%s-desc">%s that succeeded from %s to %s UTC, the longest took %s.</desc>', j.n,
                      challenge_jobs.report_count(o.succeeded, 'run'), to_char(since, 'YYYY-MM-DD HH24:MI'), to_char(until, 'YYYY-MM-DD HH24:MI'),
                      challenge_jobs.report_duration(c.longest)),
               E'\n', challenge_jobs.report_axis(since, until, 18, 114),
               E'<g class="axis"><line x1="0" x2="100%" y1="18" y2="18"/><line x1="0" x2="100%" y1="66" y2="66"/>'
               '<line x1="0" x2="100%" y1="114" y2="114"/></g>\n',
               '<svg class="mean" y="18" width="100%" height="96" viewBox="0 0 96 96" preserveAspectRatio="none">',
               p.lines, p.marks, format(E'<text class="value" x="0" y="13">%s</text><text class="value" x="0" y="61">%s</text>\n</svg>\n',
                                        challenge_jobs.report_duration(c.top), challenge_jobs.report_duration(c.top / 2))) AS html
      FROM scale c
      JOIN job j ON j.n = c.job
      JOIN of_job o ON o.job = c.job
     CROSS JOIN LATERAL (
            SELECT format(E'<polyline vector-effect="non-scaling-stroke" points="%s"/></svg>\n',
                          string_agg(format('%s,%s', p.slice + 0.5, p.mean), ' ' ORDER BY p.slice)),
                   string_agg(concat('<g>', p.title,
                                     CASE WHEN p.runs > 1
                                          THEN format('<line x1="%s%%" x2="%1$s%%" y1="%s" y2="%s"/>', p.x, 18 + p.shortest, 18 + p.longest) END,
                                     format('<circle cx="%s%%" cy="%s" r="2.5"/></g>', p.x, 18 + p.mean)), '' ORDER BY p.slice)
              FROM point p
             WHERE p.job = c.job) p(lines, marks)
), durations AS (
    SELECT string_agg(format(E'<figure class="card">\n<figcaption><span class="name">%s</span><span>%s</span></figcaption>\n%s</figure>\n', j.name,
                             challenge_jobs.report_count(o.succeeded, 'run'),
                             COALESCE(d.html, '<p class="nothing">No run has succeeded in this period.</p>')), '' ORDER BY j.n) AS html
      FROM job j
      JOIN of_job o ON o.job = j.n
      LEFT JOIN drawing d ON d.job = j.n
), failures AS (
    /* the first few are to be seen at once, the others when asked for */
    SELECT string_agg(concat(
               CASE WHEN f.n = 6 THEN format(E'</ul>\n<details class="further"><summary>%s before that</summary>\n<ul>\n', c.shown - 5) END,
               format(E'<li>\n<div class="where">%s<span class="name">%s</span>%s<span class="soft">run %s', s.badge, challenge_jobs.html_text(f.job),
                      challenge_jobs.report_moment(f.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), f.run_id),
               CASE WHEN f.attempt > 1 THEN format(', attempt %s', f.attempt) END,
               ', after ' || challenge_jobs.report_duration(EXTRACT(epoch FROM f.duration)),
               challenge_jobs.report_text(', by <bdi>', f.triggered_by, '</bdi>'),
               challenge_jobs.report_text(' as <bdi>', f.role_name, '</bdi>'),
               challenge_jobs.report_text(', SQLSTATE <bdi>', f.sqlstate, '</bdi>'),
               E'</span></div>\n',
               challenge_jobs.report_text('<p class="message">', f.message, E'</p>\n'),
               challenge_jobs.report_text('<p class="more">', f.detail, E'</p>\n'),
               challenge_jobs.report_text('<p class="more"><b>Hint:</b> ', f.hint, E'</p>\n'),
               challenge_jobs.report_text('<details><summary>Context</summary><pre>', f.context, E'</pre></details>\n'),
               E'</li>\n'), '' ORDER BY f.n) AS items,
           c.wrong - c.shown AS more, CASE WHEN c.shown > 5 THEN E'</details>\n' END AS html_end
      FROM failure f
      JOIN sign s ON s.name = f.status
     CROSS JOIN (SELECT (SELECT count(*) FROM failure), o.wrong FROM of_all o) c(shown, wrong)
     GROUP BY c.shown, c.wrong
), alerts AS (
    SELECT string_agg(concat(
               format(E'<li>\n<div class="where">%s<span class="name">%s</span>%s<span class="soft">alert %s, %s</span></div>\n', s.badge,
                      challenge_jobs.html_text(a.job), challenge_jobs.report_moment(a.raised_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
                      a.alert_id, CASE WHEN a.attempts = 0 THEN 'not tried yet' ELSE 'tried ' || challenge_jobs.report_count(a.attempts, 'time') END),
               challenge_jobs.report_text('<p class="message">', a.payload ->> 'message', E'</p>\n'),
               challenge_jobs.report_text('<p class="more"><b>Last attempt:</b> ', a.last_error, E'</p>\n'),
               E'</li>\n'), '' ORDER BY a.alert_id DESC) AS items,
           (SELECT w.alerts FROM waiting w) - count(*) AS more
      FROM alert a
      JOIN sign s ON s.name = a.kind
), next_runs AS (
    SELECT string_agg(format(E'<tr role="row"><th scope="row" role="rowheader" class="name">%s</th>%s%s</tr>\n', j.name,
                             (SELECT string_agg(format('<td role="cell">%s<small>%s</small></td>', u.moment, u.distance), '' ORDER BY u.n)
                                FROM upcoming u
                               WHERE u.job = j.n),
                             CASE WHEN cardinality(j.next) < 3
                                  THEN format('<td role="cell" colspan="%s" class="soft">%s</td>', 3 - cardinality(j.next),
                                              CASE WHEN j.next <> '{}' THEN 'none'
                                                   WHEN j.state IN ('disabled', 'paused') THEN j.state
                                                   WHEN j.state = 'restored' THEN 'held back, as this database is a copy'
                                                   WHEN j.engine IS NULL THEN 'not scheduled'
                                                   ELSE 'its schedule has none' END) END), '' ORDER BY j.n) AS html
      FROM job j
), found AS (
    SELECT string_agg(concat(
               format(E'<li>\n<div class="where">%s<span class="name">%s</span></div>\n', s.badge, challenge_jobs.html_text(f.check_name)),
               challenge_jobs.report_text('<p class="message">', f.finding, E'</p>\n'),
               challenge_jobs.report_text('<pre>', f.remedy, E'</pre>\n'),
               challenge_jobs.report_text('<p class="more">', f.advice, E'</p>\n'),
               E'</li>\n'), '' ORDER BY f.n) FILTER (WHERE f.n <= 50) AS items,
           count(*) - 50 AS more
      FROM finding f
      JOIN sign s ON s.name = f.status
), section(n, id, heading, html) AS (
    SELECT 1, 'jobs', 'Jobs', format(E'<div class="jobs">\n%s</div>\n', j.html) FROM jobs j
     UNION ALL
    SELECT 2, 'runs', 'Runs',
           concat('<p>What went wrong stands above a lane, what did nothing or has not ended below it. Dry runs are left out.</p>', E'\n', o.html,
                  E'<div class="card">\n', t.html, E'<ul class="legend">\n', l.html,
                  format(E'<li>a mark stands for the runs of %s</li>\n</ul>\n</div>\n', p.slice),
                  '<div class="card sheet">', E'\n<table class="numbers" role="table">\n<caption>Number of runs of each job by status</caption>\n',
                  '<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">job</th>',
                  (SELECT string_agg(format('<th scope="col" role="columnheader">%s</th>', replace(s.name, '_', ' ')), '' ORDER BY s.n)
                     FROM status s),
                  '<th scope="col" role="columnheader">in all</th></tr></thead>', E'\n<tbody role="rowgroup">\n', n.html,
                  E'</tbody>\n</table>\n</div>\n')
      FROM timeline t
     CROSS JOIN left_out o
     CROSS JOIN legend l
     CROSS JOIN numbers n
     CROSS JOIN period p
     UNION ALL
    SELECT 3, 'durations', 'How long they take',
           format(E'<p>Runs that succeeded: a dot is the average of those of %s, a line reaches from the shortest run to the longest.</p>'
                  '\n<div class="charts">\n%s</div>\n', p.slice, d.html)
      FROM durations d
     CROSS JOIN period p
     UNION ALL
    SELECT 4, 'failures', 'What went wrong',
           COALESCE((SELECT concat(E'<p>Runs that failed, crashed or were cancelled, the last one first.</p>\n<div class="card list">\n<ul>\n',
                                   f.items, challenge_jobs.report_rest(f.more, 'challenge_jobs.job_run'),
                                   E'</ul>\n', f.html_end, E'</div>\n')
                       FROM failures f), E'<p>Nothing in this period.</p>\n')
     UNION ALL
    SELECT 5, 'alerts', 'Alerts that wait',
           CASE WHEN a.items IS NULL THEN E'<p>None.</p>\n'
                ELSE concat('<p>Not taken by <code>challenge_jobs.alert_command</code>',
                            CASE WHEN has_command THEN ' yet' ELSE ', which is not set' END,
                            E', the last one first.</p>\n<div class="card list">\n<ul>\n', a.items,
                            challenge_jobs.report_rest(a.more, 'challenge_jobs.alert'),
                            E'</ul>\n</div>\n') END
      FROM alerts a
     UNION ALL
    SELECT 6, 'next', 'What comes next',
           concat('<div class="card sheet">', E'\n<table class="upcoming" role="table">\n<caption>The next runs of each job</caption>\n',
                  '<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">job</th><th scope="col" role="columnheader">next</th>'
                  '<th scope="col" role="columnheader">after it</th><th scope="col" role="columnheader">then</th></tr></thead>',
                  E'\n<tbody role="rowgroup">\n', r.html, E'</tbody>\n</table>\n</div>\n')
      FROM next_runs r
     UNION ALL
    SELECT 7, 'doctor', 'What the doctor says',
           CASE WHEN findings IS NULL
                THEN E'<p>Whoever made this report may not ask: that takes EXECUTE on <code>challenge_jobs.doctor()</code>.</p>\n'
                WHEN f.items IS NULL THEN E'<p>Nothing: all checks are content.</p>\n'
                ELSE concat(E'<p>What is not as it should be, and what to type to mend it.</p>\n<div class="card list">\n<ul>\n', f.items,
                            challenge_jobs.report_rest(f.more, 'challenge_jobs.doctor()'),
                            E'</ul>\n</div>\n') END
      FROM found f
)
SELECT concat(E'<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">\n<head>\n<meta charset="utf-8"/>\n',
              E'<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''; base-uri ''none''; '
              'form-action ''none''"/>\n<meta name="viewport" content="width=device-width, initial-scale=1"/>\n',
              E'<meta name="color-scheme" content="light dark"/>\n<meta name="referrer" content="no-referrer"/>\n'
              '<meta name="robots" content="noindex"/>\n',
              format(E'<title>challenge_jobs in %s, %s UTC</title>\n<style>%s</style>\n</head>\n<body>\n',
                     challenge_jobs.html_text(current_database()), to_char(until, 'YYYY-MM-DD HH24:MI'), challenge_jobs.report_style()),
              '<svg xmlns="http://www.w3.org/2000/svg" class="shapes" width="0" height="0" aria-hidden="true"><defs>',
              (SELECT string_agg(format('<path id="s-%s" class="%s" d="%s"/>', s.name, s.kind, s.path), '') FROM shape s),
              E'</defs></svg>\n', (SELECT h.html FROM header h), E'<main>\n',
              (SELECT string_agg(format(E'<section aria-labelledby="%s">\n<h2 id="%1$s">%s</h2>\n%s</section>\n', s.id, s.heading, s.html), ''
                                 ORDER BY s.n)
                 FROM section s),
              format(E'</main>\n<footer>\n<p>Made by challenge_jobs %s with PostgreSQL %s at %s UTC, by '
                     '<code>SELECT challenge_jobs.report_html();</code></p>\n</footer>\n</body>\n</html>\n', challenge_jobs.html_text(version),
                     challenge_jobs.html_text(current_setting('server_version')), challenge_jobs.report_moment(until, 'YYYY-MM-DD HH24:MI:SS')));
END;

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
COMMENT ON FUNCTION challenge_jobs.rename_view(text, text, oid) IS 'follows a registered view whose name has changed';
COMMENT ON FUNCTION challenge_jobs.rename_keys() IS 'follows keys of tracked views that have been renamed';
COMMENT ON FUNCTION challenge_jobs.note_known_views() IS 'notes which views of this database the registered names stand for';
COMMENT ON FUNCTION challenge_jobs.view_reads(oid[]) IS 'what views read, at any depth: relations and functions';
COMMENT ON FUNCTION challenge_jobs.order_views(text[], oid[]) IS 'views in the order of their dependencies';
COMMENT ON FUNCTION challenge_jobs.missing_views(text[], oid[]) IS 'materialized views that views read, and that are not among them';
COMMENT ON FUNCTION challenge_jobs.cron_problem(text, text, text, text, boolean) IS 'what is wrong with the cron job that is to fire a job, and how to mend it';
COMMENT ON FUNCTION challenge_jobs.drop_defaults(text) IS 'removes from the configuration of a job what equals the default';
COMMENT ON FUNCTION challenge_jobs.override_job(text, text, boolean, interval, integer, interval, text, interval, jsonb) IS 'stores what alter_job() has checked';
COMMENT ON FUNCTION challenge_jobs.drop_override(text) IS 'stores what reset_job() does';
COMMENT ON FUNCTION challenge_jobs.set_engine(text, text) IS 'notes by which engine a job is scheduled; NULL: by none';
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
COMMENT ON FUNCTION challenge_jobs.host_name() IS 'the name of the host that the server runs on';
COMMENT ON FUNCTION challenge_jobs.run_covers(challenge_jobs.job_run) IS 'whether a run covers the scheduled times up to its as_of, and ends failures';
COMMENT ON FUNCTION challenge_jobs.run_stands_in(challenge_jobs.job_run) IS 'whether a run was started by the worker in the place of another engine';
COMMENT ON FUNCTION challenge_jobs.run_is_overtaken(challenge_jobs.job_run) IS 'whether a run has failed as of a later moment than a run';
COMMENT ON FUNCTION challenge_jobs.iso_moment(timestamptz) IS 'a moment as ISO 8601 in UTC';
COMMENT ON FUNCTION challenge_jobs.alert_episode(text) IS 'number of the last alert "recovered" of a job; 0: none';
COMMENT ON FUNCTION challenge_jobs.raise_alert(text, text, bigint, jsonb) IS 'raises an alert unless the state of the job says so already; returns how many these are';
COMMENT ON FUNCTION challenge_jobs.raise_overdue(text, timestamptz) IS 'raises the alert for a scheduled time that was not covered';
COMMENT ON FUNCTION challenge_jobs.raise_restored(text) IS 'raises the alert for a job that was scheduled where this database was copied from';
COMMENT ON FUNCTION challenge_jobs.note_run(bigint) IS 'raises the alert for how a run has ended';
COMMENT ON FUNCTION challenge_jobs.settle_runs() IS 'raises the alerts for runs of job functions';
COMMENT ON FUNCTION challenge_jobs.settle_overdue() IS 'raises the alerts for overdue scheduled times that have been covered';
COMMENT ON FUNCTION challenge_jobs.announce_alerts() IS 'notifies of new alerts and returns what the server log is to say';
COMMENT ON FUNCTION challenge_jobs.claim_alert(bigint, boolean, integer) IS 'claims an alert for an attempt to deliver it';
COMMENT ON FUNCTION challenge_jobs.finish_alert(bigint, text) IS 'notes how an attempt to deliver an alert has ended';
COMMENT ON FUNCTION challenge_jobs.give_up_alerts() IS 'gives up the alerts that could not be delivered for 7 days; returns how many';
COMMENT ON FUNCTION challenge_jobs.remove_alerts(timestamptz, integer) IS 'removes old alerts that say nothing of the state of a job; returns how many';
COMMENT ON FUNCTION challenge_jobs.settle_alerts() IS
    'raises the alerts for committed runs of job functions, in this transaction; the background worker, run() and deliver_alerts() also do that';
COMMENT ON PROCEDURE challenge_jobs.deliver_alerts() IS
    'announces new alerts and passes all waiting alerts to challenge_jobs.alert_command now; for superusers';
COMMENT ON FUNCTION challenge_jobs.watchdog(timestamptz) IS
    'what the background worker would do for each job at a given time, and why: the last and next scheduled time that count, whether one was missed, and the run that the worker would start';
COMMENT ON FUNCTION challenge_jobs.doctor() IS
    'checks bindings, indexes, privileges, preloading, schedules and the state of the jobs; returns for each check what was found, SQL that mends it (remedy) or advice, and the role that must run the SQL';

COMMENT ON FUNCTION challenge_jobs.find_general(text, boolean, boolean) IS 'part of doctor(): the installation; version is that of the library';
COMMENT ON FUNCTION challenge_jobs.find_of_job(text) IS 'part of doctor(): a job';
COMMENT ON FUNCTION challenge_jobs.has_index(oid, smallint, smallint, boolean, boolean, boolean) IS 'part of doctor(): whether a table has an index that serves a job';
COMMENT ON FUNCTION challenge_jobs.find_unfilled(oid, smallint[], text) IS 'part of doctor(): columns that nobody would fill in';
COMMENT ON FUNCTION challenge_jobs.find_cascades(oid, oid, boolean, smallint, text, text) IS 'part of doctor(): tables of others that are changed along with a table';
COMMENT ON FUNCTION challenge_jobs.find_of_cleanup(oid, oid, text) IS 'part of doctor(): what keeps notifications from being deleted, or makes it slow';
COMMENT ON FUNCTION challenge_jobs.find_unindexed(oid, text, smallint[], text) IS 'part of doctor(): an index that notifications have not, for what is kept longer';
COMMENT ON FUNCTION challenge_jobs.find_unreadable(oid, text) IS 'part of doctor(): what a materialized view may not read completely';
COMMENT ON FUNCTION challenge_jobs.operator_schemas(oid, oid) IS 'the schemas of the operators of a view, and one in which others than its owner may create operators';
COMMENT ON FUNCTION challenge_jobs.deferrable_constraints(oid, oid) IS 'the deferrable constraints that a change of a table may run into';
COMMENT ON FUNCTION challenge_jobs.rows_written(oid[]) IS 'a text that differs when rows have been written to some tables; NULL: that is not known';
COMMENT ON FUNCTION challenge_jobs.lasting_runs(text) IS 'the runs by which the state of a job is known, which are not removed';
COMMENT ON FUNCTION challenge_jobs.runs_of_kind(text, boolean, boolean) IS 'the runs of a job that have ended, by whether they went well and whether they count';
COMMENT ON FUNCTION challenge_jobs.runs_that_go(text, boolean, boolean, timestamptz, timestamptz, bigint) IS 'those of them that are too old or too many';
COMMENT ON FUNCTION challenge_jobs.remove_runs(text, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, bigint, integer) IS 'removes a page of those that go; returns how many it has, how many are gone, and the last';
COMMENT ON FUNCTION challenge_jobs.missing_reminders(text[], date) IS 'the positions of users who are not in the ledger of reminders for a date';
COMMENT ON FUNCTION challenge_jobs.enter_reminders(text[], date) IS 'enters users in the ledger of reminders; returns the positions of those who were not there';
COMMENT ON FUNCTION challenge_jobs.noted_zones(text[], date[], time[], bigint) IS 'the positions of zones that are noted as done, and whether nothing has changed since';
COMMENT ON FUNCTION challenge_jobs.note_zones(text[], date[], time[], bigint) IS 'notes zones as done';
COMMENT ON FUNCTION challenge_jobs.remove_reminders(timestamptz, integer, date, text) IS 'removes old reminders that come after a row of the ledger; returns how many, and the last of them';
COMMENT ON FUNCTION challenge_jobs.progress() IS
    'the runs that are at work in this database, read from shared memory; empty if the library is not preloaded';
COMMENT ON FUNCTION challenge_jobs.html_text(text) IS 'a text as part of an HTML page: plain ASCII without markup, cut if it is long';
COMMENT ON FUNCTION challenge_jobs.scheduled_times(text, timestamptz, integer) IS 'the first n scheduled times of a cron expression after a moment; none if it cannot be read';
COMMENT ON FUNCTION challenge_jobs.report_moment(timestamp, text) IS 'part of report_html(): a moment';
COMMENT ON FUNCTION challenge_jobs.report_duration(numeric) IS 'part of report_html(): a duration, given in seconds, in words';
COMMENT ON FUNCTION challenge_jobs.report_count(numeric, text) IS 'part of report_html(): a number, and what it counts';
COMMENT ON FUNCTION challenge_jobs.report_text(text, text, text) IS 'part of report_html(): a text that may not be there';
COMMENT ON FUNCTION challenge_jobs.report_rest(numeric, text) IS 'part of report_html(): the end of a list that is not complete';
COMMENT ON FUNCTION challenge_jobs.report_axis(timestamp, timestamp, integer, integer) IS 'part of report_html(): the axis of time of a drawing';
COMMENT ON FUNCTION challenge_jobs.report_style() IS 'part of report_html(): the style sheet';
COMMENT ON FUNCTION challenge_jobs.report_page(timestamp, timestamp, jsonb, boolean, text) IS 'report_html() of a period, with what the doctor found; NULL: it was not asked';
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
COMMENT ON COLUMN challenge_jobs.job_run.triggered_by IS 'who started the run, as given to run(); function: the job function was called; worker, retry, catch_up, after_decisions: the background worker started it';
COMMENT ON COLUMN challenge_jobs.job_run.dry_run IS 'the run computed its figures and changed nothing';
COMMENT ON COLUMN challenge_jobs.job_run.attempt IS '1; 2 and more: a retry of a run that failed, crashed, was skipped or found rows locked';
COMMENT ON COLUMN challenge_jobs.job_run.scheduled_for IS 'the scheduled time that the run is for, if the background worker started it';
COMMENT ON COLUMN challenge_jobs.job_run.as_of IS 'the time as of which the run worked';
COMMENT ON COLUMN challenge_jobs.job_run.started_at IS 'when the run began (clock time)';
COMMENT ON COLUMN challenge_jobs.job_run.finished_at IS 'when the run ended (clock time); NULL while it is running';
COMMENT ON COLUMN challenge_jobs.job_run.duration IS 'finished_at - started_at';
COMMENT ON COLUMN challenge_jobs.job_run.status IS 'running, succeeded, failed, skipped (another run held the job''s lock, or the job is disabled), cancelled, crashed or rolled_back';
COMMENT ON COLUMN challenge_jobs.job_run.rows_affected IS 'rows of the app''s tables that the run changed or inserted (dry run: would have)';
COMMENT ON COLUMN challenge_jobs.job_run.result IS 'the figures of the run (the columns that the job function returns), and for refresh_challenge_stats the outcome for each view and the last run that had decided challenges (after_run)';
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
