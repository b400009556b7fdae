#!/bin/sh
# Documents for make_pairs.py: `fetch.sh FOLDER`. Packages are unpacked and never installed; on Debian 12, with groff.
# EVALUATION names a file of page names (tar.1) that are left out, one a line.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/debs" "$1/x" "$1/man" "$1/wheels"
cd "$1"
grep -v '^#' "$here/debian_packages.txt" | tr ' ' '\n' | sort -u > wanted
apt-cache pkgnames | sort | comm -12 wanted - > known
(cd debs && xargs -n 20 apt-get download < ../known)
for deb in debs/*.deb; do
    name=$(basename "$deb" | cut -d_ -f1)
    mkdir -p "x/$name"
    dpkg-deb --fsys-tarfile "$deb" | tar x -C "x/$name" --wildcards --no-same-owner \
        './usr/share/man/*' './usr/share/doc/*' './usr/share/libreoffice/help/*' './usr/share/gimp/2.0/help/en/*' 2>/dev/null || true
done
find x \( -path '*/man/man[1-8]/*' -o -path '*/man/de/*' -o -path '*/man/fr/*' -o -path '*/man/es/*' \) -name '*.gz' |
    grep -v -F -f "${EVALUATION:-/dev/null}" |
    awk -F/ '!/\/man3\// || seen[$2]++ < 30' |
    while read -r page; do
        out=man/$(echo "$page" | sed 's#^x/##; s#/usr/share/man/#__#; s#/#__#g; s#\.gz$#.txt#')
        [ -s "$out" ] || zcat "$page" | groff -man -t -K utf8 -Tutf8 -rLL=95n -P-cbu > "$out" 2>/dev/null || true
    done
grep -v '^#' "$here/python_packages.txt" | tr ' ' '\n' |
    while read -r name; do pip download -q --no-deps --only-binary=:all: -d wheels "$name" || true; done
ls debs wheels > versions.txt
