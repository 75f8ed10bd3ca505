"""The broker is killed during a very large batch enqueue."""

from pathlib import Path
from threading import Thread

from servers import RedisServer
from waiting import wait_until

from engine.broker.redis.storage import RedisStorage
from engine.exceptions import BrokerUnavailable
from engine.queues.queue import Queue

MANY = 200_000


def test_batch_is_stored_as_a_prefix_when_the_broker_is_killed(tmp_path: Path) -> None:
    server, queue, failed = RedisServer(tmp_path), Queue("many"), list[BrokerUnavailable]()
    server.start()
    queue.storage = RedisStorage("many", server.url, 60)
    note = queue.task(name="note")(print)

    def enqueue() -> None:
        try:
            note.map(range(MANY))
        except BrokerUnavailable as away:
            failed.append(away)

    thread = Thread(target=enqueue)
    try:
        thread.start()
        wait_until(lambda: queue.pending_count() > 1000)
        server.kill()
        thread.join()
        assert len(failed) == 1
        server.start()
        stored = queue.storage.messages.waiting()
        assert 1000 < len(stored) < MANY
        assert [queue.deserialize_task(message).args for message in stored] == [
            (number,) for number in range(len(stored))
        ]
        assert [line for _, line in queue.storage.events.read(0, MANY)] == stored
        assert len(queue.storage.client.keys("run:")) == len(stored)
        note.map(range(3))
        assert queue.pending_count() == len(stored) + 3
    finally:
        server.kill()
        thread.join()
        queue.storage.close()
