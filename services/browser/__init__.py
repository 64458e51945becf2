"""The browser service: real pages in a real Chromium, with no way into the internal network."""
