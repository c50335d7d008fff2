# The binary in a small Debian; it runs as nobody and needs no file but its configuration.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN cargo build --release --locked

FROM debian:bookworm-slim
COPY --from=build /src/target/release/keyway /usr/local/bin/keyway
USER 65534:65534
EXPOSE 8080 9901
HEALTHCHECK --interval=5s --timeout=3s --start-period=1s CMD ["keyway", "health", "--admin", "127.0.0.1:9901"]
ENTRYPOINT ["keyway"]
CMD ["run", "--config", "/etc/keyway/keyway.yaml"]
