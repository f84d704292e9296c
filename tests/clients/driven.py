"""Cases for clients in other languages, each driven by a small program of ours.

A program is run once for a command: `program COMMAND ARGUMENTS`, the arguments as JSON. Records are JSON, one on a line,
with their bytes in Base64; what is null is not the same as what is empty. A refused request is answered
`{"error": why}`. What the client logs goes to standard error, where the cases look for warnings.

    produce  writes the records of standard input to one partition, as they come, then tells their offsets
    consume  writes `count` records of one partition, from offset `start`
    member   is a consumer in a group: writes each value, a number, on a line, until SIGTERM makes it leave
    admin    makes the request `what`
"""

import base64
import functools
import json
import os
import re
import signal
import struct
import subprocess

import stories
from harness import wait_for
from stories import Member

HEADERS = [("color", b"blue"), ("color", b"red"), ("empty", b"")]
LARGE = 900_000
# In the order of their numbers in a batch.
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Client:
    """A client, by the command that runs its program.

    `refusals` are its own words for the errors that cases look for. `known` says which warnings have a known cause: in
    every case ("always"), where a request is to be refused ("refused"), and where brokers and members die ("broken").
    `metadata` is what its program commits beside an offset, `arguments` are those of all its commands.
    """

    def __init__(self, cluster, cases, name, program, refusals, known=None, metadata="why not", **arguments):
        self.cluster = cluster
        self.cases = cases
        self.name = name
        self.program = program
        self.refusals = refusals
        self.known = known or {}
        self.metadata = metadata
        self.arguments = {"partition": 0, **arguments}

    def command(self, command, **arguments):
        arguments = {"bootstrap": self.cluster.bootstrap.split(","), **self.arguments, **arguments}
        return [*self.program, command, json.dumps(arguments)]

    def run(self, command, input=None, **arguments):
        done = subprocess.run(
            self.command(command, **arguments),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            stdout=subprocess.PIPE,
            timeout=120,
        )
        assert done.returncode == 0, f"{command} {arguments}: ended with {done.returncode}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    def produce(self, topic, records, partition=0, **arguments):
        """Produces (key, value, headers) records; returns their offsets, in order."""
        (answer,) = self.run("produce", b"".join(map(line, records)), topic=topic, partition=partition, **arguments)
        assert "error" not in answer, answer
        return answer["offsets"]

    def produce_refused(self, topic, records, **arguments):
        (answer,) = self.run("produce", b"".join(map(line, records)), topic=topic, **arguments)
        return answer["error"]

    def consume(self, topic, count, start=0, partition=0, **arguments):
        """Reads records: (offset, key, value, headers)."""
        found = self.run("consume", topic=topic, count=count, start=start, partition=partition, **arguments)
        assert len(found) == count, f"{len(found)} of {count}"
        return [
            (
                record["offset"],
                decoded(record["key"]),
                decoded(record["value"]),
                [(header["name"], decoded(header["value"])) for header in record["headers"] or []],
            )
            for record in found
        ]

    def ask(self, what, **arguments):
        (answer,) = self.run("admin", what=what, **arguments)
        assert "error" not in answer, f"{what} {arguments}: {answer}"
        return answer

    def refused(self, error, what, **arguments):
        (answer,) = self.run("admin", what=what, **arguments)
        assert re.search(self.refusals[error], answer.get("error", "")), f"{what} {arguments}: {answer} for {error}"

    def offset(self, topic, time, partition=0):
        return self.ask("offset", topic=topic, time=time, partition=partition)["offset"]

    def topic(self, name):
        return f"{self.name}-{name}"

    # The cases.

    def records_come_back(self, codec, reader=None):
        """What this client writes, it reads, or another one does."""
        reader = reader or self
        topic = self.topic(f"records-{codec}-{reader.name}")
        self.cluster.create(topic)
        records = [(b"k%d" % n, b"value %d " % n * 20, HEADERS) for n in range(3000)]
        records += [(b"deleted", None, []), (None, b"no key", []), (b"", b"", []), (b"\xff\0", bytes(range(256)), [])]
        assert self.produce(topic, records, codec=codec) == list(range(len(records)))
        assert self.codec_of(topic) == codec, self.codec_of(topic)
        sent = [(offset, *record) for offset, record in enumerate(records)]
        for committed in (False, True):
            found = reader.consume(topic, len(records), committed=committed)
            different = [pair for pair in zip(found, sent) if pair[0] != pair[1]]
            assert not different, f"{len(different)} differ: {different[0]}"
        assert reader.consume(topic, 2, start=2000) == sent[2000:2002]

    def codec_of(self, topic):
        """What the topic's first batch is compressed with, by the attributes in its header."""
        partition = struct.pack(">iiqi", 1, 0, 0, 1000)
        body = struct.pack(">iiiibi", -1, 1000, 1, 1000, 0, 1) + text(topic) + partition
        answer = self.cluster.ask(self.cluster.leader(topic), 1, 4, body)
        answer.take(8), answer.text(), answer.take(8)
        error = answer.i16()
        assert error == 0, f"fetch of {topic}: error {error}"
        answer.take(16), answer.take(16 * max(0, answer.i32()))
        return CODECS[answer.take(answer.i32())[22] & 7]

    def large_records(self):
        topic = self.topic("large")
        self.cluster.create(topic)
        records = [(None, os.urandom(LARGE), []) for _ in range(8)]
        assert self.produce(topic, records) == list(range(8))
        for settings in ({}, {"partition_bytes": 1000}, {"fetch_bytes": 1_000_000}):
            found = self.consume(topic, 8, **settings)
            assert [value for _, _, value, _ in found] == [value for _, value, _ in records], settings

    def too_large_a_record(self):
        topic = self.topic("too-large")
        self.cluster.create(topic)
        error = self.produce_refused(topic, [(None, os.urandom(2_000_000), [])], record_bytes_max=4_000_000)
        assert re.search(self.refusals["too large"], error), error
        assert self.produce(topic, [(None, b"small", [])]) == [0]

    def offsets_and_times(self):
        topic = self.topic("timed")
        # Their times are long past: retention would soon delete them.
        self.cluster.create(topic, retention_ms=-1)
        records = [(None, b"%d" % number, [], 1_000_000 + 10 * number) for number in range(100)]
        self.produce(topic, records)
        assert (self.offset(topic, -2), self.offset(topic, -1)) == (0, 100)
        for time_ms, expected in ((0, 0), (1_000_000, 0), (1_000_001, 1), (1_000_500, 50), (1_000_990, 99)):
            assert self.offset(topic, time_ms) == expected, (time_ms, self.offset(topic, time_ms))
        # Where there is no such record, some clients say the end.
        assert self.offset(topic, 9_999_999) in (-1, 100)
        (found,) = self.run("consume", topic=topic, count=1, start=50)
        assert found["time"] == 1_000_500, found

    def idempotent_through_a_kill(self):
        """Records are written while the partition's leader is killed, twice; all arrive once, in order."""
        topic = self.topic("killed")
        self.cluster.create(topic)
        count = 30_000
        producer = subprocess.Popen(
            self.command("produce", topic=topic, idempotent=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            for number in range(count):
                producer.stdin.write(line((None, b"%d" % number, [])))
                if number in (10_000, 20_000):
                    producer.stdin.flush()
                    self.cluster.wait_for_records(topic, 0, number // 2)
                    leader = self.cluster.leader(topic)
                    self.cluster.kill(leader)
                elif number in (12_000, 22_000):
                    # These came while nobody led; nothing waits for the dead one.
                    self.cluster.lead_elsewhere(topic, 0, leader)
                    self.cluster.start(leader)
            answer = json.loads(producer.communicate(timeout=120)[0])
        finally:
            producer.kill()
            producer.wait()
        assert producer.returncode == 0, producer.returncode
        assert answer.get("offsets") == list(range(count)), str(answer)[:500]
        self.cluster.wait_until_ready()
        found = [int(value) for _, _, value, _ in self.consume(topic, count)]
        assert found == list(range(count)), f"{count - len(set(found))} lost, {len(found) - len(set(found))} doubled"
        assert self.cluster.end(topic) == count, f"{self.cluster.end(topic)} for {count}"

    def admin_topics(self):
        topic = self.topic("made")
        create = {"topic": topic, "partitions": 3, "replicas": 3, "configs": {"retention.ms": "123456"}}
        self.ask("create", **create)
        self.refused("exists", "create", **create)
        self.refused("replicas", "create", topic=self.topic("four"), partitions=1, replicas=4)
        self.refused("name", "create", topic="a/b", partitions=1, replicas=1)
        self.refused("config", "create", **{**create, "topic": self.topic("odd"), "configs": {"retention.ms": "x"}})
        assert [sorted(replicas) for replicas in self.ask("describe", topic=topic)["replicas"]] == [[1, 2, 3]] * 3
        assert topic in self.ask("topics")["topics"]
        assert self.ask("configs", topic=topic)["retention.ms"] == "123456"
        self.ask("grow", topic=topic, partitions=5)
        wait_for("five partitions", lambda: len(self.ask("describe", topic=topic)["replicas"]) == 5)
        self.refused("partitions", "grow", topic=topic, partitions=5)
        self.ask("delete", topic=topic)
        wait_for("it is gone", lambda: topic not in self.ask("topics")["topics"])
        self.refused("unknown", "delete", topic=topic)
        self.ask("create", **create)
        wait_for("it is led", lambda: min(self.cluster.metadata()[1].get(topic, [-1])) > 0)
        assert self.produce(topic, [(None, b"new", [])]) == [0], "a topic that is made again is empty"

    def admin_configs(self):
        topic = self.topic("configured")
        self.cluster.create(topic, retention_ms=5000)
        described = functools.partial(self.ask, "configs", topic=topic)
        found = described()
        assert (found["retention.ms"], found["retention.bytes"]) == ("5000", "-1"), found
        self.ask("alter", topic=topic, configs={"retention.ms": "6000", "max.message.bytes": "2000"})
        wait_for("the change is seen", lambda: described()["retention.ms"] == "6000")
        assert described()["max.message.bytes"] == "2000"
        self.refused("config", "alter", topic=topic, configs={"retention.ms": "x"})

    def admin_records(self):
        topic = self.topic("deleted")
        self.cluster.create(topic)
        self.produce(topic, [(None, b"%d" % number, []) for number in range(100)])
        self.ask("delete_records", topic=topic, offset=40)
        assert (self.offset(topic, -2), self.offset(topic, -1)) == (40, 100)
        found = self.consume(topic, 60, start=40)
        assert [int(value) for _, _, value, _ in found] == list(range(40, 100))
        self.refused("offset", "delete_records", topic=topic, offset=101)

    def admin_cluster(self):
        found = self.ask("brokers")
        assert sorted(found["brokers"]) == [1, 2, 3] and found["controller"] in (1, 2, 3), found

    def offsets_are_committed_by_hand(self):
        topic = group = self.topic("by-hand")
        self.cluster.create(topic, 2)

        def commit():
            (answer,) = self.run("admin", what="commit", topic=topic, group=group, partition=0, offset=7)
            if "error" not in answer:
                return True
            # Clients that do not ask again get to see this one, as with Kafka.
            assert re.search(self.refusals["loading"], answer["error"]), answer

        wait_for("the coordinator has loaded its partition, and commits", commit)
        committed = functools.partial(self.ask, "committed", topic=topic, group=group)
        assert committed(partition=0) == {"offset": 7, "metadata": self.metadata}, committed(partition=0)
        assert committed(partition=1)["offset"] == -1

    def member(self, group, topic):
        command = self.command("member", topic=topic, group=group, session_ms=6000, heartbeat_ms=500)
        return Member(self.cluster, command, self.check_member)

    def check_member(self, said, signum):
        lines = self.cases.warnings(said, self.expected("broken"))
        assert not lines, "\n".join(lines)

    def send_to(self, topic):
        return lambda partition, numbers: self.produce(topic, [(None, b"%d" % each, []) for each in numbers], partition)

    def a_group_shares_its_topic(self):
        topic = group = self.topic("shared")
        send = self.send_to(topic)
        stories.a_group_shares_its_topic(self.cluster, topic, lambda: self.member(group, topic), send)
        assert group in self.ask("groups")["groups"]
        found = self.ask("describe_group", group=group)
        assert found == {"state": "Empty", "members": 0}, found
        assert self.ask("lag", topic=topic, group=group) == {"lag": 0}
        for partition in range(stories.PARTITIONS):
            send(partition, range(10))
        assert self.ask("lag", topic=topic, group=group) == {"lag": 10 * stories.PARTITIONS}
        self.ask("delete_group", group=group)
        assert group not in self.ask("groups")["groups"]

    def coordinator(self, group):
        answer = self.cluster.ask(self.cluster.any_broker(), 10, 1, text(group) + b"\0")
        answer.i32()
        error = answer.i16()
        assert error == 0, f"find coordinator of {group}: error {error}"
        answer.text()
        return answer.i32()

    def a_group_outlives_its_coordinator(self):
        """The broker that coordinates a group is killed: its members go on with another, and commit there."""
        topic = group = self.topic("outlives")
        self.cluster.create(topic, stories.PARTITIONS)
        sender = stories.Sender(self.send_to(topic))
        members = [self.member(group, topic) for _ in range(2)]
        try:
            sender.more()
            sender.all_got(members, "two members get all")
            dead = self.coordinator(group)
            self.cluster.kill(dead)
            for partition in range(stories.PARTITIONS):
                self.cluster.lead_elsewhere(topic, partition, dead)
            sender.more()

            def all_got():
                return {value for member in members for value in member.got()} == set(range(sender.sent))

            # kafkajs asks who the coordinator is only when it joins: it tries the dead one six times, with ever longer
            # pauses, gives up, and starts its consumer again some eight seconds later.
            wait_for("they go on with another coordinator", all_got, 120)
            self.cluster.start(dead)
            self.cluster.wait_until_ready()
            sender.more()
            sender.all_got(members, "they go on when it is back")
            for member in members:
                member.end(signal.SIGTERM)
            assert self.ask("lag", topic=topic, group=group) == {"lag": 0}
        finally:
            for member in members:
                member.stop()

    def run_all(self):
        for codec in CODECS:
            self.run_case(f"records come back, {codec}", self.records_come_back, codec)
        self.run_case("large records", self.large_records)
        self.run_case("too large a record", self.too_large_a_record, known="refused")
        self.run_case("offsets and times", self.offsets_and_times)
        self.run_case("admin: topics", self.admin_topics, known="refused")
        self.run_case("admin: configs", self.admin_configs, known="refused")
        self.run_case("admin: records", self.admin_records, known="refused")
        self.run_case("admin: cluster", self.admin_cluster)
        self.run_case("offsets are committed by hand", self.offsets_are_committed_by_hand)
        self.run_case("idempotent through kill -9 of the leader", self.idempotent_through_a_kill, known="broken")
        self.run_groups()

    def run_groups(self):
        self.run_case("a group outlives its coordinator", self.a_group_outlives_its_coordinator, known="broken")
        self.run_case("a group shares its topic", self.a_group_shares_its_topic, known="broken")

    def run_case(self, name, case, *args, known="always"):
        self.cases.run(f"{self.name}: {name}", case, *args, expected=self.expected(known))

    def expected(self, *kinds):
        """What is known of warnings of these kinds, and of those that may always come."""
        known = [self.known[kind] for kind in {"always", *kinds} if kind in self.known]
        return re.compile("|".join(known)) if known else None


def line(record):
    """A record as the programs read it: (key, value, headers), and perhaps a time in milliseconds."""
    key, value, headers, *time = record
    found = {
        "key": encoded(key),
        "value": encoded(value),
        "headers": [{"name": name, "value": encoded(value)} for name, value in headers],
    }
    if time:
        found["time"] = time[0]
    return json.dumps(found).encode() + b"\n"


def text(text):
    """A string as requests have it."""
    return struct.pack(">h", len(text)) + text.encode()


def encoded(some):
    return None if some is None else base64.b64encode(some).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)
