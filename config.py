"""Settings of Dewey, read once from the environment, validated and frozen.

Import `settings`. An invalid value ends the program with exit code 2. One line on stderr names the variable, its value
and what is allowed.
"""

import csv
import math
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, time, timedelta, tzinfo
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values

Value = TypeVar("Value")

ROOT = Path(__file__).resolve().parent
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
QUEUES = ("heavy", "normal", "light")
#: Queues whose tasks read the files of books.
FILE_QUEUES = ("heavy", "normal")
LANGUAGES = ("en", "ru")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
RATE_PERIODS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}

#: Variables whose value may be in a file named by `<NAME>_FILE` (Docker and systemd secrets).
FROM_FILE = (
    "SECRET_KEY", "SECRET_KEY_OLD", "DATABASE_URL", "REDIS_URL",
    "ALERT_WEBHOOK_URL", "ALERT_WEBHOOK_SECRET", "SMTP_URL",
)  # fmt: skip
#: Variables of which nothing is printed.
MASKED = ("SECRET_KEY", "SECRET_KEY_OLD", "ALERT_WEBHOOK_SECRET")

#: Placeholders, and keys that are printed in the documents of well-known programs. In lower case.
PLACEHOLDER = re.compile(r"(change|replace)[-_ ]?(me|this|it)|(your|super)[-_ ]?secret|-insecure-")
PUBLISHED_KEYS = (
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",  # Flask
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",  # FastAPI
    "c292a0a3aa32397cdb050e233733900f",  # Redash
    "a-string-secret-at-least-256-bits-long",  # jwt.io
    "the secret key of the schemathesis test",  # Dewey 0.9
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "0123456789abcdefghijklmnopqrstuvwxyz",
)
MAKE_A_KEY = 'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'


class QuietHours(NamedTuple):
    """A daily time range in a zone. It may pass midnight."""

    begin: time
    end: time
    zone: tzinfo


class InvalidSetting(ValueError):
    """A variable with an invalid value. The message is one line for the operator."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"{name}={redact(name, value)!r} {allowed}")
        self.name = name


@dataclass(frozen=True)
class Settings:
    """The variables of docs/settings.md, in the units of their names."""

    database_url: str
    redis_url: str
    secret_key: str = field(repr=False)
    secret_key_old: tuple[str, ...] = field(repr=False)
    data_dir: Path
    host: str
    port: int
    workers: Mapping[str, int]
    abandoned_after_hours: float
    cleanup_batch_size: int
    result_ttl_seconds: int
    history_days: int
    failed_history_days: int
    lease_seconds: int
    max_deliveries: int
    unknown_task_grace: int
    soft_time_limit: int
    time_limit: int
    worker_max_tasks: int
    worker_max_memory_mb: int
    log_level: str
    log_format: str
    language: str
    language_is_set: bool
    environment: str
    console_url: str
    alert_webhook_url: str = field(repr=False)
    alert_webhook_secret: str = field(repr=False)
    alert_email_to: tuple[str, ...]
    alert_email_from: str
    smtp_url: str = field(repr=False)
    alert_quiet_hours: QuietHours | None
    alert_oldest_minutes: float
    alert_failure_percent: float
    alert_abandoned: int
    books_max_mb: int
    words_per_minute_ru: int
    words_per_minute_en: int
    share_with_app: bool
    trusted_hosts: frozenset[str]
    trusted_proxies: int
    api_rate: str

    @property
    def abandoned_after(self) -> timedelta:
        return timedelta(hours=self.abandoned_after_hours)

    @property
    def words_per_minute(self) -> Mapping[str, int]:
        """Reading speed by language. Books in other languages are read at the English speed."""
        return {"ru": self.words_per_minute_ru, "en": self.words_per_minute_en}

    @property
    def embedded_broker(self) -> bool:
        return not self.redis_url

    @property
    def embedded_database(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def local_url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def run_command(self) -> str:
        """Return the command that starts Dewey at this address."""
        host = f"HOST={self.host} " if self.host != DEFAULT_HOST else ""
        port = f"PORT={self.port} " if self.port != DEFAULT_PORT else ""
        return f"{host}{port}make run"

    @property
    def queue_path(self) -> Path:
        return self.data_dir / "queue.db"


def load(environ: Mapping[str, str]) -> Settings:
    """Read settings from `environ`. Creates the embedded secret key if it is needed. Raises InvalidSetting."""
    read = Reader(environ)
    read.parsed("FLASK_DEBUG", "0", parse_debug)
    data_dir = ROOT / read.text("DATA_DIR", "data")
    database_url = read.parsed("DATABASE_URL", f"sqlite:///{data_dir}/dewey.db", parse_database_url)
    redis_url = read.parsed("REDIS_URL", "", parse_redis_url)
    embedded = database_url.startswith("sqlite") and not redis_url
    email_to = read.parsed("ALERT_EMAIL_TO", "", parse_addresses)
    host = read.text("HOST", DEFAULT_HOST)
    console_url = read.parsed("CONSOLE_URL", "", parse_web_url).rstrip("/")
    own_hosts = [*LOOPBACK_HOSTS, host, urlsplit(console_url).hostname or ""]
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        secret_key=read.secret_key(data_dir if embedded else None),
        secret_key_old=read.parsed("SECRET_KEY_OLD", "", parse_former_keys),
        data_dir=data_dir,
        host=host,
        port=read.integer("PORT", DEFAULT_PORT, 1, 65535),
        workers={
            name: read.integer(f"WORKERS_{name.upper()}", number, 0, 64)
            for name, number in zip(QUEUES, (1, 2, 2), strict=True)
        },
        abandoned_after_hours=read.parsed("ABANDONED_AFTER_HOURS", "2", parse_hours),
        cleanup_batch_size=read.integer("CLEANUP_BATCH_SIZE", 10_000, 1, 100_000),
        result_ttl_seconds=read.integer("RESULT_TTL_SECONDS", 3600, 60),
        history_days=read.integer("HISTORY_DAYS", 30, 1, 36_500),
        failed_history_days=read.integer("FAILED_HISTORY_DAYS", 90, 1, 36_500),
        lease_seconds=read.integer("LEASE_SECONDS", 30, 2, 3600),
        max_deliveries=read.integer("MAX_DELIVERIES", 5, 1, 100),
        unknown_task_grace=read.integer("UNKNOWN_TASK_GRACE", 120, 0),
        soft_time_limit=read.integer("SOFT_TIME_LIMIT", 1500, 0),
        time_limit=read.integer("TIME_LIMIT", 1800, 0),
        worker_max_tasks=read.integer("WORKER_MAX_TASKS", 0, 0),
        worker_max_memory_mb=read.integer("WORKER_MAX_MEMORY_MB", 512, 0),
        log_level=read.choice("LOG_LEVEL", "INFO", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        log_format=read.choice("LOG_FORMAT", "text", "text", "json"),
        language=read.parsed("LANGUAGE", "en", parse_language),
        language_is_set=bool(read.text("LANGUAGE", "")),
        environment=read.text("ENVIRONMENT", ""),
        console_url=console_url,
        alert_webhook_url=read.parsed("ALERT_WEBHOOK_URL", "", parse_web_url),
        alert_webhook_secret=read.parsed("ALERT_WEBHOOK_SECRET", "", parse_webhook_secret),
        alert_email_to=email_to,
        alert_email_from=read.parsed("ALERT_EMAIL_FROM", "".join(email_to[:1]), parse_address),
        smtp_url=read.parsed("SMTP_URL", "", parse_smtp_url if email_to else parse_optional_smtp_url),
        alert_quiet_hours=read.parsed("ALERT_QUIET_HOURS", "", parse_quiet_hours),
        alert_oldest_minutes=read.parsed("ALERT_OLDEST_MINUTES", "15", parse_minutes),
        alert_failure_percent=read.parsed("ALERT_FAILURE_PERCENT", "20", parse_percent),
        alert_abandoned=read.integer("ALERT_ABANDONED", 1000, 0),
        books_max_mb=read.integer("BOOKS_MAX_MB", 100, 1, 10_000),
        words_per_minute_ru=read.integer("WORDS_PER_MINUTE_RU", 180, 1, 10_000),
        words_per_minute_en=read.integer("WORDS_PER_MINUTE_EN", 230, 1, 10_000),
        share_with_app=read.choice("SHARE_WITH_APP", "0", "0", "1") == "1",
        trusted_hosts=read.parsed("TRUSTED_HOSTS", ",".join(filter(None, own_hosts)), parse_hosts),
        trusted_proxies=read.integer("TRUSTED_PROXIES", 0, 0, 16),
        api_rate=read.parsed("API_RATE", "1200/m", parse_rate),
    )


class Reader:
    """Reads values from the environment. An empty value counts as absent, as compose files pass it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str, default: str) -> str:
        value = self.environ.get(name, "").strip()
        if name not in FROM_FILE:
            return value or default
        file = self.environ.get(f"{name}_FILE", "").strip()
        if not file:
            return value or default
        if value:
            raise InvalidSetting(f"{name}_FILE", file, f"must not be set together with {name}")
        try:
            return Path(file).read_text(encoding="utf-8").strip() or default
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise InvalidSetting(f"{name}_FILE", file, f"must be a readable file ({reason})") from error

    def parsed(self, name: str, default: str, check: Callable[[str], Value]) -> Value:
        """Return the parsed text. `check` raises ValueError with what is allowed."""
        value = self.text(name, default)
        try:
            return check(value)
        except ValueError as error:
            raise InvalidSetting(name, value, str(error)) from error

    def integer(self, name: str, default: int, least: int, most: int = 2**31 - 1) -> int:
        def parse_integer(value: str) -> int:
            if not re.fullmatch(r"[0-9]{1,10}", value) or not least <= int(value) <= most:
                raise ValueError(f"must be a whole number from {least} to {most}")
            return int(value)

        return self.parsed(name, str(default), parse_integer)

    def choice(self, name: str, default: str, *allowed: str) -> str:
        def parse_choice(value: str) -> str:
            for word in allowed:
                if value.lower() == word.lower():
                    return word
            raise ValueError(f"must be one of {', '.join(allowed)}")

        return self.parsed(name, default, parse_choice)

    def secret_key(self, generate_in: Path | None) -> str:
        value = self.text("SECRET_KEY", "")
        if not value and generate_in is not None:
            return load_or_create_key(generate_in / "secret_key")
        if not value:
            needed = f"must have at least 32 characters if a database or broker server is set. {MAKE_A_KEY}"
            raise InvalidSetting("SECRET_KEY", value, needed)
        return self.parsed("SECRET_KEY", "", parse_secret_key)


def parse_secret_key(value: str) -> str:
    if len(value) < 32:
        raise ValueError(f"must have at least 32 characters. {MAKE_A_KEY}")
    if len(set(value)) < 10:
        raise ValueError(f"must have at least 10 different characters. {MAKE_A_KEY}")
    if any(value[length:] == value[:-length] for length in range(1, len(value) // 2 + 1)):
        raise ValueError(f"must not be one piece repeated. {MAKE_A_KEY}")
    if value.lower() in PUBLISHED_KEYS or PLACEHOLDER.search(value.lower()):
        raise ValueError(f"must not be a published example. {MAKE_A_KEY}")
    return value


def parse_former_keys(value: str) -> tuple[str, ...]:
    """Parse keys separated by commas or line breaks. A key that contains a comma stands in double quotes."""
    try:
        rows = csv.reader(value.splitlines(), skipinitialspace=True, strict=True)
        keys = tuple(key.strip() for row in rows for key in row)
    except csv.Error:
        keys = ("",)
    if not all(keys):
        raise ValueError("must be former keys, separated by commas. None of them may be empty")
    return keys


def parse_database_url(value: str) -> str:
    if value.startswith("sqlite:///") and len(value) > len("sqlite:///"):
        return f"sqlite:///{ROOT / value.removeprefix('sqlite:///')}"
    if re.match(r"postgres(ql)?://[^/]*/[^/?]+", value) and has_valid_port(value):
        return re.sub(r"^postgres(ql)?:", "postgresql:", value)
    raise ValueError("must be sqlite:///path or postgresql://user:password@host:port/name")


def parse_redis_url(value: str) -> str:
    if not value or (re.match(r"rediss?://[^/]|unix:///.", value) and has_valid_port(value)):
        return value
    raise ValueError("must be redis://, rediss:// or unix://, or empty for the embedded broker")


def has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def parse_hours(value: str) -> float:
    try:
        hours = float(value)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= 876_000:
        raise ValueError("must be a number of hours above 0 and at most 876000")
    return hours


def parse_web_url(value: str) -> str:
    if not value or (re.match(r"https?://[^/@?#]+(/|$)", value) and value.isprintable() and has_valid_port(value)):
        return value
    raise ValueError("must be http://host/… or https://host/… without a user and a password")


def parse_webhook_secret(value: str) -> str:
    if value and len(value) < 16:
        raise ValueError("must have at least 16 characters")
    return value


def parse_addresses(value: str) -> tuple[str, ...]:
    return tuple(parse_address(address) for address in re.split(r"[,\s]+", value) if address)


def parse_address(value: str) -> str:
    if value and not (re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", value) and value.isprintable()):
        raise ValueError("must be addresses such as name@example.org, separated by commas")
    return value


def parse_optional_smtp_url(value: str) -> str:
    return parse_smtp_url(value) if value else value


def parse_smtp_url(value: str) -> str:
    if re.match(r"smtps?://([^/@]*@)?[^/@:]+(:[0-9]+)?/?$", value) and has_valid_port(value):
        return value
    raise ValueError("must be smtp://user:password@host:port or smtps://…, and is required with ALERT_EMAIL_TO")


def parse_quiet_hours(value: str) -> QuietHours | None:
    """Parse `22:00-07:00`, in UTC unless the name of a zone follows."""
    if not value:
        return None
    try:
        hours, _, zone = value.partition(" ")
        begin, end = (time.fromisoformat(hour) for hour in hours.split("-"))
        if begin == end or begin.tzinfo or end.tzinfo:
            raise ValueError
        return QuietHours(begin, end, ZoneInfo(zone.strip()) if zone else UTC)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        raise ValueError(
            "must be a range such as 22:00-07:00, in UTC or with the name of a time zone after it"
        ) from None


def parse_debug(value: str) -> None:
    """Reject Flask's debug mode, whose error pages are for developers."""
    if value.lower() not in ("0", "false", "no"):
        raise ValueError("must be 0 or absent: Dewey has no debug mode")


def parse_minutes(value: str) -> float:
    return parse_number(value, 525_600, "must be a number of minutes from 0 to 525600 (0: never)")


def parse_percent(value: str) -> float:
    return parse_number(value, 100, "must be a number from 0 to 100 (0: never)")


def parse_number(value: str, most: float, allowed: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", value) or float(value) > most:
        raise ValueError(allowed)
    return float(value)


def parse_language(value: str) -> str:
    """Return the first supported language of a list such as `de_DE:en`, as desktops set it. Else English."""
    preferred = [re.split("[_.@]", entry)[0].lower() for entry in value.split(":")]
    supported = [language for language in preferred if language in LANGUAGES]
    if supported or re.search("[_:]", value):
        return supported[0] if supported else "en"
    raise ValueError(f"must be one of {', '.join(LANGUAGES)}")


def parse_hosts(value: str) -> frozenset[str]:
    """Parse host names and addresses without a port, as they stand in a `Host` header. `*` stands for any."""
    hosts = [host.strip().strip("[]").lower() for host in value.split(",")]
    try:
        names = frozenset(host if ":" in host else host.encode("idna").decode() for host in hosts if host)
    except UnicodeError:
        names = frozenset()
    if not names or not all(
        re.fullmatch(r"\*|[a-z0-9._-]+|[0-9a-f]*:[0-9a-f:.]+(%[a-z0-9]+)?", name) for name in names
    ):
        raise ValueError("must be host names without a port, separated by commas, or * for any")
    return names


def parse_rate(value: str) -> str:
    """Parse `1200/m`. Return it as `limits` reads it."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})/([smhd])", value)
    if not match:
        raise ValueError("must be a number of requests per second, minute, hour or day, such as 1200/m")
    return f"{match[1]} per {RATE_PERIODS[match[2]]}"


def redact(name: str, value: str) -> str:
    """Return `value` without secrets, so that it may be printed."""
    if name in MASKED:
        return "*" * min(len(value), 8)
    if name == "ALERT_WEBHOOK_URL":
        # The path lets a client post, so it is secret too.
        match = re.match(r"(https?://)(?:[^/@?#]*@)?([^/@?#]+)", value)
        return f"{match[1]}{match[2]}/***" if match else "***"
    value = re.sub(r"(?s)^((?:[^:/@]*:?//)?[^:@]*:).*@", r"\1***@", value)
    return re.sub(r"(?i)([?&][^=&]*password=)[^&]*", r"\1***", value)


def load_or_create_key(path: Path) -> str:
    """Return the key in `path`, created on first use with mode 0600. Of two racing processes both get the first one's
    key.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        key, mode = path.read_text().strip(), path.stat().st_mode
    except OSError as error:
        raise InvalidSetting("DATA_DIR", str(path.parent), f"must be a writable folder ({error.strerror})") from error
    try:
        parse_secret_key(key)
    except ValueError as error:
        raise InvalidSetting("SECRET_KEY", key, f"in {path} {error}") from error
    if mode & 0o077:
        raise InvalidSetting("SECRET_KEY", key, f"must be readable by its owner alone. Run: chmod 600 {path}")
    return key


def load_or_exit() -> Settings:
    dotenv = {name: value or "" for name, value in dotenv_values(ROOT / ".env").items()}
    try:
        return load({**dotenv, **os.environ})
    except InvalidSetting as error:
        print(f"dewey: {error}", file=sys.stderr)
        raise SystemExit(2) from None


settings = load_or_exit()
