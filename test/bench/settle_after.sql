/*
 * How many groups that reach the threshold are declared failed, since the last evening comes after the decision: simulated with
 * the job itself. Variable: groups, of each kind.
 *
 * Assumptions:
 *   - a challenge has 5 members and 7 or 30 days; the rate of a member is the share of days with a check-in, the threshold is 80 %;
 *   - end_date is a date, day_time_zone is UTC, the job runs at the moment at which the challenge is due, by the schedule that fits;
 *   - all members of a group live in one time zone; there are ends in winter and in summer;
 *   - each group has a discipline from 70 to 100 %, evenly distributed: so likely is a check-in, for each member and day;
 *   - a check-in comes in the morning, from 06:00 to 10:00, or in the evening, from 17:00 to 24:00 (evenly, local time); the share of
 *     evenings is 30 or 70 %;
 *   - a check-in counts for its local date, and nobody checks in for a day that is over.
 */
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION challenge_jobs;
CREATE TABLE public.challenges (
    id          integer PRIMARY KEY,
    status      text NOT NULL DEFAULT 'active',
    end_date    date NOT NULL,
    zone        text NOT NULL,
    days        integer NOT NULL,
    evenings    double precision NOT NULL,
    discipline  double precision NOT NULL
);
CREATE TABLE public.challenge_members (challenge_id integer, user_id integer, PRIMARY KEY (challenge_id, user_id));
CREATE TABLE public.checkins (challenge_id integer, user_id integer, at timestamptz);
CREATE TABLE public.clock (now timestamptz);
CREATE TABLE public.notifications (user_id integer);
CREATE VIEW public.challenge_member_stats AS
SELECT m.challenge_id, m.user_id, 100.0 * count(i.at) / c.days AS completion_rate
  FROM challenge_members m
  JOIN challenges c ON c.id = m.challenge_id
  LEFT JOIN checkins i ON i.challenge_id = m.challenge_id AND i.user_id = m.user_id AND i.at <= (SELECT now FROM clock)
 GROUP BY m.challenge_id, m.user_id, c.days;

SELECT setseed(0.42) \g /dev/null
INSERT INTO challenges (id, end_date, zone, days, evenings, discipline)
SELECT row_number() OVER (), end_date, zone, days, evenings, 0.7 + 0.3 * random()
  FROM unnest(ARRAY['Europe/London', 'America/Sao_Paulo', 'America/New_York', 'America/Los_Angeles', 'Pacific/Honolulu']) zone,
       unnest(ARRAY['2024-01-31', '2024-07-31']::date[]) end_date,
       unnest(ARRAY[7, 30]) days, unnest(ARRAY[0.3, 0.7]) evenings, generate_series(1, :groups);
INSERT INTO challenge_members SELECT c.id, m FROM challenges c, generate_series(1, 5) m;
INSERT INTO checkins
  WITH chance AS MATERIALIZED (
    SELECT c.*, m.user_id, c.end_date - day AS date, random() < c.discipline AS comes, random() < c.evenings AS late, random() AS hour
      FROM challenges c
      JOIN challenge_members m ON m.challenge_id = c.id
     CROSS JOIN LATERAL generate_series(0, c.days - 1) day)
SELECT id, user_id, (date + CASE WHEN late THEN interval '17 hours' + hour * interval '7 hours'
                                 ELSE interval '6 hours' + hour * interval '4 hours' END) AT TIME ZONE zone
  FROM chance WHERE comes;
CREATE INDEX ON checkins (challenge_id, user_id);
ANALYZE;

/* What is true, when all have checked in. */
INSERT INTO clock VALUES ('infinity');
CREATE TABLE reached AS
SELECT challenge_id AS id FROM challenge_member_stats GROUP BY 1 HAVING round(avg(completion_rate), 6) >= 80;
CREATE TABLE decided (settle_after interval, id integer, status text);

/* Decides everything with each setting, and takes it back. */
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify": false}') \g /dev/null
DO $$
DECLARE
    settle  interval;
    ended   date;
BEGIN
    FOREACH settle IN ARRAY ARRAY['0', '4 hours', '8 hours', '12 hours']::interval[] LOOP
        PERFORM challenge_jobs.alter_job('auto_complete_challenges', settings => jsonb_build_object('settle_after', settle));
        FOR ended IN SELECT DISTINCT end_date FROM challenges ORDER BY 1 LOOP
            UPDATE clock SET now = ended + 1 + settle;
            PERFORM auto_complete_challenges((SELECT now FROM clock));
        END LOOP;
        INSERT INTO decided SELECT settle, id, status FROM challenges WHERE status <> 'active';
        UPDATE challenges SET status = 'active';
    END LOOP;
END
$$;

/* Each group is decided each time, and those that have not reached the threshold are never completed. */
CREATE VIEW outcome AS
SELECT c.zone, d.settle_after, c.days, c.evenings,
       round(100.0 * count(*) FILTER (WHERE d.status = 'failed') / count(*), 1) AS failed
  FROM decided d JOIN challenges c USING (id) JOIN reached r USING (id)
 GROUP BY 1, 2, 3, 4;
