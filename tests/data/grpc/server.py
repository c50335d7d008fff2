"""A gRPC node of grpcio: all four kinds of calls, on bytes. Says its port and each call that was cancelled."""

import sys
import threading
from concurrent import futures

import grpc


def unary(request, context):
    context.set_trailing_metadata((("x-node", NAME), ("x-bin-bin", b"\x00\xff")))
    context.send_initial_metadata((("x-seen", dict(context.invocation_metadata()).get("x-user", "")),))
    return request


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nein, nicht so: 100 %")


def countdown(request, context):
    for number in range(int(request), 0, -1):
        yield str(number).encode()


def collect(requests, context):
    return b"".join(requests)


def echo(requests, context):
    for request in requests:
        yield request


def forever(request, context):
    """Streams one message, then nothing, until the call is cancelled."""
    gone = threading.Event()
    context.add_callback(gone.set)
    remaining = context.time_remaining()
    # Without a deadline grpcio tells years.
    yield str(remaining is not None and remaining < 3600).encode()
    gone.wait(30)
    print("cancelled", flush=True)


def health(request, context):
    """grpc.health.v1.Health/Check: what is asked for is in field 1, and says how it is."""
    asked = request[2:].decode()
    if asked == "unknown":
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x02" if asked == "asleep" else b"\x08\x01"


METHODS = {
    "/t.T/Unary": grpc.unary_unary_rpc_method_handler(unary),
    "/t.T/Fail": grpc.unary_unary_rpc_method_handler(fail),
    "/t.T/Countdown": grpc.unary_stream_rpc_method_handler(countdown),
    "/t.T/Collect": grpc.stream_unary_rpc_method_handler(collect),
    "/t.T/Echo": grpc.stream_stream_rpc_method_handler(echo),
    "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(health),
    "/t.T/Forever": grpc.unary_stream_rpc_method_handler(forever),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


NAME = sys.argv[1]
LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
if len(sys.argv) > 2:
    # GOAWAY after so many milliseconds on each connection.
    LIMITS += (("grpc.max_connection_age_ms", int(sys.argv[2])),)
server = grpc.server(futures.ThreadPoolExecutor(16), handlers=(Handler(),), options=LIMITS)
print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
