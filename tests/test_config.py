"""Every setting: its default, its limits, its error line, and secrets that are never shown."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from config import QUEUES, ROOT, InvalidSetting, load

LONG_ENOUGH = "9Xb2-tQ7_mL4vR8kZ1pW6sN3cY5dH0jF"

#: Variable, attribute, smallest and largest value (None: not tested) of every whole number.
WHOLE_NUMBERS = [
    ("PORT", "port", 1, 65535),
    ("CLEANUP_BATCH_SIZE", "cleanup_batch_size", 1, 100_000),
    ("RESULT_TTL_SECONDS", "result_ttl_seconds", 60, None),
    ("HISTORY_DAYS", "history_days", 1, None),
    ("FAILED_HISTORY_DAYS", "failed_history_days", 1, None),
    ("LEASE_SECONDS", "lease_seconds", 2, 3600),
    ("MAX_DELIVERIES", "max_deliveries", 1, 100),
    ("SOFT_TIME_LIMIT", "soft_time_limit", 0, None),
    ("TIME_LIMIT", "time_limit", 0, None),
    ("WORKER_MAX_TASKS", "worker_max_tasks", 0, None),
    ("WORKER_MAX_MEMORY_MB", "worker_max_memory_mb", 0, None),
    ("ALERT_ABANDONED", "alert_abandoned", 0, None),
    ("BOOKS_MAX_MB", "books_max_mb", 1, 10_000),
    ("WORDS_PER_MINUTE_RU", "words_per_minute_ru", 1, 10_000),
    ("WORDS_PER_MINUTE_EN", "words_per_minute_en", 1, 10_000),
    ("TRUSTED_PROXIES", "trusted_proxies", 0, 16),
]


@pytest.fixture
def read(tmp_path):
    """Return the settings of an environment with only these variables (and a separate data folder)."""
    return lambda **environ: load({"DATA_DIR": str(tmp_path / "data"), **environ})


def error_message(read, **environ):
    with pytest.raises(InvalidSetting) as refused:
        read(**environ)
    return str(refused.value)


def test_defaults_without_any_variable(read, tmp_path):
    settings = read()
    assert settings.database_url == f"sqlite:///{tmp_path}/data/dewey.db"
    assert settings.redis_url == ""
    assert settings.queue_path == tmp_path / "data" / "queue.db"
    assert settings.embedded_broker and settings.embedded_database
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.workers == {"heavy": 1, "normal": 2, "light": 2}
    assert settings.abandoned_after_hours == 2 and settings.abandoned_after.total_seconds() == 7200
    assert settings.cleanup_batch_size == 10_000
    assert settings.result_ttl_seconds == 3600
    assert (settings.history_days, settings.failed_history_days) == (30, 90)
    assert (settings.lease_seconds, settings.max_deliveries) == (30, 5)
    assert (settings.soft_time_limit, settings.time_limit) == (1500, 1800)
    assert (settings.worker_max_tasks, settings.worker_max_memory_mb) == (0, 512)
    assert (settings.log_level, settings.log_format) == ("INFO", "text")
    assert (settings.language, settings.environment) == ("en", "")


def test_data_folder_defaults_to_data_in_the_project(tmp_path):
    assert load({"SECRET_KEY": LONG_ENOUGH}).data_dir == ROOT / "data"
    assert load({"SECRET_KEY": LONG_ENOUGH, "DATA_DIR": "elsewhere"}).data_dir == ROOT / "elsewhere"
    assert load({"SECRET_KEY": LONG_ENOUGH, "DATA_DIR": str(tmp_path)}).data_dir == tmp_path


@pytest.mark.parametrize(("name", "attribute", "least", "most"), WHOLE_NUMBERS)
def test_whole_number_is_accepted_within_its_bounds_only(read, name, attribute, least, most):
    for value in (least, most or 1_000):
        assert getattr(read(**{name: str(value)}), attribute) == value
    for value in (least - 1, (most or 2**31 - 1) + 1, "1.5", "many", "٣", "1_000", "0x10", "+5"):
        message = error_message(read, **{name: str(value)})
        assert message.startswith(f"{name}='{value}' must ")
        assert f"from {least} to" in message


@pytest.mark.parametrize("queue", QUEUES)
def test_queue_has_0_to_64_workers(read, queue):
    name = f"WORKERS_{queue.upper()}"
    assert read(**{name: "0"}).workers[queue] == 0
    assert read(**{name: "64"}).workers[queue] == 64
    for value in ("-1", "65", "two"):
        assert error_message(read, **{name: value}).startswith(f"{name}='{value}'")


def test_abandoned_age_is_a_positive_fraction_of_hours(read):
    assert read(ABANDONED_AFTER_HOURS="0.25").abandoned_after.total_seconds() == 900
    for value in ("0", "-1", "nan", "inf", "soon", "1e9"):
        assert "a number of hours above 0" in error_message(read, ABANDONED_AFTER_HOURS=value)


def test_choice_is_accepted_in_any_case_and_rejected_if_unknown(read):
    assert read(LOG_LEVEL="debug").log_level == "DEBUG"
    assert read(LOG_FORMAT="JSON").log_format == "json"
    assert read(LANGUAGE="RU").language == "ru"
    assert "DEBUG, INFO, WARNING, ERROR, CRITICAL" in error_message(read, LOG_LEVEL="loud")
    assert "text, json" in error_message(read, LOG_FORMAT="xml")
    assert "en, ru" in error_message(read, LANGUAGE="de")


def test_trusted_hosts_default_to_loopback_the_address_and_the_console(read):
    loopback = {"localhost", "127.0.0.1", "::1"}
    assert read().trusted_hosts == loopback
    own = read(HOST="fe80::1%eth0", CONSOLE_URL="https://Dewey.example.org:8443/x")
    assert own.trusted_hosts == loopback | {"fe80::1%eth0", "dewey.example.org"}
    assert read(TRUSTED_HOSTS=" A.example , [::1],консоль.рф,").trusted_hosts == {
        "a.example",
        "::1",
        "xn--j1acfdbr3f.xn--p1ai",
    }
    for value in ("https://a.example", "a.example:443", "a b", ",", "a/b", "*.example", "é" * 70):
        assert f"TRUSTED_HOSTS='{value}' must be host names" in error_message(read, TRUSTED_HOSTS=value)


def test_rate_is_a_number_per_period(read):
    assert read().api_rate == "1200 per minute"
    assert read(API_RATE="5/s").api_rate == "5 per second"
    for value in ("0/m", "1200", "many/m", "1/w", "-1/m", "1 / m", "1.5/s"):
        assert f"API_RATE='{value}' must be a number of requests" in error_message(read, API_RATE=value)


@pytest.mark.parametrize(
    ("desktop", "language"),
    [("en_GB:en", "en"), ("ru_RU.UTF-8", "ru"), ("de_DE:ru", "ru"), ("de_DE:de", "en"), ("ru:en", "ru")],
)
def test_desktop_language_list_is_accepted(read, desktop, language):
    assert read(LANGUAGE=desktop).language == language


def test_debug_mode_of_flask_is_refused(read):
    assert read(FLASK_DEBUG="0") == read(FLASK_DEBUG="false")
    assert error_message(read, FLASK_DEBUG="1") == "FLASK_DEBUG='1' must be 0 or absent: Dewey has no debug mode"


def test_empty_value_counts_as_unset(read):
    assert read(PORT="", WORKERS_LIGHT=" ", REDIS_URL="", SECRET_KEY="").port == 8000


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("sqlite:////var/lib/dewey.db", "sqlite:////var/lib/dewey.db"),
        ("sqlite:///data/other.db", f"sqlite:///{ROOT}/data/other.db"),
        ("postgresql://u:p@h:5432/books", "postgresql://u:p@h:5432/books"),
        ("postgres://u@h/books", "postgresql://u@h/books"),
        ("postgresql:///books?host=/run/postgresql", "postgresql:///books?host=/run/postgresql"),
    ],
)
def test_database_url_is_sqlite_or_postgresql(read, value, meant):
    assert read(DATABASE_URL=value, SECRET_KEY=LONG_ENOUGH).database_url == meant


@pytest.mark.parametrize(
    "value", ["sqlite:///", "mysql://h/books", "postgresql://h", "postgresql://h:54x2/books", "books.db"]
)
def test_other_database_url_is_rejected(read, value):
    assert "sqlite:///path or postgresql://" in error_message(read, DATABASE_URL=value, SECRET_KEY=LONG_ENOUGH)


@pytest.mark.parametrize("value", ["redis://h:6379/0", "rediss://h", "unix:///run/redis.sock"])
def test_redis_url_is_accepted(read, value):
    settings = read(REDIS_URL=value, SECRET_KEY=LONG_ENOUGH)
    assert settings.redis_url == value and not settings.embedded_broker


@pytest.mark.parametrize(
    "value", ["amqp://h", "h:6379", "redis://", "redis://h:99999", "redis://[::1", "unix://run/redis.sock"]
)
def test_other_broker_url_is_rejected(read, value):
    assert "redis://, rediss:// or unix://" in error_message(read, REDIS_URL=value, SECRET_KEY=LONG_ENOUGH)


@pytest.mark.parametrize("server", [{"DATABASE_URL": "postgresql://h/books"}, {"REDIS_URL": "redis://h"}])
def test_server_requires_a_secret_key_of_32_characters(read, server):
    assert error_message(read, **server).startswith("SECRET_KEY='' must have at least 32 characters")
    assert "at least 32 characters" in error_message(read, SECRET_KEY=LONG_ENOUGH[1:], **server)
    assert read(SECRET_KEY=LONG_ENOUGH, **server).secret_key == LONG_ENOUGH


def test_short_secret_key_is_rejected_and_never_printed(read):
    message = error_message(read, SECRET_KEY="my-dog-is-called-rex")
    assert "rex" not in message and "********" in message


@pytest.mark.parametrize(
    "value",
    [
        "mysql://dewey:hunter2@h/books",
        "mysql://dewey:hun@ter2/hunter2@h/books",
        "dewey:hunter2@h/books",
        "postgresql//dewey:hunter2@h/books",
        "postgresql:/dewey:hunter2@h/books",
        "mysql://:hunter2@h",
        "mysql://h/books?user=dewey&password=hunter2",
        "mysql://h/books?sslPassword=hunter2&x=1",
    ],
)
def test_url_password_is_never_printed(read, value):
    for name in ("DATABASE_URL", "REDIS_URL"):
        message = error_message(read, **{name: value}, SECRET_KEY=LONG_ENOUGH)
        assert message.startswith(f"{name}='") and "***" in message
        assert "hunter2" not in message


def test_settings_repr_contains_no_secret_key(read):
    assert LONG_ENOUGH not in repr(read(SECRET_KEY=LONG_ENOUGH))


@pytest.mark.parametrize(
    ("name", "value", "attribute"),
    [
        ("SECRET_KEY", "a key, which a file contains and no variable", "secret_key"),
        ("DATABASE_URL", "postgresql://u:p@h/books", "database_url"),
        ("REDIS_URL", "redis://:p@h:6379/1", "redis_url"),
    ],
)
def test_secret_may_be_read_from_a_file(read, tmp_path, name, value, attribute):
    file = tmp_path / "secret"
    file.write_text(f"{value}\n")
    environ = {"SECRET_KEY": LONG_ENOUGH} if name != "SECRET_KEY" else {}
    assert getattr(read(**{f"{name}_FILE": str(file)}, **environ), attribute) == value.strip()


def test_secret_given_by_file_and_variable_is_rejected(read, tmp_path):
    file = tmp_path / "key"
    file.write_text(LONG_ENOUGH)
    message = error_message(read, SECRET_KEY=LONG_ENOUGH, SECRET_KEY_FILE=str(file))
    assert message == f"SECRET_KEY_FILE={str(file)!r} must not be set together with SECRET_KEY"


def test_unreadable_secret_file_is_named(read, tmp_path):
    missing = str(tmp_path / "nowhere")
    assert error_message(read, REDIS_URL_FILE=missing).startswith(
        f"REDIS_URL_FILE={missing!r} must be a readable file "
    )
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\xfa")
    assert "(not text)" in error_message(read, DATABASE_URL_FILE=str(binary))


def test_other_variables_are_not_read_from_files(read, tmp_path):
    file = tmp_path / "port"
    file.write_text("9000")
    assert read(PORT_FILE=str(file)).port == 8000


def test_embedded_key_is_created_once_and_readable_by_its_owner_only(read, tmp_path):
    key = read().secret_key
    file = tmp_path / "data" / "secret_key"
    assert len(key) >= 32 and file.read_text() == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert read().secret_key == key
    assert os.listdir(file.parent) == ["secret_key"]


def test_truncated_embedded_key_is_rejected(read, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret_key").write_text("short")
    message = error_message(read)
    assert message.startswith("SECRET_KEY=") and "short" not in message
    assert "/secret_key must have at least 32 characters" in message


def test_data_folder_that_cannot_be_created_is_named(read, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_message(read, DATA_DIR=str(tmp_path / "file" / "data"))
    assert message.startswith("DATA_DIR=") and "must be a writable folder" in message


def test_concurrent_first_starts_agree_on_one_key(tmp_path):
    program = (
        "import sys, config\nfor line in sys.stdin: print(config.load({'DATA_DIR': line[:-1]}).secret_key, flush=True)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(4)
    ]
    for folder in (tmp_path / str(number) for number in range(50)):
        for racer in racers:
            racer.stdin.write(f"{folder}\n")
        keys = {racer.stdout.readline().strip() for racer in racers}
        assert keys == {(folder / "secret_key").read_text()}
        assert os.listdir(folder) == ["secret_key"]
    for racer in racers:
        racer.communicate()


def test_import_with_an_invalid_setting_exits_with_one_line():
    ended = subprocess.run(
        [sys.executable, "-c", "import config"],
        cwd=ROOT,
        env={"PORT": "http", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr == "dewey: PORT='http' must be a whole number from 1 to 65535\n"


def test_environment_overrides_the_env_file(tmp_path):
    program = Path(tmp_path, "config.py")
    program.write_text(Path(ROOT, "config.py").read_text())
    Path(tmp_path, ".env").write_text("PORT=9001\nHOST=::1\n")
    ended = subprocess.run(
        [sys.executable, "-c", "from config import settings as s; print(s.port, s.host)"],
        cwd=tmp_path,
        env={"PORT": "9002", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.split() == ["9002", "::1"]


@pytest.mark.parametrize(
    ("environ", "command"),
    [
        ({}, "make run"),
        ({"PORT": "8001"}, "PORT=8001 make run"),
        ({"HOST": "::", "PORT": "8001"}, "HOST=:: PORT=8001 make run"),
    ],
)
def test_run_command_has_the_chosen_address(read, environ: dict[str, str], command: str) -> None:
    assert read(**environ).run_command == command
