"""A service of gRPC and a client of it, by grpcio: `orders.py serve`, or `orders.py ADDRESS METHOD [KEY]`.

Messages are plain text, so that no generated code is needed.
"""

import sys
from concurrent import futures

import grpc


def get(request, context):
    return b"order " + request + b" for " + dict(context.invocation_metadata())["x-consumer-id"].encode()


def watch(request, context):
    for number in range(3):
        yield b"order " + str(number).encode()


def take_all(requests, context):
    return str(sum(1 for _ in requests)).encode() + b" orders"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    methods = {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
        "Import": grpc.stream_unary_rpc_method_handler(take_all),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", methods),))
    if not server.add_insecure_port("127.0.0.1:9000"):
        raise SystemExit("the port is in use")
    server.start()
    server.wait_for_termination()


def call(address, method, key=None):
    metadata = [("x-api-key", key)] if key else []
    with grpc.insecure_channel(address) as channel:
        name = f"/shop.Orders/{method}"
        try:
            if method == "Watch":
                for message in channel.unary_stream(name)(b"", metadata=metadata):
                    print(message.decode())
            elif method == "Import":
                print(channel.stream_unary(name)(iter([b"a", b"b"]), metadata=metadata).decode())
            else:
                print(channel.unary_unary(name)(b"7", metadata=metadata).decode())
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}")


if sys.argv[1:] == ["serve"]:
    serve()
else:
    call(*sys.argv[1:])
