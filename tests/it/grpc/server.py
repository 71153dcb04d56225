"""A server of gRPC, by grpcio: prints its port, and serves until its standard input ends.

With two arguments, the files of a certificate and its key, it speaks TLS.
"""

import sys
import threading
from concurrent import futures

import grpc


def trailing(context):
    """What the call asks for as trailing metadata, and a name that only responses may have."""
    asked = [(key[len("trail-"):], value) for key, value in context.invocation_metadata() if key.startswith("trail-")]
    context.set_trailing_metadata([*asked, ("under_score.dot", "kept")])


def unary(request, context):
    context.send_initial_metadata([("first", "1"), ("first-bin", b"\x00\xff"), ("with_underscore.and.dot", "2")])
    trailing(context)
    return request


def client_stream(requests, context):
    trailing(context)
    return b"|".join(requests)


def server_stream(request, context):
    trailing(context)
    for number in range(int(request)):
        yield str(number).encode() * 1000


def both(requests, context):
    trailing(context)
    for request in requests:
        yield b"re: " + request


def status(request, context):
    code, details = request.decode().split(" ", 1)
    trailing(context)
    context.set_code(next(known for known in grpc.StatusCode if known.value[0] == int(code)))
    context.set_details(details)
    return b""


def silent(request, context):
    """Answers when the client has gone away, which is never seen."""
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(60)
    return b""


def seen(request, context):
    """The metadata that came with the call."""
    return repr(sorted(context.invocation_metadata())).encode()


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Status": grpc.unary_unary_rpc_method_handler(status),
    "Silent": grpc.unary_unary_rpc_method_handler(silent),
    "Seen": grpc.unary_unary_rpc_method_handler(seen),
}


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", HANDLERS),))
    if len(sys.argv) > 1:
        certificate, key = (open(path, "rb").read() for path in sys.argv[1:3])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


main()
