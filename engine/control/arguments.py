"""Checks the arguments of a run against the parameters of its task."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

from engine.broker.messages import find_not_finite
from engine.exceptions import BadArguments
from engine.monitor.registered_tasks import parameters
from engine.queues.task import RunTask


def check_arguments(task_class: type[RunTask], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    allowed = parameters(task_class)
    signature, name = inspect.Signature(allowed), task_class.__name__
    for given in kwargs:
        if given not in signature.parameters and not any(one.kind == one.VAR_KEYWORD for one in allowed):
            raise unknown_parameter(given, name, signature.parameters)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        missing = [one.name for one in allowed if one.default is one.empty and one.name not in kwargs]
        if len(args) < len(missing):
            raise BadArguments("a value is needed", missing[len(args)]) from error
        raise BadArguments("%(task)s does not take these values", "args", task=name) from error
    hints = get_type_hints(task_class.function)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for field, value in bound.arguments.items():
        if place := find_not_finite(value, field):
            raise BadArguments("must hold finite numbers only: %(place)s", field, place=place)
        if signature.parameters[field].kind in variadic:  # their annotation is that of each value
            continue
        if (wanted := hints.get(field)) in (int, float, str, bool) and not fits(value, wanted):
            raise BadArguments(
                "%(wanted)s is needed, not %(given)s", field, wanted=wanted.__name__, given=type(value).__name__
            )


def unknown_parameter(given: str, task: str, known: Iterable[str]) -> BadArguments:
    """`known`: the parameters that the task, or whatever else was asked, does have."""
    if names := ", ".join(known):
        return BadArguments("%(task)s has no such parameter; it has %(names)s", given, task=task, names=names)
    return BadArguments("%(task)s has no such parameter", given, task=task)


def fits(value: Any, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is wanted
