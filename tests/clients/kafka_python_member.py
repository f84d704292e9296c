"""A consumer in a group (kafka-python): writes each value, a number, on a line.

Arguments: the topic, and the consumer's settings as JSON. SIGTERM makes it leave.
"""

import json
import logging
import signal
import sys

from kafka import KafkaConsumer

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")


class Ending(BaseException):
    """Somebody wants the consumer to leave."""


def end(*_):
    raise Ending


topic, settings = sys.argv[1:]
settings = json.loads(settings)
if settings.pop("cooperative", False):
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    settings["partition_assignment_strategy"] = [CooperativeStickyAssignor]
consumer = KafkaConsumer(topic, **settings)
signal.signal(signal.SIGTERM, end)
try:
    # Nothing but the end interrupts it: a rebalance that it hears of when its time is nearly over leaves it none to commit
    # offsets in, and it complains.
    while True:
        for found in consumer.poll(3_600_000).values():
            for message in found:
                print(int(message.value), flush=True)
except Ending:
    consumer.close()
