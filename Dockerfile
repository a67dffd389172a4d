# One image with one binary; the command says what it is: api, worker, migrate, sandbox, …
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive a build, so the binary is copied out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p holdfast \
    && cp target/release/holdfast /usr/local/bin/holdfast

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/holdfast --create-home --shell /usr/sbin/nologin holdfast
COPY --from=build /usr/local/bin/holdfast /usr/local/bin/holdfast
COPY LICENSE /usr/share/doc/holdfast/LICENSE
USER 10001
WORKDIR /var/lib/holdfast
# Inside a container the published port is the protection; everything else is set by whoever runs it.
ENV HOLDFAST_HTTP_LISTEN=0.0.0.0:8080 \
    HOLDFAST_HTTP_WORKER_LISTEN=0.0.0.0:8081 \
    HOLDFAST_TELEMETRY_FORMAT=json
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# Of the API; a worker is asked with `health --worker`.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["holdfast", "health"]
ENTRYPOINT ["holdfast"]
CMD ["api"]
