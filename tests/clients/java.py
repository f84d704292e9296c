"""Kafka's own command-line tools, the Java clients in them: fetched with Maven, run as processes."""

import os
import pathlib
import re
import subprocess
import time

from harness import checked, needs_program

VERSION = os.environ.get("KAFKA_VERSION", "4.1.0")
TOPICS = "org.apache.kafka.tools.TopicCommand"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONFIGS = "kafka.admin.ConfigCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
PRODUCER_PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
API_VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand"

# Plugin and all have their versions: nothing has to be asked that may be answered differently tomorrow.
CLASS_PATH_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>none</groupId><artifactId>none</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{0}</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{0}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""
ATTEMPTS = 3


class Java:
    """The tools against one cluster."""

    def __init__(self, cluster):
        needs_program("java", "default-jre-headless")
        needs_program("mvn", "maven")
        self.cluster = cluster
        self.class_path = self._class_path()
        # The classes that a first run loaded, laid out for the next ones: these start in half the time.
        self.archive = cluster.directory / "classes.jsa"
        first = self.command(TOPICS, "--list")
        first.insert(1, f"-XX:ArchiveClassesAtExit={self.archive}")
        subprocess.run(first, capture_output=True, timeout=120)

    def _class_path(self):
        """Has Maven download what is not there yet; a download that breaks is tried again."""
        directory = self.cluster.directory
        (directory / "pom.xml").write_text(POM.format(VERSION))
        command = ["mvn", "-q", "-B", CLASS_PATH_GOAL, "-Dmdep.outputFile=class-path"]
        for attempt in range(1, ATTEMPTS + 1):
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=600)
            if done.returncode == 0:
                return (directory / "class-path").read_text().strip()
            print(f"Maven, attempt {attempt} of {ATTEMPTS}: {(done.stdout + done.stderr)[-500:]}", flush=True)
            time.sleep(2 * attempt)  # whoever refused is not asked at once again
        raise SystemExit(f"Maven cannot fetch Kafka's tools {VERSION}")

    def compiled(self, name):
        """The directory with the classes of a program of `java/`, compiled."""
        needs_program("javac", "default-jdk-headless")
        directory = self.cluster.directory / "classes"
        source = pathlib.Path(__file__).with_name("java") / f"{name}.java"
        checked(f"compile {source}", ["javac", "-nowarn", "-proc:none", "-cp", self.class_path, "-d", directory, source])
        return directory

    def command(self, tool, *args, classes=None):
        class_path = self.class_path if classes is None else f"{self.class_path}:{classes}"
        java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", class_path]
        if self.archive.exists() and classes is None:
            java += [f"-XX:SharedArchiveFile={self.archive}", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=off"]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", tool]
        return [*java, "--bootstrap-server", self.cluster.bootstrap, *map(str, args)]

    def run(self, tool, *args, input=None, expected=None, text=True, seconds=120, classes=None):
        """Runs a tool to its end; returns what it wrote."""
        command = self.command(tool, *args, classes=classes)
        done = subprocess.run(command, input=input, capture_output=True, text=text, timeout=seconds)
        said = done.stderr if text else done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{tool} {args}: {done.stdout[-2000:]} {said}"
        check_warnings(said, expected)
        return done.stdout

    def refused(self, tool, *args):
        """Runs a tool that is to fail; returns all that it said."""
        done = subprocess.run(self.command(tool, *args), capture_output=True, text=True, timeout=120)
        assert done.returncode != 0 or "Exception" in done.stdout + done.stderr, f"{tool} {args}: {done.stdout}"
        return done.stdout + done.stderr

    def consume(self, topic, count, *args, **options):
        args = ("--topic", topic, "--max-messages", count, "--timeout-ms", 30_000, *args)
        return self.run(CONSUMER, *args, **options).splitlines()


def check_warnings(said, expected=None):
    lines = [line for line in said.splitlines() if re.match(r"\[.*\] (WARN|ERROR) ", line)]
    lines = [line for line in lines if expected is None or not expected.search(line)]
    assert not lines, "\n".join(lines)
