#!/usr/bin/python3
"""Serves .quorum/metrics of a mounted tree over HTTP, for Prometheus to scrape.

    metrics-http.py TREE [ADDRESS:PORT]      default 127.0.0.1:9421

A scrape that finds the mount dead or slow gets status 503. Where node_exporter runs, its textfile collector needs no server:
    cp TREE/.quorum/metrics /var/lib/prometheus/node-exporter/quorumfs.prom
"""
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_S = 5


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/metrics":
            self.send_error(404)
            return
        # In a process of its own: a hung mount then costs that process, not this one.
        try:
            text = subprocess.run(["cat", "--", self.server.tree + "/.quorum/metrics"], timeout=TIMEOUT_S, check=True,
                                  stdout=subprocess.PIPE).stdout
        except (subprocess.SubprocessError, OSError) as e:
            self.send_error(503, explain=str(e))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    host, _, port = (sys.argv[2] if len(sys.argv) == 3 else "127.0.0.1:9421").rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Metrics)
    server.tree = sys.argv[1].rstrip("/")
    print("serving http://%s:%d/metrics" % server.server_address[:2], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
