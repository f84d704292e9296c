"""A consumer in a group (kafka-python): writes each value, a number, on a line.

Arguments: the topic, and the consumer's settings as JSON. SIGTERM makes it leave.
"""

import json
import logging
import signal
import sys
import threading

from kafka import KafkaConsumer

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
topic, settings = sys.argv[1:]
settings = json.loads(settings)
if settings.pop("cooperative", False):
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    settings["partition_assignment_strategy"] = [CooperativeStickyAssignor]
consumer = KafkaConsumer(topic, **settings)
while not ending.is_set():
    for found in consumer.poll(100).values():
        for message in found:
            print(int(message.value), flush=True)
consumer.close()
