"""Several hosts that train together, as processes of this machine."""

import socket
import subprocess

from conftest import PROJECT, user_environment


def free_port():
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def hosts_of(number, port=None):
    """The environments of so many hosts, a list in the order of their numbers."""
    address = f"127.0.0.1:{port or free_port()}"
    return [
        user_environment(
            True,
            KERAS_BACKEND="jax",
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES=str(number),
            KERAS_DISTRIBUTION_PROCESS_ID=str(host),
            PYTHONPATH=str(PROJECT),
        )
        for host in range(number)
    ]


def start(command, environment, cwd=PROJECT):
    """Starts a command whose output, of both kinds, is read from its `stdout`."""
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(
        [*map(str, command)], env=environment, cwd=cwd, stdout=pipe, stderr=both, text=True
    )
