"""Loading of the SDK's models of services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader, create_loader


class ModelLoader(Loader):
    """Loader that knows services by their directories.

    The SDK's own loader looks for each kind of model in the directories of all services, some 400,
    which takes half of the time that it needs for the first client (botocore/loaders.py).

    Args:
        data_path: Directories of further models, as in `AWS_DATA_PATH`.
    """

    def __init__(self, data_path: str | None = None) -> None:
        super().__init__()
        self.search_paths[:] = create_loader(data_path).search_paths

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - see above
        """Return the names of the services, also of those without a model of this type."""
        directories = filter(Path.is_dir, map(Path, self.search_paths))
        return sorted({each.name for directory in directories for each in directory.iterdir()})

    def load_service_model(
        self, service_name: str, type_name: str, api_version: str | None = None
    ) -> Any:
        """Return a model.

        Raises:
            UnknownServiceError: The service has no model of this type.
        """
        try:
            return super().load_service_model(service_name, type_name, api_version)
        except DataNotFoundError as error:
            known = ", ".join(super().list_available_services(type_name))
            raise UnknownServiceError(
                service_name=service_name, known_service_names=known
            ) from error
