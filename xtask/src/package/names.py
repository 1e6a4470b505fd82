"""Resolves host names by the gateway alone, in a network and with system files of its own.

Started in namespaces of its own for mounts and networks, as root: `names.py FOLDER WORDS…`, where the words start the
gateway's program. Two uplinks name a server each, one known to the hosts file, the other to a DNS server that runs
here; nsswitch.conf is one that would have modules loaded. Prints `resolved NAME` for each server that was called.
"""

import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time

PATIENCE_S = 60
PORT = 18831
BY_HOSTS = ("by-hosts.example", "127.0.0.3")
BY_DNS = ("by-dns.example", "127.0.0.2")
DNS = "127.0.0.53"

FILES = {
    "/etc/nsswitch.conf": "hosts: files mdns4_minimal [NOTFOUND=return] resolve myhostname dns\n",
    "/etc/hosts": f"127.0.0.1 localhost\n{BY_HOSTS[1]} {BY_HOSTS[0]}\n",
    "/etc/resolv.conf": f"nameserver {DNS}\n",
}

CONFIG = """
[gateway]
id = "names"
data-dir = "{folder}/data"
mappings = []

[mqtt]
listen = ["127.0.0.1:1883"]
"""

UPLINK = """
[[uplink]]
name = "{name}"
url = "mqtt://{name}:{port}"
topics = ["#"]
topic = "t/{{encoding}}"
"""


def bring_up_loopback():
    """Sets the flag `up` of `lo`; a new network has it down."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", flags | up))


def answer(query):
    """Answers one question: the address if it is an A record of the one name, else none."""
    question_end = query.index(b"\0", 12) + 5
    question = query[12:question_end]
    asked = b"".join(bytes([len(label)]) + label.encode() for label in BY_DNS[0].split(".")) + b"\0"
    known = question[:-4].lower() == asked
    is_a = question[-4:] == b"\0\1\0\1"
    records = b""
    if known and is_a:
        records = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 60, 4) + socket.inet_aton(BY_DNS[1])
    code = 0 if known else 3
    header = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 1 if records else 0, 0, 0)
    return header + question + records


def serve_names(server):
    while True:
        query, sender = server.recvfrom(512)
        server.sendto(answer(query), sender)


def await_call(name, listener):
    listener.settimeout(PATIENCE_S)
    caller, _ = listener.accept()
    with caller:
        caller.settimeout(PATIENCE_S)
        # CONNECT of MQTT: the gateway, and nobody else.
        if caller.recv(1) == b"\x10":
            # In one piece: several servers are called at a time.
            sys.stdout.write(f"resolved {name}\n")
            sys.stdout.flush()


def main():
    folder, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
    bring_up_loopback()
    for number, (place, text) in enumerate(FILES.items()):
        file = folder / f"system-{number}"
        file.write_text(text)
        subprocess.run(["mount", "--bind", str(file), os.path.realpath(place)], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((DNS, 53))
    threading.Thread(target=serve_names, args=(server,), daemon=True).start()
    waiting = []
    config = CONFIG.format(folder=folder)
    for name, address in (BY_HOSTS, BY_DNS):
        config += UPLINK.format(name=name, port=PORT)
        listener = socket.create_server((address, PORT))
        waiting.append(threading.Thread(target=await_call, args=(name, listener), daemon=True))
    path = folder / "names.toml"
    path.write_text(config)
    gateway = subprocess.Popen([*words, "run", "-c", str(path)])
    deadline = time.monotonic() + PATIENCE_S
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(max(0, deadline - time.monotonic()))
    gateway.terminate()
    gateway.wait()


if __name__ == "__main__":
    main()
