"""Credentials that all calls of a session share."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

from worker.aws.sdk_errors import CREDENTIALS_MISSING, NO_CREDENTIALS, WRONG_SETTINGS
from worker.runtime.redaction import error_text

# It has no handler of its own: without one Python prints what it logs, traceback and all, each time
# that credentials cannot be renewed. Whoever calls gets the same as an error.
logging.getLogger("aiobotocore").addHandler(logging.NullHandler())

# botocore.credentials: with less than that left to credentials, calls wait for new ones.
_HELD_BACK_SECONDS: Final = 600
# How long a failure to fetch them answers for the next calls too.
_PAUSE_SECONDS: Final = 1.0
_MEMBER: Final = re.compile(r"'[A-Z][A-Za-z]{2,30}'")


class CredentialsSession(AioSession):
    """Hand out credentials that are ours to fetch."""

    _shared: SharedCredentials | None = None

    async def get_credentials(  # type: ignore[override] # no subclass, but a stand-in
        self,
    ) -> AioCredentials | SharedCredentials | None:
        """Return the credentials of this session, shared if they must be renewed.

        Raises:
            CredentialRetrievalError: Their source failed.
        """
        if self._shared is not None:
            return self._shared
        with _seeking_credentials():
            found: (
                AioCredentials | AioRefreshableCredentials | None
            ) = await super().get_credentials()
        if isinstance(found, AioRefreshableCredentials):
            self._shared = SharedCredentials(found)
            return self._shared
        return found


class SharedCredentials:
    """Credentials renewed once for all the calls that wait for them.

    The SDK lets each of a hundred calls ask a failing source anew, one after the other, and raises
    what its providers happen to stumble over: KeyError for an answer without a key, RuntimeError
    for credentials that come expired.
    """

    def __init__(self, credentials: AioRefreshableCredentials) -> None:
        self._credentials = credentials
        self._renewing: asyncio.Task[ReadOnlyCredentials] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    async def get_account_id(self) -> str | None:
        """Give the account, as the SDK's own do."""
        return (await self.get_frozen_credentials()).account_id

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Give what a call is signed with.

        Raises:
            CredentialRetrievalError: it cannot be had; or could not, a moment ago.
        """
        with _seeking_credentials():
            if not self._credentials.refresh_needed(_HELD_BACK_SECONDS):
                # Good for a while: the SDK renews them in one call only, and forgives a failure.
                return await self._credentials.get_frozen_credentials()
            if self._renewing is None:
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
            return await asyncio.shield(self._renewing)

    async def _renew(self) -> ReadOnlyCredentials:
        pause_seconds = _PAUSE_SECONDS
        try:
            renewed = await self._credentials.get_frozen_credentials()
            pause_seconds = 0.0
        finally:
            asyncio.get_running_loop().call_later(pause_seconds, self._may_renew)
        return renewed

    def _may_renew(self) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None and not renewing.cancelled():
            renewing.exception()  # looked at, for all who waited may have been cancelled


def _said(error: Exception) -> str:
    text = error_text(error)
    if isinstance(error, KeyError) and _MEMBER.fullmatch(str(error)):
        text = str(error)  # what a provider of the SDK looked for, and not what it found
    return text if text.startswith(type(error).__name__) else f"{type(error).__name__}: {text}"


@contextmanager
def _seeking_credentials() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError as cancelled:
        cancelled.add_note(NO_CREDENTIALS)  # for the deadline, should it be its doing
        raise
    except (*WRONG_SETTINGS, *CREDENTIALS_MISSING):
        raise
    except Exception as error:
        raise CredentialRetrievalError(provider="their source", error_msg=_said(error)) from error
