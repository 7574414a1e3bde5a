"""A real Kafka for tests: `with KafkaServer() as kafka: ... kafka.endpoint ...`.

It comes from Maven Central into the user's cache; `python -m tests.kafka_server` downloads it where it's needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from slight_py import cache
from tests.servers import HOST, Server, free_port, make_certificate

VERSION = "3.9.1"

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.0:copy-dependencies"

POM = f"""
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

USER, PASSWORD = "guest", "a secret; with = \\ and ü"


def jars() -> Path:
    """Where the broker's jars are."""
    return cache.directory(f"kafka-{VERSION}")


def prepare() -> None:
    """Downloads the broker, unless it's there. Raises AssertionError where that fails."""
    if jars().exists():
        return
    jars().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars().parent) as scratch:
        Path(scratch, "pom.xml").write_text(POM)
        command = ["mvn", "-q", "-B", PLUGIN, "-DincludeScope=runtime", "-DoutputDirectory=jars"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"Kafka can't be had from Maven Central:\n{done.stdout}{done.stderr}")
        shutil.rmtree(jars(), ignore_errors=True)
        Path(scratch, "jars").rename(jars())


class KafkaServer(Server):
    """A broker in KRaft mode, in one process of at most 256 MiB of heap, whose files are in a temporary directory.

    With `tls` and `password`, `endpoint` wants TLS and the user USER. `settings` are further lines of its
    configuration: `"auto.create.topics.enable=false"`.
    """

    START_SECONDS: ClassVar[float] = 60.0

    def __init__(self, *settings: str, password: bool = False, tls: bool = False) -> None:
        super().__init__()
        self._controller_port = free_port()
        self._settings = settings
        self._password = password
        self.certificate = self.directory / "certificate.pem" if tls else None
        if self.certificate is not None:
            key = self.directory / "key.pem"
            make_certificate(self.certificate, key)
            self._key_store = self.directory / "both.pem"
            self._key_store.write_text(key.read_text() + self.certificate.read_text())

    @property
    def endpoint(self) -> str:
        """What CAK_ENDPOINT is for this server."""
        return f"{HOST}:{self.port}"

    @property
    def protocol(self) -> str:
        """What CAK_SECURITY_PROTOCOL is for this server."""
        secure = "SSL" if self.certificate else "PLAINTEXT"
        return f"SASL_{secure}" if self._password else secure

    def _configuration(self) -> str:
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@{HOST}:{self._controller_port}",
            f"listeners=GUESTS://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}",
            f"advertised.listeners=GUESTS://{HOST}:{self.port}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=GUESTS",
            f"listener.security.protocol.map=GUESTS:{self.protocol},CONTROLLER:PLAINTEXT",
            f"log.dirs={self.directory}/data",
            "num.partitions=3",
            "offsets.topic.num.partitions=1",
            "offsets.topic.replication.factor=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "group.initial.rebalance.delay.ms=0",
            "log.cleaner.enable=false",
            # How long a broker that was killed counts as running.
            "broker.session.timeout.ms=1000",
            "broker.heartbeat.interval.ms=300",
        ]
        if self._password:
            escaped = PASSWORD.replace("\\", "\\\\")
            module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
            users = f'username="{USER}" password="{escaped}" user_{USER}="{escaped}"'
            jaas = f"{module} {users};".replace("\\", "\\\\")
            lines += [
                "sasl.enabled.mechanisms=PLAIN",
                "sasl.mechanism.inter.broker.protocol=PLAIN",
                f"listener.name.guests.plain.sasl.jaas.config={jaas}",
            ]
        if self.certificate is not None:
            lines += ["ssl.keystore.type=PEM", f"ssl.keystore.location={self._key_store}"]
            lines += ["ssl.truststore.type=PEM", f"ssl.truststore.location={self.certificate}"]
        # Java reads such a file as Latin-1, with everything else escaped.
        text = "\n".join([*lines, *self._settings, ""])
        return "".join(each if each.isascii() else f"\\u{ord(each):04x}" for each in text)

    def command(self) -> list[str]:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        # What the broker's own tool would write, in a process of its own that takes seconds.
        if not (data / "meta.properties").exists():
            (data / "meta.properties").write_text(
                "version=1\ncluster.id=dGVzdHMtb2Ytc2xpZ2h0cA\nnode.id=1\ndirectory.id=dGVzdHMtb2Ytc2xpZ2h0cB\n"
            )
        (self.directory / "server.properties").write_text(self._configuration(), encoding="utf-8")
        options = ["-Xmx256m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return ["java", *options, "-cp", f"{jars()}/*", "kafka.Kafka", str(self.directory / "server.properties")]


if __name__ == "__main__":
    try:
        prepare()
    except AssertionError as error:
        sys.exit(str(error))
