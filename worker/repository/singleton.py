"""One instance of a class per process."""

from __future__ import annotations

import inspect
import os
import threading
from typing import Any, ClassVar

from worker.errors import SingletonConflictError


class SingletonMeta(type):
    """Make every construction of a class give the same instance.

    Equal arguments give the instance, other arguments raise `SingletonConflictError`. Threads may
    race: one constructs, the others get what it made. A forked child starts with no instance.
    """

    _instances: ClassVar[dict[type, tuple[object, dict[str, Any]]]] = {}
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Give the one instance, constructing it where there is none.

        Raises:
            SingletonConflictError: the instance was constructed with other arguments.
        """
        constructor = cls.__init__  # type: ignore[misc] # only its signature is read
        bound = inspect.signature(constructor).bind(None, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        found = SingletonMeta._instances.get(cls)
        if found is None:
            with SingletonMeta._lock:
                found = SingletonMeta._instances.get(cls)
                if found is None:
                    found = (super().__call__(*args, **kwargs), arguments)
                    SingletonMeta._instances[cls] = found
        instance, constructed_with = found
        if arguments != constructed_with:
            changed = [name for name in arguments if arguments[name] != constructed_with[name]]
            raise SingletonConflictError(
                f"{cls.__name__} exists already with another {', '.join(changed)}: "
                "close it first, or pass equal settings"
            )
        return instance

    @staticmethod
    def current(kind: type) -> object | None:
        """Give the instance of a class, if there is one."""
        found = SingletonMeta._instances.get(kind)
        return found[0] if found else None

    @staticmethod
    def forget(kind: type) -> None:
        """Drop the instance of a class, so that the next construction makes a new one."""
        with SingletonMeta._lock:
            SingletonMeta._instances.pop(kind, None)

    @staticmethod
    def forget_all() -> None:
        """Drop every instance."""
        with SingletonMeta._lock:
            SingletonMeta._instances.clear()

    @staticmethod
    def _start_empty() -> None:
        # The lock may have been held by a thread that does not exist in the child.
        SingletonMeta._lock = threading.RLock()
        SingletonMeta._instances.clear()


os.register_at_fork(after_in_child=SingletonMeta._start_empty)  # noqa: SLF001 - its own class
