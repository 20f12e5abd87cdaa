#!/bin/sh
#
# Tells PagerDuty (Events API v2) of an alert of challenge_jobs: alert-pager.sh FILE [URL]
#
# There is one incident at a time for each job of a database; "recovered" resolves it. FILE holds the routing
# key and nothing else. The name of the server (cluster_name) is a part of the incident's key, so that test and
# production may have databases of the same name.
set -eu

key=${1:?usage: alert-pager.sh FILE [URL]}
url=${2:-https://events.pagerduty.com/v2/enqueue}

body=$(jq -nc --rawfile key "$key" '
	input | {
		routing_key: ($key | gsub("\\s"; "") | if . == "" then error("the file of the key is empty") else . end),
		dedup_key: ([.cluster_name // empty, .database, .job] | "challenge_jobs/" + join("/"))
	} + if .kind == "recovered" then
		{event_action: "resolve"}
	else
		{
			event_action: "trigger",
			payload: {
				summary: ("\(.job) \(.kind) in \(.database): \(.message // "")" | .[0:1024]),
				severity: (if .kind == "overdue" then "warning" else "error" end),
				source: "\(.host):\(.port)/\(.database)",
				timestamp: .raised_at,
				component: .job,
				class: .kind,
				custom_details: .
			}
		}
	end')
# A redirection is an error: the alert would not have arrived.
printf '%s' "$body" | curl -fsSL --max-redirs 0 --max-time 20 -H 'Content-Type: application/json' --data-binary @- "$url"
