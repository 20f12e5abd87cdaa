#!/usr/bin/python3
"""examples/alerts: jobs fail and recover, the worker runs the scripts, and what arrives is what was said, whatever
the app had put into it."""

import email
import email.policy
import json
import os
import pathlib
import re
import shutil

from harness import (ROOT, BREAKABLE, UNDECIDE, HttpSink, configure, done, equal, folder, free_port, like, need, ok, psql, run,
                     skip_all, wait_for)

try:
    from aiosmtpd.controller import Controller
except ImportError:
    skip_all("python3-aiosmtpd is not installed")

need("jq", "curl", "msmtp")
SCRIPTS = ROOT / "examples/alerts"
JOB = "auto_complete_challenges"
DATABASE = os.environ["PGDATABASE"]

# What the app could say to become something else than a text: to a shell, a mail, a chat, JSON.
pasted = folder() / "pasted"
HOSTILE = (f"it's \"broken\" $(touch {pasted}) `touch {pasted}`; touch {pasted} | & \\n %s\n"
           "Bcc: evil@example.com\r\nSubject: you have won\n\n.\nQUIT\n"
           "<!channel> @all <https://evil.example.com|log in> &lt;\t\x01\x1b[31m ä € 日本 😀")


class SmtpSink:
    """Takes down mails, or refuses them with "answer"."""

    def __init__(self):
        self.mails = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        if self.answer.startswith("250"):
            self.mails.append(envelope)
        return self.answer


def fail(message):
    """Lets the job fail with a message, for the first time."""
    quoted = message.replace("'", "''")
    psql(f"""TRUNCATE broken; DELETE FROM challenge_jobs.alert; DELETE FROM challenge_jobs.job_run; {UNDECIDE}
             INSERT INTO broken VALUES ('{quoted}', 'the detail');""")
    result = run("psql", "-XAtqc", f"CALL challenge_jobs.run('{JOB}')")
    if "ERROR" not in result.stderr:
        raise RuntimeError("the job has not failed")


def recover():
    psql(f"TRUNCATE broken; CALL challenge_jobs.run('{JOB}')")


def delivered(count, kind):
    """Waits until the worker has delivered an alert."""
    wait_for(lambda: psql(f"SELECT count(*) FROM challenge_jobs.alert WHERE kind = '{kind}' AND delivered_at IS NOT NULL") == str(count),
             f"an alert of the kind {kind} to be delivered")


def refused(pattern, name):
    """Waits until the worker has tried in vain."""
    wait_for(lambda: psql("SELECT count(*) FROM challenge_jobs.alert WHERE attempts > 0 AND last_error !~ 'has not ended'") != "0",
             "an attempt to end")
    like(psql("SELECT attempts || ' ' || (delivered_at IS NULL) || ' ' || last_error FROM challenge_jobs.alert"),
         "^1 true " + pattern, name)


def deliver():
    psql("SET client_min_messages = error; CALL challenge_jobs.deliver_alerts()")


def script(name, *arguments, alert, **environment):
    """Runs a script by hand."""
    return run(SCRIPTS / name, *arguments, input=alert if isinstance(alert, str) else json.dumps(alert),
               env=os.environ | environment)


psql(BREAKABLE)

# ---- mail ----

smtp = SmtpSink()
controller = Controller(smtp, hostname="127.0.0.1", port=free_port())
controller.start()
home = folder()
(home / "sendmail").symlink_to(shutil.which("msmtp"))
(home / ".msmtprc").write_text(f"account default\nhost 127.0.0.1\nport {controller.port}\n")
(home / ".msmtprc").chmod(0o600)
MAIL = {"HOME": str(home), "SENDMAIL": f"{home}/sendmail"}
configure(alert_command=f"HOME={home} SENDMAIL={home}/sendmail {SCRIPTS}/alert-mail.sh ops@example.com db@example.com")


def the_mail():
    """Returns the only mail that has come, and forgets it."""
    (envelope,) = smtp.mails
    smtp.mails.clear()
    return envelope, email.message_from_bytes(envelope.content, policy=email.policy.default)


def without_line_ends(text):
    return text.replace("\r\n", "\n")


fail(HOSTILE)
delivered(1, "failed")
envelope, mail = the_mail()
equal((envelope.mail_from, envelope.rcpt_tos), ("db@example.com", ["ops@example.com"]), "mail: it goes to whom it is for, and nobody else")
equal(sorted(name.lower() for name in mail.keys() if name.lower() not in ("date", "message-id", "received", "x-peer")),
      ["auto-submitted", "content-transfer-encoding", "content-type", "from", "mime-version", "subject", "to"],
      "it has the headers that it should have, and no others")
equal(mail["Subject"], f"challenge_jobs: {JOB} failed in {DATABASE}", "the subject says which job")
ok(without_line_ends(mail.get_content()).startswith(without_line_ends(HOSTILE) + "\nDetail: the detail\n"),
   "the body begins with what the app said, as it was", mail.get_content())
like(mail.get_content(), rf"(?s)Job: {JOB}\n.*Run: \d+\nSQLSTATE: P0001\n", "and goes on with what is known of the run")
ok(all(len(line) <= 998 and line.isascii() for line in envelope.content.decode("ascii").splitlines()), "any MTA would take it")
recover()
delivered(1, "recovered")
equal(the_mail()[1]["Subject"], f"challenge_jobs: {JOB} recovered in {DATABASE}", "the recovery is mailed as well")

smtp.answer = "451 try again later"
fail("no")
refused("exit status 69: sendmail: ", "a mail that is not accepted is not delivered")
smtp.answer = "250 OK"
deliver()
delivered(1, "failed")
equal(the_mail()[1].get_content().split("\n")[0], "no", "until it is")

alert = {"job": JOB, "kind": "overdue", "database": "x\r\nBcc: evil@example.com\n\nbody", "message": "late", "scheduled_for": "2026-01-01"}
equal(script("alert-mail.sh", "ops@example.com", alert=alert, **MAIL).returncode, 0, "a name with line ends")
envelope, mail = the_mail()
equal((envelope.rcpt_tos, mail["Bcc"], mail["Subject"]),
      (["ops@example.com"], None, f"challenge_jobs: {JOB} overdue in x Bcc: evil@example.com body"), "makes no headers")
like(mail.get_content(), "(?m)^Due: 2026-01-01$", "what is overdue is said")
for name in ("日本" * 30, "=?UTF-8?B?eA==?=", "😀" * 60):
    script("alert-mail.sh", "ops@example.com", alert=alert | {"database": name}, **MAIL)
    envelope, mail = the_mail()
    equal(mail["Subject"], f"challenge_jobs: {JOB} overdue in {name}", f"a name such as {name[:20]} arrives as it is")
    ok(max(map(len, envelope.content.splitlines())) <= 76, "in lines that are short enough")
for broken in ("", "{", "no JSON", "[]"):
    result = script("alert-mail.sh", "ops@example.com", alert=broken, **MAIL)
    ok(result.returncode != 0, f"{broken!r} is an error", result.stdout, result.stderr)
equal(smtp.mails, [], "of which there is no mail")
controller.stop()
ok(script("alert-mail.sh", "ops@example.com", alert=alert, **MAIL).returncode != 0, "without a mail server it is an error")

# ---- chat ----

chat = HttpSink()
config = folder() / "chat.curl"
config.write_text(f'url = "{chat.url("/services/T0/secret")}"\n')
SECRETS = ["/services/T0/secret", "0123456789abcdef"]
seen = []
commands = set()


def look_at_processes():
    """Notes what anybody on the machine can read of the secrets."""
    for command in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_text(errors="replace")
        except OSError:
            continue
        commands.add(words.split("\0")[0])
        seen.extend(words for secret in SECRETS if secret in words)


chat.on_request = look_at_processes
configure(alert_command=f"{SCRIPTS}/alert-chat.sh {config}")
fail(HOSTILE)
delivered(1, "failed")
equal(len(chat.requests), 1, "chat: there is one message")
request = chat.requests[0]
equal((request["method"], request["path"], request["headers"]["Content-Type"]),
      ("POST", "/services/T0/secret", "application/json"), "for the web hook, as JSON")
(message,) = chat.bodies()
equal(list(message), ["text"], "which has a text")
plain = HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")
equal(message["text"], f":red_circle: failed: {JOB} in {DATABASE}\n{plain}", "of what the app said, as it was, without mentions or renamed links")
recover()
delivered(1, "recovered")
like(chat.bodies()[1]["text"], rf"^:large_green_circle: recovered: {JOB} in {DATABASE}\n", "the recovery is sent as well")
chat.requests.clear()
for kind in ("overdue", "restored", "of a later version"):
    script("alert-chat.sh", config, alert={"job": JOB, "kind": kind, "database": "app"})
equal([body["text"].split()[0] for body in chat.bodies()],
      [":large_yellow_circle:", ":large_yellow_circle:", ":red_circle:"], "every kind of alert has a mark")
chat.requests.clear()

for status, error in ((500, "22: curl: \\(22\\) .* 500"), (404, "22: curl: \\(22\\) .* 404"), (302, "47: curl: \\(47\\) ")):
    chat.requests.clear()
    chat.status = status
    fail("no")
    refused(f"exit status {error}", f"where the hook answers {status}, the alert is not delivered")
    equal([request["path"] for request in chat.requests], ["/services/T0/secret"], "and nothing else is asked")
    chat.status = 200
    deliver()
    delivered(1, "failed")
    equal(len(chat.requests), 2, "it is repeated until the hook takes it")
result = script("alert-chat.sh", config, alert="no JSON")
ok(result.returncode != 0 and len(chat.requests) == 2, "what is no JSON is an error, of which nothing is sent", result.stderr)
config.write_text(f'url = "http://127.0.0.1:{free_port()}/"\n')
equal(script("alert-chat.sh", config, alert=alert).returncode, 7, "where nobody listens it is an error")

# ---- pager ----

pager = HttpSink(202)
pager.on_request = look_at_processes
key = folder() / "pager.key"
key.write_text("0123456789abcdef0123456789abcdef\n")
configure(alert_command=f"{SCRIPTS}/alert-pager.sh {key} {pager.url('/v2/enqueue')}")
fail(HOSTILE)
delivered(1, "failed")
(event,) = pager.bodies()
equal(pager.requests[0]["path"], "/v2/enqueue", "pager: an event is sent")
equal((event["routing_key"], event["event_action"], event["dedup_key"]),
      ("0123456789abcdef0123456789abcdef", "trigger", f"challenge_jobs/{DATABASE}/{JOB}"), "that triggers an incident of the job")
payload = event["payload"]
equal(payload["summary"], f"{JOB} failed in {DATABASE}: {HOSTILE}", "which says what the app said, as it was")
equal((payload["severity"], payload["component"], payload["class"]), ("error", JOB, "failed"), "how bad it is")
like(payload["source"], rf"^.+:{os.environ['PGPORT']}/{DATABASE}$", "where it is from")
like(payload["timestamp"], r"^\d{4}-\d\d-\d\dT[\d:.]+", "and when it was")
equal(payload["custom_details"]["sqlstate"], "P0001", "with all that is known")
recover()
delivered(1, "recovered")
equal(pager.bodies()[1], {key: event[key] for key in ("routing_key", "dedup_key")} | {"event_action": "resolve"},
      "the recovery resolves it")

pager.requests.clear()
pager.status = 500
fail("no")
refused("exit status 22: ", "what the pager does not take is not delivered")
pager.status = 202
deliver()
delivered(1, "failed")
first, second = pager.bodies()
equal(first["payload"]["custom_details"]["alert_id"], second["payload"]["custom_details"]["alert_id"], "it is repeated")
equal((first["dedup_key"], first["event_action"]), (second["dedup_key"], second["event_action"]), "as the same incident")

pager.requests.clear()
for more in ({}, {"cluster_name": "main"}, {"kind": "recovered", "cluster_name": "main"}, {"message": "ä" * 4000}):
    script("alert-pager.sh", key, pager.url(), alert=alert | {"database": "app", "host": "h", "port": 5432} | more)
events = pager.bodies()
equal([event["dedup_key"] for event in events],
      [f"challenge_jobs/{name}/{JOB}" for name in ("app", "main/app", "main/app", "app")], "servers with a name have incidents of their own")
equal((events[0]["payload"]["severity"], events[3]["payload"]["summary"][-1], len(events[3]["payload"]["summary"])),
      ("warning", "ä", 1024), "what is overdue is a warning, and a long text is cut")

pager.requests.clear()
empty = folder() / "empty.key"
empty.write_text("\n")
result = script("alert-pager.sh", empty, pager.url(), alert=alert)
ok(result.returncode != 0 and not pager.requests, "without a key it is an error, and nothing is sent", result.stderr)

# ---- a command without a script ----

hook = HttpSink(302)
(command,) = re.findall("alert_command = '(curl .*)'", (ROOT / "doc/when-it-fails.md").read_text())
command = re.sub(r"https://\S+", hook.url(), command)
configure(alert_command=command)
fail("no")
refused("exit status 47: ", "the documented command: a redirection is no delivery")
equal([request["path"] for request in hook.requests], ["/"], "and is not followed")
hook.status = 200
deliver()
delivered(1, "failed")
equal(hook.bodies()[1]["message"], "no", "the alert is repeated until the hook takes it")

ok("curl" in commands, "curl was seen among the processes", sorted(commands))
equal(seen, [], "but nothing of the keys")
ok(not pasted.exists(), "and nothing was run that the app had said")
done()
