"""Encoding of effects as script arguments."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from engine.broker.effects import PRIORITY_SECONDS, Effects, NewMessage
from engine.broker.redis.thread_connection import Word
from engine.broker.signed_entries import SignedEntries

#: Number of new runs that are stored in one step.
MAX_NEW_RUNS = 1000
#: The same for a batch. It is written while the server works: small at first, so that the server starts soon.
FIRST_BATCH_SIZE, MAX_BATCH_SIZE = 25, 200

T = TypeVar("T")


def encode_effects(effects: Effects, result_ttl: int, entries: SignedEntries) -> list[Word]:
    messages = [(*message[:3], message.due or "", *message[4:-1], int(message[-1])) for message in effects.messages]
    results = [(key, data, result_ttl) for key, data in effects.results]
    events = [(entries.sign_event(event),) for event in effects.events]
    parts: tuple[Sequence[Sequence[Word]], ...] = (messages, results, events)
    return [word for rows in parts for word in (len(rows), *(word for row in rows for word in row))]


def is_simple(effects: Effects) -> bool:
    messages = effects.messages
    if effects.results or effects.events or len({(row.priority, row.is_new_run) for row in messages}) != 1:
        return False
    return not any(message.due or message.unique or message.once or message.delivered for message in messages)


def encode_messages(messages: Sequence[NewMessage]) -> Iterator[list[Word]]:
    for start in range(0, len(messages), MAX_NEW_RUNS):
        batch = messages[start : start + MAX_NEW_RUNS]
        yield encode_batch(
            [message[:2] for message in batch], batch[0].priority, is_known_new=False, is_new_run=batch[0].is_new_run
        )


def encode_batch(
    messages: Iterable[tuple[str, bytes]], priority: float, *, is_known_new: bool, is_new_run: bool
) -> list[Word]:
    """Encode run ids and messages. `is_known_new`: the broker need not check for these runs."""
    words: Iterable[Any] = chain.from_iterable(messages)
    return [int(is_known_new), priority * PRIORITY_SECONDS, int(is_new_run), *words]


def growing_batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """Yield a small batch first, so that the server has work soon."""
    rest, size = iter(rows), FIRST_BATCH_SIZE
    while batch := list(islice(rest, size)):
        yield batch
        size = min(2 * size, MAX_BATCH_SIZE)
