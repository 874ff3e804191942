#!/usr/bin/env bash
# Makes sure that what is needed is there: by the system's package manager where this may be done, else by
# saying the exact command.
#
#   scripts/setup.sh demo   a Rust toolchain, a C compiler, ffmpeg
#   scripts/setup.sh lint   a Rust toolchain with clippy and rustfmt, a C compiler
#   scripts/setup.sh test   as demo, and python3 with its venv module for the tests with boto3 and
#                           the AWS CLI, and time zones for those with its calendar
#   scripts/setup.sh players  as demo, and ffprobe, ffplay, python3 and Chromium or Google Chrome
#
# KVS_EXPORT_FFMPEG=/path/to/ffmpeg is taken instead of an installed one; ffprobe is then looked for beside it too.
set -euo pipefail

purpose=${1:-test}
have() { command -v "$1" > /dev/null 2>&1; }

if ! have cargo; then
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        echo 'cargo is installed but not in PATH; run:  . "$HOME/.cargo/env"' >&2
    else
        echo "Rust is missing; run:  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    fi
    exit 1
fi

if [ "$purpose" = lint ] && ! { cargo clippy --version && cargo fmt --version; } > /dev/null 2>&1; then
    if ! have rustup; then
        echo "clippy or rustfmt is missing; install those of your Rust toolchain" >&2
        exit 1
    fi
    rustup component add clippy rustfmt
fi

has_ffmpeg() {
    [ "$purpose" != lint ] || return 0
    if [ -n "${KVS_EXPORT_FFMPEG:-}" ]; then
        if ! "$KVS_EXPORT_FFMPEG" -hide_banner -version > /dev/null 2>&1; then
            echo "KVS_EXPORT_FFMPEG is $KVS_EXPORT_FFMPEG, which does not run as ffmpeg" >&2
            exit 1
        fi
        # The tests judge videos with ffprobe.
        [ "$purpose" = demo ] || has_beside ffprobe || return 1
    else
        have ffmpeg && have ffprobe || return 1
    fi
    [ "$purpose" != players ] || has_beside ffplay
}
has_beside() { have "$1" || [ -x "$(dirname "${KVS_EXPORT_FFMPEG:-/}")/$1" ]; }
# A python3 without ensurepip has a venv module that does not work: so it is on Debian without python3-venv.
has_venv() {
    [ "$purpose" = test ] || return 0
    have python3 && python3 -c 'import venv, ensurepip' > /dev/null 2>&1
}
has_zones() {
    [ "$purpose" = test ] || return 0
    have python3 && python3 -c 'import zoneinfo; zoneinfo.ZoneInfo("Europe/Berlin")' > /dev/null 2>&1
}
has_python() { [ "$purpose" != players ] || have python3; }
# Where it may be, the script that uses it knows.
has_chromium() {
    [ "$purpose" = players ] || return 0
    have python3 && python3 "$(dirname "$0")/players/chromium.py" > /dev/null
}

missing=()
case "$(uname -s)" in
    Darwin)
        if ! xcode-select -p > /dev/null 2>&1; then
            echo "a C compiler is missing; run:  xcode-select --install" >&2
            exit 1
        fi
        has_ffmpeg || missing+=(ffmpeg)
        has_venv && has_python || missing+=(python3)
        if [ ${#missing[@]} -gt 0 ]; then
            if ! have brew; then
                echo "missing: ${missing[*]}; install Homebrew (https://brew.sh), then run:  brew install ${missing[*]}" >&2
                [ "${missing[0]}" = ffmpeg ] && echo "or set KVS_EXPORT_FFMPEG=/path/to/ffmpeg" >&2
                exit 1
            fi
            brew install "${missing[@]}"
        fi
        if ! has_chromium; then
            echo "a browser is missing; install Google Chrome or Chromium, or run:  brew install --cask google-chrome" >&2
            exit 1
        fi
        ;;
    *)
        have make || missing+=(make)
        have cc || missing+=(gcc libc6-dev)
        has_ffmpeg || missing+=(ffmpeg)
        has_venv || missing+=(python3 python3-venv)
        has_zones || missing+=(tzdata)
        has_python || missing+=(python3)
        has_chromium || missing+=(chromium)
        [ ${#missing[@]} -gt 0 ] || exit 0
        command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
        if ! have apt-get; then
            echo "missing: ${missing[*]} (names of Debian packages); install them with your package manager" >&2
            echo "or, for ffmpeg, set KVS_EXPORT_FFMPEG=/path/to/ffmpeg" >&2
            exit 1
        elif [ "$(id -u)" -eq 0 ]; then
            DEBIAN_FRONTEND=noninteractive sh -c "$command"
        elif have sudo && sudo -n true 2> /dev/null; then
            sudo env DEBIAN_FRONTEND=noninteractive sh -c "$command"
        else
            echo "missing: ${missing[*]}; run:  sudo sh -c '$command'" >&2
            case " ${missing[*]} " in *" ffmpeg "*) echo "or set KVS_EXPORT_FFMPEG=/path/to/ffmpeg" >&2 ;; esac
            exit 1
        fi
        ;;
esac
