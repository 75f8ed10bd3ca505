"""Secret arguments in messages: a message carries masks and, sealed beside them, the values.

So neither broker, events nor history hold them as plain text. Only the worker that executes the run and an operator's
Retry open them. A sealed text is bound to its task and run.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

import orjson
from huey.registry import Message
from peewee import ForeignKeyField, TextField

from engine.broker.messages import encode, short_task_name
from engine.exceptions import InvalidMessage
from engine.models import BaseModel, Run
from engine.secret_arguments import Call, Path, Secret, SecretParameters, split_call

PURPOSE = b"arguments"

#: Run id → its sealed values. A message contains the runs that follow it.
Sealed = dict[str, str]


class SealedArguments(BaseModel):
    """The secret arguments of a run, encrypted, for its retry. The run itself has masks in their places.

    A separate table, so that nothing that shows or exports runs reads it.
    """

    run = ForeignKeyField(Run, primary_key=True, on_delete="CASCADE")
    sealed = TextField()

    class Meta:
        table_name = "dewey_sealed_arguments"


def seal_message(message: Message, parameters_of: Callable[[str], SecretParameters], sealed: Sealed) -> Message:
    """Return the message with masks, also in the runs that follow it. The values are added to `sealed`."""
    changes: dict[str, Any] = {}
    if message.args or message.kwargs:
        call = split_call(message.args, message.kwargs, parameters_of(message.name))
        if call.secrets:
            changes = {"args": call.args, "kwargs": call.kwargs}
            sealed[message.id] = seal_secrets(call.secrets, message)
    changes |= replace_followers(message, lambda follower: seal_message(follower, parameters_of, sealed))
    return message._replace(**changes) if changes else message


def open_message(message: Message, sealed: Mapping[str, str]) -> tuple[Message, list[object]]:
    """Return the message as the caller sent it, and the secret values. Raises InvalidMessage."""
    values: list[object] = []

    def open_one(message: Message) -> Message:
        changes = replace_followers(message, open_one)
        if message.id in sealed:
            secrets = open_secrets(sealed[message.id], message.name, message.id)
            values.extend(secret.value for secret in secrets)
            args, kwargs = restore_call(Call(message.args, message.kwargs, secrets))
            changes |= {"args": tuple(args), "kwargs": kwargs}
        return message._replace(**changes) if changes else message

    return open_one(message), values


def replace_followers(message: Message, replace: Callable[[Message], Message]) -> dict[str, Any]:
    """Return the fields of a message that contain other messages, with these replaced."""
    fields = {name: replace(part) for name in ("on_complete", "on_error") if (part := getattr(message, name))}
    if message.chord_config:
        *member, callback = message.chord_config
        fields["chord_config"] = (*member, replace(callback))
    return fields


# --- sealing -------------------------------------------------------------------------------------------------


def seal_secrets(secrets: Sequence[Secret], message: Message) -> str:
    """Raises NotSerializable."""
    # Imported as needed: most programs have no secret arguments, and the cipher's library is large.
    from engine.sealing import seal

    text = encode([list(secret) for secret in secrets], message)
    return b64encode(seal(PURPOSE, text, seal_context(message.name, message.id))).decode()


def open_secrets(sealed: str, task: str, run_id: str) -> list[Secret]:
    """Return the values under the masks of a run. Raises InvalidMessage."""
    from engine.sealing import unseal

    try:
        text = unseal(PURPOSE, b64decode(sealed), seal_context(task, run_id))
    except ValueError as error:
        raise InvalidMessage(f"the secret arguments of run {run_id} cannot be opened: {error}") from error
    return [Secret(*secret) for secret in orjson.loads(text)]


def seal_context(task: str, run_id: str) -> bytes:
    """Return what a sealed text belongs to."""
    return f"{short_task_name(task)}\n{run_id}".encode()


# --- values in their places ----------------------------------------------------------------------------------


def restore_call(call: Call) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments as they were before `split_call`."""
    args, kwargs = list(call.args), dict(call.kwargs)
    for path, value in call.secrets:
        container, place = locate(path, args, kwargs)
        container[place] = value
    return args, kwargs


def fill_masks(
    old: Call, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return a new call in which each mask that was left as it is shown in the old one stands for the old value.

    `names`: the task's parameters in order. The new call may name what the old one passed by position.
    """
    new_args, new_kwargs = deepcopy(list(args)), deepcopy(dict(kwargs))
    for (first, *rest), value in old.secrets:
        places = {first, names[first] if isinstance(first, int) and first < len(names) else first}
        places |= {names.index(first)} if first in names else set()
        for place in places:
            with suppress(LookupError, TypeError):  # the new call has no such place
                shown, at = locate((first, *rest), old.args, old.kwargs)
                container, key = locate((place, *rest), new_args, new_kwargs)
                if container[key] == shown[at]:
                    container[key] = value
    return new_args, new_kwargs


def locate(path: Path, args: Any, kwargs: Any) -> tuple[Any, str | int]:
    """Return the container of a value and its index or key in it."""
    container = args if isinstance(path[0], int) else kwargs
    for step in path[:-1]:
        container = container[step]
    return container, path[-1]
