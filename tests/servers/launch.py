"""Start the servers that tests talk to, each for as long as a block lasts."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.servers import parts
from tests.servers.ports import free_port
from tests.servers.process import HOST, serving

# The command of fauxqs listens on every interface and names its queues by a host that not every
# machine resolves; its parts let the caller choose, and an empty host means the one of the request.
_SERVE_FAUXQS = """
import { buildApp } from "./node_modules/fauxqs/dist/app.js";
import { SqsStore } from "./node_modules/fauxqs/dist/sqs/sqsStore.js";
const [host, port] = process.argv.slice(1);
const sqsStore = Object.assign(new SqsStore(), { host: "" });
await buildApp({ logger: false, stores: { sqsStore } }).listen({ host, port: Number(port) });
"""


def moto() -> AbstractContextManager[str]:
    """Lend the URL of moto in a process of its own: SQS and DynamoDB."""
    port = free_port()
    return serving([sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], port)


@contextmanager
def moto_in_process() -> Iterator[str]:
    """Lend the URL of moto in a thread: starts faster, but all of them share their state."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 -- takes half a second to import

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
    """Lend the URL of AWS's own DynamoDB Local.

    It has no option to listen on the loopback interface alone. It keeps one database for every
    access key and region, and takes keys of letters and digits only.
    """
    directory = parts.DYNAMODB_LOCAL.require()
    port = free_port()
    java = ["java", "-Xmx512m", "-Djava.library.path=./DynamoDBLocal_lib"]
    options = ["-inMemory", "-disableTelemetry", "-port", str(port)]
    return serving([*java, "-jar", "DynamoDBLocal.jar", *options], port, directory=directory)


def ministack(
    *,
    enforce_policies: bool = False,
    authorize_statements: bool = False,
    certificate: Path | None = None,
) -> AbstractContextManager[str]:
    """Lend the URL of ministack: SQS and DynamoDB with PartiQL, and IAM if it is asked for.

    Args:
        enforce_policies: Whether calls need credentials that a policy allows them.
        authorize_statements: Whether they allow PartiQL and attributes as on AWS; see
            `ministack_iam`.
        certificate: For TLS: a chain and its key in one PEM file.
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
    """Lend the URL of fauxqs: an SQS of another hand."""
    directory = parts.FAUXQS.require()
    port = free_port()
    command = ["node", "--input-type=module", "--eval", _SERVE_FAUXQS, HOST, str(port)]
    return serving(command, port, directory=directory)


def aws_command() -> Path:
    """Return the path of the AWS command line, the client that shares no code with ours."""
    return parts.AWSCLI.require() / "bin" / "aws"
