"""What a benchmark says of itself and of the machine, and how it speaks meanwhile."""

import datetime
import os
import pathlib
import platform
import subprocess
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent.parent


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def output(*command):
    """What it prints; nothing, if it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def packages(names):
    """Their versions, as far as they are installed."""
    return output("dpkg-query", "-W", "-f", "${Package} ${Version}; ", *names).strip("; ")


def machine():
    return {
        "at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "checkout": output("git", "-C", str(BENCH), "rev-parse", "--short", "HEAD"),
    }
