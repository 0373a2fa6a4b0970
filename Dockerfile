# One image for every role: `sluice operator`, `sluice limiter`, … are arguments.
# BUILD_BASE needs node 24 and npm; RUNTIME_BASE needs node 24 in /nodejs/bin or /usr/local/bin, and no shell.
ARG BUILD_BASE=node:24-slim
ARG RUNTIME_BASE=gcr.io/distroless/nodejs24-debian13:nonroot

# What is built is JavaScript only, so it is built once, on the builder's own platform, for all.
FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# No install script is needed: the only one would bring a second node.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
# The files are root's and readable for all: user 65532 can run them and cannot change them. All get one time, and modes
# that do not depend on how the sources were checked out, so that the same sources make the same layer. V8's compile cache
# would differ at each build.
RUN node image/assemble.ts /image/app \
 && chmod -R u=rwX,go=rX /image \
 && find /image -exec touch --no-dereference --date=@0 {} +

FROM ${RUNTIME_BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="Kubernetes-native rate limiting and abuse decisions" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Why these options: NODE_OPTIONS in image/assemble.ts.
ENV NODE_ENV=production \
    NODE_OPTIONS="--max-semi-space-size=16 --max-old-space-size-percentage=75" \
    PATH=/nodejs/bin:/usr/local/bin:/usr/bin:/bin
# A folder that COPY or WORKDIR makes has the time of the build; this one comes with its own.
COPY --from=build /image /
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["node", "/app/dist/cli/main.js"]
CMD ["--help"]
