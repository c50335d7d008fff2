# A static binary in an image that has nothing else; it runs as nobody.
FROM rust:1.95-bookworm AS build
RUN rustup target add x86_64-unknown-linux-musl && apt-get update \
 && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN cargo build --release --locked --target x86_64-unknown-linux-musl \
 && mkdir -p /out/etc/keyway && cp target/x86_64-unknown-linux-musl/release/keyway /out/keyway

FROM scratch
COPY --from=build /out/ /
USER 65534:65534
EXPOSE 8080 9901
HEALTHCHECK --interval=5s --timeout=3s --start-period=1s CMD ["/keyway", "health", "--admin", "127.0.0.1:9901"]
ENTRYPOINT ["/keyway"]
CMD ["run", "--config", "/etc/keyway/keyway.yaml"]
