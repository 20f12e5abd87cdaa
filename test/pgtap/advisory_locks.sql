/*
 * An advisory lock of the session that a trigger of the app takes would outlive the job function, and the transaction: in a
 * session of a connection pool it would lock others out for hours. What the caller holds stays.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE FUNCTION app.take() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock(1), pg_advisory_lock(1), pg_advisory_lock_shared(2, 3), pg_advisory_lock(4),
            pg_advisory_xact_lock(5), pg_advisory_lock(6), pg_advisory_xact_lock(6), pg_advisory_lock(8);
    RETURN NEW;
END $$;
CREATE TRIGGER take BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.take();
CREATE FUNCTION t.held() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s%s %s', nullif(classid, 0) || '/', objid, mode), ', ' ORDER BY classid, objid, mode)
      FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
$$;
SELECT t.add('a', 90) \g /dev/null

SELECT pg_advisory_lock(4), pg_advisory_lock_shared(7), pg_advisory_lock_shared(8) \g /dev/null
SELECT is((SELECT completed FROM public.auto_complete_challenges('2024-02-29')), 1::bigint, 'the job function does its work');
SELECT is(t.held(), '4 ExclusiveLock, 5 ExclusiveLock, 6 ExclusiveLock, 7 ShareLock, 8 ShareLock',
    'of the session''s locks those of the caller remain, and those of the transaction');
SELECT ok(pg_advisory_unlock(4), 'what the caller had locked is locked still');

SELECT t.add('b', 90) \g /dev/null
CREATE FUNCTION app.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER z_fail BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.fail();
SELECT is(t.error('SELECT public.auto_complete_challenges(''2024-02-29'')'), 'P0001: no', 'a job function that fails');
SELECT unalike(t.held(), '%2/3%', 'leaves no lock of the session behind, either');
SELECT is(pg_advisory_unlock_shared(7) AND pg_advisory_unlock_shared(8), true, 'and the caller''s remain');

SELECT * FROM finish();
ROLLBACK;
