"""The settings of alerts: valid values, one-line errors, and secrets that are never shown."""

from collections.abc import Callable
from datetime import UTC, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from config import InvalidSetting, Settings, load

SLACK = "https://hooks.slack.com/services/T0/B0/hunter2"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Settings]:
    return lambda **environ: load({"DATA_DIR": str(tmp_path / "data"), **environ})


def error_message(read: Callable[..., Settings], **environ: str) -> str:
    with pytest.raises(InvalidSetting) as refused:
        read(**environ)
    return str(refused.value)


def test_no_alert_settings_mean_no_channels_and_readme_thresholds(read: Callable[..., Settings]) -> None:
    settings = read()
    assert (settings.alert_webhook_url, settings.alert_email_to, settings.smtp_url) == ("", (), "")
    assert settings.alert_quiet_hours is None
    thresholds = settings.alert_oldest_minutes, settings.alert_failure_percent, settings.alert_abandoned
    assert thresholds == (15, 20, 1000)


def test_webhook_url_must_be_http_and_its_path_is_secret(read: Callable[..., Settings], tmp_path: Path) -> None:
    assert read(ALERT_WEBHOOK_URL=SLACK).alert_webhook_url == SLACK
    (tmp_path / "url").write_text(f"{SLACK}\n")
    assert read(ALERT_WEBHOOK_URL_FILE=str(tmp_path / "url")).alert_webhook_url == SLACK
    assert "hunter2" not in repr(read(ALERT_WEBHOOK_URL=SLACK))
    for value in (
        "ftp://h/hunter2", "https:///hunter2", "https://me:hunter2@h/x", "h/hunter2", "hunter2", "https://h/hunter2\nx",
        "https://h:99999/hunter2",
    ):  # fmt: skip
        message = error_message(read, ALERT_WEBHOOK_URL=value)
        assert message.startswith("ALERT_WEBHOOK_URL='") and "https://host/" in message
        assert "hunter2" not in message


def test_webhook_secret_needs_16_characters_and_is_never_printed(read: Callable[..., Settings], tmp_path: Path) -> None:
    assert read(ALERT_WEBHOOK_SECRET="s" * 16).alert_webhook_secret == "s" * 16
    message = error_message(read, ALERT_WEBHOOK_SECRET="hunter2")
    assert "at least 16 characters" in message and "hunter2" not in message
    (tmp_path / "secret").write_text("t" * 20)
    settings = read(ALERT_WEBHOOK_SECRET_FILE=str(tmp_path / "secret"))
    assert settings.alert_webhook_secret == "t" * 20 and "t" * 20 not in repr(settings)


def test_email_alerts_need_addresses_and_a_server(read: Callable[..., Settings]) -> None:
    variables = {"ALERT_EMAIL_TO": "ann@example.org, bob@example.org", "SMTP_URL": "smtp://me:hunter2@mail:587"}
    settings = read(**variables)
    assert settings.alert_email_to == ("ann@example.org", "bob@example.org")
    assert settings.alert_email_from == "ann@example.org"
    assert read(**variables, ALERT_EMAIL_FROM="dewey@example.org").alert_email_from == "dewey@example.org"
    assert "hunter2" not in repr(settings)
    assert error_message(read, ALERT_EMAIL_TO="ann@example.org").startswith("SMTP_URL='' must be smtp://")
    for value in ("ann", "ann@", "Ann <ann@example.org>"):
        assert "name@example.org" in error_message(read, ALERT_EMAIL_TO=value, SMTP_URL="smtp://mail")


@pytest.mark.parametrize("value", ["mail:25", "http://me:hunter2@mail", "smtp://", "smtp://me:hunter2@mail:99999"])
def test_invalid_smtp_url_is_rejected_without_its_password(read: Callable[..., Settings], value: str) -> None:
    message = error_message(read, SMTP_URL=value)
    assert message.startswith("SMTP_URL='") and "hunter2" not in message


def test_quiet_hours_may_cross_midnight_and_have_a_zone(read: Callable[..., Settings]) -> None:
    assert read(ALERT_QUIET_HOURS="22:00-07:30").alert_quiet_hours == (time(22), time(7, 30), UTC)
    berlin = read(ALERT_QUIET_HOURS="22:00-07:00 Europe/Berlin").alert_quiet_hours
    assert berlin and berlin.zone == ZoneInfo("Europe/Berlin")
    for value in ("night", "22:00", "22:00-22:00", "25:00-07:00", "22:00-07:00 Mars/Base", "22:00-07:00 ../../etc"):
        assert "must be a range such as 22:00-07:00" in error_message(read, ALERT_QUIET_HOURS=value)


@pytest.mark.parametrize(
    ("name", "attribute", "most"),
    [
        ("ALERT_OLDEST_MINUTES", "alert_oldest_minutes", 525_600),
        ("ALERT_FAILURE_PERCENT", "alert_failure_percent", 100),
    ],
)
def test_threshold_must_be_a_number_and_0_disables_it(
    read: Callable[..., Settings], name: str, attribute: str, most: int
) -> None:
    for value in ("0", "0.5", str(most)):
        assert getattr(read(**{name: value}), attribute) == float(value)
    for value in ("-1", str(most + 1), "nan", "many", "1e2"):
        assert error_message(read, **{name: value}).startswith(f"{name}='{value}' must be a number")


def test_console_url_needs_no_trailing_slash(read: Callable[..., Settings]) -> None:
    assert read(CONSOLE_URL="https://dewey.example.org/").console_url == "https://dewey.example.org"
    assert "https://host/" in error_message(read, CONSOLE_URL="dewey.example.org")
