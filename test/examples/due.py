"""Challenges that are due, and whether each was decided once and each of its members notified once."""

from __future__ import annotations

import psycopg

from harness import configure, psql, wait_for

# The table decision counts how often each challenge was decided. A run stops at its first challenge for as
# long as somebody holds advisory lock 4711: see Stall.
psql(
    """
    CREATE TABLE decision (challenge_id uuid NOT NULL);
    ALTER TABLE decision OWNER TO app_owner;
    CREATE FUNCTION note_decision() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(4711);
        INSERT INTO public.decision VALUES (NEW.id);
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_decision BEFORE UPDATE ON challenges FOR EACH ROW
        WHEN (OLD.status = 'active' AND NEW.status IN ('completed', 'failed'))
        EXECUTE FUNCTION note_decision();
    """
)
configure(lock_timeout="10min")


def make_due(count: int = 3) -> None:
    """Adds challenges that ended the day before yesterday, with three members each."""
    psql(
        f"""
        WITH c AS (
            INSERT INTO challenges (name, status, start_date, end_date, created_by)
            SELECT 'due ' || i, 'active', current_date - 30, current_date - 2, u.id
              FROM generate_series(1, {count}) i, (SELECT id FROM user_profiles LIMIT 1) u
            RETURNING id)
        INSERT INTO challenge_members (challenge_id, user_id)
        SELECT c.id, u.id FROM c, (SELECT id FROM user_profiles ORDER BY id LIMIT 3) u
        """
    )


def undone() -> str:
    """Returns in words everything that is not as it must be when all has been done: "" is right."""
    return psql(
        """
        SELECT 'challenge ' || id || ' is still active'
          FROM challenges WHERE status = 'active' AND end_date < current_date - 1
        UNION ALL
        SELECT 'challenge ' || challenge_id || ' was decided ' || count(*) || ' times'
          FROM decision GROUP BY challenge_id HAVING count(*) <> 1
        UNION ALL
        SELECT 'user ' || m.user_id || ' was notified ' || count(n.id) || ' times of challenge ' || m.challenge_id
          FROM decision d
          JOIN challenge_members m USING (challenge_id)
          LEFT JOIN notifications n ON n.user_id = m.user_id AND n.data->>'challenge_id' = m.challenge_id::text
         GROUP BY m.challenge_id, m.user_id HAVING count(n.id) <> 1
        """
    )


def decided() -> int:
    """Returns how many challenges have been decided."""
    return int(psql("SELECT count(DISTINCT challenge_id) FROM decision"))


class Stall:
    """While it is open, a run that decides challenges stops at the first one."""

    def __enter__(self) -> Stall:
        self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("SELECT pg_advisory_lock(4711)")
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def wait_for_run(self) -> None:
        """Waits until a run has stopped."""
        wait_for(
            lambda: self.connection.execute(
                "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
            ).rowcount,
            "a run to stop",
        )
