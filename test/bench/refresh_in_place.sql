/*
 * What the sides of the benchmark refresh_in_place.sh need beside the demo app: changes of so many challenges,
 * a number that says whether two views are the same, and the row triggers that one would write in plpgsql.
 */

CREATE SCHEMA bench;

/* The challenges in no order, and of each: who checks in, on which day, and who leaves. */
CREATE TABLE bench.challenge AS
SELECT row_number() OVER (ORDER BY hashtextextended(m.challenge_id::text, 0))::integer AS n,
       m.challenge_id,
       m.users[1] AS checks_in,
       m.users[cardinality(m.users)] AS leaves,
       c.end_date + 1 AS day
  FROM (SELECT challenge_id, array_agg(user_id ORDER BY user_id) AS users
          FROM challenge_members
         WHERE status = 'active'
         GROUP BY challenge_id) m
  JOIN challenges c ON c.id = m.challenge_id
 ORDER BY 1;
ALTER TABLE bench.challenge ADD PRIMARY KEY (n);

/*
 * Changes the first so many challenges, and changes them back where that has been done. In each somebody checks in;
 * in every tenth somebody leaves, every twentieth gets a day longer, and of every hundredth a member gets another
 * name, in all challenges of that member.
 */
CREATE FUNCTION bench.change(challenges integer) RETURNS void
LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM check_ins i
         USING bench.challenge b
         WHERE b.n <= $1
           AND (i.challenge_id, i.user_id, i.checkin_date) = (b.challenge_id, b.checks_in, b.day)
        RETURNING b.n)
    INSERT INTO check_ins (challenge_id, user_id, checkin_date)
    SELECT challenge_id, checks_in, day
      FROM bench.challenge b
     WHERE b.n <= $1
       AND NOT EXISTS (SELECT FROM gone g WHERE g.n = b.n);

    UPDATE challenge_members m
       SET status = CASE m.status WHEN 'active' THEN 'left' ELSE 'active' END::member_status
      FROM bench.challenge b
     WHERE b.n <= $1 AND b.n % 10 = 0
       AND (m.challenge_id, m.user_id) = (b.challenge_id, b.leaves);

    UPDATE challenges c
       SET end_date = b.day - CASE c.end_date WHEN b.day THEN 1 ELSE 0 END
      FROM bench.challenge b
     WHERE b.n <= $1 AND b.n % 20 = 0
       AND c.id = b.challenge_id;

    UPDATE user_profiles u
       SET display_name = CASE WHEN u.display_name LIKE '%!' THEN rtrim(u.display_name, '!') ELSE u.display_name || '!' END
      FROM bench.challenge b
     WHERE b.n <= $1 AND b.n % 100 = 0
       AND u.id = b.checks_in;
$$;

/* Views of the same rows have the same. */
CREATE FUNCTION bench.checksum() RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT count(*) || ':' || sum(hashtextextended(s::text, 0)) FROM challenge_member_stats s);

/* The big UPDATE: of a column that the view reads, one row of each challenge, as far as there are so many. */
CREATE FUNCTION bench.update_many() RETURNS void
LANGUAGE sql AS $$
    UPDATE challenge_members m
       SET status = CASE m.status WHEN 'active' THEN 'completed' ELSE 'active' END::member_status
      FROM bench.challenge b
     WHERE b.n <= 100000
       AND (m.challenge_id, m.user_id) = (b.challenge_id, b.checks_in);
$$;

/* What people write: the key of each row that is changed, into a table. */
CREATE TABLE bench.noted (key uuid NOT NULL);

CREATE FUNCTION bench.note_key() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME IN ('challenges', 'user_profiles') THEN
        INSERT INTO bench.noted VALUES (CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END);
    ELSE
        INSERT INTO bench.noted
        VALUES (CASE WHEN TG_OP = 'DELETE' THEN OLD.challenge_id ELSE NEW.challenge_id END);
    END IF;
    RETURN NULL;
END
$$;

CREATE PROCEDURE bench.make_triggers()
LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['challenges', 'challenge_members', 'check_ins', 'user_profiles'] LOOP
        EXECUTE format('CREATE TRIGGER note_key AFTER INSERT OR UPDATE OR DELETE ON %I'
                       ' FOR EACH ROW EXECUTE FUNCTION bench.note_key()', name);
    END LOOP;
END
$$;

/* Which triggers are at work: those of a tracked view ("tracked"), those above ("plpgsql"), or none. */
CREATE PROCEDURE bench.use_triggers(side text)
LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['challenges', 'challenge_members', 'check_ins', 'user_profiles'] LOOP
        EXECUTE format('ALTER TABLE %I %s TRIGGER %I', name,
                       CASE side WHEN 'tracked' THEN 'ENABLE ALWAYS' ELSE 'DISABLE' END,
                       'challenge_jobs_capture_' || name::regclass::oid);
        EXECUTE format('ALTER TABLE %I %s TRIGGER note_key', name,
                       CASE side WHEN 'plpgsql' THEN 'ENABLE' ELSE 'DISABLE' END);
    END LOOP;
END
$$;
