#!/bin/sh
#
# Sends an alert of challenge_jobs by e-mail: alert-mail.sh RECIPIENT [SENDER]
#
# What comes from the app stands in the body, in base64, and the subject is encoded wherever it is not plain
# ASCII: so nothing can become a header or end the message.
set -eu

recipient=${1:?usage: alert-mail.sh RECIPIENT [SENDER]}
sender=${2:-$recipient}

message=$(jq -nr --arg to "$recipient" --arg from "$sender" '
	# Pieces of so many characters.
	def pieces($size): [range(0; length; $size) as $i | .[$i:$i + $size]];
	# Text for a header, in one line, in encoded words (RFC 2047) where that is needed.
	def header:
		gsub("[[:cntrl:]]+"; " ")
		| if test("^[ -~]{0,60}$") and (test("=\\?") | not) then .
		  else [pieces(10)[] | "=?UTF-8?B?" + @base64 + "?="] | join("\n ") end;
	def line($name): if . == null or . == "" then empty else "\($name): \(tostring)" end;

	input |
	"To: \($to)",
	"From: \($from)",
	("Subject: " + ("challenge_jobs: \(.job) \(.kind) in \(.database)" | header)),
	"Auto-Submitted: auto-generated",
	"MIME-Version: 1.0",
	"Content-Type: text/plain; charset=utf-8",
	"Content-Transfer-Encoding: base64",
	"",
	([
		(.message // "" | select(. != "")),
		(.detail | line("Detail")),
		(.hint | line("Hint")),
		"",
		"Job: \(.job)",
		"Alert: \(.kind), at \(.raised_at), number \(.alert_id)",
		"Database: \(.database) at \(.host):\(.port)",
		(.cluster_name | line("Cluster")),
		(.run_id | line("Run")),
		(.sqlstate | line("SQLSTATE")),
		(.triggered_by | line("Triggered by")),
		(.scheduled_for | line("Due")),
		(.previous_success | line("Last success before")),
		(.consecutive_failures | line("Failures in a row"))
	] | map(. + "\n") | add | @base64 | pieces(76)[])
')
printf '%s\n' "$message" | "${SENDMAIL:-/usr/sbin/sendmail}" -i -f "$sender" -- "$recipient"
