-- challenge_jobs.undo_decisions: one wrong night is taken back; compared with what plain SQL says.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS challenge_jobs SCHEMA public;
CREATE ROLE regress_cj_undo;
CREATE SCHEMA undo AUTHORIZATION regress_cj_undo;
SET ROLE regress_cj_undo;
CREATE TYPE undo.status AS ENUM ('running', 'won', 'lost', 'archived');
CREATE TABLE undo.challenges (id uuid PRIMARY KEY, n integer, status undo.status NOT NULL, end_date timestamptz NOT NULL);
CREATE TABLE undo.members (challenge_id uuid, user_id integer);
CREATE TABLE undo.stats (challenge_id uuid, completion_rate numeric);
CREATE TABLE undo.notifications (user_id integer, type text, data text, read_at timestamptz, created_at timestamp);
CREATE TABLE undo.audit (who name, what text);
CREATE FUNCTION undo.watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO undo.audit VALUES (current_user, TG_TABLE_NAME || ' ' || TG_OP);
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSIF NEW.status = 'running' AND NEW.n = 9 THEN
        RAISE 'not this one';
    END IF;
    RETURN NEW;
END
$$;
INSERT INTO undo.challenges SELECT gen_random_uuid(), n, 'running', now() - n * interval '1 hour' FROM generate_series(1, 40) n;
INSERT INTO undo.members SELECT id, u FROM undo.challenges, generate_series(1, 3) u;
INSERT INTO undo.stats SELECT id, 60 + n FROM undo.challenges;
RESET ROLE;
SELECT challenge_jobs.bind('challenges', 'undo.challenges', labels => '{"active": "running", "completed": "won", "failed": "lost"}'),
       challenge_jobs.bind('challenge_members', 'undo.members'), challenge_jobs.bind('challenge_member_stats', 'undo.stats'),
       challenge_jobs.bind('notifications', 'undo.notifications') \g /dev/null

CALL challenge_jobs.run('auto_complete_challenges');
SELECT max(run_id) AS night FROM challenge_jobs.decision \gset
SELECT status, count(*) FROM undo.challenges GROUP BY status ORDER BY status;

-- what is refused
\set VERBOSITY terse
CALL challenge_jobs.undo_decisions(NULL);
CALL challenge_jobs.undo_decisions(-1);
BEGIN;
CALL challenge_jobs.undo_decisions(:night);
ROLLBACK;
SELECT count(*) FROM challenge_jobs.job_run WHERE job = 'undo_decisions';

-- neither paused nor disabled
CALL challenge_jobs.undo_decisions(:night);

-- what happens meanwhile: some are read, one is archived, one was decided once more, one has a trigger that does not want it
UPDATE undo.notifications SET read_at = now() WHERE user_id = 3;
UPDATE undo.notifications SET data = 'no JSON' WHERE ctid IN (SELECT n.ctid FROM undo.notifications n JOIN undo.challenges c ON n.data LIKE '%' || c.id || '%' WHERE c.n = 12 AND n.user_id = 1);
INSERT INTO undo.notifications VALUES (1, 'challenge_completed', '{"run_id": 0, "challenge_id": "x"}', NULL, now()), (1, 'other', '{', NULL, now());
UPDATE undo.challenges SET status = 'archived' WHERE n = 5;
UPDATE undo.challenges SET status = 'running' WHERE n = 6;
CALL challenge_jobs.run('auto_complete_challenges');
CREATE TRIGGER watch BEFORE UPDATE ON undo.challenges FOR EACH ROW EXECUTE FUNCTION undo.watch();
CREATE TRIGGER watch BEFORE DELETE ON undo.notifications FOR EACH ROW EXECUTE FUNCTION undo.watch();
CREATE TABLE undo.before AS SELECT * FROM undo.notifications;

SELECT challenge_jobs.pause('one wrong night') \g /dev/null
CALL challenge_jobs.undo_decisions(:night);
SELECT status, rows_affected, result - 'undone_run' AS result, (result->>'undone_run')::bigint = :night AS of_that_night, detail LIKE 'Not done (1): challenge %' AS named
  FROM challenge_jobs.job_run WHERE job = 'undo_decisions';

-- the oracle: what is not back is what was archived, decided once more, or kept by the trigger
SELECT n, status FROM undo.challenges WHERE status <> 'running' ORDER BY n;
SELECT c.n, d.run_id = :night AS of_that_night FROM challenge_jobs.decision d JOIN undo.challenges c ON c.id::text = d.challenge_key ORDER BY c.n, 2;
SELECT (SELECT count(*) FROM (TABLE undo.before EXCEPT ALL TABLE undo.notifications) gone)
       = (SELECT count(*) FROM undo.before b JOIN undo.challenges c ON b.data LIKE '%' || c.id || '%' WHERE c.status = 'running' AND b.read_at IS NULL) AS unread_ones_are_gone,
       (SELECT count(*) FROM undo.notifications n JOIN undo.challenges c ON n.data LIKE '%' || c.id || '%' WHERE c.status = 'running' AND n.read_at IS NULL) AS not_removed,
       (SELECT count(*) FROM undo.notifications n WHERE n.data IN ('no JSON', '{') OR n.data LIKE '%"x"%') AS not_ours;
SELECT DISTINCT who, what FROM undo.audit ORDER BY 2;

-- and the next run decides it again
SELECT challenge_jobs.resume() \g /dev/null
DROP TRIGGER watch ON undo.challenges;
CALL challenge_jobs.run('auto_complete_challenges');
SELECT status, count(*) FROM undo.challenges GROUP BY status ORDER BY status;

-- without a column that says what is read, and without data, no notification is removed
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false) \g /dev/null
ALTER TABLE undo.notifications DROP COLUMN read_at;
SELECT max(run_id) AS night FROM challenge_jobs.decision \gset
CALL challenge_jobs.undo_decisions(:night);
SELECT result->'undone' AS undone, result->'notifications_removed' AS removed, result->>'notifications_stay' AS why
  FROM challenge_jobs.job_run WHERE job = 'undo_decisions' ORDER BY run_id DESC LIMIT 1;
SELECT challenge_jobs.reset_job('auto_complete_challenges');

-- those that were cancelled come back, too, unless there is no such label any more
SELECT challenge_jobs.bind('challenges', 'undo.challenges', labels => '{"active": "running", "completed": "won", "failed": "lost", "cancelled": "archived"}') \g /dev/null
UPDATE undo.challenges SET status = 'running';
DELETE FROM undo.members WHERE challenge_id IN (SELECT id FROM undo.challenges WHERE n <= 25 AND n % 5 = 0);
CALL challenge_jobs.run('auto_complete_challenges');
SELECT max(run_id) AS night FROM challenge_jobs.decision \gset
SELECT status, count(*) FROM undo.challenges GROUP BY status ORDER BY status;
SELECT challenge_jobs.pause() \g /dev/null
CALL challenge_jobs.undo_decisions(:night);
SELECT status, count(*) FROM undo.challenges GROUP BY status ORDER BY status;
SELECT challenge_jobs.resume() \g /dev/null
CALL challenge_jobs.run('auto_complete_challenges');
SELECT max(run_id) AS night FROM challenge_jobs.decision \gset
SELECT challenge_jobs.pause() \g /dev/null
SELECT challenge_jobs.bind('challenges', 'undo.challenges', labels => '{"active": "running", "completed": "won", "failed": "lost"}') \g /dev/null
CALL challenge_jobs.undo_decisions(:night);
SELECT status, count(*) FROM undo.challenges GROUP BY status ORDER BY status;

-- whose notices were taken back is told of what is decided then, however long ago it ended; what is new and as old is not
SELECT challenge_jobs.resume() \g /dev/null
ALTER TABLE undo.notifications ADD read_at timestamptz;
DELETE FROM undo.notifications;
DELETE FROM challenge_jobs.job_run;
UPDATE undo.challenges SET status = 'running', end_date = now() - interval '8 days' - n * interval '1 minute';
SELECT completed, failed, notified, not_notified FROM auto_complete_challenges(now() - interval '7 days');
SELECT max(run_id) AS night FROM challenge_jobs.decision \gset
SELECT challenge_jobs.pause() \g /dev/null
CALL challenge_jobs.undo_decisions(:night);
SELECT challenge_jobs.resume() \g /dev/null
SELECT completed, failed, notified, not_notified FROM auto_complete_challenges(dry_run => true);
SELECT completed, failed, notified, not_notified FROM auto_complete_challenges();
INSERT INTO undo.challenges VALUES (gen_random_uuid(), 41, 'running', now() - interval '8 days');
SELECT completed, failed, notified, not_notified FROM auto_complete_challenges();

DROP EXTENSION challenge_jobs CASCADE;
DROP SCHEMA undo CASCADE;
DROP ROLE regress_cj_undo;
