"""A gRPC client of grpcio. Says nothing when all is as it should be."""

import sys
import threading

import grpc

LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
channel = grpc.insecure_channel(sys.argv[1], options=LIMITS)
KEY = (("x-user", "7"),)


def check(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def all_kinds():
    response, call = channel.unary_unary("/t.T/Unary").with_call(b"hello", metadata=KEY)
    check(response, b"hello")
    check(dict(call.initial_metadata())["x-seen"], "7")
    trailing = dict(call.trailing_metadata())
    check(trailing["x-node"] in ("a", "b"), True)
    check(trailing["x-bin-bin"], b"\x00\xff")
    numbers = list(channel.unary_stream("/t.T/Countdown")(b"500", metadata=KEY))
    check(numbers, [str(it).encode() for it in range(500, 0, -1)])
    parts = [bytes([it]) * 1000 for it in range(100)]
    check(channel.stream_unary("/t.T/Collect")(iter(parts), metadata=KEY), b"".join(parts))


def bidirectional():
    """Each message is answered before the next is sent: nothing waits for the end."""
    turn = threading.Semaphore(1)

    def requests():
        for number in range(50):
            turn.acquire()
            yield str(number).encode()

    answers = channel.stream_stream("/t.T/Echo")(requests(), metadata=KEY)
    for number in range(50):
        check(next(answers), str(number).encode())
        turn.release()
    check(list(answers), [])


def large():
    message = bytes(range(256)) * (64 << 10)
    check(channel.unary_unary("/t.T/Unary")(message, metadata=KEY), message)


def errors():
    for method, code, details in (
        ("/t.T/Fail", grpc.StatusCode.FAILED_PRECONDITION, "nein, nicht so: 100 %"),
        ("/t.T/None", grpc.StatusCode.UNIMPLEMENTED, None),
    ):
        try:
            channel.unary_unary(method)(b"", metadata=KEY)
            raise AssertionError(f"{method} must fail")
        except grpc.RpcError as error:
            check(error.code(), code)
            if details is not None:
                check(error.details(), details)
                check(dict(error.trailing_metadata())["x-why"], "because")
    # keyway's own: no key.
    try:
        channel.unary_unary("/t.T/Unary")(b"")
        raise AssertionError("a call without a key must fail")
    except grpc.RpcError as error:
        check(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        check(dict(error.trailing_metadata() or error.initial_metadata()).get("x-keyway-error"), "missing_key")


def cancelled_and_late():
    call = channel.unary_stream("/t.T/Forever")(b"", metadata=KEY)
    check(next(call), b"False")
    call.cancel()
    call = channel.unary_stream("/t.T/Forever")(b"", metadata=KEY, timeout=1)
    # The deadline is passed on.
    check(next(call), b"True")
    try:
        next(call)
        raise AssertionError("the deadline must end it")
    except grpc.RpcError as error:
        check(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


all_kinds()
bidirectional()
large()
errors()
cancelled_and_late()
channel.close()
