# Signalbox: one binary with the classifier's weights inside, a CA bundle, and nothing else.
#
#   docker build -t signalbox:0.1.0 .
#   docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD/conf:/etc/signalbox:ro" signalbox:0.1.0 \
#     serve --policy /etc/signalbox/policy.yaml --server /etc/signalbox/server.yaml --listen 0.0.0.0:8080

FROM rust:1.95-bookworm AS build
# zlib-ng, a dependency of Pingora, is built with CMake.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends -y cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Registry and target folder are caches that outlive the build: only what changed is compiled again.
# Line tables stay out of the image; build without a container to profile.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    CARGO_PROFILE_DIST_STRIP=symbols cargo build --profile dist --locked --bin signalbox \
 && install -D -m 0755 target/dist/signalbox /out/usr/local/bin/signalbox

# glibc, libgcc and the CA certificates; no shell, no package manager; user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="signalbox" \
      org.opencontainers.image.description="An LLM data plane in one binary" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /
COPY LICENSE /usr/share/doc/signalbox/LICENSE
USER 65532:65532
# 8080 requests, 9090 health and metrics
EXPOSE 8080 9090
# SIGTERM drains: unready first, then running streams to their end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/signalbox"]
CMD ["serve", "--policy", "/etc/signalbox/policy.yaml", "--server", "/etc/signalbox/server.yaml"]
