"""The one error of building images."""


class ImageError(Exception):
    """An image cannot be built, or is not what it should be; the text says what to do."""
