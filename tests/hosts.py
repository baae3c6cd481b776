"""Several hosts that train together, as processes of this machine."""

import socket
import subprocess

from conftest import PROJECT, user_environment


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def host_environments(count, port=None):
    """Returns the environments of hosts that connect to each other, a list in the order of the hosts."""
    address = f"127.0.0.1:{port or free_port()}"
    return [
        user_environment(
            True,
            KERAS_BACKEND="jax",
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES=str(count),
            KERAS_DISTRIBUTION_PROCESS_ID=str(index),
            PYTHONPATH=str(PROJECT),
        )
        for index in range(count)
    ]


def start(command, environment, cwd=PROJECT):
    """Starts a command. Its `stdout` has its output and its errors."""
    return subprocess.Popen(
        [*map(str, command)],
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
