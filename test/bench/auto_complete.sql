/*
 * What the sides of the benchmark auto_complete.sh need beside the demo app: the plpgsql function
 * that the job function replaces, the tables of the floor, and the check that a side did the whole work.
 */

CREATE SCHEMA bench;

CREATE FUNCTION bench.today() RETURNS date
LANGUAGE sql STABLE
RETURN (now() AT TIME ZONE 'UTC')::date;

/* ---- plpgsql: as apps have it --------------------------------------------------------------- */

CREATE FUNCTION bench.plpgsql_auto_complete_challenges() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE challenges c
       SET status = CASE WHEN (SELECT avg(s.completion_rate)
                                 FROM challenge_member_stats s
                                WHERE s.challenge_id = c.id) >= 80
                         THEN 'completed'::challenge_status
                         ELSE 'failed'::challenge_status END
     WHERE c.status = 'active'
       AND c.end_date < bench.today();

    INSERT INTO notifications (user_id, type, title, body, data)
    SELECT m.user_id,
           'challenge_completed',
           'Challenge Completed!',
           'Your challenge "' || c.name || '" has ended',
           jsonb_build_object('challenge_id', c.id, 'status', c.status)
      FROM challenges c
      JOIN challenge_members m ON m.challenge_id = c.id
     WHERE c.status IN ('completed', 'failed')
       AND c.updated_at = now();
END
$$;

/* ---- floor: everything known beforehand, only to be written ---------------------------------- */

CREATE TABLE bench.outcome AS
SELECT c.id,
       c.name,
       CASE WHEN avg(s.completion_rate) >= 80
            THEN 'completed'::challenge_status
            ELSE 'failed'::challenge_status END AS status
  FROM challenges c
  LEFT JOIN challenge_member_stats s ON s.challenge_id = c.id
 WHERE c.status = 'active'
   AND c.end_date < bench.today()
 GROUP BY c.id;

CREATE TABLE bench.message AS
SELECT m.user_id,
       'challenge_completed'::notification_type AS type,
       'Challenge Completed!' AS title,
       'Your challenge "' || v.name || '" has ended' AS body,
       jsonb_build_object('challenge_id', v.id, 'status', v.status) AS data
  FROM bench.outcome v
  JOIN challenge_members m ON m.challenge_id = v.id
 ORDER BY v.id;

CREATE TABLE bench.message_by_user AS
SELECT *
  FROM bench.message
 ORDER BY user_id;

/* ---- the check ------------------------------------------------------------------------------- */

/* Every due challenge has its outcome, and each of its members, and nobody else, one notification. */
CREATE FUNCTION bench.all_done() RETURNS boolean
LANGUAGE sql STABLE AS $$
SELECT NOT EXISTS (SELECT
                     FROM bench.outcome v
                     JOIN challenges c USING (id)
                    WHERE c.status <> v.status)
   AND NOT EXISTS (SELECT
                     FROM (SELECT user_id, data - ARRAY['average', 'run_id'] AS data, count(*)
                             FROM notifications
                            WHERE type = 'challenge_completed'
                            GROUP BY 1, 2) notified
                     FULL JOIN (SELECT user_id, data, count(*)
                                  FROM bench.message
                                 GROUP BY user_id, data) wanted USING (user_id, data)
                    WHERE notified.count IS DISTINCT FROM wanted.count)
$$;

/* ---- the averages alone ------------------------------------------------------------------------ */

CREATE FUNCTION bench.time_of_averages(source text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    ids     uuid[] := ARRAY(SELECT id FROM bench.outcome);
    plan    jsonb;
BEGIN
    EXECUTE format('EXPLAIN (ANALYZE, TIMING OFF, FORMAT json)
                    SELECT challenge_id, avg(completion_rate)
                      FROM %s s
                     WHERE challenge_id = ANY ($1)
                     GROUP BY challenge_id', source)
       INTO plan USING ids;
    RETURN format('%s s, at an estimated cost of %s%s',
                  round((plan #>> '{0,Execution Time}')::numeric / 1000, 2),
                  round((plan #>> '{0,Plan,Total Cost}')::numeric),
                  ', with jit ' || (plan #>> '{0,JIT,Options}'));
END
$$;
