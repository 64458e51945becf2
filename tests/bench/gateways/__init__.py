"""`make bench-peers`: this platform's gate and other people's gateways before the same servers, in the same run."""
