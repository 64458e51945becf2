"""The hub: one list over all services, and the only place that speaks the handshake era.

A modern client's lists and discovery come here, its tool calls never do. A handshake-era client's every request comes
here and leaves as a modern request through the gate's internal entrypoint, with that client's own grant, so that
rights, lanes and handles are the same for all.
"""
