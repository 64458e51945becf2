"""What the command line shows of logs, traces and usage: from Loki, Jaeger and Prometheus, or from the files here."""
