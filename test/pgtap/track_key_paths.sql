/*
 * That the key paths of tracked views lead to all keys: for each of the shapes, small random tables are
 * changed row by row, and the keys whose rows of the view have changed, as a full recomputation before and
 * after shows them, have to be among those that the key paths of the changed row give.
 *
 *   psql -v changes=1000 -v seed=0.5 -f test/pgtap/track_key_paths.sql    longer, other numbers
 */
BEGIN;
\ir track_shapes.psql
SELECT no_plan();
\if :{?changes} \else \set changes 30 \endif
\if :{?seed} \else \set seed 0.42 \endif
SELECT setseed(:seed) \g /dev/null
SELECT diag('changes: ' || :changes || ', seed: ' || :seed);

/* A random row of a table, as values for INSERT and the like. */
CREATE FUNCTION random_row(tbl text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(CASE WHEN random() < 0.1 THEN 'NULL' ELSE quote_literal(1 + floor(random() * 3)) END, ', ')
      FROM pg_attribute
     WHERE attrelid = tbl::regclass AND attnum > 0 AND NOT attisdropped
$$;

/* Empties a table and puts a few random rows into it. */
CREATE FUNCTION fill(tbl text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %s', tbl);
    FOR i IN 1..(random() * 4)::integer LOOP
        EXECUTE format('INSERT INTO %s VALUES (%s)', tbl, random_row(tbl));
    END LOOP;
END
$$;

/* Inserts, deletes or updates one random row; returns it as it was and as it is. */
CREATE FUNCTION change(tbl text) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
    what    float := random();
    place   record;
    r       jsonb;
BEGIN
    IF what < 0.7 THEN
        EXECUTE format('SELECT tableoid AS t, ctid AS c, to_jsonb(x) AS r FROM %s x ORDER BY random() LIMIT 1', tbl) INTO place;
        IF place.r IS NOT NULL THEN
            RETURN NEXT place.r;
            EXECUTE format('DELETE FROM %s WHERE tableoid = $1 AND ctid = $2', tbl) USING place.t, place.c;
        END IF;
    END IF;
    IF what > 0.35 THEN
        EXECUTE format('INSERT INTO %s AS x VALUES (%s) RETURNING to_jsonb(x)', tbl, random_row(tbl)) INTO r;
        RETURN NEXT r;
    END IF;
END
$$;

/* All rows of the view by its definition, each after its key. */
CREATE FUNCTION shown(definition text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    result  text[];
BEGIN
    EXECUTE format('SELECT array_agg(coalesce(q.challenge_id::text, ''NULL'') || ''|'' || q::text) FROM (%s) q', definition) INTO result;
    RETURN coalesce(result, '{}');
END
$$;

/* The keys that a key_path gives for a row; a key that is NULL is 'NULL'. */
CREATE FUNCTION keys_of(column_name name, via_table text, r jsonb) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    value   text := r->>column_name::text;
    part    text[] := regexp_match(via_table, '^(.*): (.*) -> (.*)$');
BEGIN
    IF via_table IS NULL THEN
        RETURN NEXT coalesce(value, 'NULL');
    ELSE
        RETURN QUERY EXECUTE format('SELECT coalesce(%s::text, ''NULL'') FROM %s WHERE %s = %L', part[3], part[1], part[2], value);
    END IF;
END
$$;

/* Tries a shape; returns the first key that was left out, with what was changed, or NULL. */
CREATE FUNCTION left_out(definition text, changes integer, OUT what text, OUT moved integer) LANGUAGE plpgsql AS $$
DECLARE
    tbl     text;
    was     text[];
    rows    jsonb[];
    given   text[];
    changed text[];
BEGIN
    moved := 0;
    PERFORM make(definition);
    CREATE TEMP TABLE IF NOT EXISTS key_path (source text, column_name name, key_path text, via_table text, reason text);
    DELETE FROM key_path;
    INSERT INTO key_path SELECT * FROM challenge_jobs.track(to_regclass('t.v'), dry_run => true);
    FOR tbl IN SELECT DISTINCT r.source FROM key_path r WHERE r.key_path <> 'whole_view' ORDER BY 1 LOOP
        FOR i IN 1..changes LOOP
            IF i % 4 = 1 THEN
                PERFORM fill(r.source) FROM (SELECT DISTINCT r.source FROM key_path r ORDER BY 1) r;
            END IF;
            was := shown(definition);
            rows := ARRAY(SELECT change(tbl));
            given := ARRAY(SELECT keys_of(r.column_name, r.via_table, o) FROM key_path r, unnest(rows) o WHERE r.source = tbl);
            changed := ARRAY(WITH new AS (SELECT unnest(shown(definition)) AS r), old AS (SELECT unnest(was) AS r)
                             SELECT DISTINCT split_part(r, '|', 1)
                               FROM ((TABLE new EXCEPT ALL TABLE old) UNION ALL (TABLE old EXCEPT ALL TABLE new)) d);
            moved := moved + cardinality(changed);
            IF NOT changed <@ given THEN
                what := format('%s: rows %s, changed %s, given %s', tbl, rows::text, changed, given);
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END
$$;

/* ---- the test tests ---- */
/* what the key paths of one view give is not enough for another one, which has other keys */
CREATE FUNCTION track_another(definition text, other text, changes integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    body    text := pg_get_functiondef('left_out'::regproc);
BEGIN
    EXECUTE replace(replace(body, 'left_out(', 'left_out_of_another('), 'shown(definition)', format('shown(%L)', other));
    RETURN (SELECT what IS NOT NULL FROM left_out_of_another(definition, changes));
END
$$;
SELECT ok(track_another('SELECT challenge_id, user_id FROM members', 'SELECT user_id AS challenge_id, challenge_id AS c FROM members', 100),
          'a wrong key_path is found');

/* ---- each shape ---- */
SELECT is(o.what, NULL, format('%s: no key is left out (%s keys changed)', s.name, o.moved))
  FROM shape s, LATERAL left_out(s.definition, :changes) o
 ORDER BY s.n;
SELECT cmp_ok(sum(o.moved), '>', 100::bigint, 'and the changes were not without effect')
  FROM shape s, LATERAL left_out(s.definition, 10) o
 WHERE s.n < 30;

SELECT * FROM finish();
ROLLBACK;
