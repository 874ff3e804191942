#!/usr/bin/env bash
# Checks that the modules depend on each other in one direction only (the map is in src/lib.rs).
#
#   scripts/check-layers.sh [ROOT]       checks ROOT/src, by default of this checkout
#   scripts/check-layers.sh --self-test  shows that every rule can fail
#
# Tests and comments are left out. A rule is a line of a table below.
set -euo pipefail

# module: the modules of this crate that it may use, besides itself. Those not named may use everything.
allowed='
clock: model
crash_point:
error:
exit_code: model
fs: crash_point
model:
plan: model error
media: model error
job: model error
store: model clock error fs crash_point
archive: model clock error
merge: model media clock error fs crash_point
evidence: model media clock error fs
emulator: model job clock error fs
run: model plan store archive merge evidence media clock error exit_code fs crash_point
report: model job clock error
notify: model
'
unrestricted='cli commands lib logging main'

# modules: what they must not mention: why
forbidden='
job plan media model: tokio: they are pure
job plan media model: aws_[a-z_]+: they are pure
job plan media model: std::fs: they are pure
job plan media model: std::net: they are pure
!store: rusqlite: only store speaks to the database
!store: rusqlite_migration: only store speaks to the database
job plan media model: std::[{]: one module a line, so that this check can read it
!merge emulator notify: process::(Command|Child|Stdio|[{].*(Command|Child|Stdio)): only merge starts processes, the emulator to make its pictures, and notify
!merge emulator notify: tokio::process: only merge starts processes
!cli commands lib logging main: crate::[{]: one module a line, so that this check can read it
!: super::super: name the module from the top, crate::…, so that this check can read it
'

check() {
    find "$1/src" -name '*.rs' ! -name 'tests.rs' ! -name '*_tests.rs' ! -path '*/tests/*' -print0 |
        sort -z |
        xargs -0 awk -v root="$1/src/" -v allowed="$allowed" -v forbidden="$forbidden" -v free="$unrestricted" '
        function report(what) {
            printf "%s:%d: %s\n", FILENAME, FNR, what
            bad = 1
        }
        function check_uses(text,    name) {
            while (match(text, /(^|[^A-Za-z0-9_])crate::[a-z_]+/)) {
                name = substr(text, RSTART, RLENGTH)
                sub(/.*crate::/, "", name)
                if (name != module && index(may_use[module], " " name " ") == 0)
                    report(module " must not use " name)
                text = substr(text, RSTART + RLENGTH)
            }
        }
        function check_words(text,    i, end) {
            for (i = 1; i <= rules; i++) {
                if (except[i] == (index(who[i], " " module " ") > 0)) continue
                # A word ends where no letter follows; a brace ends itself.
                end = word[i] ~ /]$/ ? "" : "([^A-Za-z0-9_]|$)"
                if (text ~ "(^|[^A-Za-z0-9_])" word[i] end)
                    report(module " must not mention " word[i] ": " why[i])
            }
        }
        BEGIN {
            n = split(allowed, lines, "\n")
            for (i = 1; i <= n; i++) if (lines[i] != "") {
                split(lines[i], part, ":")
                may_use[part[1]] = part[2] " "
            }
            n = split(forbidden, lines, "\n")
            for (i = 1; i <= n; i++) if (lines[i] != "") {
                split(lines[i], part, ": ")
                rules++
                except[rules] = (sub(/^!/, "", part[1]) > 0)
                who[rules] = " " part[1] " "; word[rules] = part[2]; why[rules] = part[3]
            }
        }
        FNR == 1 {
            module = substr(FILENAME, length(root) + 1)
            sub(/[\/.].*/, "", module)
            in_tests = 0; attribute = 0
            if (!(module in may_use) && index(" " free " ", " " module " ") == 0)
                report("give the module " module " a line in the table of this check")
        }
        in_tests { if ($0 ~ /^}/) in_tests = 0; next }
        /^#\[cfg\(test\)\]/ { attribute = 1; next }
        attribute && /^#\[/ { next }
        attribute { attribute = 0; if ($0 ~ /\{$/) in_tests = 1; next }
        {
            sub(/\/\/.*/, "")
            if (module in may_use) check_uses($0)
            check_words($0)
        }
        END { exit bad }
        '
}

self_test() {
    local root failures=0
    root=$(mktemp -d)
    # Expanded now: the variable is gone when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -r '$root'" EXIT
    expect() { # what, file, code
        rm -rf "$root/src"
        mkdir -p "$root/src/$(dirname "$2")"
        printf '%b' "$3" > "$root/src/$2"
        local answer=clean
        check "$root" > "$root/found" 2>&1 || answer=refused
        if [ "$answer" != "$1" ]; then
            printf 'the check should find this %s, src/%s:\n%b\n' "$1" "$2" "$3"
            cat "$root/found"
            failures=$((failures + 1))
        fi
    }
    expect refused model/a.rs 'use crate::plan::Chunk;\n'
    expect refused plan/a.rs 'fn f() { crate::store::open() }\n'
    expect refused store/a.rs 'use crate::run::Run;\n'
    expect refused evidence/a.rs 'use crate::store::Store;\n'
    expect refused run/a.rs 'use crate::report::summary;\n'
    expect refused report/a.rs 'use crate::run::Run;\n'
    expect refused emulator/a.rs 'use crate::archive::Archive;\n'
    expect refused plan/a.rs 'use crate::{\n    store,\n};\n'
    expect refused plan/a/b.rs 'use super::super::store;\n'
    expect refused job/a.rs 'use tokio::sync::Mutex;\n'
    expect refused media/a.rs 'let file = std::fs::File::open(path)?;\n'
    expect refused media/a.rs 'use std::{fs, io};\n'
    expect refused plan/a.rs 'use aws_smithy_types::DateTime;\n'
    expect refused run/a.rs 'use rusqlite::Connection;\n'
    expect refused commands/a.rs 'use rusqlite_migration::M;\n'
    expect refused run/a.rs 'use std::process::Command;\n'
    expect refused store/a.rs 'use std::process::{self, Command};\n'
    expect refused store/a.rs 'let child = process::Command::new(program).spawn();\n'
    expect refused run/a.rs 'use crate::{store, report};\n'
    expect refused archive/a.rs 'use tokio::process;\n'
    expect refused newcomer/a.rs 'fn f() {}\n'
    expect refused plan/a.rs '#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}\nuse crate::store::Store;\n'
    expect refused plan/a.rs '#[cfg(test)]\nmod tests;\nuse crate::store::Store;\n'
    expect clean plan/a.rs '// crate::store and std::fs\nuse crate::model::Fragment;\n'
    expect clean plan/a.rs 'use crate::plan::Gap;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n'
    expect clean plan/tests.rs 'use std::fs;\n'
    expect clean store/a.rs 'use rusqlite::Connection;\nlet pid = std::process::id();\n'
    expect clean merge/a.rs 'use std::process::Command;\nuse crate::media::Sample;\n'
    expect clean commands/a.rs 'use crate::{run, report};\nuse crate::report::summary;\n'
    if [ "$failures" -gt 0 ]; then
        echo "layers: $failures rules do not work"
        return 1
    fi
    echo "layers: every rule can fail"
}

case "${1:-}" in
    --self-test) self_test ;;
    *)
        root=${1:-$(cd "$(dirname "$0")/.." && pwd)}
        if check "${root%/}"; then
            echo "layers: in order"
        else
            echo "layers: see above; the table of who may use whom is in scripts/check-layers.sh"
            exit 1
        fi
        ;;
esac
