#!/bin/sh
# Speaks up after a run that is not done, as [notify] in nightly-evidence.toml: to TELL_URL where that is set, else to
# the run's own standard error, which cron mails and systemd keeps in its journal.
set -eu

[ "$KVS_EXPORT_OUTCOME" != "done" ] || exit 0

message="kvs-export: $KVS_EXPORT_OUTCOME (exit code $KVS_EXPORT_EXIT_CODE); report: ${KVS_EXPORT_REPORT:-none}"
if [ -n "${TELL_URL:-}" ]; then
    curl --fail --silent --show-error --max-time 30 --data-raw "$message" "$TELL_URL"
else
    echo "$message"
fi
