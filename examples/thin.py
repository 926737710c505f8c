#!/usr/bin/env python3
"""Finds what is stored under a name: one socket, any node as the way in, and no DHT at all.

    python3 examples/thin.py 127.0.0.1:8001 NAME
"""

import hashlib
import os
import socket
import struct
import sys

HEAD = 104  # bytes before the payload; docs/protocol.md has them all


def route(via, key, skip=0, flags=0, token=bytes(10)):
    """Sends one route. Returns what is held, encoded, with a fresh token; None if nobody answers."""
    nonce = os.urandom(8)
    fields = bytes([flags, 16, skip, 1]) + key + bytes(18) + struct.pack(">H", 1400) + bytes(18) + token
    datagram = b"\1" + bytes(20) + nonce + b"\4" + struct.pack(">H", len(fields)) + fields
    via.send(datagram.ljust(485, b"\0"))  # the answer is three times as long at most
    try:
        while True:
            answer = via.recv(16384)
            if len(answer) >= HEAD and answer[21:30] == nonce + b"\x84":
                length = struct.unpack(">H", answer[30:32])[0] - 72
                return answer[HEAD:HEAD + length], answer[94:104]
    except OSError:
        return None


def get(via, name):
    """Tries three ways, and then lets the node look it up itself."""
    key, token = hashlib.sha1(name.encode()).digest(), bytes(10)
    for skip, flags in [(0, 0), (1, 0), (2, 0), (0, 8), (0, 8)]:
        if answer := route(via, key, skip, flags, token):
            found, token = answer
            if found not in (b"ldee", b""):
                return found
    return b"ldee"


if __name__ == "__main__":
    host, port = sys.argv[1].rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as via:
        via.connect((host, int(port)))
        via.settimeout(1)
        print(get(via, sys.argv[2]).decode(errors="replace"))
