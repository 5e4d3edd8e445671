"""A bounded FastCGI client for unix sockets: one request, or so many a second for a while."""

import asyncio
import collections
import socket
import struct
import time

TIMEOUT = 5.0  # seconds for one request
ANSWER_MAX = 64 * 1024
IN_FLIGHT_MAX = 500

BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6


def record(kind, content=b""):
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content


def request(script):
    """All bytes of a GET of `/`, without FCGI_KEEP_CONN: the worker closes the connection after its answer."""
    params = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/",
        "REQUEST_URI": "/",
        "QUERY_STRING": "",
        "SCRIPT_FILENAME": str(script),
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    content = b"".join(
        bytes([len(name), len(value)]) + name.encode() + value.encode()
        for name, value in params.items()
    )
    return record(BEGIN, struct.pack("!HB5x", 1, 0)) + record(PARAMS, content) + record(PARAMS) + record(STDIN)


def judge(data):
    """What came back, in one word: "ok" is a whole answer with a body and without an error status."""
    out, ended, at = b"", False, 0
    while at + 8 <= len(data):
        _, kind, _, length, padding = struct.unpack_from("!BBHHB", data, at)
        if at + 8 + length > len(data):
            break
        if kind == STDOUT:
            out += data[at + 8 : at + 8 + length]
        ended = ended or kind == END
        at += 8 + length + padding
    if not data:
        return "closed"
    if not ended:
        return "cut"
    head, _, body = out.partition(b"\r\n\r\n")
    status = [line for line in head.split(b"\r\n") if line.lower().startswith(b"status:")]
    if status and not status[0].split(b":", 1)[1].strip().startswith(b"2"):
        return "error status"
    return "ok" if body else "empty"


async def ask(path, payload, timeout=TIMEOUT):
    """One request; the word for its outcome. Never raises for what a server does."""
    writer = None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(timeout):
            # By hand: asyncio takes the EAGAIN of a full backlog for a connection under way.
            connection.connect(path)
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            writer.write(payload)
            data = b""
            while len(data) < ANSWER_MAX:
                block = await reader.read(ANSWER_MAX)
                if not block:
                    break
                data += block
            return judge(data)
    except TimeoutError:
        return "timed out"
    except (FileNotFoundError, ConnectionRefusedError):
        return "refused"
    except BlockingIOError:
        return "backlog full"
    except OSError:
        return "closed"
    finally:
        if writer:
            writer.transport.abort()
        else:
            connection.close()


def answer(path, script, timeout=TIMEOUT):
    return asyncio.run(ask(str(path), request(script), timeout))


def wait_answer(path, script, seconds, hopeless=lambda: False):
    """Seconds until somebody answers, or None. A request that waits in the backlog is answered as soon as that is so."""
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        if answer(path, script, min(left, TIMEOUT)) == "ok":
            return time.monotonic() - began
        if hopeless():
            return None
        time.sleep(0.05)
    return None


async def _load(path, payload, rate, seconds, at_end):
    outcomes, running = collections.Counter(), set()

    async def one():
        outcomes[await ask(path, payload)] += 1

    began = time.monotonic()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0, began + number / rate - time.monotonic()))
        if len(running) >= IN_FLIGHT_MAX:
            outcomes["not sent"] += 1
            continue
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.sleep(max(0, began + seconds - time.monotonic()))
    taken = at_end()
    if running:
        await asyncio.wait(running)
    return outcomes, taken


def load(path, script, rate, seconds, at_end):
    """`rate` requests a second, whatever becomes of them; `at_end` is called when the time is over, to take what it
    measures, then the last requests are awaited. Gives the outcomes and what `at_end` gave."""
    return asyncio.run(_load(str(path), request(script), rate, seconds, at_end))
