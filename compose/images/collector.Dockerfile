# The collector with just the components our configuration uses; the program comes beside it (compose/images/collector.py).
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
COPY --chmod=755 collector /usr/bin/collector
USER 10001
EXPOSE 4317
ENTRYPOINT ["/usr/bin/collector"]
CMD ["--config=/etc/collector/collector.yml"]
