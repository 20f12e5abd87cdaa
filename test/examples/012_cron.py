#!/usr/bin/python3
"""examples/github-actions and examples/railway: what they start, as it stands in their files, with run-jobs.sh
where their READMEs say to copy it."""

import json
import os
import re
import shlex
import shutil
import socket
import struct
import threading

from harness import ROOT, BREAKABLE, UNDECIDE, black_hole, done, equal, folder, like, need, ok, psql, run, skip_all, wait_for

try:
    import yaml
except ImportError:
    skip_all("python3-yaml is not installed")

need("bash")
EXAMPLES = ROOT / "examples"
JOBS = ["auto_complete_challenges", "refresh_challenge_stats", "send_streak_reminders",
        "cleanup_expired_notifications"]
URL = f"postgresql://ci@/{os.environ['PGDATABASE']}?host={os.environ['PGHOST']}&port={os.environ['PGPORT']}"
OUTSIDE = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}  # nothing that would lead psql elsewhere


def copy_as_told(readme, target):
    """Does what the first block of commands in a README says."""
    commands = re.search(r"^(    .*\n)+", readme, re.M).group()
    result = run("bash", "-eu", "-c", commands, cwd=target, env=OUTSIDE | {"EXAMPLES": str(EXAMPLES)})
    if result.returncode:
        raise RuntimeError(result.stderr)


# ---- GitHub Actions ----

workflow_readme = (EXAMPLES / "github-actions/README.md").read_text()
clone = folder()
copy_as_told(workflow_readme, clone)
workflow = yaml.safe_load((clone / ".github/workflows/daily-jobs.yml").read_text())
on = workflow[True]  # the word "on" is a truth value to YAML 1.1
(job,) = workflow["jobs"].values()
equal(sorted(on), ["schedule", "workflow_dispatch"], "the workflow is started by its schedule and by hand")
equal(psql(f"SELECT count(*) FROM challenge_jobs.alter_job('auto_complete_challenges', schedule => '{on['schedule'][0]['cron']}')"),
      "1", "its schedule is a cron expression")
equal(workflow["permissions"], {"contents": "read"}, "it may only read")
equal([step.get("uses", "").split("@")[0] for step in job["steps"]], ["actions/checkout", ""],
      "it checks the repository out, and has one step of its own")
ok("${{" not in job["steps"][1]["run"], "in whose commands nothing is pasted")


def run_workflow(**inputs):
    """Runs the step as the runner does."""
    (step,) = [step for step in job["steps"] if "run" in step]
    command = {"bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}[step["shell"]]
    values = {"secrets.CHALLENGE_JOBS_DATABASE_URL": URL, "secrets.CHALLENGE_JOBS_PASSWORD": "", "inputs.job": inputs.get("job", "")}
    environment = {name: re.sub(r"\$\{\{ *(\S+) *\}\}", lambda found: values[found[1]], value)
                   for name, value in step["env"].items()}
    script = folder() / "step.sh"
    script.write_text(step["run"])
    return run(*command, script, cwd=clone, env=OUTSIDE | environment)


# ---- Railway ----

railway_readme = (EXAMPLES / "railway/README.md").read_text()
repository = folder()
copy_as_told(railway_readme, repository)
service = repository / "jobs"
config = json.loads((service / "railway.json").read_text())
dockerfile = [line.split(None, 1) for line in (service / config["build"]["dockerfilePath"]).read_text().splitlines()
              if line and not line.startswith("#")]
equal(config["build"]["builder"], "DOCKERFILE", "Railway builds from the Dockerfile")
equal(config["deploy"]["restartPolicyType"], "NEVER", "and does not start again what has ended")
equal(psql(f"SELECT count(*) FROM challenge_jobs.alter_job('auto_complete_challenges', schedule => '{config['deploy']['cronSchedule']}')"),
      "1", "its schedule is a cron expression")
psql("SELECT challenge_jobs.reset_job('auto_complete_challenges')")
equal(shlex.split(config["deploy"]["startCommand"]), json.loads(dict(dockerfile)["CMD"]),
      "the image does by itself what Railway starts")

image = folder()
image_environment = {}
for instruction, words in dockerfile:
    if instruction == "COPY":
        *sources, target = words.split()
        for source in sources:
            shutil.copy(service / source, image / target)
    elif instruction == "ENV":
        name, value = words.split("=", 1)
        image_environment[name] = value


def run_railway(job=None):
    """Runs the start command in a folder with the files of the image, without a shell, as Railway does."""
    command = shlex.split(config["deploy"]["startCommand"])
    return run(*command, *([job] if job else []), cwd=image, env=OUTSIDE | image_environment | {"DATABASE_URL": URL})


# ---- what must hold for both ----


def runs(triggered_by):
    """Returns job and status of the runs since this was last asked, and forgets them."""
    got = psql(f"SELECT job, status FROM challenge_jobs.job_run WHERE triggered_by = '{triggered_by}' ORDER BY run_id", "-F ")
    psql("DELETE FROM challenge_jobs.job_run")
    return got.splitlines()


psql(BREAKABLE)
for name, readme, start in (("github-actions", workflow_readme, run_workflow), ("railway", railway_readme, run_railway)):
    refused = start()
    ok(refused.returncode != 0, f"{name}: red where one cannot connect")
    like(refused.stdout + refused.stderr, 'role "ci" does not exist', "which is said")

    psql(re.search(r"```sql\n(.*?)```", readme, re.S).group(1))
    result = start()
    equal(result.returncode, 0, "green where all is well")
    ok(result.stdout.count(": ok\n") == 4 and result.stderr == "", "with a line for each job", result.stdout, result.stderr)
    equal(runs(name), [f"{job} succeeded" for job in JOBS], "all have run")

    psql(UNDECIDE + """INSERT INTO broken VALUES (E'not today\\n::add-mask::a\\n$(touch pasted) `touch pasted`');""")
    result = start()
    equal(result.returncode, 1, "red where one job fails")
    like(result.stderr, "ERROR:  not today", "the error is shown")
    like(result.stdout, "auto_complete_challenges: failed\n", "and the job is named")
    equal(runs(name), ["auto_complete_challenges failed"] + [f"{job} succeeded" for job in JOBS[1:]], "the others have run")
    if start is run_workflow:
        lines = (result.stdout).splitlines()
        like(lines[0], r"^::stop-commands::[0-9a-f-]{36}$", "what is said by the app is no command to the runner")
        equal(lines[-1], lines[0].replace("stop-commands::", "") + "::", "until the step ends")
        lines = start().stdout.splitlines()
        ok(lines[-1] not in result.stdout, "by a word that cannot be guessed")
        runs(name)
    ok(not list(clone.rglob("pasted")) + list(image.rglob("pasted")), "nor to a shell")
    psql("TRUNCATE broken")

    result = start(job="send_streak_reminders")
    equal((result.returncode, runs(name)), (0, ["send_streak_reminders succeeded"]), "one job alone")
    result = start(job="nosuch; SELECT 1")
    equal((result.returncode, runs(name)), (1, []), "red where there is no such job")
    like(result.stderr, 'there is no job "nosuch; SELECT 1"', "which is said")
    psql("SELECT challenge_jobs.alter_job('refresh_challenge_stats', enabled => false)")
    result = start()
    equal((result.returncode, runs(name)[1]), (0, "refresh_challenge_stats skipped"), "green where a job is disabled")
    psql("SELECT challenge_jobs.reset_job('refresh_challenge_stats')")
    psql("DROP OWNED BY ci; DROP ROLE ci")

result = run("sh", EXAMPLES / "run-jobs.sh", env=OUTSIDE)
ok(result.returncode != 0 and "DATABASE_URL" in result.stderr, "nothing is run where DATABASE_URL is not set", result.stderr)

# ---- servers that are not as they should be ----


def ask_for_password(server):
    """Asks whoever connects for a password, and notes what comes instead of it."""
    client, _ = server.accept()
    with client:
        client.recv(8192)
        client.sendall(struct.pack("!cii", b"R", 8, 3))
        passwords.append(client.recv(8192))


passwords = []
for name, server in (("that wants a password", socket.create_server(("127.0.0.1", 0))), ("that hangs", None)):
    if server:
        threading.Thread(target=ask_for_password, args=(server,), daemon=True).start()
    port = server.getsockname()[1] if server else black_hole()
    url = f"postgresql://ci@127.0.0.1:{port}/app?sslmode=disable&gssencmode=disable"
    result = run("sh", EXAMPLES / "run-jobs.sh", JOBS[0], env=OUTSIDE | {"DATABASE_URL": url})
    equal((result.returncode, result.stdout), (1, f"{JOBS[0]}: failed\n"), f"a server {name}: red")
    like(result.stderr, "no password supplied" if server else "timeout expired", "which is said")
wait_for(lambda: passwords, "the one that asked to hear of it")
equal(passwords, [b""], "and nobody is asked for a password")
done()
