"""The tools, as callers meet them. Thin: arguments in, work in a thread, facts and text out."""
