#!/bin/sh
# No FastCGI program at all: `app.sh exit [CODE]` leaves at once, `app.sh stay` prints a line and sleeps for ever.
if [ -n "$START_LOG" ]; then
    echo "0 $$" >> "$START_LOG"
fi
case "$1" in
stay)
    echo "app.sh: I do not speak FastCGI"
    exec sleep 1000000
    ;;
*)
    echo "app.sh: cannot find the database" >&2
    exit "${2:-3}"
    ;;
esac
