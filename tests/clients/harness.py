"""What the client scripts share: a cluster of three brokers, and cases that are counted.

The brokers are real processes on free ports of 127.0.0.1, their data in a temporary directory. Everything that was
started is stopped, by its own process id, when the script ends, however it ends.
"""

import atexit
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BROKERS = 3


def wait_for(what, condition, seconds=30):
    """Returns what `condition` returns once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain for {seconds} s: {what}")
        time.sleep(0.05)


class Cluster:
    """Three brokers. `kill` and `stop` take a broker's number, from 1."""

    def __init__(self, **flags):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="raftline-clients-"))
        given = pathlib.Path(os.environ.get("RAFTLINED", TARGET / "debug/raftlined"))
        # A copy: it stays the same binary, whatever is built meanwhile.
        self.binary = shutil.copy(given, self.directory / "raftlined")
        self.flags = {
            "auto-create-topics": "true",
            "default-partitions": "4",
            # As the clients' own suites have it: no test waits for what a person would not notice.
            "group-initial-rebalance-delay-ms": "0",
            "group-min-session-timeout-ms": "1000",
            "group-consumer-session-timeout-ms": "6000",
            "group-consumer-heartbeat-interval-ms": "1000",
            **flags,
        }
        self.processes = {}
        self.deaths = []
        self.grpc, self.kafka = self._free_ports()
        atexit.register(self.close)
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda *_: sys.exit(1))
        self.start_all()

    @staticmethod
    def _free_ports():
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * BROKERS)]
        ports = [held.getsockname()[1] for held in sockets]
        for held in sockets:
            held.close()
        return ports[:BROKERS], ports[BROKERS:]

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{port}" for port in self.kafka)

    def log(self, broker):
        return self.directory / f"broker-{broker}.log"

    def peers(self, _broker):
        """Where a broker reaches the others, and itself."""
        return enumerate(self.grpc, 1)

    def start(self, broker):
        peers = [f"--peer={peer}=127.0.0.1:{port}" for peer, port in self.peers(broker)]
        command = [
            self.binary,
            f"--node-id={broker}",
            "--cluster=clients",
            f"--data-dir={self.directory / f'broker-{broker}'}",
            f"--grpc=127.0.0.1:{self.grpc[broker - 1]}",
            f"--kafka=127.0.0.1:{self.kafka[broker - 1]}",
            "--shards=1",
            *peers,
            *(f"--{name}={value}" for name, value in self.flags.items()),
        ]
        with open(self.log(broker), "ab") as log:
            # Variables of these scripts are none of the broker's, which would say so.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("RAFTLINE_")}
            self.processes[broker] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start_all(self):
        for broker in range(1, BROKERS + 1):
            self.start(broker)
        self.wait_until_ready()

    def wait_until_ready(self, brokers=BROKERS):
        """Waits until every running broker tells of that many, and all partitions have leaders."""

        def ready():
            for broker, process in self.processes.items():
                if process.poll() is not None:
                    raise AssertionError(f"broker {broker} ended with {process.returncode}: {self.tail(broker)}")
                try:
                    found, topics = self.metadata(broker)
                except OSError:
                    return False
                if len(found) < brokers or any(leader < 0 for leaders in topics.values() for leader in leaders):
                    return False
            return True

        wait_for("the brokers are ready", ready)

    def kill(self, broker):
        """As if its machine lost power, but for the disk."""
        process = self.processes.pop(broker)
        process.kill()
        process.wait()

    def stop(self, broker):
        process = self.processes.pop(broker)
        process.terminate()
        if process.wait(timeout=30) != 0:
            self.deaths.append(f"broker {broker} ended with {process.returncode}: {self.tail(broker)}")

    def restart_all(self):
        for broker in list(self.processes):
            self.stop(broker)
        self.start_all()

    def tail(self, broker, lines=5):
        text = self.log(broker).read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def close(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes = {}
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)

    # The least of Kafka's protocol that is needed to know what to do.

    def ask(self, broker, key, version, body):
        """One request, and the answer's body."""
        request = struct.pack(">hhih", key, version, 7, -1) + body
        with socket.create_connection(("127.0.0.1", self.kafka[broker - 1]), timeout=10) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            reader = connection.makefile("rb")
            header = reader.read(8)
            if len(header) < 8:
                raise ConnectionError("the broker closed the connection")
            return Reader(reader.read(struct.unpack(">i", header[:4])[0] - 4))

    def any_broker(self):
        return next(iter(self.processes))

    def metadata(self, broker=None):
        """The brokers' numbers, and the leaders of each topic's partitions."""
        answer = self.ask(broker or self.any_broker(), 3, 1, struct.pack(">i", -1))
        brokers = []
        for _ in range(answer.i32()):
            brokers.append(answer.i32())
            answer.text(), answer.i32(), answer.text()
        answer.i32()
        topics = {}
        for _ in range(answer.i32()):
            answer.i16()
            name = answer.text()
            answer.take(1)
            leaders = {}
            for _ in range(answer.i32()):
                answer.i16()
                partition = answer.i32()
                leaders[partition] = answer.i32()
                for _ in range(2):
                    answer.take(4 * answer.i32())
            topics[name] = [leaders[partition] for partition in sorted(leaders)]
        return brokers, topics

    def leader(self, topic, partition=0):
        """Who leads, once the broker that is asked knows: one that has just been started does not at first."""
        return wait_for("a leader", lambda: max(self.metadata()[1][topic][partition], 0))

    def begin(self, topic, partition=0):
        """The offset of the first record that is still there."""
        return self._offset(topic, partition, -2)

    def end(self, topic, partition=0):
        """The offset after the last record that consumers see."""
        return self._offset(topic, partition, -1)

    def _offset(self, topic, partition, time):
        body = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">iiq", 1, partition, time)
        answer = self.ask(self.leader(topic, partition), 2, 1, body)
        answer.i32(), answer.text(), answer.i32(), answer.i32()
        error = answer.i16()
        assert error == 0, f"list offsets of {topic}/{partition}: error {error}"
        return struct.unpack(">qq", answer.take(16))[1]

    def coordinator(self, group):
        """The broker that coordinates a group; `None` while there is none."""
        answer = self.ask(self.any_broker(), 10, 0, text(group))
        error, broker = answer.i16(), answer.i32()
        return broker if error == 0 else None

    def committed(self, coordinator, group, topic, partitions):
        """What a group has committed, by partition, -1 for nothing; `None` if that broker does not say."""
        wanted = struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
        answer = self.ask(coordinator, 9, 1, text(group) + struct.pack(">i", 1) + text(topic) + wanted)
        answer.i32(), answer.text()
        found = {}
        for _ in range(answer.i32()):
            partition, (offset,) = answer.i32(), struct.unpack(">q", answer.take(8))
            answer.text()
            if answer.i16() != 0:
                return None
            found[partition] = offset
        return found

    def wait_for_records(self, topic, partition, count):
        """Waits until a partition has that many, through a change of leaders."""

        def there():
            try:
                return self.end(topic, partition) >= count
            except (AssertionError, KeyError, IndexError, OSError, struct.error):
                return False

        wait_for(f"{count} records in {topic}/{partition}", there, 60)

    def lead_elsewhere(self, topic, partition, dead):
        """Waits until a running broker leads a partition that `dead` led."""
        wait_for(f"a new leader of {topic}/{partition}", lambda: self.leader(topic, partition) not in (-1, dead))

    def create(self, topic, partitions=1, **configs):
        """Makes a topic with three replicas; in a config's name `_` stands for a dot."""

        body = struct.pack(">i", 1) + text(topic) + struct.pack(">ihii", partitions, BROKERS, 0, len(configs))
        for name, value in configs.items():
            body += text(name.replace("_", ".")) + text(str(value))
        answer = self.ask(self.any_broker(), 19, 2, body + struct.pack(">ib", 10_000, 0))
        answer.i32(), answer.i32(), answer.text()
        error = answer.i16()
        assert error == 0, f"create topic {topic}: error {error}: {answer.text()}"
        wait_for(
            f"topic {topic} is known and led",
            lambda: all(
                len(leaders := self.metadata(broker)[1].get(topic, [])) == partitions and min(leaders) > 0
                for broker in self.processes
            ),
        )

    def warned_of_transactions(self, client):
        """Whether a broker's log says that this client, by its id, wanted a transaction."""
        text = "".join(self.log(broker).read_text(errors="replace") for broker in range(1, BROKERS + 1))
        lines = [line for line in text.splitlines() if "produce without transactional.id" in line]
        return any(f'client="{client}"' in line and " WARN " in line for line in lines)

    def complaints(self):
        """What the brokers' logs have that no well-behaved client should cause."""
        found = list(self.deaths)
        for broker in range(1, BROKERS + 1):
            for line in self.log(broker).read_text(errors="replace").splitlines():
                if re.search(r"panicked| ERROR |Kafka connection closed", line):
                    found.append(f"broker {broker}: {line}")
        return found


def text(text):
    """As requests have it."""
    return struct.pack(">h", len(text)) + text.encode()


class Reader:
    """Takes an answer apart."""

    def __init__(self, rest):
        self.rest = rest

    def take(self, count):
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def i16(self):
        return struct.unpack(">h", self.take(2))[0]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def text(self):
        length = self.i16()
        return self.take(length).decode() if length >= 0 else None


class StandardError:
    """Catches what this process writes to standard error, below Python, until `end`."""

    def __init__(self):
        self.caught = tempfile.TemporaryFile()
        self.before = os.dup(2)
        self.text = None
        os.dup2(self.caught.fileno(), 2)

    def end(self):
        if self.text is None:
            sys.stderr.flush()
            os.dup2(self.before, 2)
            os.close(self.before)
            self.caught.seek(0)
            self.text = self.caught.read().decode(errors="replace")
            self.caught.close()
        return self.text


class Cases:
    """Runs cases and counts them. Arguments of the script choose cases by a part of their names.

    What the client writes to standard error while a case runs fails it, if `warning` is found in a line and the
    case's own `expected` is not.
    """

    def __init__(self, warning=None):
        self.passed = self.failed = self.skipped = 0
        self.warning = warning

    def run(self, name, case, *args, expected=None, **options):
        if len(sys.argv) > 1 and not any(part in name for part in sys.argv[1:]):
            return
        began = time.monotonic()
        said = StandardError()
        try:
            case(*args, **options)
            warnings = self.warnings(said.end(), expected)
            assert not warnings, "\n".join(warnings[:20])
        except Exception as error:
            text = said.end()
            self.failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
            traceback.print_exc()
            print(text[-4000:], file=sys.stderr)
        else:
            self.passed += 1
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)

    def record(self, name, failure=None, seconds=None):
        """Counts a case that ran elsewhere; `failure` says what was wrong with it."""
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        if failure is None:
            self.passed += 1
            print(f"ok      {name}{took}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {name}{took}: {failure}", flush=True)

    def skip(self, name, reason):
        self.skipped += 1
        print(f"skipped {name}: {reason}", flush=True)

    def warnings(self, text, expected):
        if self.warning is None:
            return []
        lines = [line for line in text.splitlines() if self.warning.search(line)]
        return [line for line in lines if expected is None or not expected.search(line)]

    def finish(self, cluster):
        complaints = cluster.complaints()
        if complaints:
            self.failed += 1
            print("FAILED  the brokers have nothing to complain of:", *complaints[:10], sep="\n        ")
        else:
            self.passed += 1
            print("ok      the brokers have nothing to complain of")
        cluster.close()
        if self.skipped:
            print(f"{self.skipped} skipped")
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)


def in_virtual_environment(*choices):
    """Runs the calling script again with these packages installed, once for each choice of packages, in environments
    that are deleted afterwards."""
    if os.environ.get("RAFTLINE_CLIENTS_VENV"):
        return
    passed = failed = 0
    for requirements in choices:
        directory = tempfile.mkdtemp(prefix="raftline-venv-")
        try:
            subprocess.run([sys.executable, "-m", "venv", directory], check=True)
            python = f"{directory}/bin/python"
            subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
            environment = {**os.environ, "RAFTLINE_CLIENTS_VENV": directory}
            child = subprocess.Popen([python, *sys.argv], env=environment, stdout=subprocess.PIPE, text=True)
            line = ""
            for line in child.stdout:
                print(line, end="", flush=True)
            counts = re.match(r"(\d+) passed, (\d+) failed", line)
            if child.wait() in (0, 1) and counts:
                passed, failed = passed + int(counts[1]), failed + int(counts[2])
            else:
                failed += 1
                print(f"FAILED  the script itself: it ended with {child.returncode}", flush=True)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    if len(choices) > 1 or not counts:
        print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


def needs_program(program, package):
    """Installs a Debian package if its program is missing."""
    if not shutil.which(program):
        install(package)


def needs_file(path, package):
    """Installs a Debian package if a file of it is missing."""
    if not pathlib.Path(path).exists():
        install(package)


def install(package):
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    # Scripts may run side by side, and apt-get does not wait for another one.
    with open(pathlib.Path(tempfile.gettempdir()) / f"raftline-installs-{os.geteuid()}", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            # A fresh machine has no lists of packages yet.
            subprocess.run([*as_root, "apt-get", "update", "-q"], check=True, stdout=sys.stderr)
            subprocess.run([*as_root, "apt-get", "install", "-y", "-q", package], check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"{package} is missing and cannot be installed ({error}): install it by hand") from error


def checked(what, command, **options):
    """Runs a command and returns what it wrote; ends the script if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"cannot {what}: {error}") from error
    if done.returncode != 0:
        raise SystemExit(f"cannot {what}: {done.stdout}{done.stderr[-4000:]}")
    return done.stdout
