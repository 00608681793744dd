#!/bin/sh
# publish.sh SOURCE MOUNTPOINT: a copy of a directory becomes one below published/ in one transaction, under a new name.
set -e
txn=$2/.quorum/txn/publish-$$
mkdir "$txn"
mkdir -p "$txn/tree/published"
cp -r "$1" "$txn/tree/published/$$"
echo >"$txn/commit"
rmdir "$txn"
