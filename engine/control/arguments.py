"""Validation of a run's arguments against the parameters of its task."""

import inspect
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import get_type_hints

import msgspec

from engine.broker.messages import find_not_finite
from engine.exceptions import InvalidArguments
from engine.monitor.registered_tasks import find_task, task_parameters
from engine.queues.queue import Queues
from engine.queues.task import QueueTask
from engine.secret_arguments import Call, mask_names, split_call
from engine.secret_texts import MASK

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_arguments(task_class: type[QueueTask], args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Raise InvalidArguments, which names the parameter, for the first argument that the task does not accept."""
    signature, name = inspect.Signature(task_parameters(task_class)), task_class.__name__
    check_names(name, signature, kwargs)
    bound = bind(name, signature, args, kwargs)
    hints = get_type_hints(task_class.function, include_extras=True)
    for field, value in bound.items():
        if place := find_not_finite(value, field):
            raise InvalidArguments("must hold finite numbers only: %(place)s", field, place=place)
        parameter = signature.parameters[field]
        # The annotation of *args and **kwargs is the type of each value.
        is_default_none = value is None and parameter.default is None
        if field in hints and parameter.kind not in VARIADIC and not is_default_none:
            check_type(field, value, hints[field], task_class.secret_parameters.has_name(field))


def mask_arguments(queues: Queues, task: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
    """Return a call of the named task as the audit shows it."""
    _, task_class = find_task(queues, task)
    return split_call(args, kwargs, task_class.secret_parameters)


def check_names(task: str, signature: inspect.Signature, kwargs: Mapping[str, object]) -> None:
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return
    for field in kwargs:
        if field not in signature.parameters:
            raise unknown_parameter(field, task, signature.parameters)


def bind(
    task: str, signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """Return the arguments by parameter. Raises InvalidArguments for the first required parameter without a value."""
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        required = [field for field, parameter in signature.parameters.items() if parameter.default is parameter.empty]
        missing = [field for field in required if field not in kwargs]
        if len(args) < len(missing):
            raise InvalidArguments("must be given", missing[len(args)]) from error
        raise InvalidArguments("must match the parameters of %(task)s", "args", task=task) from error


def check_type(field: str, value: object, kind: object, is_secret: bool = False) -> None:
    """Raise InvalidArguments for a value whose JSON form has another type: True is no int, 1 is a float."""
    try:
        msgspec.convert(value, kind, str_keys=True, dec_hook=pass_unknown_type)
    except msgspec.ValidationError as error:
        if kind in (int, float, str, bool):
            expected, actual = kind.__name__, type(value).__name__
        else:
            shown = MASK if is_secret else reprlib.repr(mask_names(value))
            expected, actual = inspect.formatannotation(kind), shown
        raise InvalidArguments("must be %(wanted)s, not %(given)s", field, wanted=expected, given=actual) from error
    except (TypeError, NotImplementedError):  # the type has no JSON form: the task validates it
        return


def pass_unknown_type(kind: type, value: object) -> object:
    raise NotImplementedError


def unknown_parameter(field: str, task: str, allowed: Iterable[str]) -> InvalidArguments:
    if names := ", ".join(allowed):
        return InvalidArguments("must be a parameter of %(task)s: %(names)s", field, task=task, names=names)
    return InvalidArguments("must be left out: %(task)s has no parameters", field, task=task)
