"""The one error of scanning images."""


class ScanFailed(Exception):
    """Nothing can be said about an image; the text says why and what to do."""
