/*
 * What makes the decision fair: which digits count, whose rates, from when on. Each rule against an oracle in plain SQL.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE FUNCTION t.doctor(pattern text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', status, finding), '; ') FROM challenge_jobs.doctor() WHERE check_name ~ pattern AND status <> 'ok'
$$;
/* t.mend: types what the doctor says */
CREATE FUNCTION t.mend(pattern text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r   record;
BEGIN
    FOR r IN SELECT remedy FROM challenge_jobs.doctor() WHERE check_name ~ pattern AND status <> 'ok' LOOP
        EXECUTE r.remedy;
    END LOOP;
END
$$;
/* t.outcomes: what would be decided with these settings; nothing stays */
CREATE FUNCTION t.outcomes(settings jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    BEGIN
        PERFORM t.set(settings);
        PERFORM t.run();
        result := t.statuses();
        RAISE EXCEPTION USING errcode = 'P0999';
    EXCEPTION WHEN sqlstate 'P0999' THEN
        RETURN result;
    END;
END
$$;
/* t.empty: no challenges */
CREATE FUNCTION t.empty() RETURNS void LANGUAGE sql AS
$$ DELETE FROM app.challenges; DELETE FROM app.challenge_member_stats; DELETE FROM app.challenge_members $$;

/* ---- which digits count ---- */
/* five members with 28 of 35 check-ins, as an app rounds their rates, and as floats */
SELECT t.add('rounded', VARIADIC array_agg(round(100.0 * done / 7, 2))) FROM unnest(ARRAY[6, 6, 6, 5, 5]) done \g /dev/null
SELECT t.add('exact', VARIADIC array_agg(100.0 * done / 7)) FROM unnest(ARRAY[6, 6, 6, 5, 5]) done \g /dev/null
SELECT t.add('less', 79.99, 80) \g /dev/null
SELECT is(trim_scale(avg(completion_rate)), 79.998, 'the app rounds to two digits: the group that did 80 % has less') FROM app.challenge_member_stats WHERE challenge_id = 1;
SELECT is(t.outcomes(), 'rounded=failed exact=completed less=failed', 'by default six digits count');
SELECT is(t.outcomes('{"completion_digits": 2}'), 'rounded=completed exact=completed less=completed', 'two digits: what people see');
SELECT is(t.outcomes('{"completion_digits": 15}'), 'rounded=failed exact=completed less=failed', 'fifteen digits');
SELECT is(t.outcomes('{"completion_threshold": 79.998, "completion_digits": 3}'), 'rounded=completed exact=completed less=failed', 'three digits');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE float8;
UPDATE app.challenge_member_stats SET completion_rate = 79.9999999 WHERE challenge_id = 2;
SELECT is(t.outcomes(), 'rounded=failed exact=completed less=failed', 'the noise of floats does not count');
SELECT is(t.outcomes('{"completion_digits": 15}'), 'rounded=failed exact=failed less=failed', 'unless it is to');
SELECT matches(t.error($$ SELECT t.set('{"completion_digits": 16}') $$), '^22023: invalid value for setting "completion_digits"', 'more there are not');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE numeric;

/* any rates, any digits, in chunks and at once: as round(avg()) has it */
SELECT t.empty() \g /dev/null
SELECT setseed(0.13) \g /dev/null
SELECT t.add('n' || n, VARIADIC ARRAY(SELECT round((79.9 + 0.2 * random())::numeric, n % 5) FROM generate_series(1, 1 + n % 4)))
  FROM generate_series(1, 200) n \g /dev/null
SELECT is(t.outcomes(jsonb_build_object('completion_digits', digits)),
          (SELECT string_agg(format('%s=%s', name, CASE WHEN average >= 80 THEN 'completed' ELSE 'failed' END), ' ' ORDER BY id)
             FROM (SELECT c.id, c.name, round(avg(s.completion_rate), digits) AS average
                     FROM app.challenges c JOIN app.challenge_member_stats s ON s.challenge_id = c.id GROUP BY 1, 2) x),
          format('%s digits: as round(avg()) has it', digits))
  FROM unnest(ARRAY[0, 1, 2, 3, 6, 15]) digits;

/* the doctor sees what the app rounds to */
SELECT is(t.doctor('^digits'), NULL, 'the doctor says nothing of rates with more digits');
UPDATE app.challenge_member_stats SET completion_rate = round(completion_rate, 2);
SELECT is(t.doctor('^digits'), 'warning completion rates are rounded to 2 digits, and their average is compared by 6: '
          'an average that an app shows as the threshold can be below it', 'the doctor sees rates that are rounded to two');
SELECT t.mend('^digits') \g /dev/null
SELECT is(settings -> 'completion_digits', '2', 'what it says to type is the setting') FROM challenge_jobs.job WHERE job = 'auto_complete_challenges';
SELECT is(t.doctor('^digits'), NULL, 'and mends it');
SELECT t.set('{"completion_digits": null}') \g /dev/null
UPDATE app.challenge_member_stats SET completion_rate = 80;
SELECT is(t.doctor('^digits'), NULL, 'nothing is said of whole rates');
UPDATE app.challenge_member_stats SET completion_rate = 87.5 WHERE challenge_id < 6;
SELECT is(t.doctor('^digits'), NULL, 'nor of a few that are not');

SELECT * FROM finish();
ROLLBACK;
