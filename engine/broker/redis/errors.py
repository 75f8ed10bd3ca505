"""Decides if a Redis error means an outage, whatever the command was."""

import re

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.exceptions import BrokerUnavailable

#: A key holds another type of value than the command expects.
WRONG_TYPE = "WRONGTYPE"

#: First words of a server's replies while it accepts no commands, or no writes.
REFUSALS = {
    "ASK", "BUSY", "CLUSTERDOWN", "DENIED", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH",
    "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS", WRONG_TYPE,
}  # fmt: skip
#: Such replies without a code word.
UNNAMED = re.compile("max number of clients|Script killed by user|The user executing the script can't")

#: Redis 6.2 wraps the reply to a command inside a script into an error of the script.
IN_SCRIPT_6 = re.compile(r"Error running script \(call to \w+\): (?:@user_script: ?\d+: )*-?")
#: Later versions add the position in the script.
IN_SCRIPT_7 = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")
#: redis-py puts the command before an error inside a pipeline.
IN_PIPELINE = "of pipeline caused error: "


def outage_error(error: RedisError) -> BrokerUnavailable | None:
    reply = parse_reply(error)
    if reply.partition(" ")[0] in REFUSALS or UNNAMED.match(reply):
        return BrokerUnavailable(f"Redis: {reply}", reply)
    return BrokerUnavailable(f"Redis: {error}") if isinstance(error, RedisConnectionError | RedisTimeoutError) else None


def is_wrong_type(error: RedisError) -> bool:
    return parse_reply(error).startswith(WRONG_TYPE)


def parse_reply(error: RedisError) -> str:
    """Return the server's own reply, without additions by scripts. redis-py may remove its first word."""
    text = IN_SCRIPT_7.sub("", " ".join(str(error).rpartition(IN_PIPELINE)[2].split()))
    word = getattr(error, "status_code", None)
    return f"{word} {text}" if word not in (None, "ERR") else IN_SCRIPT_6.sub("", text)
