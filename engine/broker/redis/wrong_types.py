"""Keys of a queue that hold another type of value than theirs, because a foreign program has written them.

Every command on such a key fails, and a script may end in its middle. So the key is renamed to `aside:…`.
"""

import logging
import time
from collections.abc import Sequence
from itertools import islice

from redis import Redis
from redis.exceptions import RedisError

from engine.broker.effects import event_json
from engine.broker.parsing import decode
from engine.broker.redis.scripts import SCRIPTS
from engine.broker.signed_entries import SignedEntries

logger = logging.getLogger(__name__)

#: The type of each key, as in lua/lib/common.lua.
TYPES = {
    "queue": "zset", "since": "zset", "schedule": "zset", "missing": "set", "held": "hash", "dead": "zset",
    "unique": "hash", "locks": "hash", "pause": "hash", "pause_schedule": "hash", "beats": "hash", "beat_at": "zset",
    "ticks": "hash", "stream": "string", "bell": "list", "events": "stream", "reaped": "string", "patience": "string",
    "probe": "string",
}  # fmt: skip
#: The same for keys that begin with a word.
PREFIXES = {
    "run": "hash", "missing": "zset", "rate": "zset", "kv": "string", "counter": "string", "spent": "string",
    "waits": "string", "done": "list",
}  # fmt: skip
#: Keys that are checked in one step.
STEP = 500


def set_aside_wrong_types(redis: Redis, prefix: str, entries: SignedEntries) -> None:
    """Rename such keys and report each of them in the history. Keys of single runs are searched if no other is wrong.

    An error is logged: the caller reports the first one.
    """
    try:
        if not set_aside(redis, prefix, list(TYPES), entries):
            keys = (decode(key).removeprefix(prefix) for key in redis.scan_iter(match=f"{prefix}*:*", count=1000))
            while some := list(islice(keys, STEP)):
                set_aside(redis, prefix, some, entries)
    except RedisError:
        logger.exception("Keys of the wrong type in queue %s could not be set aside", entries.queue)


def set_aside(redis: Redis, prefix: str, keys: Sequence[str], entries: SignedEntries) -> int:
    """Rename those of the keys that hold a wrong type of value. Returns their number."""
    words: list[str | bytes] = []
    for key in keys:
        if kind := TYPES.get(key) or PREFIXES.get(key.partition(":")[0]):
            reason = f"it is no {kind}"
            event = event_json("forged", key, time.time(), what="key", reason=reason)
            words += [key, kind, entries.sign_event(event)]
    names: list[bytes] = redis.eval(SCRIPTS["set_aside"].source, 1, prefix, *words)
    for name in map(decode, names):
        logger.error("The key %s of queue %s held the wrong type of value and is set aside", name, entries.queue)
    return len(names)
