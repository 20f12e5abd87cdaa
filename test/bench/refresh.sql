/*
 * What the sides of the benchmark refresh.sh need beside the demo app: changes that the view does
 * not show yet, and the check that it shows them.
 *
 * Variable: changed, the percentage of the view's rows that are to change.
 */

CREATE SCHEMA bench;

/* A day earlier: of every row of the challenge two columns change. Triggers have no part in this. */
SET session_replication_role = replica;
UPDATE challenges
   SET start_date = start_date - 1
 WHERE abs(mod(hashtextextended(id::text, 0), 100)) < :changed;
RESET session_replication_role;

CREATE VIEW bench.difference AS
SELECT challenge_id, user_id
  FROM challenge_member_stats s
  FULL JOIN (SELECT m.challenge_id, m.user_id, c.start_date, count(i) AS total_checkins, max(i.checkin_date) AS last_checkin
               FROM challenge_members m
               JOIN challenges c ON c.id = m.challenge_id
               LEFT JOIN check_ins i USING (challenge_id, user_id)
              WHERE m.status IN ('active', 'completed')
              GROUP BY m.challenge_id, m.user_id, c.start_date) w USING (challenge_id, user_id)
 WHERE (s.total_checkins, s.days_so_far) IS DISTINCT FROM (w.total_checkins, w.last_checkin - w.start_date + 1);

CREATE TABLE bench.rows AS
SELECT (SELECT count(*) FROM challenge_member_stats) AS stored,
       (SELECT count(*) FROM bench.difference) AS changed;

CREATE FUNCTION bench.all_done() RETURNS boolean
LANGUAGE sql STABLE
RETURN NOT EXISTS (SELECT FROM bench.difference);
