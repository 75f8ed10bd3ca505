"""The entries that a queue's storage signs itself: events, heartbeats and pauses."""

import json
from functools import lru_cache

from config import settings
from engine.broker.messages import SignedJSON
from engine.broker.parsing import PARSE_ERRORS, Info, Raw
from engine.broker.signing import Place, Purpose

#: Shown instead of a canceller whose entry is not signed.
UNKNOWN_REQUESTER = "?"


class SignedEntries:
    """Signs and reads the entries of one queue."""

    def __init__(self, queue: str, serializer: SignedJSON | None = None) -> None:
        self.queue, self.serializer = queue, serializer or default_serializer()
        self.events = Place(queue)

    def sign_event(self, event: str) -> bytes:
        """Return the line of an event for the stream. Its body names the run."""
        return self.serializer.keyring.sign(Purpose.EVENT, self.events, b"- 0 - ", event.encode())

    def read_event(self, line: bytes) -> Info:
        """Return the event of a line. Raises InvalidMessage."""
        return dict(self.serializer.deserialize_json(Purpose.EVENT, self.events, line))

    def sign(self, purpose: Purpose, key: str, info: Info) -> bytes:
        return self.serializer.serialize_json(purpose, Place(self.queue, key), json.dumps(info).encode())

    def read(self, purpose: Purpose, key: str, raw: Raw) -> Info | None:
        """Return the signed object. None for any other bytes."""
        data = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
        try:
            info = self.serializer.deserialize_json(purpose, Place(self.queue, key), data)
        except PARSE_ERRORS:  # also InvalidMessage
            return None
        return info if isinstance(info, dict) else None

    def canceller(self, run_id: str, line: Raw) -> str:
        """Return the requester of a cancel, from its event, which lies with the run until it ends."""
        try:
            event = self.read_event(line.encode() if isinstance(line, str) else line)
            return str(event["by"]) if (event["kind"], event["id"]) == ("cancelled", run_id) else UNKNOWN_REQUESTER
        except PARSE_ERRORS:
            return UNKNOWN_REQUESTER


@lru_cache(maxsize=1)
def default_serializer() -> SignedJSON:
    return SignedJSON(settings.secret_key, settings.secret_key_old)
