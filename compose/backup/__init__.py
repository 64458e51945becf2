"""Backups of a local environment: one encrypted archive each, checked before it is believed.

Order: ``manifest``, ``kept`` (values) ← ``hold``, ``key``, ``snapshot`` (one boundary each) ← ``archive``,
``gather`` ← ``create``, ``restore`` ← ``commands``, ``schedule``.
"""
