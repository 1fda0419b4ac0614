"""A local web server with ranges and versions (ETag), whose faults can be chosen."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`, or what `server.faults` has next for a path."""

    def do_HEAD(self):
        self.send_response(200 if self.path in self.server.files else 404)
        body = self.server.files.get(self.path, b"")
        for header, value in {"X-Repo-Commit": self.server.commit, "Content-Length": len(body),
                              **self.server.version_of(body)}.items():
            self.send_header(header, value)
        self.end_headers()

    def do_GET(self):
        server, name = self.server, self.path
        server.requests.append((name, dict(self.headers)))
        fault = server.faults[name].pop(0) if server.faults.get(name) else None
        if fault == "hang up":
            return
        if isinstance(fault, int) or name not in server.files:
            self.send_response(fault or 404)
            if server.retry_after:
                self.send_header("Retry-After", server.retry_after)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = server.files[name]
        start, version = 0, server.version_of(body)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.knows_ranges and self.headers["If-Range"] in version.values():
            start = int(wanted[1])
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        end = min(start + 4096, len(body)) if fault == "short part" else len(body)
        if start:
            self.send_header("Content-Range", f"bytes {start + (fault == 'other part')}-{end - 1}/{len(body)}")
        if fault == "other version":
            version = {"ETag": '"another"'}
        for header, value in version.items():
            self.send_header(header, value)
        self.send_header("Content-Type", "text/html; charset=utf-8" if fault == "page" else "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        try:
            self.wfile.write(body[start:(start + len(body)) // 2] if fault in ("cut", "stall") else body[start:end])
            if fault == "stall":
                server.stalled.set()
                server.go_on.wait(60)
        except ConnectionError:
            pass  # the client didn't want all of it

    def log_message(self, *args):
        pass


class FaultyServer(ThreadingHTTPServer):
    """Serves inside a `with` block. files: {path: bytes}; faults: {path: [what goes wrong at the first request, at the
    second, ...]}; requests: [(path, headers), ...]; commit: the header that Hugging Face's hub adds."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests, self.retry_after, self.knows_ranges = {}, {}, [], None, True
        self.commit = ""
        self.version_of = lambda body: {"ETag": etag_of(body)}
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()
        self.thread.join()


def etag_of(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


def ranges(server):
    return [headers.get("Range") for _, headers in server.requests]
