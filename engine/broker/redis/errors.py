"""Decide whether an error of Redis means that it is unavailable for now, whatever the command was."""

import re

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.exceptions import BrokerUnavailable

#: First words of the replies of a server that accepts no commands, or no writes, for now.
REFUSALS = {
    "ASK", "BUSY", "CLUSTERDOWN", "DENIED", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH",
    "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS",
}  # fmt: skip
#: Refusals to which the server gives no word of their own.
UNNAMED = re.compile("max number of clients|Script killed by user|The user executing the script can't")

#: Redis 6.2 wraps what a command inside a script was answered into an error of the script.
IN_SCRIPT_6 = re.compile(r"Error running script \(call to \w+\): (?:@user_script: ?\d+: )*-?")
#: Later ones add where in the script it was.
IN_SCRIPT_7 = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")
#: redis-py puts the command in front of an error inside a pipeline.
IN_PIPELINE = "of pipeline caused error: "


def outage_error(error: RedisError) -> BrokerUnavailable | None:
    """Return the error to raise for a server that is unavailable; None where the command is at fault."""
    reply = parse_reply(error)
    if reply.partition(" ")[0] in REFUSALS or UNNAMED.match(reply):
        return BrokerUnavailable(f"Redis: {reply}", reply)
    return BrokerUnavailable(f"Redis: {error}") if isinstance(error, RedisConnectionError | RedisTimeoutError) else None


def parse_reply(error: RedisError) -> str:
    """Return the reply as the server sent it, without what the way through a script or redis-py has added.

    redis-py takes the first word away where it has an exception for it.
    """
    text = IN_SCRIPT_7.sub("", " ".join(str(error).rpartition(IN_PIPELINE)[2].split()))
    word = getattr(error, "status_code", None)
    return f"{word} {text}" if word not in (None, "ERR") else IN_SCRIPT_6.sub("", text)
