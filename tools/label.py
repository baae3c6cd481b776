"""Serves a page on this machine to label a folder of images, and trains a reader while you label.

The labels are in FOLDER/labels.csv after each decision. The reader reads the remaining images: press
Enter if its text is right. Images are never changed, and nothing is sent to other machines.
"""

import argparse
import hashlib
import json
import secrets
import socket
import sys
from io import BytesIO
from pathlib import Path

import filelock
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from snippet_ocr import images
from snippet_ocr.terminal import printable
from tools.labelling.journal import FOLDER

PAGE = Path(__file__).with_name("label.html")
MAX_BODY = 1_000_000  # bytes of a request
HEADERS = dict.fromkeys(["Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy"], "same-origin")
HEADERS |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src 'nonce-{0}'; "
    "style-src 'nonce-{0}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def refusal(method, headers, port):
    """Returns a status and the reason to refuse a request, or None; names in `headers` are in lower case.

    The check of `Host` is against websites that point a name of their own to this machine (DNS rebinding).
    `Origin` and `Sec-Fetch-Site` show which site has sent a request; pages cannot change them.
    """
    get = headers.get
    host, size = get("host"), get("content-length", "0")
    if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        return 421, "Expected the address that tools.label has printed."
    link = method == "GET" and get("sec-fetch-mode") == "navigate"  # another site cannot read what it opens
    other_site = not link and get("sec-fetch-site", "none") not in ("none", "same-origin")
    if other_site or get("origin", f"http://{host}") != f"http://{host}":
        return 403, "Expected a request of the page itself. It came from another website."
    if method == "POST" and get("content-type") != "application/json":
        return 415, "Expected application/json."
    if "transfer-encoding" in headers or not size.isdigit() or int(size) > MAX_BODY:
        return 413, f"Expected a content-length of at most {MAX_BODY:,} bytes."
    return None


def picture(path):
    """Returns an image file as bytes that browsers show, and their type."""
    content, shown = images.read_file(path), BytesIO()
    kind = Image.open(BytesIO(content), formats=images.FORMATS).format
    if kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        return content, f"image/{kind.lower()}"
    Image.fromarray(images.load_image(content)).save(shown, "PNG")
    return shown.getvalue(), "image/png"


def build(session, port):
    """Builds the server of a `Session`, an ASGI application."""

    # A page that was opened for another folder, at the same port, must not label this one.
    key = hashlib.sha256(str(session.folder.resolve()).encode()).hexdigest()[:16]

    async def page(request):
        nonce = secrets.token_urlsafe()
        policy = {"Content-Security-Policy": POLICY.format(nonce)}
        content = PAGE.read_text("utf-8").replace("KEY", key).replace("NONCE", nonce)
        return HTMLResponse(content, headers=HEADERS | policy)

    async def image(request):
        try:
            content, kind = picture(session.paths[request.path_params["digest"]])
        except (KeyError, ValueError):  # no such digest, or the file is gone
            return Response(status_code=404, headers=HEADERS)
        # The address is the digest of the file, so a changed file has another address.
        cached = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(content, media_type=kind, headers=HEADERS | cached)

    def act(folder, window, decide=(), undo=False, train=False, held=(), count=0, sheet=False, state=False):
        if folder != key:
            raise OSError("this page belongs to another folder; start tools.label with that one")
        answer = {"problems": session.decide(decide) if decide else {}}
        answer |= {"undone": session.undo(window)} if undo else {}
        if train:
            session.start_round()
        answer |= {"items": session.next(window, held, min(count, 500), sheet)} if count else {}
        answer |= {"state": session.state(window, held)} if state else {}
        return answer | {"round": session.rounds.last["round"]}

    async def post(request):
        try:
            return JSONResponse(act(**json.loads(await request.body())), headers=HEADERS)
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)
        except OSError as error:
            return JSONResponse({"error": f"The decision could not be saved: {error}"}, 500, HEADERS)

    routes = [Route("/", page), Route("/image/{digest}", image), Route("/act", post, methods=["POST"])]
    app = Starlette(routes=routes)

    async def guarded(scope, receive, send):
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = refusal(scope.get("method"), headers, port)  # of a WebSocket, there is no route
        await (PlainTextResponse(refused[1], refused[0]) if refused else app)(scope, receive, send)

    return guarded


def serve(options):
    """Serves the page until Ctrl+C."""
    from tools.labelling.session import Session
    from training.transfer import BASE_READER

    folder = options.folder.expanduser().absolute()
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of images at {folder}. There is none.")
    (folder / FOLDER).mkdir(exist_ok=True)
    lock = filelock.FileLock(folder / FOLDER / "lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(f"Another tools.label serves {folder}. Use its page, or end it.") from error
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        session = Session(folder, options.reader or BASE_READER, options.review)
        for path, reason in list(session.unusable.items())[:20]:
            print(f"left out: {printable(path)} {reason}", file=sys.stderr)
        if options.reader and session.rounds.last["round"] > 0:
            print(f"--reader is not used: the last training in {folder / FOLDER} is newer", file=sys.stderr)
        if not session.labels.path.exists():
            print("the first label creates labels.csv: file names are then no labels", file=sys.stderr)
        port = listener.getsockname()[1]
        print(f"the page is at http://127.0.0.1:{port} until Ctrl+C", flush=True)
        config = {"log_level": "warning", "lifespan": "off", "ws": "none", "timeout_graceful_shutdown": 5}
        try:
            uvicorn.Server(uvicorn.Config(build(session, port), **config)).run(sockets=[listener])
        finally:
            session.rounds.stop()


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.label ~/meters --reader runs/meters-1/reader.keras"
    parser = argparse.ArgumentParser("python -m tools.label", description=__doc__, epilog=example)
    option = parser.add_argument
    option("folder", metavar="FOLDER", type=Path, help="the folder of images")
    option("--reader", type=Path, help="reads before the first training (default: the included base reader)")
    option("--review", type=Path, help="suspect_labels.csv, readings.csv or test_readings.csv to go through")
    option("--port", type=int, default=0, help="port of the page (default: a free one)")
    options = parser.parse_args(arguments)
    try:
        for path in filter(None, (options.reader, options.review)):
            if not path.is_file():
                raise ValueError(f"Expected a file at {path}. There is none.")
        serve(options)
    except KeyboardInterrupt:
        pass
    except (ValueError, OSError, OverflowError) as error:  # OverflowError: of a port
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
