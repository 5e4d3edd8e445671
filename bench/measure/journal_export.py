#!/usr/bin/env python3
"""Writes an export stream for systemd-journal-remote: a site's unit that fails in bursts among a machine's other entries.

usage: journal_export.py ENTRIES [SEED]

22 fields an entry, as journald gives a service's line on stdout. Most messages are said again and again, a third are like no
other one, as access lines are. Two entries in a hundred thousand have a value so big that journald compresses it.
"""

import random
import sys

UNIT = "site.service"
WORDS = "increase workers to minimal"
BOOT = "fd5a2d1ed0f5459689c4eb04c9b0fd35"
MACHINE = "4b6a7d2f0c1e4b0f9a8d7c6b5a493827"
START = 1_700_000_000_000_000  # µs since 1970

HEAD = """__REALTIME_TIMESTAMP=%d
__MONOTONIC_TIMESTAMP=%d
_BOOT_ID=""" + BOOT + """
PRIORITY=6
SYSLOG_FACILITY=3
SYSLOG_IDENTIFIER=%s
_TRANSPORT=stdout
_STREAM_ID=%s
_PID=%d
_UID=33
_GID=33
_COMM=%s
_EXE=/usr/bin/%s
_CMDLINE=/usr/bin/%s --serve
_CAP_EFFECTIVE=0
_SELINUX_CONTEXT=unconfined
_SYSTEMD_CGROUP=/system.slice/%s
_SYSTEMD_UNIT=%s
_SYSTEMD_SLICE=system.slice
_SYSTEMD_INVOCATION_ID=%s
_MACHINE_ID=""" + MACHINE + """
_HOSTNAME=web1
_RUNTIME_SCOPE=system
MESSAGE=%s

"""


def main():
    count = int(sys.argv[1])
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    units = [UNIT] + ["unit-%d.service" % number for number in range(20)]
    known = {}
    for unit in units:
        stem = unit.split(".")[0]
        known[unit] = [stem, "%032x" % chance.getrandbits(128), chance.randrange(300, 30000), "%032x" % chance.getrandbits(128)]
    often = ["%s finished job %d of the queue" % (chance.choice(["worker", "importer", "mailer"]), n) for n in range(2000)]
    out = sys.stdout
    realtime = START
    burst = 0
    piece = []
    for number in range(count):
        realtime += chance.randrange(1, 20_000)
        if burst == 0 and chance.random() < 0.0002:
            burst = chance.randrange(3, 25)
        if burst and chance.random() < 0.01:
            burst -= 1
            unit, message = UNIT, "FCGI::ProcManager: " + WORDS
        else:
            unit = units[int(chance.random() ** 2 * len(units))]
            roll = chance.random()
            if roll < 0.66:
                message = often[int(chance.random() * len(often))]
            elif roll < 0.99998:
                message = '10.0.%d.%d "GET /page/%d HTTP/1.1" 200 %d' % (number & 255, number >> 8 & 255, number, number % 5000)
            else:
                message = "big %d " % number + "x y z " * chance.randrange(200, 2000)
        stem, stream, pid, invocation = known[unit]
        piece.append(HEAD % (realtime, realtime - START, stem, stream, pid, stem, stem, stem, unit, unit, invocation, message))
        if len(piece) == 1000:
            out.write("".join(piece))
            piece.clear()
    out.write("".join(piece))


if __name__ == "__main__":
    main()
