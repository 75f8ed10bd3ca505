"""Commands on a consumer."""

from engine.broker.messages import Requester
from engine.exceptions import NotPossible
from engine.models import WorkerProcess, now
from engine.monitor.consumers import LEASE, find
from engine.queues import remote_control
from engine.queues.queue import Queues
from engine.queues.remote_control import What


def order(queues: Queues, name: str, what: What, by: Requester) -> WorkerProcess:
    """Leave an order for a consumer that is there to take it. Raises NotPossible."""
    consumer = find(name)
    state = consumer.state(now(), LEASE)
    if state not in ("live", "late") or consumer.queue not in queues:
        raise NotPossible("This consumer is %(state)s; it takes no orders.", state=state)
    remote_control.give(queues[consumer.queue], consumer.id, what, by.name)
    return consumer
