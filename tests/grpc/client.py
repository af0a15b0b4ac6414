"""Asks the health service behind a GrpcLayer by Python's client, grpcio.

    client.py ADDRESS READER WATCHER LIMITED
"""

import sys

import grpc

address, reader, watcher, limited = sys.argv[1:]
channel = grpc.insecure_channel(address)
same = dict(request_serializer=lambda text: text, response_deserializer=lambda text: text)
check = channel.unary_unary("/grpc.health.v1.Health/Check", **same)
watch = channel.unary_stream("/grpc.health.v1.Health/Watch", **same)
unknown = channel.unary_unary("/grpc.health.v1.Health/%43heck", **same)


def told(call):
    try:
        call()
        return grpc.StatusCode.OK, None
    except grpc.RpcError as error:
        return error.code(), error.details()


def ask(method, token):
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return told(lambda: method(b"", metadata=metadata, timeout=60))


def first(token):
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return told(lambda: next(iter(watch(b"", metadata=metadata, timeout=60))))


code = grpc.StatusCode
for got, expected in [
    (ask(check, reader), (code.OK, None)),
    (ask(check, None), (code.UNAUTHENTICATED, "An API key is required.")),
    (ask(check, "nonsense"), (code.UNAUTHENTICATED, "The API key is invalid.")),
    (ask(check, limited), (code.OK, None)),
    (ask(check, limited), (code.RESOURCE_EXHAUSTED, "The rate limit is exceeded.")),
    (first(watcher), (code.OK, None)),
    (first(reader), (code.PERMISSION_DENIED, "The API key lacks a permission that is required.")),
    # Another way to write a method is another method, and is asked for a key like any.
    (ask(unknown, None), (code.UNAUTHENTICATED, "An API key is required.")),
]:
    assert got == expected, (got, expected)
print("grpcio: as expected")
