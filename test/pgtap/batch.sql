/*
 * Batches: what goes wrong with one challenge must not touch another, and must not be silent.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* Challenges named like an error condition fail with it, those named "keep" are not updated. */
SET ROLE cj_app;
CREATE FUNCTION app.inner(state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING errcode = state, message = 'this one is bad', detail = 'the detail', hint = 'the hint';
END
$$;
CREATE FUNCTION app.outer(state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.inner(state);
END
$$;
CREATE FUNCTION app.check_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.name ~ '^[0-9A-Z]{5}$' THEN
        PERFORM app.outer(OLD.name);
    ELSIF OLD.name = 'keep' THEN
        RETURN NULL;
    ELSIF OLD.name = 'again' THEN
        PERFORM public.auto_complete_challenges();
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_name BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.check_name();
RESET ROLE;

GRANT EXECUTE ON FUNCTION public.auto_complete_challenges(timestamptz, boolean) TO cj_app;

CREATE FUNCTION t.fill(good integer, VARIADIC bad text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.challenges;
    DELETE FROM app.challenge_members;
    DELETE FROM app.challenge_member_stats;
    DELETE FROM app.notifications;
    DELETE FROM challenge_jobs.job_run;
    INSERT INTO app.challenges (id, name) SELECT n, 'c' || n FROM generate_series(1, good + cardinality(bad)) n;
    /* spread over the whole range */
    UPDATE app.challenges SET name = bad[i], status = 'active'
      FROM generate_subscripts(bad, 1) i
     WHERE id = i * (good + cardinality(bad)) / (cardinality(bad) + 1) + 1;
    INSERT INTO app.challenge_members SELECT id, u FROM app.challenges, generate_series(1, 2) u;
    INSERT INTO app.challenge_member_stats SELECT id, 1, 100 * (id % 2) FROM app.challenges;
END
$$;
/* What is still active, and that everything else has been notified and nothing else has. */
CREATE FUNCTION t.left_active() RETURNS text LANGUAGE sql AS $$
    SELECT concat(string_agg(name, ' ' ORDER BY id) FILTER (WHERE status = 'active'),
                  CASE WHEN bool_or(CASE WHEN status = 'active' THEN notified IS NOT NULL ELSE notified IS DISTINCT FROM 2 END)
                       THEN ' and some are notified that should not be, or the other way' END)
      FROM app.challenges c
      LEFT JOIN (SELECT (data->>'challenge_id')::int AS id, count(*) AS notified FROM app.notifications GROUP BY 1) n USING (id)
$$;

/* ---- one, two, all ---- */
CREATE FUNCTION t.case(good integer, bad text[], size integer) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    figures record;
    r       challenge_jobs.job_run;
BEGIN
    PERFORM t.fill(good, VARIADIC bad), t.set(jsonb_build_object('batch_size', size));
    SELECT * INTO figures FROM public.auto_complete_challenges();
    r := t.last_run();
    RETURN concat_ws(', ', figures.completed + figures.failed, figures.notified, t.left_active(), r.status, r.sqlstate, r.message, r.detail, r.hint, r.result->'errors');
END
$$;
SELECT is(t.case(300, '{P0001}', size),
          '300, 600, P0001, failed, P0001, this one is bad, the detail' || E'\nNot done (1): challenge 151., the hint, 1',
          format('one bad challenge of 301, batches of %s: all others are done, and the run says which was not', size))
  FROM unnest(ARRAY[1, 2, 7, 43, 301, 1000, 10000]) size;
SELECT is(t.case(40, '{22012,P0001}', size),
          '40, 80, 22012 P0001, failed, 22012, this one is bad, the detail' || E'\nNot done (2): challenge 15, challenge 29., the hint, 2',
          format('two bad challenges, batches of %s: the run has the first error, and both', size))
  FROM unnest(ARRAY[1, 10, 21, 1000]) size;
SELECT alike(t.case(200, array_fill('P0001'::text, ARRAY[50]), 1000), '200, 400, P0001 %Not done (50): challenge 5, challenge 10, % ...%the hint, 50',
            'many bad ones: not all are named, all are counted');
SELECT matches(t.error($$SELECT t.case(0, '{P0001}', 1000)$$), '^P0001: this one is bad$', 'where nothing at all could be done, the job function raises the error');
SELECT matches(t.error($$SELECT t.case(0, '{22012,P0001,23505}', 1)$$), '^22012: this one is bad$', 'the error of a run is that of the first challenge that failed');
SELECT t.fill(0, '22012', 'P0001') \g /dev/null
CREATE FUNCTION t.detail() RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
    PERFORM t.run();
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail;
END
$$;
SELECT is(t.detail(), E'the detail\nNot done (2): challenge 1, challenge 2.', 'the detail of the error names the challenges that were not done');
SAVEPOINT cause;
ALTER TABLE app.challenges DISABLE TRIGGER check_name;
UPDATE app.challenges SET name = 'c2' WHERE id = 2;
ALTER TABLE app.challenges ENABLE TRIGGER check_name;
ALTER TABLE app.challenges ADD CONSTRAINT other_cause CHECK (id <> 2 OR status = 'active');
SELECT is(t.detail(), E'the detail\nNot done (2): challenge 1, challenge 2 (new row for relation "challenges" violates check constraint "other_cause").',
          'each with its cause, where that is another one than that of the first');
ROLLBACK TO cause;

/* text keys: what is named in the error must be the keys themselves */
ALTER TABLE app.challenges ALTER id TYPE text USING 'the key ' || id;
ALTER TABLE app.challenge_members ALTER challenge_id TYPE text USING 'the key ' || challenge_id;
ALTER TABLE app.challenge_member_stats ALTER challenge_id TYPE text USING 'the key ' || challenge_id;
INSERT INTO app.challenges (id, name) SELECT 'the key ' || n, 'c' || n FROM generate_series(3, 60) n;
INSERT INTO app.challenge_members SELECT 'the key ' || n, 1 FROM generate_series(3, 60) n;
INSERT INTO app.challenge_member_stats SELECT 'the key ' || n, 1, 100 FROM generate_series(3, 30) n;
SELECT t.set('{"batch_size": 1000}') \g /dev/null
SELECT is(t.run(), '28 30 58', 'text keys: the others are done');
SELECT is((t.last_run()).detail, E'the detail\nNot done (2): challenge the key 1, challenge the key 2.', 'text keys are named');
DELETE FROM app.notifications;
ALTER TABLE app.challenges DISABLE TRIGGER USER;
UPDATE app.challenges SET status = 'active';
ALTER TABLE app.challenges ENABLE TRIGGER USER;
ALTER TABLE app.challenges ALTER id TYPE integer USING substr(id, 9)::int;
ALTER TABLE app.challenge_members ALTER challenge_id TYPE integer USING substr(challenge_id, 9)::int;
ALTER TABLE app.challenge_member_stats ALTER challenge_id TYPE integer USING substr(challenge_id, 9)::int;

/* ---- errors that look as if they were about the whole run ---- */
SELECT alike(t.case(20, ARRAY[state], 5), '20, 40, % failed, ' || state || ', this one is bad, %Not done (1): challenge %, the hint, 1',
             'a trigger that raises an error of class ' || left(state, 2) || ' keeps nobody else waiting')
  FROM unnest(ARRAY['57014', '57P01', '57000', '53200', '53100', '58030', '25006', '55P03', '40P01']) state;

/* ---- changed by a trigger ---- */
CREATE FUNCTION app.reopen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status := 'active'; RETURN NEW; END $$;
CREATE TRIGGER reopen BEFORE UPDATE ON app.challenges FOR EACH ROW WHEN (OLD.name = 'reopened') EXECUTE FUNCTION app.reopen();
SELECT is(t.case(20, '{reopened}', 1000), '20, 40, reopened, succeeded, 0', 'a challenge that a trigger keeps active is neither counted nor notified');
DROP TRIGGER reopen ON app.challenges;

/* ---- kept from being updated; called from inside ---- */
SELECT is(t.case(20, '{keep}', 1000), '20, 40, keep, succeeded, 0', 'what a trigger keeps from being updated is neither counted nor notified');
SELECT matches(t.case(20, '{again}', 1000), '^20, 40, again, failed, 55006, job "auto_complete_challenges" cannot be started: this session is running job',
               'the job function cannot be called from inside the run');

/* ---- the warning of the job function ---- */
/* (its text is in the regression test "errors": here, that there is none when all is well) */
SELECT is(t.case(3, '{}', 1000), '3, 6, , succeeded, 0', 'a run without errors');

/* ---- sizes ---- */
SELECT is(t.case(n, '{}', size), format('%s, %s, , succeeded, 0', n, 2 * n), format('%s challenges in batches of %s', n, size))
  FROM (VALUES (0, 1), (1, 1), (2, 1), (9, 3), (10, 3), (8, 3), (3, 3), (3, 10000), (100, 10), (101, 10), (99, 10)) v(n, size);
SELECT is(t.run(), '0 0 0', 'a second run does nothing');
SELECT is(t.run(dry_run => true), '0 0 0', 'a second run has nothing to do');

/* keys that do not fit into memory go to disk */
SET LOCAL work_mem = '64kB';
SELECT is(t.case(20000, '{}', 1000), '20000, 40000, , succeeded, 0', 'more keys than fit into work_mem');
RESET work_mem;

/* ---- the dry run ---- */
SELECT t.fill(37, VARIADIC '{}') \g /dev/null
SELECT t.set('{"batch_size": 10}') \g /dev/null
SELECT is(t.run(dry_run => true), '19 18 74', 'a dry run counts');
SELECT is(t.left_active(), (SELECT string_agg(name, ' ' ORDER BY id) FROM app.challenges), 'a job function that fails changes no challenge');
SELECT is((SELECT concat_ws(' ', status, dry_run, rows_affected, triggered_by) FROM t.last_run()), 'succeeded t 111 function', 'its run row says so');
SELECT is(t.run(), '19 18 74', 'the run does what the dry run said');
SELECT is((SELECT concat_ws(' ', status, dry_run, rows_affected, triggered_by, attempt, finished_at >= started_at, duration = finished_at - started_at,
                            role_name = current_user, pid = pg_backend_pid(), as_of = '2024-02-29 00:00+00') FROM t.last_run()),
          'succeeded f 111 function 1 t t t t t', 'the run row of the run');

/* ---- a caller that rolls back takes everything back ---- */
SELECT t.fill(5, VARIADIC '{}') \g /dev/null
SAVEPOINT before;
SELECT t.run() \g /dev/null
ROLLBACK TO before;
SELECT is(t.left_active(), 'c1 c2 c3 c4 c5', 'rolled back: nothing remains');
SELECT is((SELECT count(*) FROM challenge_jobs.job_run), 0::bigint, 'nor does the run row');
SELECT is(t.run(), '3 2 10', 'and it can be done again, in the same transaction');

/* ---- read only ---- */
SELECT t.fill(5, VARIADIC '{}') \g /dev/null
SAVEPOINT before_read_only;
SET LOCAL transaction_read_only = on;
SELECT is(t.error('SELECT t.run()'), '25006: cannot execute auto_complete_challenges in a read-only transaction', 'not in a read-only transaction');
SELECT is(t.run(dry_run => true), '3 2 10', 'but a dry run');
ROLLBACK TO before_read_only;

/* ---- disabled ---- */
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false) \g /dev/null
SELECT is(t.error('SELECT t.run()'), '55000: job "auto_complete_challenges" is disabled', 'a disabled job is not run');
SELECT is(t.run(dry_run => true), '3 2 10', 'but its dry run is');

SELECT * FROM finish();
ROLLBACK;
