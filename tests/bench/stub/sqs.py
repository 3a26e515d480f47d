"""Responses of SQS in its JSON protocol."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tests.bench.stub.checksums import md5, md5_of_attributes
from tests.bench.stub.messages import DIGITS, RECEIPT_PREFIX
from tests.bench.stub.tally import Tally

DEAD_LETTER_SUFFIX: Final = "-dead"
_ACCOUNT: Final = "000000000000"
_MOST: Final = re.compile(rb'"MaxNumberOfMessages":\s*(\d+)')
_WAIT: Final = re.compile(rb'"WaitTimeSeconds":\s*(\d+)')
_ID: Final = re.compile(rb'"Id":\s*"([^"]+)"')
_RECEIPT: Final = re.compile(rb'"ReceiptHandle":\s*"%b(\d{%d})' % (RECEIPT_PREFIX.encode(), DIGITS))
_EMPTY: Final = b"{}"

Reply = Callable[[bytes], None]
Later = Callable[[float, Callable[[], None]], Any]


class Poll:
    """A poll that waits for messages.

    Args:
        most: Maximum number of messages.
        reply: Sends the response; has no effect once the connection is closed.
    """

    def __init__(self, most: int, reply: Reply) -> None:
        self.most = most
        self._reply = reply
        self.waiting = True

    def respond(self, body: bytes) -> None:
        """Send the response, once."""
        if self.waiting:
            self.waiting = False
            self._reply(body)


class SQS:
    """Responds to each operation from the tally.

    Args:
        tally: Messages and counters.
        url: Endpoint URL in the URLs of queues.
        later: Schedules a call after a number of seconds.
        notice: Called when messages were deleted or a poll began to wait.
    """

    def __init__(self, tally: Tally, url: str, later: Later, notice: Callable[[], None]) -> None:
        self._tally = tally
        self._url = url
        self._later = later
        self._notice = notice
        self._polls: deque[Poll] = deque()

    @property
    def waiting_polls(self) -> int:
        """Number of polls that wait for messages."""
        return sum(poll.waiting for poll in self._polls)

    def receive(self, body: bytes, reply: Reply) -> None:
        """Return messages, or wait for some up to the wait time of the poll."""
        tally = self._tally
        if tally.first_poll_at is None:
            tally.first_poll_at = time.monotonic()
        found = _MOST.search(body)
        most = int(found[1]) if found else 1
        response = tally.deliver(most)
        if response is not None:
            reply(response)
            return
        found = _WAIT.search(body)
        poll = Poll(most, reply)
        wait_seconds = int(found[1]) if found else 0
        if wait_seconds:
            self._polls.append(poll)
            self._later(wait_seconds, lambda: self._end(poll))
            self._notice()
        else:
            self._end(poll)

    def _end(self, poll: Poll) -> None:
        if poll.waiting:
            self._tally.sqs_request_units += 1
            poll.respond(_EMPTY)
        while self._polls and not self._polls[0].waiting:
            self._polls.popleft()

    def offer(self, messages: int) -> None:
        """Add messages, and respond to waiting polls."""
        self._tally.offered += messages
        while self._polls:
            poll = self._polls.popleft()
            if not poll.waiting:
                continue
            response = self._tally.deliver(poll.most)
            if response is None:
                self._polls.appendleft(poll)
                return
            poll.respond(response)

    def release(self) -> None:
        """End every waiting poll with an empty response."""
        for poll in list(self._polls):
            self._end(poll)

    def delete_batch(self, body: bytes) -> bytes:
        """Delete messages, and confirm each."""
        self._settle(body)
        return _successes(body)

    def delete(self, body: bytes) -> bytes:
        """Delete one message."""
        self._settle(body)
        return b""

    def _settle(self, body: bytes) -> None:
        self._tally.settle(map(int, _RECEIPT.findall(body)))
        self._notice()

    def change_visibility_batch(self, body: bytes) -> bytes:
        """Confirm every entry."""
        return _successes(body)

    def send_batch(self, body: bytes) -> bytes:
        """Confirm each entry with the checksums of its content."""
        entries = json.loads(body)["Entries"]
        return json.dumps({"Successful": [_sent(entry) for entry in entries]}).encode()

    def queue_url(self, body: bytes) -> bytes:
        """Return the URL of a queue of any name."""
        name = json.loads(body)["QueueName"]
        return json.dumps({"QueueUrl": f"{self._url}/{_ACCOUNT}/{name}"}).encode()

    def queue_attributes(self, body: bytes) -> bytes:
        """Return depth, retention and redrive policy."""
        name = json.loads(body)["QueueUrl"].rsplit("/", 1)[-1]
        arn = f"arn:aws:sqs:us-east-1:{_ACCOUNT}:"
        dead = name.endswith(DEAD_LETTER_SUFFIX)
        attributes = {
            "QueueArn": arn + name,
            "ApproximateNumberOfMessages": str(self._tally.offered - self._tally.delivered),
            "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
            "VisibilityTimeout": "30",
            "MessageRetentionPeriod": "1209600" if dead else "345600",
        }
        if not dead:
            redrive = {"deadLetterTargetArn": arn + name + DEAD_LETTER_SUFFIX, "maxReceiveCount": 9}
            attributes["RedrivePolicy"] = json.dumps(redrive)
        return json.dumps({"Attributes": attributes}).encode()


def _successes(body: bytes) -> bytes:
    ids = _ID.findall(body)
    return b'{"Failed":[],"Successful":[{"Id":"%b"}]}' % b'"},{"Id":"'.join(ids)


def _sent(entry: dict[str, Any]) -> dict[str, str]:
    response = {
        "Id": entry["Id"],
        "MessageId": f"b1d2c0de-5ead-4bad-8bee-{md5(entry['Id'].encode())[:12]}",
        "MD5OfMessageBody": md5(entry["MessageBody"].encode()),
    }
    if entry.get("MessageAttributes"):
        response["MD5OfMessageAttributes"] = md5_of_attributes(entry["MessageAttributes"])
    if entry.get("MessageSystemAttributes"):
        response["MD5OfMessageSystemAttributes"] = md5_of_attributes(
            entry["MessageSystemAttributes"]
        )
    return response
