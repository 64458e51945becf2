"""The process beside each gate that judges bearers of authorization servers (OAuth 2.1 resource server).

Traefik asks it (``forwardAuth``) about every bearer that is not one of our keys; it answers with a grant, which the
plugin checks like any other, or with a refusal, which the caller gets as it stands. API keys never come here. It knows
the world from the gate's tables and from the issuers' published keys, so it works without Consul and control plane.

``issuers`` · ``tokens`` · ``jwks`` · ``scopes`` · ``answers`` are pure; ``keys`` asks issuers, ``tables`` reads files,
``guard`` puts a decision together, ``app`` speaks HTTP.
"""
