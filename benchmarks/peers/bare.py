"""A bare receiver: a PULL socket and a counter."""

import sys

import zmq


def main(address: str, expected: int) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.bind(address)
        print("ready", flush=True)
        recv = pull.recv
        count = 0
        while count < expected:
            recv()
            count += 1
        print(count, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
