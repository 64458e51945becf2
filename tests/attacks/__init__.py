"""The attack suite; `row.py` says how to add a row."""
