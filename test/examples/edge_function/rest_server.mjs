// The API of a database as supabase-js expects it, in the manner of PostgREST: at /rest/v1 of a free port on
// loopback, which is printed. Calls with the key in SECRET_KEY are made as the role service_role.
import process from "node:process";
import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";

const { PGHOST, PGPORT, PGUSER, PGDATABASE, SECRET_KEY } = process.env;
const connection = createPostgresConnection({
  url: "",
  postgresOptions: { path: `${PGHOST}/.s.PGSQL.${PGPORT}`, database: PGDATABASE, username: PGUSER },
});
const app = new App({ connection, auth: { enabled: true, secret_key: SECRET_KEY } });
Deno.serve((request) => app.fetch(request));
