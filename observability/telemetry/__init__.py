"""How a process of ours tells what it does: JSON log lines and traces, the same in services and control plane."""
