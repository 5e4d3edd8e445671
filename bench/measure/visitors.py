"""Visitors of nginx: so many at a time, each asking again as soon as it was answered, and what became of each request."""

import collections
import http.client
import threading
import time

TIMEOUT = 10.0  # seconds for one request
BODY_MAX = 256

# sent and back: ns, CLOCK_MONOTONIC, seen by the visitor; pid, began and ended: the worker's own words when it answered.
Request = collections.namedtuple("Request", "sent back outcome pid began ended")


def ask(port, path):
    """One request on a connection of its own. Never raises for what a server does."""
    sent = time.monotonic_ns()
    pid = began = ended = None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        words = answer.read(BODY_MAX).split()
        if answer.status == 200 and len(words) == 4 and words[0] == b"ok":
            pid, began, ended = map(int, words[1:])
            outcome = "ok"
        else:
            outcome = str(answer.status) if answer.status != 200 else "no whole answer"
    except TimeoutError:
        outcome = "timed out"
    except (OSError, http.client.HTTPException) as error:
        outcome = type(error).__name__
    finally:
        connection.close()
    return Request(sent, time.monotonic_ns(), outcome, pid, began, ended)


class Visitors:
    """With `pause`, a visitor whose request failed waits so long before the next: a refusal takes no time."""

    def __init__(self, port, path, number, pause=0.01):
        self.found = [[] for _ in range(number)]
        self.leaving = threading.Event()
        self.began = time.monotonic_ns()
        self.threads = [
            threading.Thread(target=self.visit, args=(port, path, pause, found), daemon=True) for found in self.found
        ]
        for thread in self.threads:
            thread.start()

    def visit(self, port, path, pause, found):
        while not self.leaving.is_set():
            found.append(ask(port, path))
            if found[-1].outcome != "ok":
                self.leaving.wait(pause)

    def leave(self):
        """All requests, the last ones awaited, in the order in which they were sent."""
        self.leaving.set()
        for thread in self.threads:
            thread.join(TIMEOUT + 5)
        return sorted(request for found in self.found for request in list(found))


def outcomes(requests):
    return dict(collections.Counter(request.outcome for request in requests).most_common())


def served_at_once(requests, began):
    """[(seconds since `began`, requests in the workers' hands)], each time that this changes."""
    changes = [(request.began, 1) for request in requests if request.began]
    changes += [(request.ended, -1) for request in requests if request.ended]
    at_once, curve = 0, [(0.0, 0)]
    for when, change in sorted(changes):
        at_once += change
        curve.append((round((when - began) / 1e9, 4), at_once))
    return curve
