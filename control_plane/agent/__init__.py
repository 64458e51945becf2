"""The process beside each Traefik: turns what Consul holds into the gate's three files, and reports what is in force.

Nothing here is on the path of a call. Arrivals go routes, then Traefik's word that they work, then tables; departures
the other way round.
"""
