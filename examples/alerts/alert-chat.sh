#!/bin/sh
#
# Posts an alert of challenge_jobs to a chat that takes {"text": …} (Slack, Mattermost, Rocket.Chat, …):
# alert-chat.sh FILE
#
# FILE holds the address of the web hook for curl, in a line url = "https://…", so that it does not stand in
# the list of processes.
set -eu

config=${1:?usage: alert-chat.sh FILE}

body=$(jq -nc '
	# Nothing that the app says may become a mention, in a chat that knows <!channel> or one that knows @all (hence
	# the space without width), or a link under another name in the manner of Slack. Markdown remains Markdown.
	def plain: gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;") | gsub("@"; "@\u200b");
	input
	| {failed: ":red_circle:", crashed: ":red_circle:", overdue: ":large_yellow_circle:",
	   restored: ":large_yellow_circle:", recovered: ":large_green_circle:"}[.kind] as $mark
	| ("\(.kind): \(.job) in \(.database)\n\(.message // "" | .[0:2000])" | plain) as $text
	| {text: "\($mark // ":red_circle:") \($text)"}')
# A redirection is an error: the alert would not have arrived.
printf '%s' "$body" | curl -fsSL --max-redirs 0 --max-time 20 --config "$config" \
	-H 'Content-Type: application/json' --data-binary @-
