# kvs-export with ffmpeg, from the program that `make build` has made; docs/running.md says how to run it.
#
#   make build && docker build -t kvs-export .
#
# The program needs a glibc no older than that of the machine it was built on: build on Debian 12 or older, or name
# a newer release here.
ARG DEBIAN=bookworm
FROM debian:${DEBIAN}-slim

# The base image has no root certificates, which requests to AWS need, and no time zones but UTC, which the program
# brings itself. Debian keeps no older versions that could be asked for: a stable release has security fixes only.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates ffmpeg \
    && rm -rf /var/lib/apt/lists/*

# State, chunks and videos belong to this user; give the volumes to it, or run with --user.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /state --shell /usr/sbin/nologin kvs-export \
    && install -d -o kvs-export -g kvs-export -m 0750 /state /exports
COPY target/release/kvs-export /usr/local/bin/kvs-export

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENV HOME=/state
WORKDIR /exports
VOLUME ["/state", "/exports"]
# The program itself is the first process: TERM reaches it, it ends within seconds with exit code 130, and the next
# start resumes.
STOPSIGNAL SIGTERM
ENTRYPOINT ["kvs-export"]
CMD ["--help"]
