/*
 * What the benchmark reminders.sh needs beside the demo app (loaded with next to nothing in it): its own
 * users, spread over real time zones, members of two challenges each, old notifications; what is
 * compared; and the stopwatch.
 *
 * The share of the users that is to be due lives in zones three hours ahead of UTC, all others elsewhere:
 * so it can be morning for just them at whatever time of day the benchmark is run.
 *
 * Variables: users, zones, due_percent, old_notifications.
 */
SET timezone = 'UTC';
CREATE SCHEMA bench;

CREATE TABLE bench.zones AS
SELECT row_number() OVER (PARTITION BY due ORDER BY name) - 1 AS n, due, name
  FROM (SELECT utc_offset = '03:00' AS due, name,
               row_number() OVER (PARTITION BY utc_offset = '03:00' ORDER BY md5(name)) AS place
          FROM pg_timezone_names
         WHERE name ~ '^[A-Z][a-z]+/' AND name !~ '^Etc/') z
 WHERE place <= CASE WHEN due THEN greatest(1, :zones * :due_percent / 100) ELSE :zones - greatest(1, :zones * :due_percent / 100) END;

/* Users have random keys, as in earnest; the share that is due lives in as large a share of the zones. */
SET session_replication_role = replica;
TRUNCATE public.notifications, public.check_ins, public.challenge_members, public.challenges, public.user_profiles;
DROP INDEX public.notifications_user_id_created_at_idx, public.notifications_created_at_idx, public.notifications_expires_at_idx,
           public.challenge_members_user_id_idx, public.user_profiles_timezone_idx;

CREATE TABLE bench.person AS
SELECT p.n, md5('user ' || p.n)::uuid AS id, z.due, z.name AS zone
  FROM (SELECT n, n % 100 < :due_percent AS due FROM generate_series(1, :users) n) p
  JOIN (SELECT *, count(*) OVER (PARTITION BY due) AS zones FROM bench.zones) z ON z.due = p.due AND z.n = p.n / 100 % z.zones;

INSERT INTO public.user_profiles (id, display_name, timezone)
SELECT id, 'User ' || n, zone FROM bench.person;
INSERT INTO public.challenges (id, name, status, start_date, end_date, created_by)
SELECT md5('challenge ' || n)::uuid, 'Challenge ' || n, 'active', current_date - 10, current_date + 20, md5('user 1')::uuid
  FROM generate_series(1, greatest(:users / 10, 2)) n;
INSERT INTO public.challenge_members (id, challenge_id, user_id, status, current_streak, longest_streak, last_checkin_at)
SELECT gen_random_uuid(), md5('challenge ' || (1 + (n * 7919::bigint + k * 104729::bigint) % greatest(:users / 10, 2)))::uuid,
       id, 'active', 1 + n % 9, 9, now() - interval '1 day'
  FROM bench.person, generate_series(0, 1) k
ON CONFLICT DO NOTHING;
INSERT INTO public.notifications (user_id, type, title, body, data, created_at)
SELECT id, 'streak_reminder', 'Keep your streak!', 'You have not checked in today.', '{}', now() - interval '1 day' * (k + n % 20)
  FROM bench.person, generate_series(1, :old_notifications) k;
RESET session_replication_role;

CREATE INDEX challenge_members_user_id_idx ON public.challenge_members (user_id);
CREATE INDEX user_profiles_timezone_idx ON public.user_profiles (timezone);
CREATE INDEX notifications_user_id_created_at_idx ON public.notifications (user_id, created_at);
CREATE INDEX notifications_created_at_idx ON public.notifications (created_at);
CREATE INDEX notifications_expires_at_idx ON public.notifications (expires_at) WHERE expires_at IS NOT NULL;

/* ---- the floor: everything known beforehand, only to be written ------------------------------ */

/* What an app would write for itself: no ledger, no batches, nobody kept from being notified twice. */
CREATE VIEW bench.at_stake AS
SELECT m.user_id,
       'streak_reminder'::public.notification_type AS type,
       'Your streak is at stake!' AS title,
       'Check in today to keep your streak of ' || max(m.current_streak) || ' in "'
           || (array_agg(c.name ORDER BY m.current_streak DESC, c.id))[1] || '"' AS body,
       jsonb_build_object('local_date', current_date, 'streak', max(m.current_streak),
                          'challenge_ids', jsonb_agg(c.id ORDER BY m.current_streak DESC, c.id)) AS data
  FROM public.user_profiles u
  JOIN public.challenge_members m ON m.user_id = u.id
  JOIN public.challenges c ON c.id = m.challenge_id
 WHERE u.timezone IN (SELECT z.name FROM bench.zones z WHERE z.due)
   AND c.status = 'active'
   AND m.status = 'active'
   AND m.current_streak >= 1
   AND (m.last_checkin_at IS NULL OR m.last_checkin_at < date_trunc('day', now()) AND m.last_checkin_at >= date_trunc('day', now()) - interval '1 day')
   AND current_date BETWEEN c.start_date AND c.end_date
 GROUP BY m.user_id;

CREATE TABLE bench.message AS SELECT * FROM bench.at_stake ORDER BY md5(user_id::text);
CREATE TABLE bench.message_by_user AS SELECT * FROM bench.message ORDER BY user_id;

/* Makes it morning in the zones that are due, or nowhere, for some minutes: zones differ by quarters of an hour. */
CREATE FUNCTION bench.make_morning(due boolean) RETURNS void
LANGUAGE sql AS $$
SELECT challenge_jobs.alter_job('send_streak_reminders', settings => jsonb_build_object(
           'window', CASE WHEN due THEN '12 minutes' ELSE '1 minute' END,
           'reminder_time', to_char(now() AT TIME ZONE 'UTC' + interval '3 hours'
                                    - CASE WHEN due THEN interval '10 seconds' ELSE interval '8 minutes' END, 'HH24:MI:SS')))
$$;

/* ---- the check ------------------------------------------------------------------------------- */

/* Everybody who is due, and nobody else, has been notified once, in the words of the floor. */
CREATE FUNCTION bench.all_done() RETURNS boolean
LANGUAGE sql STABLE AS $$
SELECT NOT EXISTS (SELECT
                     FROM (SELECT user_id, title, body, data - 'local_date' AS data, count(*)
                             FROM public.notifications
                            WHERE title = 'Your streak is at stake!'
                            GROUP BY 1, 2, 3, 4) notified
                     FULL JOIN (SELECT user_id, title, body, data - 'local_date' AS data, count(*)
                                  FROM bench.message
                                 GROUP BY 1, 2, 3, 4) wanted USING (user_id, title, body, data)
                    WHERE notified.count IS DISTINCT FROM wanted.count)
$$;

/* ---- the stopwatch ---------------------------------------------------------------------------- */

CREATE TABLE bench.tick (what text, n integer, milliseconds double precision);

/* Makes so many ticks, each a transaction, after a statement; notes what each took (the job function without its commit). */
CREATE PROCEDURE bench.tick(what text, count integer, run boolean, before text DEFAULT 'SELECT')
LANGUAGE plpgsql AS $$
DECLARE
    began   timestamptz;
    took    double precision;
BEGIN
    FOR i IN 1..count LOOP
        EXECUTE before;
        began := clock_timestamp();
        IF run THEN
            CALL challenge_jobs.run('send_streak_reminders', 'bench');
        ELSE
            PERFORM FROM public.send_streak_reminders();
        END IF;
        took := extract(epoch FROM clock_timestamp() - began) * 1000;
        INSERT INTO bench.tick VALUES (what, i, took);
        COMMIT;
    END LOOP;
END
$$;
