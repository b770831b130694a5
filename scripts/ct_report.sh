#!/usr/bin/env bash
# ct_report.sh FILE      (what test/kit/sockpool_ct_hook.erl wrote down of a run)
#
# Prints the slowest cases, those that were skipped, and those that failed, with the beginning of why. Fails where
# cases did not run though nothing said that they need not: an init_per_suite or init_per_group failed. With CI=true also where one was skipped
# because of what this machine lacks, as what CI is to test is there; but a clone without history is none of its lacks. And where nothing was written down.
set -u

CASES=${1:?a file}
[ -s "$CASES" ] || { echo "ct_report: $CASES tells of no case" >&2; exit 1; }

echo "slowest cases:"
awk -F '\t' '$1 == "ran" {printf "  %6.1f s  %s\n", $2 / 1000, $3}' "$CASES" | sort -rn | head -n 12

awk -F '\t' -v ci="${CI:-}" '
    $1 == "ran" {ran++}
    $1 == "skipped" && $4 !~ /clone/ {lacking++}
    $1 == "failed" {print "  failed " $3 ": " substr($4, 1, 1000)}
    $1 == "skipped" {skipped++; print "  skipped " $3 ": " $4}
    $1 == "not_reached" {not_reached++; print "  not reached " $3 ": " substr($4, 1, 300)}
    END {
        printf "%d cases ran, %d were skipped, %d were not reached\n", ran, skipped, not_reached
        exit ran == 0 || not_reached > 0 || (ci == "true" && lacking > 0)
    }' "$CASES" || { echo "ct_report: cases are missing" >&2; exit 1; }
