"""Logging: one JSON object per line on standard error, whoever writes it."""

import sys
import traceback
from typing import Any

import structlog

SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def format_exception(_: Any, __: str, line: dict[str, Any]) -> dict[str, Any]:
    """Show where an exception came from and its type, but not its text.

    The text of a database error quotes the row, and with it a member's e-mail.
    """
    error = line.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    if error and error[0]:
        frames = traceback.format_tb(error[2])
        line["exception"] = "".join([*frames, error[0].__name__])
    return line


def configure() -> dict[str, Any]:
    """Set structlog up and return the matching `LOGGING` for Django."""
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*SHARED, structlog.stdlib.PositionalArgumentsFormatter()],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    format_exception,
                    structlog.processors.JSONRenderer(),
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        # Django's own handlers would print the same lines a second time, as plain text.
        "loggers": {
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
            # A few lines for each task, which runs every two seconds.
            "procrastinate": {"level": "WARNING"},
            # Its notes quote what Stripe says, such as an OAuth code or an e-mail.
            "stripe": {"level": "WARNING"},
        },
    }
