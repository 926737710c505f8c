#!/usr/bin/env python3
"""Asks a running kademlua node over its control socket, with Python's standard library alone.

    examples/control.py [PORT | SOCKET]

docs/control.md tells the protocol. Node below is all that a program needs of it.
"""

import hashlib
import itertools
import json
import os
import socket
import sys
import tempfile


class Problem(Exception):
    """Why the node has no answer; `code` is for programs."""

    def __init__(self, problem):
        super().__init__(problem["message"])
        self.code = problem["code"]


class Node:
    """A node that this process is attached to."""

    def __init__(self, path):
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.connect(path)
        self.lines = self.stream.makefile("r", encoding="utf-8", newline="\n")
        self.numbers = itertools.count(1)
        self.early = []  # what was said to others while one was waited for
        self.greeting = self.hear()
        if "problem" in self.greeting:
            raise Problem(self.greeting["problem"])
        if self.greeting["protocol"] != 1:
            raise SystemExit("the node speaks another version of the protocol")

    def hear(self):
        line = self.lines.readline()
        if not line:
            raise EOFError("the node has closed the door")
        return json.loads(line)

    def send(self, request):
        self.stream.sendall(json.dumps(request).encode() + b"\n")

    def next(self, number):
        """The next that is said to a request."""
        for at, said in enumerate(self.early):
            if said["id"] == number:
                return self.early.pop(at)
        while (said := self.hear())["id"] != number:
            self.early.append(said)
        return said

    def answer(self, number):
        said = self.next(number)
        if "problem" in said:
            raise Problem(said["problem"])
        return said["answer"]

    def ask(self, ask):
        """Asks, and waits for the answer."""
        number = next(self.numbers)
        self.send({"id": number, "ask": ask})
        return self.answer(number)

    def watch(self, **filter):
        """Packets and contacts from now on, until the generator is closed."""
        number = next(self.numbers)
        self.send({"id": number, "watch": filter})
        self.answer(number)

        def events():
            try:
                while "event" in (said := self.next(number)):
                    yield said["event"]
            finally:
                self.send({"id": number, "cancel": {}})

        return events()


def folder():
    """Where the sockets of this user's nodes lie."""
    user = os.geteuid()
    for runtime in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
        if os.path.isabs(runtime) and os.path.isdir(runtime) and os.stat(runtime).st_uid == user:
            return os.path.join(runtime, "kademlua")
    return os.path.join(tempfile.gettempdir(), f"kademlua-{user}")


def main():
    which = sys.argv[1] if len(sys.argv) > 1 else "8001"
    node = Node(os.path.join(folder(), f"{which}.sock") if which.isdigit() else which)
    view = node.ask({"look": "node"})
    print(f"{view['address']}:{view['port']} {view['id']}: {view['contacts']} contacts")

    key = hashlib.sha1(b"key").hexdigest()
    node.ask({"run": {"store": {"key": key, "value": "value", "mode": "add"}}})
    found = node.ask({"run": {"findvalue": {"key": key, "max_nodes": 3, "max_entries": 6}}})
    for hit in found["values"]:
        print("found:", hit["value"])

    events = node.watch(rpc="ping", direction="out")
    try:
        # A port at which nobody answers: the packet goes out all the same.
        node.ask({"run": {"ping": {"peer": {"address": "127.0.0.1", "port": 1}}}})
    except Problem as problem:
        print(f"{problem.code}: {problem}")
    event = next(events)
    print("watched:", event["rpc"], "to port", event["peer"]["port"])
    events.close()


if __name__ == "__main__":
    main()
