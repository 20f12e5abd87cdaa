// Runs the jobs of challenge_jobs by the API of the database, one after another, and answers with what each has done.
import { createHash, timingSafeEqual } from "node:crypto";
import { createClient } from "@supabase/supabase-js";

const JOBS = [
  "auto_complete_challenges",
  "refresh_challenge_stats",
  "send_streak_reminders",
  "cleanup_expired_notifications",
];

/** What refresh_challenge_stats answers for each view, as far as it is looked at here. */
type View = { view_name: string; method: string };

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Returns whether the request brings the secret, in a time that does not depend on how much of it is right. */
function isAllowed(request: Request, secret: string): boolean {
  const given = request.headers.get("Authorization") ?? "";
  return timingSafeEqual(digest(given), digest(`Bearer ${secret}`));
}

Deno.serve(async (request) => {
  const secret = Deno.env.get("CRON_SECRET");
  const url = Deno.env.get("SUPABASE_URL");
  const key = Deno.env.get("SUPABASE_SERVICE_ROLE_KEY");
  if (!secret || !url || !key) {
    const error = "CRON_SECRET, SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY have to be set";
    return Response.json({ error }, { status: 503 });
  }
  if (!isAllowed(request, secret)) {
    return Response.json({ error: "not allowed" }, { status: 401 });
  }
  if (request.method !== "POST") {
    return Response.json({ error: "POST, please" }, { status: 405, headers: { Allow: "POST" } });
  }

  const parameters = new URL(request.url).searchParams;
  const misnamed = [...parameters.keys()].filter((name) => name !== "job");
  if (misnamed.length > 0) {
    return Response.json({ error: `no such parameter: ${misnamed.join(", ")}` }, { status: 400 });
  }
  const asked = parameters.getAll("job");
  const unknown = asked.filter((job) => !JOBS.includes(job));
  if (unknown.length > 0) {
    return Response.json({ error: `no such job: ${unknown.join(", ")}` }, { status: 400 });
  }

  let supabase;
  try {
    supabase = createClient(url, key, {
      auth: { persistSession: false, autoRefreshToken: false },
    });
  } catch (error) {
    return Response.json({ error: `SUPABASE_URL: ${(error as Error).message}` }, { status: 500 });
  }
  const results: Record<string, unknown> = {};
  const errors: Record<string, unknown> = {};
  for (const job of asked.length > 0 ? asked : JOBS) {
    const { data, error } = await supabase.rpc(job);
    if (error) {
      console.error(`${job}: ${error.code} ${error.message}`);
      errors[job] = { code: error.code, message: error.message, details: error.details, hint: error.hint };
    } else {
      results[job] = data;
      // What fails keeps nothing else from being done: the call itself succeeds.
      const views = job === "refresh_challenge_stats" ? data.filter((view: View) => view.method === "failed") : [];
      if (views.length > 0 || data.errors > 0) {
        const message = views.length > 0
          ? `not refreshed: ${views.map((view: View) => view.view_name).join(", ")}`
          : `not done: ${data.errors}`;
        console.error(`${job}: ${message}`);
        errors[job] = { message, hint: "challenge_jobs.job_run says why." };
      }
    }
  }
  const failed = Object.keys(errors).length > 0;
  return Response.json(failed ? { results, errors } : { results }, { status: failed ? 500 : 200 });
});
