"""The request loop of the drivers that are written in Python; README.md has the protocol."""

import faulthandler
import json
import queue
import signal
import sys
import threading


class DriverError(Exception):
    """An operation failed: `code` as Kafka numbers it, or None when no broker said it."""

    def __init__(self, name, message="", code=None):
        super().__init__(f"{name}: {message}")
        self.name, self.message, self.code = name, message, code


def emit(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def failure(error):
    if isinstance(error, DriverError):
        return {"code": error.code, "name": error.name, "message": error.message}
    return {"code": None, "name": type(error).__name__, "message": str(error)}


def run(driver):
    """Serves `driver` until standard input ends. `driver.op_NAME(request)` returns a dict or None;
    while `driver.member` is set, `driver.poll_member()` runs between requests."""
    faulthandler.register(signal.SIGUSR1)  # tells on standard error where every thread is
    requests = queue.Queue()

    def read():
        for line in sys.stdin:
            requests.put(json.loads(line))
        requests.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            request = requests.get(block=driver.member is None)
        except queue.Empty:
            try:
                driver.poll_member()
            except Exception as error:  # every failure of the client becomes an event
                emit(event="error", **failure(driver.translate(error)))
                driver.member = None
            continue
        if request is None:
            return
        try:
            answer = getattr(driver, "op_" + request["op"])(request) or {}
            emit(id=request["id"], ok=True, **answer)
        except Exception as error:  # and every failure of an operation an answer
            emit(id=request["id"], ok=False, **failure(driver.translate(error)))
