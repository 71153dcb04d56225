"""Reads bodies as werkzeug, Django and python-multipart do.

From standard input: a list of [content type, body in hexadecimal]; `query` is the type of queries. To standard output: for each, what each reader
made of it: a list of [name, value], both in hexadecimal, in the order of the names; or an error.
"""

import io
import json
import sys

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from python_multipart import parse_form
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Request

settings.configure(DATA_UPLOAD_MAX_NUMBER_FIELDS=None, DATA_UPLOAD_MAX_NUMBER_FILES=None)
django.setup()


def environ(kind, body):
    return {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "PATH_INFO": "/",
        "QUERY_STRING": body.decode("latin-1") if kind == "query" else "",
    }


def by_werkzeug(kind, body):
    if kind == "query":
        for name, value in Request(environ(kind, body)).args.items(multi=True):
            yield name, value.encode()
        return
    _, form, files = FormDataParser(silent=False).parse_from_environ(environ(kind, body))
    for name, value in form.items(multi=True):
        yield name, value.encode()
    for name, file in files.items(multi=True):
        yield name, file.stream.read()


def by_django(kind, body):
    request = WSGIRequest(environ(kind, body))
    for name, values in (request.GET if kind == "query" else request.POST).lists():
        for value in values:
            yield name, value.encode()
    for name, files in request.FILES.lists():
        for file in files:
            yield name, file.read()


def by_python_multipart(kind, body):
    found = []
    if kind == "query":
        raise ValueError("it reads no queries")

    def on_field(field):
        if field.field_name is None:
            # It knows header fields of parts in their usual spelling only.
            raise ValueError("there is no name")
        found.append((field.field_name, field.value or b""))

    def on_file(file):
        file.file_object.seek(0)
        found.append((file.field_name, file.file_object.read()))

    headers = {"Content-Type": kind.encode(), "Content-Length": str(len(body)).encode()}
    parse_form(headers, io.BytesIO(body), on_field, on_file)
    return found


READERS = {"werkzeug": by_werkzeug, "django": by_django, "python-multipart": by_python_multipart}


def text(value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def decoded(kind, name, value):
    # This reader leaves the decoding of forms to others.
    if kind.startswith("application/x-www-form-urlencoded"):
        from urllib.parse import unquote_to_bytes

        return unquote_to_bytes(text(name).replace(b"+", b" ")), unquote_to_bytes(text(value).replace(b"+", b" "))
    return text(name), text(value)


results = []
for kind, body in json.load(sys.stdin):
    body = bytes.fromhex(body)
    result = {}
    for reader, read in READERS.items():
        try:
            pairs = list(read(kind, body))
            if reader == "python-multipart":
                pairs = [decoded(kind, name, value) for name, value in pairs]
            pairs = [[text(name).hex(), text(value).hex()] for name, value in pairs]
            result[reader] = sorted(pairs, key=lambda pair: pair[0])
        except Exception as error:
            result[reader] = f"{type(error).__name__}: {error}"
    results.append(result)
json.dump(results, sys.stdout)
