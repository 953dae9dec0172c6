# wormhole with nginx, WireGuard and a supervisor, and nothing else: no shell, no package manager.
#   docker build -t wormhole .
#   docker build -t wormhole --build-arg ARCHITECTURE=arm64 .     put together without running arm64 code
# docs/image.md says what is in it, and why.
FROM debian:trixie-slim AS debian
RUN apt-get update -qq && apt-get install -yqq --no-install-recommends binutils
COPY image/assemble image/files.txt /build/
ARG ARCHITECTURE=amd64
RUN /build/assemble "$ARCHITECTURE" /build/files.txt /root-of-image
RUN install -d -m 0700 /state

# Upstream's wireguard-go carries several times what Debian's does. Used where the kernel has no WireGuard.
FROM debian:trixie-slim AS wireguard
RUN apt-get update -qq && apt-get install -yqq --no-install-recommends ca-certificates golang-go
ARG WIREGUARD_GO=v0.0.0-20260522210424-ecfc5a8d5446
ARG ARCHITECTURE=amd64
RUN GOARCH="$ARCHITECTURE" CGO_ENABLED=0 GOFLAGS=-modcacherw \
  go install -trimpath -ldflags "-s -w -buildid=" "golang.zx2c4.com/wireguard@$WIREGUARD_GO" \
  && install -D "$(find "$(go env GOPATH)/bin" -name wireguard)" /out/usr/local/bin/wireguard-go \
  && mkdir -p /out/usr/share/doc/wireguard-go && cd /out/usr/share/doc/wireguard-go \
  && go version -m /out/usr/local/bin/wireguard-go >modules \
  && cp "$(go env GOMODCACHE)/golang.zx2c4.com/wireguard@$WIREGUARD_GO/LICENSE" copyright

FROM debian:trixie-slim AS wormhole
RUN apt-get update -qq && apt-get install -yqq --no-install-recommends ca-certificates nodejs npm
ARG BUN=1.4.5
RUN npm install --global --no-audit --no-fund --no-update-notifier "bun@$BUN"
WORKDIR /build
COPY package.json bun.lock bunfig.toml ./
RUN bun install --frozen-lockfile --production
COPY tsconfig.json ./
COPY scripts/build.ts scripts/
COPY src src
ARG ARCHITECTURE=amd64
# A processor without AVX2 runs the baseline build alone, and it costs next to nothing where there is AVX2.
RUN target=linux-x64-baseline; [ "$ARCHITECTURE" = amd64 ] || target=linux-arm64; \
  bun scripts/build.ts --target="$target" --outfile=/out/wormhole

FROM debian AS checked
COPY --from=wireguard /out/ /programs/
COPY --from=wormhole /out/wormhole /programs/usr/local/bin/
COPY image/check /build/
ARG ARCHITECTURE=amd64
RUN /build/check "$ARCHITECTURE" /root-of-image /programs

FROM scratch
COPY --from=checked /root-of-image/ /
COPY --from=checked /programs/ /
COPY image/rootfs/ /
COPY --from=checked --chown=1000:1000 /state/ /var/lib/wormhole/

ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/usr/lib/execline/bin \
  SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
  WORMHOLE_PROCESSES=external \
  WORMHOLE_SERVICE_DIR=/run/s6 \
  WORMHOLE_RUN_DIR=/run/wormhole/role
VOLUME /var/lib/wormhole
EXPOSE 8080 8082 8090 51820/udp
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s CMD ["wormhole", "health"]
ENTRYPOINT ["/init"]
CMD ["server"]
