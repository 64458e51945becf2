"""The control plane: what operators want, turned into policy that every gate puts in force.

Imports point one way: ``model`` and ``errors`` <- pure (``decide``, ``render``, ``signed``) <- ``ports`` <- adapters
(``consul``, ``traefik``) <- edges (``loop``, ``agent``, ``api``, ``cli``). It is never on the path of a call.
"""
