#!/usr/bin/env bash
# Build all C with the address sanitizer and the one for undefined behaviour, in build/sanitize, and try to break it:
# random cases against plain models (tests/chunker/fuzz) for $1 seconds, then the tests of the chunker and of windows against such modules.
#
# $2 is a seed; without it every run has another one, and says it.  Needs gcc, whose run-time library Python can be given.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=$1 seed=${2:-$(date +%s)}
cc=${CC:-gcc} native=chunker/native out=build/sanitize
flags=(-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Wextra -Werror)
python=.venv/bin/python
read -r include suffix < <("$python" -c 'import sysconfig
print(sysconfig.get_path("include"), sysconfig.get_config_var("EXT_SUFFIX"))')

# A copy of the package, as far as imports can tell: links to what is Python, and modules of our own.
rm -rf "$out"
mkdir -p "$out/objects" "$out/strandline/chunker" "$out/strandline/engine/format"
ln -s ../../../{agents,store,strandline/__init__.py} "$out/strandline/"
for file in chunker/*.py engine/{*.py,app,base,flow,ops,plan,repo} engine/format/*.py; do
    ln -s "$PWD/$file" "$out/strandline/$file"
done

# What belongs to a module is said once, in pyproject.toml.
sources() {
    "$python" -c 'import sys, tomllib
for module in tomllib.load(open("pyproject.toml", "rb"))["tool"]["setuptools"]["ext-modules"]:
    if module["name"].endswith(sys.argv[1]):
        print(*module["sources"], sep="\n")' "$1"
}
objects() { sed "s|/|-|g; s|\(.*\)\.c$|$out/objects/\1.o|"; }

fuzz=$(printf '%s\n' tests/chunker/fuzz/*.c) scan=$(sources _scan) chunks=$(sources _chunks) frames=$(sources _frames)
for source in $fuzz $scan $chunks $frames; do
    printf '%s\0%s\0' "$(objects <<<"$source")" "$source"
done | xargs -0 -n 2 -P "$(nproc)" "$cc" "${flags[@]}" -fPIC "-I$include" "-I$native" -c -o

link() { # link FILE WORD... < objects
    xargs "$cc" "${flags[@]}" "${@:2}" -o "$1"
}
objects <<<"$scan" | link "$out/strandline/chunker/_scan$suffix" -shared
objects <<<"$chunks" | link "$out/strandline/chunker/_chunks$suffix" -shared
objects <<<"$frames" | link "$out/strandline/engine/format/_frames$suffix" -shared
# The doors need Python; the rest does not.
objects <<<"$fuzz"$'\n'"$scan"$'\n'"$chunks" | grep -v -e -module.o -e -chunks.o | link "$out/fuzz"

"$out/fuzz" "$seconds" "$seed"

# The interpreter was not built for it, so the run-time library goes before everything else, and what Python keeps until
# its end is no leak.  Of the tests those that call C; not those that measure time, or the library.
export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0 PYTHONPATH="$PWD/$out" PYTHONSAFEPATH=1
LD_PRELOAD=$("$cc" -print-file-name=libasan.so)
"$python" -c 'from strandline.chunker import _chunks, _scan
from strandline.engine.format import _frames
for module in _chunks, _scan, _frames:
    assert "sanitize" in module.__file__, "these are not the modules that were just built"'
"$python" -m pytest -qq -p no:cacheprovider tests/chunker/test_{kernels,naming,idset}.py tests/engine/format/test_window.py tests/engine/test_delivery.py \
    -k "not hashed and not library"
