#!/bin/bash
# Ends with 0 where this container's Traefik answers /ping on its private entrypoint; run by the engine, often.
exec 3<> "/dev/tcp/127.0.0.1/${MCP_PRIVATE_PORT:-3006}" || exit 1
printf 'GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 3 status <&3
[[ $status == *" 200 "* ]] || { echo "the private entrypoint says ${status:-nothing}"; exit 1; }
