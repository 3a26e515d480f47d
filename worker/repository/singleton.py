"""Metaclass for one instance of a class per process."""

from __future__ import annotations

import inspect
import os
import threading
from typing import Any, ClassVar

from worker.errors import SingletonConflictError


class SingletonMeta(type):
    """Metaclass whose classes have one instance per process.

    Constructing with equal arguments returns the instance; other arguments raise
    `SingletonConflictError`. Thread-safe: of concurrent constructions one succeeds and all return
    its instance. A forked child starts without an instance.
    """

    _instances: ClassVar[dict[type, tuple[object, dict[str, Any]]]] = {}
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the instance; construct it at the first call.

        Raises:
            SingletonConflictError: The instance was constructed with other arguments.
        """
        constructor = cls.__init__  # type: ignore[misc] # only its signature is read
        bound = inspect.signature(constructor).bind(None, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        with SingletonMeta._lock:
            if cls not in SingletonMeta._instances:
                instance = super().__call__(*args, **kwargs)
                SingletonMeta._instances[cls] = (instance, arguments)
            instance, constructed_with = SingletonMeta._instances[cls]
        if arguments != constructed_with:
            changed = [name for name in arguments if arguments[name] != constructed_with[name]]
            raise SingletonConflictError(
                f"{cls.__name__} already exists with different {', '.join(changed)}; "
                "close it first or pass equal arguments"
            )
        return instance

    @staticmethod
    def current(kind: type) -> object | None:
        """Return the instance of a class, or None."""
        found = SingletonMeta._instances.get(kind)
        return found[0] if found else None

    @staticmethod
    def forget(kind: type) -> None:
        """Remove the instance of a class, so that the next construction creates a new one."""
        with SingletonMeta._lock:
            SingletonMeta._instances.pop(kind, None)

    @staticmethod
    def forget_all() -> None:
        """Remove all instances."""
        with SingletonMeta._lock:
            SingletonMeta._instances.clear()

    @staticmethod
    def _start_empty() -> None:
        # A thread of the parent, absent from the child, may have held the lock.
        SingletonMeta._lock = threading.RLock()
        SingletonMeta._instances.clear()


os.register_at_fork(after_in_child=SingletonMeta._start_empty)  # noqa: SLF001 - its own class
