/*
 * What the benchmark cleanup.sh needs beside the demo app: so many notifications, in the order of time,
 * the older half of them expired; and the check that a side did the whole work.
 *
 * Variable: notifications.
 */

CREATE SCHEMA bench;

TRUNCATE notifications;
CREATE INDEX ON notifications (user_id, created_at DESC);

INSERT INTO notifications (id, user_id, type, title, body, data, created_at)
SELECT md5('notification ' || n)::uuid,
       u.ids[(n::bigint * 7919 % cardinality(u.ids))::integer + 1],
       'challenge_completed',
       'Challenge Completed!',
       'Your challenge "30 days of running" has ended',
       '{"challenge_id": 4711, "status": "completed"}',
       now() - interval '60 days' + n * (interval '60 days' / :notifications)
  FROM generate_series(1, :notifications) n,
       (SELECT array_agg(id ORDER BY id) AS ids FROM user_profiles) u;

CREATE TABLE bench.expected AS
SELECT count(*) FILTER (WHERE created_at >= now() - interval '29 days') AS kept FROM notifications;

/* Nothing expired is left, and what must be kept still is. */
CREATE FUNCTION bench.all_done() RETURNS boolean
LANGUAGE sql STABLE AS $$
SELECT NOT EXISTS (SELECT FROM notifications WHERE created_at < now() - interval '30 days 1 hour')
   AND (SELECT count(*) FROM notifications WHERE created_at >= now() - interval '30 days') >= (SELECT kept FROM bench.expected)
$$;

/*
 * Watches a backend, as often as it can, through its statement about notifications to its end; returns
 * how long its longest transaction has lasted, in milliseconds.
 */
CREATE FUNCTION bench.watch(target integer) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    longest interval := '0';
    backend record;
BEGIN
    LOOP
        PERFORM pg_stat_clear_snapshot();
        SELECT a.state, a.query LIKE '%notifications%' AS begun, clock_timestamp() - a.xact_start AS age
          INTO backend
          FROM pg_stat_get_activity(target) a;
        EXIT WHEN NOT FOUND OR backend.begun AND backend.state <> 'active';
        IF backend.begun THEN
            longest := greatest(longest, backend.age);
        END IF;
        PERFORM pg_sleep(0.0002);
    END LOOP;
    RETURN round(extract(epoch FROM longest) * 1000, 1);
END
$$;
