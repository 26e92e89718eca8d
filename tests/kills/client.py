"""A client of its own process, to be killed: it asks one question and prints a line for each event that it hears.

Run with a host, a port and the body of a request.
"""

import socket
import sys


def main(host: str, port: int, body: bytes) -> None:
    """Ask, and hear everything."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        print("asked", flush=True)
        while said := connection.recv(65536):
            print("heard\n" * said.count(b"data: {"), end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3].encode())
