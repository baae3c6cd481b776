"""Measures examples/service.py, next to the bare library.

    python -m benchmarks.service [READER] [--seconds 10]

starts the service and posts the included images to it over 1, 8 and 50
connections at a time. Before, `Reader.read` reads the same images one by one in
this process. Prints images per second, and the median and the 99th
percentile of the milliseconds until each text.
"""

import argparse
import itertools
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from benchmarks.study import markdown_table
from snippet_ocr import Reader
from training import PROJECT

CONNECTIONS = (1, 8, 50)


def start(reader):
    """Starts the service on a free port; returns its process and its address when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "examples.service:app", "--port", str(port)]
    environment = os.environ | {"READER": str(reader)}
    process = subprocess.Popen([*command, "--log-level", "warning"], cwd=PROJECT, env=environment)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{address}/healthz").raise_for_status()
            return process, address
        except httpx.TransportError:
            time.sleep(0.1)
            if process.poll() is not None:
                break
    process.terminate()
    raise RuntimeError(f"Expected the service to answer at {address} within a minute. It does not.")


def measure(read, contents, seconds):
    """Calls a function with one content after the other; returns the seconds of each call."""
    durations, contents, end = [], itertools.cycle(contents), time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        read(next(contents))
        durations.append(time.perf_counter() - started)
    return durations


def measure_service(address, contents, seconds, connections):
    """Posts images over several connections at once; returns the seconds of each request."""

    def post(number):
        with httpx.Client(base_url=address) as client:

            def read(content):
                client.post("/read", content=content).raise_for_status()

            return measure(read, contents[number:] + contents[:number], seconds)

    with ThreadPoolExecutor(connections) as pool:
        return list(itertools.chain.from_iterable(pool.map(post, range(connections))))


def row(name, durations, seconds):
    """Returns a row of the table."""
    median, late = 1000 * np.percentile(durations, [50, 99])
    return [name, f"{len(durations) / seconds:.0f}", f"{median:.1f}", f"{late:.1f}"]


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.service", description="Measures the service.")
    parser.add_argument("reader", nargs="?", default="base", help="a reader.onnx (default: base)")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (default: 10)")
    options = parser.parse_args(arguments)
    contents = [path.read_bytes() for path in sorted((PROJECT / "captcha_images").glob("*.png"))[:200]]
    reader, seconds = Reader.load(options.reader), options.seconds
    process, address = start(options.reader)
    try:
        measure(reader.read, contents, 1)
        measure_service(address, contents, 1, 8)
        rows = [row("Reader.read, one by one", measure(reader.read, contents, seconds), seconds)]
        for count in CONNECTIONS:
            durations = measure_service(address, contents, seconds, count)
            rows.append(row(f"service, connections: {count}", durations, seconds))
    finally:
        process.terminate()
        process.wait(10)
    print(markdown_table(["", "images per second", "median ms", "99th percentile ms"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
