#!/usr/bin/env bash
# Make sure of what the tests need and pip does not bring: a Python with headers, a compiler, MariaDB, libfaketime.
#
# On Debian and its kin, as root or with sudo that asks nothing, what is missing is installed; elsewhere it is named, and
# we stop.  The packaged MariaDB is not started: tests run their own servers, in directories of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/python.sh

PATH=$PATH:/usr/sbin:/sbin # where mariadbd lies, for those who are not root

missing=()
has() { command -v "$1" >/dev/null 2>&1; }
need() { missing+=("$@"); }

if python=$(find_python); then
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || need python3-dev
    compiler=$("$python" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')
else
    need python3 python3-venv python3-dev
    compiler=cc
fi
has "$compiler" || need gcc libc6-dev
has mariadbd && has mariadb-install-db || need mariadb-server
has mariadb && has mariadb-dump && has mariadb-binlog || need mariadb-client
compgen -G '/usr/lib*/*/faketime/libfaketimeMT.so.1' >/dev/null || compgen -G '/usr/lib*/faketime/libfaketimeMT.so.1' >/dev/null || need libfaketime
has mariadb-backup && has mbstream || need mariadb-backup

[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=(env)
elif has sudo && sudo -n true 2>/dev/null; then
    as_root=(sudo -n env)
else
    as_root=()
fi
if [ ${#as_root[@]} = 0 ] || ! has apt-get; then
    {
        echo "These are missing: ${missing[*]} (Debian's names for them)."
        echo "The tests need Python 3.11 or later with its headers, a C compiler, MariaDB with mariadb-backup, and libfaketime."
        echo "Install them, then run the same command again."
    } >&2
    exit 1
fi

# While this answers 101, no package starts a service (policy-rc.d, as invoke-rc.d reads it).
policy=/usr/sbin/policy-rc.d
aside=$policy.strandline-aside
restore() {
    "${as_root[@]}" rm -f "$policy"
    [ ! -e "$aside" ] || "${as_root[@]}" mv "$aside" "$policy"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
if [ -e "$policy" ] && [ ! -e "$aside" ]; then # one that lies aside is from a run that was killed
    "${as_root[@]}" mv "$policy" "$aside"
fi
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"

log=$(mktemp)
quietly() {
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive "$@" </dev/null >"$log" 2>&1 || {
        cat "$log" >&2
        echo "'$*' failed; the tests need: ${missing[*]}" >&2
        exit 1
    }
}
echo "installing ${missing[*]}"
quietly apt-get -q update
quietly apt-get -q install --yes --no-install-recommends "${missing[@]}"
rm -f "$log" .venv/.installed # there may be a compiler now: build again
