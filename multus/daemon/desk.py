"""Where requests come in: which of them is a call, and in which words it is answered."""

from __future__ import annotations

import asyncio
import traceback
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from hwmgr.frames import Answer, Call, encode_answer
from multus.daemon import gowire, httpwire, metrics
from multus.daemon.connection import HttpRequest
from multus.daemon.service import Job, taken_back, version_answer
from multus.jsonfields import FieldError, Fields, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from multus.daemon.connection import Connection, Request
    from multus.daemon.metrics import Metrics
    from multus.daemon.service import Service
    from multus.daemon.wiring import Caller, Workshop
    from multus.jsonfields import Json

_JSON = "application/json"
_USUAL_PLUGIN_FOLDER = "/opt/cni/bin"
_SUPPORTED = "a CNI plugin for CNI versions 0.1.0 to 1.1.0, served by multus-daemon"


class Desk:
    """Takes requests from connections; ``ready`` says whether calls are welcome.

    ``tell`` hears of what failed in a way that nobody thought of.
    """

    def __init__(
        self,
        service: Service,
        workshop: Workshop,
        counted: Metrics,
        ready: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._service = service
        self._workshop = workshop
        self._metrics = counted
        self._ready = ready
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()
        # Not the loop's own, whose end asyncio.run() waits for without a limit until Python 3.12.
        self._lookers = ThreadPoolExecutor(1, thread_name_prefix="look")

    @property
    def at_work(self) -> set[asyncio.Task[None]]:
        """What has been taken and is not answered yet."""
        return self._tasks

    def take(self, request: Request, client: Connection) -> None:
        """Serve a request of the unix socket."""
        if isinstance(request, Call):
            self._take_call(request, client)
        elif request.path in ("/cni", "/delegate"):
            self._take_go(request, client)
        else:
            self.look(request, client)

    def look(self, request: Request, client: Connection) -> None:
        """Serve a request that only looks, the only kind that comes in by TCP."""
        if not isinstance(request, HttpRequest):
            client.send(b"")
        elif request.path in ("/healthz", "/readyz"):
            up = self._ready() or request.path == "/healthz"
            self._look_answer(request, client, "ok" if up else "ending", up=up)
        elif request.path == "/metrics":
            if request.method != "GET":
                client.send(_plain(HTTPStatus.METHOD_NOT_ALLOWED))
            else:
                self._begin(self._show_metrics(client), client)
        else:
            client.send(_plain(HTTPStatus.NOT_FOUND))

    async def _show_metrics(self, client: Connection) -> None:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self._lookers, self._metrics.text)
        client.send(httpwire.answer(HTTPStatus.OK, text, metrics.KIND))

    def _look_answer(
        self, request: HttpRequest, client: Connection, text: str, *, up: bool
    ) -> None:
        if request.method not in ("GET", "POST"):
            client.send(_plain(HTTPStatus.METHOD_NOT_ALLOWED))
        elif up:
            client.send(httpwire.text_answer(HTTPStatus.OK, text))
        else:
            client.send(httpwire.text_answer(HTTPStatus.INTERNAL_SERVER_ERROR, text))

    def _take_call(self, call: Call, client: Connection) -> None:
        command = call.env.get("CNI_COMMAND", "")
        if command == "VERSION":
            client.send(encode_answer(Answer(0, version_answer())))
        elif not command:
            said = f"{call.program}, {_SUPPORTED}\n".encode()
            client.send(encode_answer(Answer(0, b"", said)))
        else:
            self._begin(self._service.serve(self._job(call), client, encode_answer), client)

    def _job(self, call: Call, wish: Json | None = None) -> Job:
        def run(caller: Caller) -> Answer:
            return Answer(*self._workshop.run(call, caller, wish))

        def undo(caller: Caller) -> Answer:
            return Answer(*self._workshop.run(taken_back(call), caller, wish, take_back=True))

        return Job(call, run, undo)

    def _take_go(self, request: HttpRequest, client: Connection) -> None:
        if request.method != "POST":
            client.send(_plain(HTTPStatus.METHOD_NOT_ALLOWED))
            return
        try:
            asked = gowire.read_request(request.body)
            job = self._go_job(asked, single=request.path == "/delegate")
        except gowire.RequestError as error:
            client.send(httpwire.text_answer(HTTPStatus.BAD_REQUEST, str(error)))
            return
        self._begin(self._service.serve(job, client, go_answer), client)

    def _go_job(self, asked: gowire.GoRequest, *, single: bool) -> Job:
        about = gowire.named(asked.env)
        if about.command == "ADD" and asked.env["CNI_ARGS"]:
            gowire.pairs(asked.env["CNI_ARGS"])
        env = {"CNI_PATH": _USUAL_PLUGIN_FOLDER, **asked.env}
        if about.ifname:
            env["CNI_IFNAME"] = about.ifname
        return self._job(
            Call("multus", env, asked.config), (asked.attributes or {}) if single else None
        )

    def _begin(self, work: Coroutine[object, object, None], client: Connection) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, client))

    def _ended(self, task: asyncio.Task[None], client: Connection) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._tell("a bug: " + "".join(traceback.format_exception(error)))
        client.finish()


def go_answer(answer: Answer) -> bytes:
    """Return how a call ended in Go's form."""
    if answer.status:
        return httpwire.answer(HTTPStatus.BAD_REQUEST, _error(answer.stdout), _JSON)
    if not answer.stdout.strip():
        return httpwire.answer(HTTPStatus.OK)
    result = encode({"Result": decode(answer.stdout, "the result")})
    return httpwire.answer(HTTPStatus.OK, result, _JSON)


def _error(stdout: bytes) -> bytes:
    """Return an error document as multus-cni's daemon has it: without the version."""
    try:
        fields = Fields(decode(stdout, "the error"), "the error")
    except FieldError:
        return stdout
    names = ("code", "msg", "details")
    return encode({name: fields.value(name) for name in names if fields.present(name)})


def _plain(status: HTTPStatus) -> bytes:
    return httpwire.text_answer(status, status.phrase)
