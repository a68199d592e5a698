#!/bin/sh
# Makes or deletes a branch through a server's admin API: preview-branch.sh create|delete
# BOUGH_SERVER: its URL, BOUGH_TOKEN: may be empty where there is no authentication, DATABASE, BRANCH.
set -eu

api="${BOUGH_SERVER%/}/api/v1/databases/$DATABASE/branches"
encoded=$(printf %s "$BRANCH" | sed 's|/|%2F|g')

# The token goes through a pipe: the list of processes does not show it. Prints the status; the answer goes to the error output.
ask() {
  answer=$({ [ -z "${BOUGH_TOKEN:-}" ] || printf 'header = "Authorization: Bearer %s"\n' "$BOUGH_TOKEN"; } |
    curl --silent --show-error --write-out '\n%{http_code}' --config - "$@")
  printf '%s\n' "$answer" | sed '$d' >&2
  printf '%s\n' "$answer" | tail -n 1
}

case "${1:-}" in
  create)
    # Forgotten ones go by themselves.
    expires=$(date -u -d '+14 days' +%Y-%m-%dT%H:%M:%SZ)
    status=$(ask -H 'content-type: application/json' \
      --data "{\"name\":\"$BRANCH\",\"expiresAt\":\"$expires\"}" "$api")
    # It is there already when more is pushed.
    case "$status" in 201 | 409) ;; *) exit 1 ;; esac
    echo "$BOUGH_SERVER/$DATABASE/$BRANCH/"
    ;;
  delete)
    status=$(ask -X DELETE "$api/$encoded")
    case "$status" in 204 | 404) ;; *) exit 1 ;; esac
    ;;
  *)
    echo "usage: preview-branch.sh create|delete" >&2
    exit 2
    ;;
esac
