# make demo   try it without AWS, in ./demo
# make test   all tests
# make lint   format, clippy, documentation, module layers
# make soak   random scenarios × faults × kills against an independent oracle, for MINUTES=10, then as recordings (half an
#             hour more); SOAK_SEED=… make soak plays one scenario again, and nothing else
# make recordings  exports of tests/recordings/scenarios with every clock, edges and timeline, in a table; RECORDING=gap:
#             only those with this in their names
# make nights  a month of nights of twenty cameras, stopped and resumed on other days (the tests: a week of four)
# make bench  how fast it is, beside what the service allows; then as bench-scale and bench-job-file
# make bench-scale  how state files of one and ten million chunks are read; CHUNKS=1000000: only that many
# make bench-job-file  how a job file of 100 000 exports is read
# make players  whether ffmpeg, ffplay and headless Chromium open, seek and play the outputs (docs/players.md); not
#             part of make test, since Chromium is large. PLAYERS="reordered aac": only these scenarios, or videos
# make docs   renews what is made from the types: docs/commands.md, the tables of exit codes, jobs.schema.json,
#             docs/job-file.md
# make build  the program, in target/release
# make setup  what all of these need

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# The tests need ffprobe; it stands beside an ffmpeg that is named by its path.
ifneq ($(KVS_EXPORT_FFMPEG),)
export PATH := $(PATH):$(dir $(KVS_EXPORT_FFMPEG))
endif

# Tests may kill the program after each step of design/lifecycle.md; no release can be built with this.
CRASH_POINTS := --features crash-points

.PHONY: demo test lint soak recordings nights bench bench-scale bench-job-file players docs build setup

demo: build
	@scripts/demo.sh "$(TARGET_DIR)/release/kvs-export"

test: setup
	cargo test --locked --no-fail-fast $(CRASH_POINTS)

lint:
	@scripts/setup.sh lint
	cargo fmt --check
	cargo clippy --all-targets --locked $(CRASH_POINTS) -- -D warnings
	cargo clippy --lib --bins --locked -- -D warnings -D clippy::disallowed_methods
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	scripts/check-layers.sh --self-test
	scripts/check-layers.sh

# The unoptimised build: ffmpeg, the disk and the pauses of retries take the time.
soak: export SOAK_MINUTES = $(or $(MINUTES),10)
soak: setup
	cargo test --locked $(CRASH_POINTS) --test soak -- --nocapture
	@[ -n "$$SOAK_SEED" ] || $(MAKE) recordings

# In every form that clips may have; the tests play each recording in the form that its file says.
recordings: export RECORDINGS = all
recordings: setup
	cargo test --locked --test recordings -- --nocapture

nights: export NIGHTS = month
nights: setup
	cargo test --locked --test nights -- --nocapture

bench: setup
	cargo bench --locked --bench export --bench scale --bench job_file

bench-scale: setup
	cargo bench --locked --bench scale -- $(CHUNKS)

bench-job-file: setup
	cargo bench --locked --bench job_file

players: build
	@scripts/setup.sh players
	@python3 -B scripts/players --program "$(TARGET_DIR)/release/kvs-export" $(PLAYERS)

docs: export UPDATE_DOCS = 1
docs: setup
	cargo test --locked --test documented generated

build:
	@scripts/setup.sh demo
	cargo build --release --locked
	@if grep -aq KVS_EXPORT_CRASH_AT "$(TARGET_DIR)/release/kvs-export"; then \
		echo "this program can be made to die: build it without the feature crash-points" >&2; exit 1; fi

setup:
	@scripts/setup.sh test
