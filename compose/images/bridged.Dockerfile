# The image of one server of somebody else: the bridge, and the server's packages as its lock pins them. The context is the
# server's folder: a declaration, and package.json with package-lock.json, or requirements.lock (docs/containers.md).
# Secret `ca`, optional: a bundle of authorities that the indexes of packages are trusted by.
ARG BRIDGE=tekup/mcp-bridge:latest
# The tag is the platform's version, and the image its own.
# hadolint ignore=DL3006
FROM ${BRIDGE}
COPY . /server/
RUN --mount=type=secret,id=ca,target=/run/ca.pem ["install-server"]
