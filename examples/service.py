"""A web service that reads images. POST the content of an image file to /read."""

import os

import anyio
from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Request

from snippet_ocr import ImageError, Reader

MAX_BYTES = 1_000_000  # of an image
reader = Reader.load(os.environ.get("READER", "base"))
cores = anyio.CapacityLimiter(os.cpu_count() or 1)  # more images at once need more memory, not less time
app = FastAPI(title="Snippet OCR", docs_url=None, redoc_url=None)  # those pages load scripts from a website


@app.get("/healthz")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/read")
async def read(request: Request) -> dict[str, str | float | bool]:
    content = bytearray()
    async for chunk in request.stream():  # the header Content-Length may be missing or wrong
        content += chunk
        if len(content) > MAX_BYTES:
            raise HTTPException(413, f"Expected an image of at most {MAX_BYTES:,} bytes.")
    try:
        reading = await run_sync(reader.read, bytes(content), limiter=cores)
    except ImageError as error:
        raise HTTPException(422, f"Expected an image: {error}") from error
    return {
        "text": reading.text,
        "confidence": round(reading.confidence, 4),
        "needs_review": reading.confidence < (reader.threshold or 0),
    }
