# The binary alone, linked statically: nothing to update but keyway. It runs as nobody, writes nothing, and needs no
# file but its configuration.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" cargo build --release --locked --target "$target" --bin keyway \
    && cp "target/$target/release/keyway" /keyway

FROM scratch
# For nodes by TLS whose authority is a public one.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /keyway /keyway
USER 65534:65534
EXPOSE 8080 9901
HEALTHCHECK --interval=5s --timeout=3s --start-period=1s CMD ["/keyway", "health", "--admin", "127.0.0.1:9901"]
ENTRYPOINT ["/keyway"]
CMD ["run", "--config", "/etc/keyway/keyway.yaml"]
