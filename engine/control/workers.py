"""Commands on a consumer."""

from engine.broker.messages import Requester
from engine.exceptions import InvalidState
from engine.models import Consumer, now
from engine.monitor.consumers import LEASE_TIME, get_consumer
from engine.queues import remote_control
from engine.queues.queue import Queues
from engine.queues.remote_control import Command


def send_command(queues: Queues, name: str, what: Command, by: Requester) -> Consumer:
    """Send a command to a consumer that can receive it. Raises InvalidState."""
    consumer = get_consumer(name)
    state = consumer.state(now(), LEASE_TIME)
    if state not in ("live", "late") or consumer.queue not in queues:
        raise InvalidState("This consumer is %(state)s and takes no commands.", state=state)
    remote_control.send_command(queues[consumer.queue], consumer.id, what, by.name)
    return consumer
