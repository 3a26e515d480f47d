"""Credentials shared by all calls of a session."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

from worker.aws.connection import StrictSession
from worker.aws.sdk_errors import CREDENTIALS_MISSING, NO_CREDENTIALS, WRONG_SETTINGS
from worker.runtime.redaction import error_text

# Without a handler Python prints each failed renewal of credentials to stderr with its traceback.
# The caller gets the same failure as an error.
logging.getLogger("aiobotocore").addHandler(logging.NullHandler())

# Calls wait for new credentials if the current ones expire sooner (botocore.credentials).
_MANDATORY_REFRESH_SECONDS: Final = 600
# How long a failed renewal fails the next calls too, without another request.
_FAILURE_CACHE_SECONDS: Final = 1.0
_MEMBER: Final = re.compile(r"'[A-Z][A-Za-z]{2,30}'")


class CredentialsSession(AioSession):
    """SDK session whose refreshable credentials are `SharedCredentials`.

    All its clients use `StrictSession`, also those that retrieve credentials.
    """

    _shared: SharedCredentials | None = None

    def create_client(self, *args: Any, **options: Any) -> Any:
        """Return the context of a new client; see the SDK."""
        config: Any = options.get("config") or AioConfig()
        if config.http_session_cls is AIOHTTPSession:
            config.http_session_cls = StrictSession
        return super().create_client(*args, **{**options, "config": config})

    async def get_credentials(  # type: ignore[override] # a wrapper, not a subclass
        self,
    ) -> AioCredentials | SharedCredentials | None:
        """Return the credentials of this session; shared ones if they expire.

        Raises:
            CredentialRetrievalError: The source of the credentials failed.
        """
        if self._shared is not None:
            return self._shared
        with _translating_retrieval():
            found: (
                AioCredentials | AioRefreshableCredentials | None
            ) = await super().get_credentials()
        if isinstance(found, AioRefreshableCredentials):
            self._shared = SharedCredentials(found)
            return self._shared
        return found


class SharedCredentials:
    """Credentials that are renewed once for all waiting calls.

    In the SDK each of a hundred waiting calls queries a failing source again, one after the other,
    and gets whatever exception the provider raises: KeyError for a response without a key,
    RuntimeError for credentials that are expired on arrival.

    Args:
        credentials: Refreshable credentials of the SDK.
    """

    def __init__(self, credentials: AioRefreshableCredentials) -> None:
        self._credentials = credentials
        self._renewing: asyncio.Task[ReadOnlyCredentials] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    async def get_account_id(self) -> str | None:
        """Return the account id, or None if it is unknown."""
        return (await self.get_frozen_credentials()).account_id

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the keys and token to sign a call with.

        Raises:
            CredentialRetrievalError: They cannot be retrieved, or could not within the last second.
        """
        with _translating_retrieval():
            if not self._credentials.refresh_needed(_MANDATORY_REFRESH_SECONDS):
                # Still valid: the SDK renews them within one call only and tolerates a failure.
                return await self._credentials.get_frozen_credentials()
            if self._renewing is None:
                renewal = self._credentials.get_frozen_credentials()
                self._renewing = asyncio.get_running_loop().create_task(renewal)
                self._renewing.add_done_callback(self._renewal_ended)
            return await asyncio.shield(self._renewing)

    def _renewal_ended(self, renewal: asyncio.Task[ReadOnlyCredentials]) -> None:
        # `exception` marks the error as retrieved: every waiting call may have been cancelled.
        if renewal.cancelled() or renewal.exception() is not None:
            renewal.get_loop().call_later(_FAILURE_CACHE_SECONDS, self._allow_renewal)
        else:
            self._allow_renewal()

    def _allow_renewal(self) -> None:
        self._renewing = None


def _description(error: Exception) -> str:
    text = error_text(error)
    if isinstance(error, KeyError) and _MEMBER.fullmatch(str(error)):
        text = str(error)  # the member that the provider expected, not data that it found
    return text if text.startswith(type(error).__name__) else f"{type(error).__name__}: {text}"


@contextmanager
def _translating_retrieval() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError as cancelled:
        cancelled.add_note(NO_CREDENTIALS)  # read by the deadline of the call, if it cancelled
        raise
    except (*WRONG_SETTINGS, *CREDENTIALS_MISSING):
        raise
    except Exception as error:
        raise CredentialRetrievalError(
            provider="their source", error_msg=_description(error)
        ) from error
