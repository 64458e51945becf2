"""What on-call engineers look at: telemetry of our processes, and the configuration of the programs that gather it."""
