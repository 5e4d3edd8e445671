"""What a guard's rule would have done, in the simplest way that is right."""

import json


def naive(lines, unit, words, failures, within, grace):
    """[[microseconds, matches], …] of each time when the rule fires: `failures` within `within` s, then `grace` s of nothing."""
    window, deaf_until, found = [], 0, []
    for line in lines:
        entry = json.loads(line)
        at = int(entry["__REALTIME_TIMESTAMP"])
        if entry.get("_SYSTEMD_UNIT") != unit or words not in str(entry.get("MESSAGE")) or at < deaf_until:
            continue
        window = [time for time in window if at - time <= within * 1_000_000] + [at]
        if len(window) >= failures:
            found.append([at, len(window)])
            window, deaf_until = [], at + grace * 1_000_000
    return found
