"""Logs: one JSON object a line on stdout, uvicorn's lines included, each with the id of the request it belongs to.

logging.json is the one description of it. uvicorn reads it first (UVICORN_LOG_CONFIG in the image), so that its
supervisor's lines and a failing start have the same form; the service applies it again with its own level.
"""

import json
import logging
import logging.config
import re
import time
import uuid
from pathlib import Path

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = structlog.get_logger(__name__)

#: A caller's own request id is kept when it is no more than a word; anything else could forge or flood the log.
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEALTH = "/api/v1/health"

_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def json_formatter() -> logging.Formatter:
    """Return the formatter that logging.json names; tracebacks come as one string, without local variables."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )


def configure(level: str) -> None:
    """Send every log line of this process to stdout as JSON, from this level on."""
    config = json.loads(Path(__file__).with_name("logging.json").read_text())
    config["root"]["level"] = level
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class RequestLog:
    """Middleware: gives each request an id (X-Request-ID, in and out) and writes its line in the access log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its id in the context of every log line written meanwhile."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        started = time.perf_counter()
        status: int | None = None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, answer)
            finally:
                client = scope.get("client")
                # Probes that succeed would be most of the log.
                quiet = status == 200 and scope["path"].startswith(_HEALTH)
                logger.log(
                    logging.DEBUG if quiet else logging.INFO,
                    "request",
                    method=scope["method"],
                    path=scope["path"][:500],
                    status=status,
                    duration_ms=round((time.perf_counter() - started) * 1000, 1),
                    client=client[0] if client else None,
                )
