"""The form of a task's signature: input becomes the arguments, and invalid input is refused at its field."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import pytest

from admin.forms import fields, task_form
from admin.forms.fields import Field
from admin.forms.task_form import Arguments
from admin.problems import InvalidInput
from engine.monitor.registered_tasks import describe_task
from engine.queues.queue import Queue


def build_form(function: Callable[..., Any]) -> list[Field]:
    queue = Queue("forms")
    return fields.form_fields(describe_task(queue, queue.task()(function).task_class))


def everything(
    book: str,
    pages: int,
    scale: float = 1.5,
    draft: bool = False,
    style: Literal["ink", "wash"] = "ink",
    note: str | None = None,
    limit: int | None = None,
    chapters: list[int] | None = None,
    options: dict[str, Any] = {},  # noqa: B006
    seed: Any = 7,
    *others: str,
    **more: int,
) -> None:
    """Take each kind of parameter once."""


def test_parameter_has_a_field_of_its_type_with_its_default() -> None:
    assert [
        (field.name, field.kind, field.required, field.optional, field.start) for field in build_form(everything)
    ] == [
        ("book", "text", True, False, ""),
        ("pages", "int", True, False, ""),
        ("scale", "float", False, False, "1.5"),
        ("draft", "bool", False, False, "false"),
        ("style", "choice", False, False, "ink"),
        ("note", "text", False, True, ""),
        ("limit", "int", False, True, ""),
        ("chapters", "list", False, True, "null"),
        ("options", "dict", False, False, "{}"),
        ("seed", "any", False, False, "7"),
        ("others", "args", False, False, "[]"),
        ("more", "kwargs", False, False, "{}"),
    ]
    assert all(field.help for field in build_form(everything))


def form_data(**texts: str) -> dict[str, str]:
    """Return the form as a browser sends it."""
    form = {field.key: field.start for field in build_form(everything)}
    return form | {f"arg.{name}": text for name, text in {"book": "9f2c", "pages": "12", **texts}.items()}


def test_typed_text_is_parsed_to_its_type() -> None:
    texts = form_data(
        book="two\r\nlines", pages=" -3 ", scale="1e3", draft="true", style="wash", note="n", limit="5",
        chapters="[1, 2]", options='{"a": [null, 1.5]}', seed="plain words",
    )  # fmt: skip
    assert task_form.parse_form(build_form(everything), texts) == Arguments(
        [],
        {
            "book": "two\nlines", "pages": -3, "scale": 1000.0, "draft": True, "style": "wash", "note": "n",
            "limit": 5, "chapters": [1, 2], "options": {"a": [None, 1.5]}, "seed": "plain words",
        },
    )  # fmt: skip


def test_empty_field_is_none_if_optional_or_else_the_default() -> None:
    arguments = task_form.parse_form(
        build_form(everything), form_data(book="", scale="", note="", limit="", chapters="", seed="")
    ).kwargs
    assert arguments == {
        "book": "",
        "pages": 12,
        "draft": False,
        "style": "ink",
        "note": None,
        "limit": None,
        "options": {},
    }


def test_extra_positional_values_make_earlier_ones_positional() -> None:
    arguments = task_form.parse_form(build_form(everything), form_data(others='["x", "y"]', more='{"z": 1}', scale="2"))
    assert arguments.args == ["9f2c", 12, 2.0, False, "ink", None, None, None, {}, 7, "x", "y"]
    assert arguments.kwargs == {"z": 1}


def test_positional_only_parameter_is_passed_positionally() -> None:
    def only_in_order(a: int, b: int = 2, /, c: int = 3) -> None: ...

    assert task_form.parse_form(build_form(only_in_order), {"arg.a": "1", "arg.c": "5"}) == Arguments([1, 2], {"c": 5})


def test_what_follows_further_values_goes_by_name() -> None:
    def printed(book: str, *pages: int, copies: int = 1) -> None: ...

    typed = {"arg.book": "b", "arg.pages": "[3, 4]", "arg.copies": "2"}
    assert task_form.parse_form(build_form(printed), typed) == Arguments(["b", 3, 4], {"copies": 2})


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("pages", "", "must be given"),
        ("pages", "1.5", "must be a whole number"),
        ("pages", "1_000", "must be a whole number"),
        ("pages", "٣", "must be a whole number"),
        ("pages", str(2**63), "must be between -2^63 and 2^63 - 1"),
        ("scale", "nan", "must be a number"),
        ("scale", "1e999", "must be a number"),
        ("draft", "yes", "must be yes or no"),
        ("style", "oil", "must be one of ink, wash"),
        ("chapters", "[1, ", "must be valid JSON: error in line 1, column 4"),
        ("chapters", '{"a": 1}', "must be a JSON list"),
        ("options", "[]", "must be a JSON object"),
        ("options", '{"a": NaN}', "must be serialisable as JSON"),
        ("seed", str(2**70), "must be serialisable as JSON"),
        ("seed", '"\\ud800"', "must be serialisable as JSON"),
        ("seed", "[" * 100_000, "must be serialisable as JSON"),
        ("others", '"x"', "must be a JSON list"),
        ("more", "[]", "must be a JSON object"),
        ("more", '{"book": 1}', "must not contain book"),
    ],
)
def test_invalid_text_is_rejected_by_field(field: str, text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        task_form.parse_form(build_form(everything), form_data(**{field: text}))
    assert refusal.value.field == field
    assert words in (refusal.value.description or "")


def test_absent_field_is_its_default_or_required() -> None:
    assert task_form.parse_form(build_form(everything), {"arg.book": "b", "arg.pages": "1"}) == Arguments(
        [], {"book": "b", "pages": 1}
    )
    with pytest.raises(InvalidInput) as refusal:
        task_form.parse_form(build_form(everything), {"arg.pages": "1"})
    assert refusal.value.field == "book"


# --- earlier calls -------------------------------------------------------------------------------------------

CALLS = [
    ([], {"book": "9f2c", "pages": 3}),
    (["9f2c", 3, 0.5], {"note": None, "seed": "7"}),
    (["b", 1, 1.5, True, "wash", "n", 4, [1], {"k": "v"}, {"deep": [1]}, "x", "y"], {"z": 5}),
    ([], {"book": ' "quoted" ', "pages": 1, "seed": None, "options": {"ж": "\u2028"}}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_earlier_call_survives_the_form_unchanged(args: list[Any], kwargs: dict[str, Any]) -> None:
    form = build_form(everything)
    filled = task_form.prefill(form, args, kwargs)
    sent = {field.key: filled.texts.get(field.name, field.start).replace("\n", "\r\n") for field in form}
    again = task_form.parse_form(form, sent)
    assert bind_arguments(again.args, again.kwargs) == bind_arguments(args, kwargs)
    assert filled.left_over == {}


def bind_arguments(args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    arguments = inspect.signature(everything).bind(*args, **kwargs)
    arguments.apply_defaults()
    return arguments.arguments


def test_arguments_the_task_no_longer_takes_are_left_over() -> None:
    def shorter(book: str) -> None: ...

    filled = task_form.prefill(build_form(shorter), ["9f2c", 3], {"scale": 2})
    assert (filled.texts, filled.left_over) == ({"book": "9f2c"}, {"*": [3], "scale": 2})


def test_too_long_value_is_kept_without_a_field() -> None:
    form, text = build_form(everything), "page " * 1000
    filled = task_form.prefill(form, [], {"book": text, "pages": 3})
    assert (filled.is_long("book"), filled.is_long("pages")) == (True, False)
    assert task_form.parse_form(form, {"keep.book": "1", "arg.pages": "4"}, filled.values).kwargs == {
        "book": text,
        "pages": 4,
    }
