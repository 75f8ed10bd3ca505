"""The entries that a queue's storage signs itself: events, heartbeats and pauses."""

import json
import time
from collections.abc import Iterable
from functools import lru_cache

from config import settings
from engine.broker.effects import event_json
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

    def sign_events(self, kind: str, ids: Iterable[str], **fields: object) -> list[str | bytes]:
        """Return each run id and its signed event of this kind."""
        now = time.time()
        return [word for run_id in ids for word in (run_id, self.sign_event(event_json(kind, run_id, now, **fields)))]

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
        event = self.read(Purpose.EVENT, self.events.key, line) or {}
        is_own = (event.get("kind"), event.get("id")) == ("cancelled", run_id)
        return str(event.get("by", UNKNOWN_REQUESTER)) if is_own else UNKNOWN_REQUESTER


@lru_cache(maxsize=1)
def default_serializer() -> SignedJSON:
    return SignedJSON(settings.secret_key, settings.secret_key_old)
