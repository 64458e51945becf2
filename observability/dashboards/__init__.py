"""What on-call engineers look at, as code: `python -m observability.dashboards` writes Grafana's JSON.

`queries`, `links`,
`panels` and `boards` are a small vocabulary over Grafana's own typed builder; every other module is one
dashboard, and mostly data. Metric names and labels are those of docs/contracts.md; a test runs each query on the real
programs.
"""
