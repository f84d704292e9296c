"""A consumer in a group (confluent-kafka): writes each value, a number, and what it is assigned, on lines.

Arguments: the topic, and the consumer's settings as JSON; with a third one, `times`, each assignment has its time in
milliseconds. SIGTERM makes it leave.
"""

import json
import signal
import sys
import threading
import time

from confluent_kafka import Consumer

ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())


def tell(what):
    def told(_, partitions):
        at = [f"@{time.time_ns() // 1_000_000}"] if times else []
        print(*at, what, *sorted(each.partition for each in partitions), flush=True)

    return told


topic, settings, *times = sys.argv[1:]
consumer = Consumer(json.loads(settings))
consumer.subscribe([topic], on_assign=tell("assigned"), on_revoke=tell("revoked"), on_lost=tell("lost"))
while not ending.is_set():
    message = consumer.poll(0.1)
    if message is None:
        continue
    if message.error() is None:
        print(int(message.value()), flush=True)
    else:
        print("error", message.error().name(), flush=True)
        if message.error().fatal():
            break
consumer.close()
