#!/usr/bin/env bash
# Shows an export that is killed midway and resumed: two cameras of the embedded archive, into ./demo.
#
#   scripts/demo.sh PROGRAM
set -euo pipefail

cd "$(dirname "$0")/.."
program=$1
state=demo/state.db
run=("$program" run jobs.example.toml --emulator --progress lines)

say() { printf '\n== %s\n' "$*"; }

# Prints "PLANNED FETCHED TOTAL": exports with chunks, chunks; nothing while there is no state yet.
counts() {
    "$program" status --state "$state" --format json 2> /dev/null | awk '
        function number() { gsub(/[^0-9]/, ""); return $0 + 0 }
        /^  "totals"/ { sums = 1 }
        !sums && /^        "total"/ { planned += (number() > 0) }
        sums && /^      "fetched"/ { fetched = number() }
        sums && /^      "total"/ { total = number() }
        END { if (sums) print planned + 0, fetched, total }' || true
}

if [ -e "$state" ]; then
    say "${run[*]}"
    summary=$("${run[@]}") || { outcome=$?; echo "$summary"; exit "$outcome"; }
    echo "$summary"
    if grep -q '^already done' <<< "$summary"; then
        say "already done by an earlier demo; to see it again:"
        echo "rm -r demo && make demo"
        exit 0
    fi
else
    say "${run[*]}"
    "${run[@]}" &
    pid=$!
    trap 'kill "$pid" 2> /dev/null || true' EXIT
    killed=
    while kill -0 "$pid" 2> /dev/null; do
        read -r planned fetched total <<< "$(counts)" || true
        # Both cameras are planned, so the total is final, and more than half of it is there.
        if [ "${planned:-0}" -ge 2 ] && [ $((fetched * 2)) -gt "$total" ]; then
            # Not a signal that it could prepare for.
            kill -KILL "$pid" 2> /dev/null && killed=yes
            break
        fi
        sleep 0.05
    done
    outcome=0
    wait "$pid" 2> /dev/null || outcome=$?
    trap - EXIT
    if [ -n "$killed" ] && [ "$outcome" -eq 137 ]; then
        say "killed (SIGKILL) with $fetched of $total chunks fetched; the same command again:"
        "${run[@]}"
    elif [ "$outcome" -eq 0 ]; then
        say "it was finished before it could be killed; the same command again:"
        "${run[@]}"
    else
        exit "$outcome"
    fi
fi

say "the files"
find demo/exports -type f | sort

say "with a stream of your own"
echo "1. cp jobs.example.toml jobs.toml, and name your streams and times in it"
echo "2. $program run jobs.toml"
echo "3. $program status jobs.toml"
