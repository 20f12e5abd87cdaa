/*
 * bind() and unbind(): what is accepted, and what the errors say.
 */
SET client_min_messages = warning;
CREATE EXTENSION challenge_jobs;
CREATE SCHEMA app;
CREATE TYPE app.state AS ENUM ('active', 'completed', 'cancelled');
CREATE TABLE app.challenges (id int PRIMARY KEY, status text, end_date date, name text, flag boolean, details json);
CREATE TABLE app.goals ("Key" uuid, state app.state, until timestamptz, "Title" text);
CREATE TABLE app.short (id int, status varchar(6), end_date date);
CREATE TABLE app.messages (recipient int, kind text, "when" timestamptz);
CREATE VIEW app.stats AS SELECT 1 AS challenge_id, 100.0 AS rate;
CREATE VIEW app.challenges_view AS SELECT * FROM app.challenges;
CREATE SEQUENCE app.numbers;
CREATE INDEX an_index ON app.challenges (status);
CREATE TABLE app.forced (id int, status text, end_date date);
ALTER TABLE app.forced ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.forced FORCE ROW LEVEL SECURITY;
CREATE ROLE regress_cj_owner;
ALTER TABLE app.forced OWNER TO regress_cj_owner;
CREATE TEMPORARY TABLE fleeting (id int, status text, end_date date);

\getenv srcdir PG_ABS_SRCDIR
\set try :srcdir '/test/fixtures/try.sql'
\i :try
\a \x

/* ---- entities and relations ---- */
SELECT * FROM try($$SELECT challenge_jobs.bind('goals', 'app.goals')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('Challenges', 'app.challenges')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind(NULL, 'app.challenges')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', NULL)$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', '')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.nothing')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'challenges; DROP TABLE x')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('notifications', 'nowhere.notifications')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges_view')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenge_member_stats', 'app.numbers')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.an_index')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'pg_catalog.pg_class', '{"id": "oid", "status": "relname"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'information_schema.sql_features')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'challenge_jobs.job_run')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'fleeting')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.forced')$$);

/* ---- columns ---- */
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.goals')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.goals', '{"id": "Key", "status": "state"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"id": "ID"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"id": "ctid"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"name": "title"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"status": "flag"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"id": "details"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"end_date": "name"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"end_date": null}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"title": "name"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"id": 1}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '["id"]')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', '"id"')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', 'null')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats', '{"completion_rate": "challenge_id", "user_id": "nobody"}')$$);

/* ---- labels ---- */
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', labels => '{"done": "x"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', labels => '{"failed": null}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', labels => '[]')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats', '{"completion_rate": "rate"}', '{"active": "x"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.short')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.goals', '{"id": "Key", "status": "state", "end_date": "until", "name": "Title"}')$$);
SELECT * FROM try($$SELECT challenge_jobs.bind('challenges', 'app.goals', '{"id": "Key", "status": "state", "end_date": "until", "name": "Title"}', '{"failed": "it''s lost", "active": "active"}')$$);

/* decided challenges would be due again */
SELECT state FROM try($$SELECT challenge_jobs.bind('challenges', 'app.challenges', labels => '{"completed": "active"}')$$);

/* nothing of all that was stored, but what the hints have bound */
\a \x
SELECT * FROM challenge_jobs.binding ORDER BY entity;
SELECT challenge_jobs.unbind(entity) FROM challenge_jobs.binding;

/* ---- what works ---- */
SET search_path = app, public;
SELECT challenge_jobs.bind('challenges', 'CHALLENGES');
SELECT challenge_jobs.bind('challenges', 'goals', '{"id": "Key", "status": "state", "end_date": "until", "name": "Title"}', '{"failed": "cancelled"}');
SELECT challenge_jobs.bind('notifications', '"messages"', '{"user_id": "recipient", "type": "kind", "created_at": "when", "title": null}');
SELECT challenge_jobs.bind('challenge_member_stats', 'stats', '{"completion_rate": "rate"}');
RESET search_path;
SELECT * FROM challenge_jobs.binding ORDER BY entity;
/* bound again, the earlier binding is gone */
SELECT challenge_jobs.bind('challenges', 'app.challenges');
SELECT challenge_jobs.unbind('notifications');
SELECT challenge_jobs.unbind('notifications');
SELECT * FROM challenge_jobs.binding ORDER BY entity;
\a \x
SELECT * FROM try($$SELECT challenge_jobs.unbind('messages')$$);
SELECT * FROM try($$SELECT challenge_jobs.unbind(NULL)$$);
\a \x

DROP EXTENSION challenge_jobs;
DROP FUNCTION try(text);
DROP TABLE fleeting;
SET client_min_messages = error;
DROP SCHEMA app CASCADE;
DROP ROLE regress_cj_owner;
