"""States in which a real Redis or PostgreSQL refuses commands or writes for the length of a block."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import redis
from databases import execute_autocommit
from servers import RedisServer
from waiting import wait_until

Client = redis.Redis


@contextmanager
def set_to(server: RedisServer, option: str, value: Any, before: Any) -> Iterator[None]:
    with Client.from_url(server.url) as client:
        client.config_set(option, value)
        yield
        client.config_set(option, before)


def out_of_memory(server: RedisServer) -> AbstractContextManager[None]:
    return set_to(server, "maxmemory", 1, 0)


def without_replicas(server: RedisServer) -> AbstractContextManager[None]:
    return set_to(server, "min-replicas-to-write", 1, 0)


@contextmanager
def unable_to_save(server: RedisServer) -> Iterator[None]:
    """Put a folder in place of the snapshot file."""
    obstacle = server.folder / "dump.rdb" / "obstacle"
    obstacle.mkdir(parents=True)
    with Client.from_url(server.url) as client:
        client.config_set("save", "3600 1000000")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield
        client.config_set("save", "")
        shutil.rmtree(obstacle.parent)


@contextmanager
def replica(server: RedisServer, stale_reads: str) -> Iterator[None]:
    """Make the server a replica of a primary that does not exist."""
    with Client.from_url(server.url) as client, set_to(server, "replica-serve-stale-data", stale_reads, "yes"):
        client.replicaof("127.0.0.1", 1)
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def without_permission(server: RedisServer) -> Iterator[None]:
    with Client.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-@write")
        yield
        client.execute_command("ACL", "SETUSER", "default", "+@all")


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """Run a script that does not end."""

    def run_endlessly() -> None:
        with Client.from_url(server.url, socket_timeout=60) as client, suppress(redis.ResponseError):
            client.eval("while true do end", 0)

    with Client.from_url(server.url) as client, set_to(server, "lua-time-limit", 50, 5000):
        endless = threading.Thread(target=run_endlessly)
        endless.start()
        wait_until(lambda: refuses(client))
        yield
        client.script_kill()
        endless.join()


def refuses(client: Client) -> bool:
    try:
        client.get("any")
    except redis.ResponseError:
        return True
    return False


#: The server's error, and the state that causes it.
STATES: dict[str, Callable[[RedisServer], AbstractContextManager[None]]] = {
    "OOM": out_of_memory,
    "MISCONF": unable_to_save,
    "NOREPLICAS": without_replicas,
    "READONLY": lambda server: replica(server, "yes"),
    "MASTERDOWN|READONLY": lambda server: replica(server, "no"),
    "BUSY": busy,
    "permission|can't run this command": without_permission,
}


# --- PostgreSQL ----------------------------------------------------------------------------------------------

END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
)


@contextmanager
def read_only(url: str) -> Iterator[None]:
    name = database_name(url)
    execute_autocommit(
        url, f"ALTER DATABASE {name} SET default_transaction_read_only = on", END_SESSIONS.format(name=name)
    )
    yield
    execute_autocommit(
        url,
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {name} RESET default_transaction_read_only",
    )


@contextmanager
def full_disk(url: str) -> Iterator[None]:
    """Add a trigger to every Dewey table that raises the error of a full disk."""
    execute_autocommit(url, NO_ROOM)
    yield
    execute_autocommit(url, "DROP FUNCTION no_room CASCADE")


NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END$$;
DO $$DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE tablename LIKE 'dewey\\_%' LOOP
    EXECUTE format('CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON %I EXECUTE FUNCTION no_room()', name);
  END LOOP;
END$$"""


@contextmanager
def all_connections_taken(url: str) -> Iterator[None]:
    with ExitStack() as taken:
        first = taken.enter_context(closing(psycopg2.connect(url)))
        first.autocommit = True
        pids = [first.info.backend_pid]
        were_others = True
        while were_others:
            with suppress(psycopg2.OperationalError):
                while True:
                    connection = taken.enter_context(closing(psycopg2.connect(url)))
                    pids.append(connection.info.backend_pid)
            were_others = end_other_sessions(pids, first)
        yield


def end_other_sessions(own_pids: list[int], connection: Any) -> bool:
    """Terminate all other sessions. Return true if there were any."""
    with connection.cursor() as cursor:
        cursor.execute(f"{END_SESSIONS.format(name=connection.info.dbname)} AND pid <> ALL(%s)", [own_pids])
        return bool(cursor.rowcount)


def database_name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


DATABASE_STATES: dict[str, Callable[[str], AbstractContextManager[None]]] = {
    "read-only transaction": read_only,
    "No space left on device": full_disk,
    "too many clients already": all_connections_taken,
}
