"""The ASGI application; uvicorn loads `stockhelper_app.app:app`."""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from stockhelper_app import logs, routes
from stockhelper_app.db import Database, Unavailable
from stockhelper_app.errors import UnexpectedErrors, problem
from stockhelper_app.guard import Access, Limits
from stockhelper_app.logs import RequestLog
from stockhelper_app.metrics import MetricsServer, RequestMetrics, watch_pool
from stockhelper_app.pages import routes as pages
from stockhelper_app.pages.logins import Logins
from stockhelper_app.scheduler import Schedule, Syncs
from stockhelper_app.settings import Settings, SettingsError, load

_ROUTES = (*routes.routes, *pages.routes)
#: The path of each endpoint, with the names of its parameters.
_PATHS = {route.endpoint: route.path for route in _ROUTES}


class Cors(CORSMiddleware):
    """Starlette's CORS, whose refusal of a preflight is a problem document like every other error."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight: 200, or 400 with what is not allowed."""
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return problem(response.status_code, detail=bytes(response.body).decode(), headers=headers)


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the application, with settings from the environment when none are given; raises `SettingsError`.

    It neither connects to the database nor touches the process's logging before its lifespan starts.
    """
    chosen = settings if settings is not None else load(Settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        logs.configure(chosen.log_level)
        app.state.access = Access(chosen)
        app.state.logins = Logins(chosen)
        app.state.database = Database(chosen)
        watch_pool(app.state.database)
        app.state.syncs = Syncs(chosen)
        app.state.schedule = Schedule(chosen, app.state.syncs)
        if chosen.scheduler_enabled:
            app.state.schedule.start()
        metrics = MetricsServer(chosen, app.state.database, app.state.schedule)
        metrics.start()
        try:
            yield
        finally:
            await metrics.stop()
            app.state.schedule.stop()
            await app.state.syncs.close()
            await app.state.database.close()

    app = Starlette(
        routes=_ROUTES,
        lifespan=lifespan,
        exception_handlers={HTTPException: pages.http_error, Unavailable: pages.unavailable},
        # From the outside in: the id and the access log around everything, CORS around every answer, errors too.
        middleware=[
            Middleware(RequestLog),
            Middleware(RequestMetrics, route_of=_PATHS.get),
            Middleware(
                Cors,
                allow_origins=chosen.cors_origins,
                allow_methods=["*"],
                allow_headers=["Authorization", "Content-Type", "If-None-Match"],
                expose_headers=["X-Request-ID", "ETag", "Retry-After"],
            ),
            Middleware(UnexpectedErrors, answer=pages.unexpected),
            Middleware(Limits),
        ],
    )
    # One address for each resource; a redirect would be built from the Host header that the caller sent.
    app.router.redirect_slashes = False
    return app


try:
    app = create_app()
except SettingsError as error:
    logging.getLogger(__name__).critical("settings cannot be used: %s", error)
    sys.exit(1)
