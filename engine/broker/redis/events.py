"""The event stream on Redis."""

from uuid import uuid4

from engine.broker.parsing import decode, is_stream_name
from engine.broker.redis.client import RedisClient
from engine.broker.redis.results import RedisResults
from engine.broker.storage import DROPPED_COUNTER


class RedisEvents:
    def __init__(self, client: RedisClient, results: RedisResults) -> None:
        self.client, self.results = client, results

    def stream(self) -> str:
        name = self.client.command("GET", "stream")
        if name is None or not is_stream_name(decode(name)):
            self.client.command("SET", "stream", uuid4().hex, *(("NX",) if name is None else ()))
            name = self.client.command("GET", "stream")
        return f"{self.client.queue}:{decode(name)}"

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        rows = self.client.command("XRANGE", "events", f"({to_entry_id(after)}", "+", "COUNT", limit)
        return [(to_position(entry_id), fields.get(b"e", b"")) for entry_id, fields in rows]

    def count(self, after: int) -> int:
        """Return the length of the stream, as written events are trimmed at once."""
        return int(self.client.command("XLEN", "events"))

    def wait(self, after: int, seconds: float) -> None:
        with self.client.translate_errors() as redis:
            redis.xread({self.client.prefix + "events": to_entry_id(after)}, count=1, block=int(seconds * 1000))

    def last(self) -> int:
        rows = self.client.command("XREVRANGE", "events", "+", "-", "COUNT", 1)
        return to_position(rows[0][0]) if rows else 0

    def trim(self, upto: int) -> None:
        self.client.command("XTRIM", "events", "MINID", to_entry_id(upto + 1))

    def renew(self, stream: str, after: int) -> bool:
        renewed = self.client.run_script("renew_stream", stream.partition(":")[2], uuid4().hex, *split_position(after))
        if renewed:
            self.results.delete_counter(DROPPED_COUNTER)
        return bool(renewed)

    def drop_oldest(self, limit: int) -> None:
        if dropped := self.client.command("XTRIM", "events", "MAXLEN", limit):
            self.results.increment(DROPPED_COUNTER, dropped)


# An entry id consists of milliseconds and a sequence number. A position combines both.


def split_position(position: int) -> tuple[int, int]:
    return position >> 20, position & 0xFFFFF


def to_entry_id(position: int) -> str:
    return "{}-{}".format(*split_position(position))


def to_position(entry_id: bytes) -> int:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds) << 20 | int(number)
