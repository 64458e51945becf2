#!/bin/sh
# Runs Chromium in the service's private folder, under its own user when the service runs as root, and makes the
# kernel end it when the process that started it ends (setpriv sets that last: changing the user would undo it).
for argument do
    shift
    # Of several lists Chromium takes the last, so this is added to the one it is given: it asks Google about forms.
    case $argument in --disable-features=*) argument="$argument,AutofillServerCommunication" ;; esac
    set -- "$@" "$argument"
done
exec setpriv $TEKUP_SETPRIV --pdeathsig=KILL -- "$TEKUP_CHROMIUM" "$@" --user-data-dir="$HOME"
