"""The cover inside a book's file."""

from typing import NamedTuple

#: First bytes of the pictures that browsers show.
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


class Cover(NamedTuple):
    data: bytes
    media_type: str


def picture_type(data: bytes) -> str | None:
    """Return the media type by content. None for anything but PNG, JPEG, GIF and WebP."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for signature, media_type in SIGNATURES if data.startswith(signature)), None)
