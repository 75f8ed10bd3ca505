"""Checks the arguments of a run against the parameters of its task."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import get_type_hints

from engine.broker.messages import find_not_finite
from engine.exceptions import BadArguments
from engine.monitor.registered_tasks import parameters
from engine.queues.task import RunTask

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_arguments(task_class: type[RunTask], args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Raise BadArguments unless the task takes these: known names, nothing missing, finite numbers, annotated types."""
    signature = inspect.Signature(parameters(task_class))
    check_names(signature, kwargs, task_class.__name__)
    arguments = bind(signature, args, kwargs, task_class.__name__)
    check_values(signature, arguments, get_type_hints(task_class.function))


def check_names(signature: inspect.Signature, kwargs: Iterable[str], task: str) -> None:
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return
    for name in kwargs:
        if name not in signature.parameters:
            raise unknown_parameter(name, task, signature.parameters)


def bind(
    signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object], task: str
) -> Mapping[str, object]:
    """Return the arguments by parameter."""
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        required = [
            name
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty and name not in kwargs
        ]
        if len(args) < len(required):
            raise BadArguments("a value is needed", required[len(args)]) from error
        raise BadArguments("%(task)s does not take these values", "args", task=task) from error


def check_values(signature: inspect.Signature, arguments: Mapping[str, object], hints: Mapping[str, object]) -> None:
    for name, value in arguments.items():
        if place := find_not_finite(value, name):
            raise BadArguments("must hold finite numbers only: %(place)s", name, place=place)
        if signature.parameters[name].kind in VARIADIC:  # their annotation is that of each value
            continue
        hint = hints.get(name)
        if hint in (int, float, str, bool) and isinstance(hint, type) and not fits(value, hint):
            raise BadArguments(
                "%(wanted)s is needed, not %(given)s", name, wanted=hint.__name__, given=type(value).__name__
            )


def unknown_parameter(name: str, task: str, allowed: Iterable[str]) -> BadArguments:
    """`allowed`: the parameters that the task, or another target of the call, does have."""
    if names := ", ".join(allowed):
        return BadArguments("%(task)s has no such parameter; it has %(names)s", name, task=task, names=names)
    return BadArguments("%(task)s has no such parameter", name, task=task)


def fits(value: object, hint: type) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint
