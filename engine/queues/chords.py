"""Results of the members of a chord, which the broker keeps until the last member has ended."""

from huey.utils import ChordConfig, Error

from engine.exceptions import InvalidMessage
from engine.queues.interfaces import TaskQueue


def chord_key(member: ChordConfig) -> str:
    return f"chord:{member.cid}"


def store_result(queue: TaskQueue, member: ChordConfig, value: object) -> list[object] | None:
    """Store the result of a member. Return the results of all members, None if some are missing."""
    key = f"{chord_key(member)}:{member.idx}"
    queue.storage.results.put(key, queue.sign_value(key, value), expires=True)
    keys = [f"{chord_key(member)}:{index}" for index in range(member.size)]
    results = queue.storage.results.get_many(keys)
    return [read_result(queue, key, results[key]) for key in keys] if len(results) == member.size else None


def read_result(queue: TaskQueue, key: str, data: bytes) -> object:
    """Return the result of a member. A malformed or forged one counts as an error of the member."""
    try:
        return queue.read_value(key, data)
    except InvalidMessage as error:
        queue.report_forged("result", key, str(error))
        return Error({"error": f"the result of {key} in the broker is malformed or forged: {error}"})
