"""A service to stand behind the proxy: answers every invoice with a receipt."""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RECEIPT = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<receipt xmlns="urn:example:invoice"><number>7</number></receipt></s:Body></s:Envelope>"""


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "text/xml")
        self.send_header("content-length", str(len(RECEIPT)))
        self.end_headers()
        self.wfile.write(RECEIPT.encode())


ThreadingHTTPServer(("127.0.0.1", 9000), Service).serve_forever()
