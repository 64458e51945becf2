"""Servers of your own in the local environment: declared, served behind the gate, taken away; and clients connected."""
