"""Cron expressions in plain words."""

import re
from functools import lru_cache

from babel import Locale
from cron_descriptor import CasingTypeEnum, ExpressionDescriptor, Options
from cron_descriptor.Exception import FormatError

#: Huey starts a task when both the day of the month and the day of the week match. In cron one of them is enough.
OR_ON, ONLY_ON = ", or on {0}", ", only on {0}"

#: Replacements for phrases that need names of days and months in another grammatical case.
PLAIN_PHRASES = {
    ", {0} through {1}": ", {0} – {1}",
    ONLY_ON: ", {0}",
    ", only in {0}": ", {0}",
}

#: The library has one Russian plural. These are its forms for 5 and for 2.
MAX_LISTED = {"минут": "минуты", "часов": "часа", "дней": "дня", "месяцев": "месяца"}

ENGLISH = Locale("en")


def describe_cron(expression: str, language: str) -> str:
    """Return the description: `*/30 * * * *` → Every 30 minutes; the expression itself if it has none."""
    try:
        return _describe_cron(expression, language)
    except (FormatError, ValueError, LookupError):
        return expression


@lru_cache(maxsize=512)
def _describe_cron(expression: str, language: str) -> str:
    return PlainDescriptor(expression, language).get_description()


class PlainDescriptor(ExpressionDescriptor):
    def __init__(self, expression: str, language: str) -> None:
        self.locale = Locale.parse(language)
        code = {"en": "en_US", "ru": "ru_RU"}[self.locale.language]
        options = Options(casing_type=CasingTypeEnum.Sentence, use_24hour_time_format=True, locale_code=code)
        super().__init__(expression, options)

    def translate(self, message: str) -> str:
        if message == OR_ON:
            message = ONLY_ON
        if self.locale.language != "en" and message in PLAIN_PHRASES:
            return PLAIN_PHRASES[message]
        return super().translate(message)

    def get_full_description(self) -> str:
        text = self.with_names(super().get_full_description())
        return re.sub(rf"(\d+) ({'|'.join(MAX_LISTED)})\b", self.in_number, text)

    def in_number(self, match: re.Match[str]) -> str:
        number, unit = match.groups()
        return f"{number} {MAX_LISTED[unit] if self.locale.plural_form(int(number)) == 'few' else unit}"

    def with_names(self, text: str) -> str:
        """Replace English names of days and months: the library takes them from the process's locale."""
        names = dict[str, str]()
        for kind in ("days", "months"):
            ours = getattr(self.locale, kind)["stand-alone"]["wide"]
            names |= {theirs: ours[key] for key, theirs in getattr(ENGLISH, kind)["stand-alone"]["wide"].items()}
        return re.sub("|".join(names), lambda match: names[match[0]], text)
