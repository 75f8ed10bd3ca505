"""The language, time zone and theme of a page: the user's choice, the setting's, the browser's."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from browsers import Browser, bearer_headers
from flask import Flask

from admin import i18n
from admin.display import numbers

RUSSIAN = {"Accept-Language": "ru-RU,ru;q=0.9,en;q=0.5"}
AT = datetime(2026, 1, 2, 22, 30, 15, tzinfo=UTC)


def language_of(browser: Browser, path: str = "/login", **headers: str) -> str:
    return browser.get(path, headers=headers).text.partition('<html lang="')[2][:2]


@pytest.mark.parametrize(
    ("switched", "setting", "accepted", "language"),
    [
        ("", "", "", "en"), ("", "", "de, fr", "en"), ("", "", "ru", "ru"), ("", "", "de, ru;q=0.3", "ru"),
        ("", "en", "ru", "en"), ("", "ru", "en", "ru"), ("en", "ru", "ru", "en"), ("ru", "en", "en", "ru"),
        ("xx", "", "ru", "ru"),
    ],
)  # fmt: skip
def test_language_is_the_cookie_then_the_setting_then_the_browser(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, switched: str, setting: str, accepted: str, language: str
) -> None:
    changed = replace(i18n.settings, language=setting or "en", language_is_set=bool(setting))
    monkeypatch.setattr(i18n, "settings", changed)
    if switched:
        browser.set_cookie("language", switched)
    assert language_of(browser, **{"Accept-Language": accepted}) == language


def test_preference_redirects_back_and_is_remembered(operator: Browser) -> None:
    answer = operator.send("/preferences", language="ru", back="/runs?state=failed")
    assert (answer.status_code, answer.location) == (303, "/runs?state=failed")
    assert language_of(operator, "/runs") == "ru"
    operator.send("/preferences", theme="dark", back="/runs")
    assert 'data-theme="dark"' in operator.get("/runs").text
    assert language_of(operator, "/runs") == "ru"


@pytest.mark.parametrize("back", ["//example.org", "https://example.org", "/\\example.org", "", "/a b"])
def test_preference_never_redirects_to_another_site(operator: Browser, back: str) -> None:
    assert operator.send("/preferences", language="en", back=back).location == "/"


@pytest.mark.parametrize("values", [{"language": "xx"}, {"theme": "pink"}])
def test_unknown_preference_is_rejected(operator: Browser, values: dict[str, str]) -> None:
    answer = operator.send("/preferences", back="/", **values)
    assert answer.status_code == 422
    assert "Set-Cookie" not in answer.headers


def test_preference_needs_the_csrf_token(operator: Browser) -> None:
    assert operator.post("/preferences", data={"language": "ru", "back": "/"}).status_code == 400


def test_api_responses_are_in_english(app: Flask) -> None:
    asking = app.test_client().get("/api/v1/admin/reading-sessions/cleanup-stats", headers=RUSSIAN)
    assert asking.json["detail"].startswith("Sign in, or send a token")
    wrong = app.test_client().get(
        "/api/v1/admin/reading-sessions/cleanup-stats?hours=x", headers={**RUSSIAN, **bearer_headers("viewer")}
    )
    assert wrong.json["detail"].startswith("hours: must be one whole number from 1 to 168")


def test_error_page_is_in_the_browser_language(operator: Browser) -> None:
    operator.set_cookie("language", "ru")
    text = operator.get("/no-such-page").text
    assert "Не найдено" in text
    assert "Страницы или метода API с таким адресом нет." in text


@pytest.mark.parametrize(
    ("zone", "shown", "hover"),
    [
        ("", "22:30:15", "2026-01-02 22:30:15.000 UTC"),
        ("Europe/Berlin", "23:30:15", "2026-01-02 23:30:15.000 CET · 2026-01-02 22:30:15.000 UTC"),
        ("Asia/Dubai", "02:30:15", "2026-01-03 02:30:15.000 UTC+04 · 2026-01-02 22:30:15.000 UTC"),
        ("Nowhere/Nothing", "22:30:15", "2026-01-02 22:30:15.000 UTC"),
        ("../../etc/passwd", "22:30:15", "2026-01-02 22:30:15.000 UTC"),
        ("Пояс", "22:30:15", "2026-01-02 22:30:15.000 UTC"),
    ],
)
def test_times_are_shown_in_the_zone_of_the_cookie(app: Flask, zone: str, shown: str, hover: str) -> None:
    with app.test_request_context(headers={"Cookie": f"zone={zone}"} if zone else {}):
        assert numbers.short_timestamp(AT, AT) == shown
        assert numbers.full_timestamp(AT) == hover


def test_numbers_and_durations_follow_the_language(app: Flask) -> None:
    with app.test_request_context(headers={"Cookie": "language=ru"}):
        assert numbers.format_number(1234567.5) == "1\u00a0234\u00a0567,5"
        durations = [numbers.format_duration(ms) for ms in (41, 1234, 252_000)]
        assert durations == ["41\u00a0мс", "1,2\u00a0с", "4\u00a0мин 12\u00a0с"]
        assert numbers.short_timestamp(AT, AT.replace(day=20)) == "2 янв. 22:30"
        assert numbers.format_ago(AT.replace(second=3), AT) == "12\u00a0с назад"


def test_page_names_its_time_zone(operator: Browser) -> None:
    page = operator.get("/sessions").text
    assert "UTC</time>" not in page and "JST" not in page and " UTC</span>" in page
    operator.set_cookie("zone", "Asia/Tokyo")
    assert " JST</span>" in operator.get("/sessions").text
