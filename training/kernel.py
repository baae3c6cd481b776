"""Prepares a notebook's kernel: its log, and its contact with the program that runs the notebook."""

import functools
import logging
import os
import threading
import time

from IPython import get_ipython

INTERVAL = 0.1  # seconds between two messages; on a busy machine they are late by up to half a second


def quieten_tensorflow():
    """Keeps TensorFlow's log lines below errors out of the notebook; real failures raise Python exceptions.

    It logs an "error" if it finds no GPU, and a warning if several threads of a reader trace its model.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A filter, because TensorFlow sets the level itself in an interactive Python.
    logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)


@functools.cache  # a second thread would send the same messages
def send_heartbeats():
    """Sends a status message every `INTERVAL` seconds while a cell runs. Calls after the first do nothing.

    If a kernel starts slowly, jupyter_client asks it twice whether it is ready. runipy 0.1.5 takes the second
    answer for the end of the first cell, and stops with `queue.Empty` if no message follows in a second.
    """
    shell = get_ipython()
    kernel, lock = getattr(shell, "kernel", None), threading.Lock()
    if kernel is None:
        return
    running = {"request": kernel.get_parent("shell")}  # of the cell that runs; None between cells

    def set_request(request):
        with lock:
            running["request"] = request

    def send():
        while True:
            time.sleep(INTERVAL)
            with lock:  # no message may follow the kernel's own "idle"
                if running["request"] is not None:
                    content = {"execution_state": "busy"}
                    kernel.session.send(kernel.iopub_socket, "status", content, running["request"], b"status")

    shell.events.register("pre_run_cell", lambda info: set_request(kernel.get_parent("shell")))
    shell.events.register("post_run_cell", lambda result: set_request(None))
    threading.Thread(target=send, daemon=True).start()
