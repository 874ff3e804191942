# make demo   try it without AWS, in ./demo
# make test   all tests
# make lint   format, clippy, documentation, module layers
# make bench  how fast it is, beside what the service allows
# make build  the program, in target/release
# make setup  what all of these need

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# The tests need ffprobe; it stands beside an ffmpeg that is named by its path.
ifneq ($(KVS_EXPORT_FFMPEG),)
export PATH := $(PATH):$(dir $(KVS_EXPORT_FFMPEG))
endif

.PHONY: demo test lint bench build setup

demo:
	@scripts/setup.sh demo
	cargo build --release --locked
	@scripts/demo.sh "$(TARGET_DIR)/release/kvs-export"

test: setup
	cargo test --locked

lint:
	@scripts/setup.sh lint
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo clippy --lib --bins --locked -- -D warnings -D clippy::disallowed_methods
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	scripts/check-layers.sh --self-test
	scripts/check-layers.sh

bench: setup
	cargo bench --locked

build:
	@scripts/setup.sh demo
	cargo build --release --locked

setup:
	@scripts/setup.sh test
