"""What the service answers."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stockhelper_app import __version__

if TYPE_CHECKING:
    from stockhelper_app.db import Database

# An answer about this very moment; no cache may keep it.
_FRESH = {"Cache-Control": "no-store"}


async def index(request: Request) -> JSONResponse:
    """Return the service's name and version."""
    return JSONResponse({"name": "stockhelper", "version": __version__})


async def health(request: Request) -> JSONResponse:
    """Return 200 when the database answers, else 503; within about two seconds, whatever the database does."""
    database: Database = request.app.state.database
    if await database.answers():
        return JSONResponse({"status": "ok", "database": "connected"}, headers=_FRESH)
    return JSONResponse({"status": "error", "database": "disconnected"}, status_code=503, headers=_FRESH)


async def live(request: Request) -> JSONResponse:
    """Return 200: this process answers. The database is not asked."""
    return JSONResponse({"status": "ok"}, headers=_FRESH)


routes = (
    Route("/api/v1", index),
    Route("/api/v1/health", health),
    Route("/api/v1/health/live", live),
)
