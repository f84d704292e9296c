"""Stories that every client has to get through, told with the client's own consumers and producers."""

import itertools
import signal
import subprocess

from harness import wait_for

PARTITIONS = 6
NUMBERS = itertools.count()


class Member:
    """A consumer in a group: a process of its own, that writes each value, a number, on a line.

    Lines that are no number tell something else; `check` is given what it wrote to standard error, and how it ended.
    """

    def __init__(self, cluster, command, check):
        number = next(NUMBERS)
        self.written = cluster.directory / f"member-{number}.out"
        self.said = cluster.directory / f"member-{number}.err"
        self.check = check
        with open(self.written, "wb") as out, open(self.said, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def lines(self):
        """What it wrote; without the last line while that is not whole."""
        return self.written.read_text().split("\n")[:-1]

    def got(self):
        return [int(line) for line in self.lines() if line.isdigit()]

    def end(self, signum):
        self.process.send_signal(signum)
        self.process.wait(timeout=30)
        self.check(self.said.read_text(errors="replace"), signum)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Sender:
    """Sends numbers in turn to a topic's partitions, with `send(partition, numbers)`."""

    def __init__(self, send):
        self.send = send
        self.sent = 0

    def more(self, count=120):
        numbers = range(self.sent, self.sent + count)
        for partition in range(PARTITIONS):
            self.send(partition, numbers[(partition - self.sent) % PARTITIONS :: PARTITIONS])
        self.sent += count
        return numbers

    def all_got(self, members, what):
        def missing():
            return set(range(self.sent)) - {value for member in members for value in member.got()}

        wait_for(f"{what}: {len(missing())} are missing", lambda: not missing(), 60)


def a_group_shares_its_topic(cluster, topic, start, send):
    """Three members join one by one, one dies, one leaves; offsets hold across a restart of the whole cluster."""
    cluster.create(topic, PARTITIONS)
    sender = Sender(send)
    members = [start()]
    try:
        sender.more()
        sender.all_got(members, "one member gets all")
        members += [start() for _ in range(2)]

        def all_share():
            before = [len(member.got()) for member in members]
            sender.more(60)
            sender.all_got(members, "what is sent arrives")
            return all(len(member.got()) > had for member, had in zip(members, before))

        wait_for("all three get a share", all_share, 60)
        members[0].end(signal.SIGKILL)
        sender.more()
        sender.all_got(members, "the others take over from the dead")
        members[1].end(signal.SIGTERM)
        sender.more()
        sender.all_got(members, "the last takes over from who left")
        members[2].end(signal.SIGTERM)
        cluster.restart_all()
        new = sender.more()
        members.append(start())
        sender.all_got(members, "a member after the restart goes on")
        found = sorted(members[-1].got())
        assert found == list(new), f"{len(found)} records of {len(new)}: the committed ones again?"
        members[-1].end(signal.SIGTERM)
    finally:
        for member in members:
            member.stop()


def static_members_keep_their_places(cluster, topic, start, send, ending=signal.SIGKILL):
    """A static member ends and comes back: nobody else gets its partitions meanwhile, and it gets them again.

    `start(instance)` starts a member with a long session and that instance id. A value's partition is its remainder.
    """
    cluster.create(topic, PARTITIONS)
    sender = Sender(send)
    members = [start("one"), start("two")]
    try:

        def both_share():
            before = [len(member.got()) for member in members]
            sender.more(60)
            sender.all_got(members, "what is sent arrives")
            return all(len(member.got()) > had for member, had in zip(members, before))

        wait_for("both get a share", both_share, 60)

        def shares(numbers):
            return [{value % PARTITIONS for value in member.got() if value in numbers} for member in members]

        numbers = sender.more()
        sender.all_got(members, "what is sent arrives")
        of_one, of_two = shares(numbers)
        assert of_one and of_two and not of_one & of_two, (of_one, of_two)
        members[0].end(ending)
        missed = sender.more()
        wait_for("the other gets its own", lambda: shares(missed)[1] == of_two)
        members.append(start("one"))
        sender.all_got(members, "it comes back and goes on where it was")
        numbers = sender.more()
        sender.all_got(members, "all is as it was")
        assert shares(numbers)[1:] == [of_two, of_one], (shares(numbers), of_one, of_two)
        assert shares(missed)[1:] == [of_two, of_one], "the other had them meanwhile"
        for member in members[1:]:
            member.end(signal.SIGTERM)
    finally:
        for member in members:
            member.stop()


class Retained:
    """A reader that falls behind what retention deletes.

    Retention looks every half minute: this is made at once, and the end of the story told when other cases have run.
    """

    TOPIC = "retained"
    RECORDS = 20_000

    def __init__(self, cluster, produce, read_first):
        """`produce(topic, values)` writes to the one partition of the topic; `read_first(topic, count)` reads some
        records and holds its place there, with little read ahead."""
        self.cluster = cluster
        cluster.create(self.TOPIC, retention_bytes=200_000, segment_bytes=65_536)
        produce(self.TOPIC, [b"%d %s" % (number, b"x" * 100) for number in range(self.RECORDS)])
        first = read_first(self.TOPIC, 10)
        assert [int(value.split()[0]) for value in first] == list(range(10)), first

    def go_on(self, read_until):
        """`read_until(found)` goes on reading until `found(value)` says that this was the last."""
        wait_for("retention deletes", lambda: self.cluster.begin(self.TOPIC) > self.RECORDS // 2, 75)
        begin = self.cluster.begin(self.TOPIC)
        last = self.RECORDS - 1
        found = [int(value.split()[0]) for value in read_until(lambda value: value.split()[0] == b"%d" % last)]
        gaps = [(one, other) for one, other in zip([9, *found], found) if other != one + 1]
        assert [end for _, end in gaps] == [begin], f"one gap, to where the log begins ({begin}): {gaps[:5]}"
        assert found[-1] == last


class Compacted:
    """A topic of which compaction is to leave each key's last record, on every replica.

    Compaction looks every half minute: this is made at once, and the end of the story told when other cases have run.
    """

    TOPIC = "compacted"
    RECORDS = 20_000
    KEYS = 50

    def __init__(self, cluster, produce):
        """`produce(topic, records)` writes (key, value) pairs to the one partition of the topic, in small batches."""
        self.cluster = cluster
        cluster.create(self.TOPIC, cleanup_policy="compact", segment_bytes=65_536)
        self.records = [(b"%d" % (number % self.KEYS), b"%d" % number) for number in range(self.RECORDS)]
        self.records += [(b"%d" % key, None) for key in range(0, self.KEYS, 5)]
        produce(self.TOPIC, self.records)

    def tell(self, read):
        """`read(topic)` reads all that is there: (offset, key, value)."""

        def compacted():
            found = read(self.TOPIC)
            return found if len(found) < self.RECORDS // 10 else None

        left = wait_for("compaction", compacted, 90)
        offsets = [offset for offset, _, _ in left]
        assert offsets == sorted(set(offsets)), "in order, none twice"
        assert all((key, value) == self.records[offset] for offset, key, value in left), "each is what was sent"
        last = {key: value for _, key, value in left}
        assert last == dict(self.records), "the last of each key, and what deletes one"
        assert self.cluster.end(self.TOPIC) == len(self.records), "the end is where it was"
        leader = self.cluster.leader(self.TOPIC, 0)
        self.cluster.kill(leader)
        self.cluster.lead_elsewhere(self.TOPIC, 0, leader)
        wait_for("another replica has the same", lambda: read(self.TOPIC) == left, 60)
        self.cluster.start(leader)
        self.cluster.wait_until_ready()
