"""Let `mkdocs build --strict` pass over what griffe cannot follow out of the package."""

import logging


class OutsidePackage(logging.Filter):
    """Drops complaints about names that come from other libraries, which griffe does not load."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        message = record.getMessage()
        return not ("Could not resolve alias" in message and "pointing at transformers." in message)


def on_startup(**kwargs: object) -> None:
    """Add the filter before pages are built."""
    logging.getLogger("mkdocs.plugins.griffe").addFilter(OutsidePackage())
