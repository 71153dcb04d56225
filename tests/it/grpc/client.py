"""A client of gRPC, by grpcio: makes the calls that its arguments name, and prints what came of each as JSON.

Arguments: host and port, what to do, and for TLS the file of an authority. The environment may have a TOKEN.
"""

import json
import os
import queue
import sys

import grpc

# What the proxy adds to every response.
ADDED = {"date", "x-request-id"}


def plain(metadata):
    """Metadata in a form that JSON has, without what the proxy adds."""
    listed = [(key, value if isinstance(value, str) else value.hex()) for key, value in metadata or ()]
    return sorted(pair for pair in listed if pair[0] not in ADDED)


class Calls:
    def __init__(self, channel):
        self.channel = channel
        token = os.environ.get("TOKEN")
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def method(self, kind, name):
        return getattr(self.channel, kind)(f"/test.Echo/{name}")

    def made(self, call, responses):
        """What came of a call: how often it answered, and how it ended."""
        received = []
        try:
            for response in responses:
                received.append(response.decode())
        except grpc.RpcError:
            pass
        return {
            "received": received,
            "code": call.code().name,
            "details": call.details(),
            "initial": plain(call.initial_metadata()),
            "trailing": plain(call.trailing_metadata()),
        }

    def unary(self, name, request, metadata=(), timeout=20):
        method = self.method("unary_unary", name)
        try:
            response, call = method.with_call(request, metadata=[*self.metadata, *metadata], timeout=timeout)
        except grpc.RpcError as call:
            return self.made(call, [])
        return self.made(call, [response])

    def interop(self):
        asked = [
            ("trail-text", "a, b; c=d"),
            ("trail-text", "twice"),
            ("trail-raw-bin", bytes(range(256))),
        ]
        more = self.metadata + asked
        yield "unary", self.unary("Unary", b"hello", asked)
        yield "empty", self.unary("Unary", b"")
        yield "large", self.unary("Unary", b"x" * 1_000_000)["code"]
        call = self.method("unary_stream", "ServerStream")(b"200", metadata=more, timeout=20)
        yield "server_stream", self.made(call, call)
        requests = (str(number).encode() * 1000 for number in range(200))
        call = self.method("stream_unary", "ClientStream").future(requests, metadata=more, timeout=20)
        yield "client_stream", self.made(call, [call.result()])
        yield "both", self.both(more)
        for status in grpc.StatusCode:
            details = f"{status.value[0]} 100 % of é\nand more"
            yield status.name, self.unary("Status", details.encode(), asked)
        yield "unknown", self.unary("Nothing", b"")["code"]
        call = self.method("unary_stream", "ServerStream")(b"1000000", metadata=more, timeout=20)
        first = next(call).decode()
        call.cancel()
        yield "cancelled", [first, call.code().name]

    def both(self, metadata):
        """Each request is sent once the response to the one before has come."""
        requests = queue.Queue()
        call = self.method("stream_stream", "Both")(iter(requests.get, None), metadata=metadata, timeout=20)
        received = []
        for number in range(50):
            requests.put(str(number).encode())
            received.append(next(call).decode())
        requests.put(None)
        return [received, self.made(call, call)]

    def one(self):
        yield "one", self.unary("Unary", b"hello")

    def three(self):
        for number in range(3):
            yield str(number), self.unary("Unary", b"hello")

    def seen(self):
        yield "seen", self.unary("Seen", b"", [("te-st", "1")])

    def stream(self):
        call = self.method("unary_stream", "ServerStream")(b"2", metadata=self.metadata, timeout=20)
        yield "stream", self.made(call, call)

    def silent(self):
        yield "own", self.unary("Silent", b"", timeout=0.3)["code"]
        yield "proxy", self.unary("Silent", b"")

    def waits(self):
        """Sends, waits longer than the deadline of a body, and sends again; the second time, before any response."""
        requests = queue.Queue()
        call = self.method("stream_stream", "Both")(iter(requests.get, None), metadata=self.metadata, timeout=20)
        requests.put(b"1")
        received = [next(call).decode()]
        try:
            # There is no response to what was not sent.
            requests.get(timeout=1.5)
        except queue.Empty:
            requests.put(b"2")
        received.append(next(call).decode())
        requests.put(None)
        yield "after", [received, self.made(call, call)["code"]]

        def slow():
            yield b"a"
            try:
                queue.Queue().get(timeout=10)
            except queue.Empty:
                yield b"b"

        call = self.method("stream_unary", "ClientStream").future(slow(), metadata=self.metadata, timeout=20)
        yield "before", self.made(call, [])


def main():
    target, what = sys.argv[1:3]
    if len(sys.argv) > 3:
        with open(sys.argv[3], "rb") as authority:
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(authority.read()))
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        json.dump(dict(getattr(Calls(channel), what)()), sys.stdout)


main()
