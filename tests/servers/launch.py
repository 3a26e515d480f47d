"""Context managers that start the servers of the tests."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.servers import parts
from tests.servers.ports import free_port
from tests.servers.process import HOST, serving

# The command of fauxqs listens on every interface, and its queue URLs contain a host that not every
# machine resolves. Its modules accept both as options; an empty host means that of the request.
SERVE_FAUXQS = """
import { buildApp } from "./node_modules/fauxqs/dist/app.js";
import { SqsStore } from "./node_modules/fauxqs/dist/sqs/sqsStore.js";
const [host, port] = process.argv.slice(1);
const sqsStore = Object.assign(new SqsStore(), { host: "" });
await buildApp({ logger: false, stores: { sqsStore } }).listen({ host, port: Number(port) });
"""


# The optimizing compiler and the parallel collector of Java would take half of its CPU time; they
# pay only in processes that run for longer.
DYNAMODB_LOCAL = (
    *("java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
    *("-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"),
)


def moto() -> AbstractContextManager[str]:
    """Run moto (SQS and DynamoDB) in its own process, and yield its URL."""
    port = free_port()
    program = Path(__file__).with_name("quick_moto.py")
    return serving([sys.executable, str(program), "-H", HOST, "-p", str(port)], port)


@contextmanager
def moto_in_process() -> Iterator[str]:
    """Run moto in a thread, which starts faster but shares state with others, and yield its URL."""
    # Takes half a second to import.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    from tests.servers.quick_moto import use_shortcuts  # noqa: PLC0415

    use_shortcuts()
    log = logging.getLogger("werkzeug")
    level = log.level
    log.setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        yield f"http://{HOST}:{server.get_host_and_port()[1]}"
    finally:
        server.stop()
        log.setLevel(level)


def dynamodb_local() -> AbstractContextManager[str]:
    """Run DynamoDB Local, and yield its URL.

    It has no option to listen only on the loopback interface. It has one database for each access
    key and region, and accepts only access keys of letters and digits.
    """
    directory = parts.DYNAMODB_LOCAL.require()
    port = free_port()
    options = ["-inMemory", "-disableTelemetry", "-port", str(port)]
    return serving([*DYNAMODB_LOCAL, *options], port, directory=directory)


def ministack(
    *,
    enforce_policies: bool = False,
    authorize_statements: bool = False,
    certificate: Path | None = None,
) -> AbstractContextManager[str]:
    """Run ministack (SQS, DynamoDB with PartiQL, optional IAM), and yield its URL.

    Args:
        enforce_policies: Whether calls need credentials that a policy allows.
        authorize_statements: Whether PartiQL and attributes are authorized as on AWS; see
            `ministack_iam`.
        certificate: PEM file with a certificate chain and its key, for TLS.
    """
    directory = parts.MINISTACK.require()
    port = free_port()
    environment = {"BIND_HOST": HOST, "MINISTACK_HOST": HOST, "GATEWAY_PORT": str(port)}
    if enforce_policies:
        environment["AUTH"] = "true"
    scheme = "http"
    if certificate is not None:
        scheme = "https"
        files = dict.fromkeys(("MINISTACK_SSL_CERT", "MINISTACK_SSL_KEY"), str(certificate))
        environment |= {"USE_SSL": "1", **files}
    command = [str(directory / "bin" / "ministack")]
    if authorize_statements:
        program = Path(__file__).with_name("ministack_iam.py")
        command = [str(directory / "bin" / "python"), str(program)]
    return serving(command, port, environment=environment, scheme=scheme)


def fauxqs() -> AbstractContextManager[str]:
    """Run fauxqs, another implementation of SQS, and yield its URL."""
    directory = parts.FAUXQS.require()
    port = free_port()
    command = ["node", "--input-type=module", "--eval", SERVE_FAUXQS, HOST, str(port)]
    return serving(command, port, directory=directory)


def aws_command() -> Path:
    """Return the path of the AWS CLI, a client that shares no code with the worker."""
    return parts.AWSCLI.require() / "bin" / "aws"
