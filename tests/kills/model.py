"""A server with OpenAI's API that counts, step by step: a process that starts in no time, to be killed at any moment.

Run with the number of an inherited socket to accept from. Every other answer ends with the connection alone, so that
one that was cut off looks like one that has ended.
"""

import json
import socket
import sys
import threading
import time
from typing import Any

from tests.kills import counting

STEP_S = 0.02


def event(choices: list[Any], **fields: Any) -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps({'choices': choices, **fields})}\n\n".encode()


def events(number: int) -> list[bytes]:
    """All events of one answer."""
    said = counting.steps(number)
    usage = {"prompt_tokens": counting.PROMPT_TOKENS, "completion_tokens": len(said)}
    spoken = [event([{"index": 0, "delta": {"content": step}}]) for step in said]
    ends = [event([{"index": 0, "delta": {}, "finish_reason": "stop"}]), event([], usage=usage), b"data: [DONE]\n\n"]
    return spoken + ends


def serve(connection: socket.socket) -> None:
    """One connection, one request."""
    with connection, connection.makefile("rb") as received:
        words = received.readline()
        length = 0
        while (line := received.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        if words.startswith(b"GET"):
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
            connection.sendall(head + json.dumps({"data": []}).encode())
            return
        said(connection, counting.number_in(received.read(length).decode()))


def said(connection: socket.socket, number: int) -> None:
    """Say the answer to question `number`."""
    chunked = number % 2 == 0
    how = b"transfer-encoding: chunked\r\n" if chunked else b""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n" + how + b"\r\n")
    for piece in events(number):
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        time.sleep(STEP_S)
    if chunked:
        connection.sendall(b"0\r\n\r\n")


def attended(connection: socket.socket) -> None:
    """`serve`, for clients that may leave."""
    try:
        serve(connection)
    except (OSError, ValueError):  # the latter for half a request
        return


def main() -> None:
    """Serve for ever."""
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        print("up", flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=attended, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
