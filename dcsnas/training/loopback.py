"""Processes of one machine meet on its loopback address, which no other machine reaches.

torch's store, and gloo and NCCL, have no password. By themselves the first listens on every address
of the machine, and the others on the one of its name.
"""

import os
import socket

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

LOOPBACK = "127.0.0.1"
INTERFACE = "lo"


def store_for_this_machine(port: int) -> TCPStore:
    """Return the store of a run on this machine, at which all its processes meet as guests.

    This process and those that it starts find it by their environment, as under torchrun.
    """
    listener = socket.create_server((LOOPBACK, port))
    store = TCPStore(
        LOOPBACK,
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    if INTERFACE in (name for _, name in socket.if_nameindex()):
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", INTERFACE)
    return store
