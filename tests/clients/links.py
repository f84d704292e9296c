"""Links between brokers that can be cut, in one direction or both: a TCP proxy for each ordered pair.

What is sent over a cut link is neither delivered nor refused: it waits, as on a network that loses every packet, and goes on
when the link is mended. Clients reach every broker all the time.
"""

import socket
import threading


class Links:
    """`forward[(a, b)]` is the port on which broker a reaches broker b."""

    def __init__(self, grpc):
        self.open = {}
        self.forward = {}
        numbers = range(1, len(grpc) + 1)
        for sender in numbers:
            for receiver in numbers:
                if sender != receiver:
                    self.open[(sender, receiver)] = threading.Event()
                    self.open[(sender, receiver)].set()
        for sender, receiver in list(self.open):
            listener = socket.create_server(("127.0.0.1", 0))
            self.forward[(sender, receiver)] = listener.getsockname()[1]
            target = grpc[receiver - 1]
            threading.Thread(target=self._accept, args=(listener, sender, receiver, target), daemon=True).start()

    def cut(self, *pairs):
        for pair in pairs:
            self.open[pair].clear()

    def isolate(self, broker):
        self.cut(*(pair for pair in self.open if broker in pair))

    def mend(self):
        for link in self.open.values():
            link.set()

    def _accept(self, listener, sender, receiver, target):
        while True:
            inner, _ = listener.accept()
            threading.Thread(target=self._join, args=(inner, sender, receiver, target), daemon=True).start()

    def _join(self, inner, sender, receiver, target):
        try:
            outer = socket.create_connection(("127.0.0.1", target), timeout=5)
        except OSError:
            # Nothing listens there: the dialling side is to see the same.
            inner.close()
            return
        outer.settimeout(None)
        for one in (inner, outer):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = (inner, outer, self.open[(sender, receiver)])
        back = (outer, inner, self.open[(receiver, sender)])
        for ends in (there, back):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    @staticmethod
    def _pump(source, sink, link):
        try:
            while data := source.recv(1 << 16):
                link.wait()
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
