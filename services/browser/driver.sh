#!/bin/sh
# Runs Playwright's own process apart from the service's signals (Ctrl-C and group signals are for the service, which
# still needs its pages to finish calls), and makes the kernel end it when the service ends, however that ends.
exec setsid setpriv --pdeathsig=KILL -- "$TEKUP_NODE" "$@"
