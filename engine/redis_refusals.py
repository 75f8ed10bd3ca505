"""Decide whether an error of Redis means that it is unavailable for now, whatever the command was."""

import re

from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as Silent

from engine.delivery import BrokerAway

#: First words of the replies of a server that accepts no commands, or no writes, for now.
REFUSALS = {
    "ASK", "BUSY", "CLUSTERDOWN", "DENIED", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH",
    "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS",
}  # fmt: skip
#: Refusals to which the server gives no word of their own.
UNNAMED = re.compile("ERR (max number of clients|.*Script killed by user)")

#: Redis 6.2 wraps the reply to a command inside a script into an error of the script, and a missing permission there
#: has no word.
IN_SCRIPT = re.compile(r"ERR Error running script .*?: (?:-([A-Z]+ .+)|(The user executing the script can't .+))")
#: redis-py puts the command in front of an error inside a pipeline.
IN_PIPELINE = "of pipeline caused error: "


def refusal(error: RedisError) -> BrokerAway | None:
    """The error to raise for a server that is unavailable; None where the command is at fault."""
    reply = reply_of(error)
    if script := IN_SCRIPT.match(reply):
        reply = script[1] or f"NOPERM {script[2]}"
    if reply.partition(" ")[0] in REFUSALS or UNNAMED.match(reply):
        return BrokerAway(f"Redis: {reply}", reply)
    return BrokerAway(f"Redis: {error}") if isinstance(error, Unreachable | Silent) else None


def reply_of(error: RedisError) -> str:
    """The reply as the server sent it: redis-py takes its first word away where it has an exception for that."""
    text = " ".join(str(error).rpartition(IN_PIPELINE)[2].split())
    word = getattr(error, "status_code", None)
    return f"{word} {text}" if word else text
