# Reads a memcheck log of the Erlang VM, prints the errors that count, and exits with 1 if there are
# any, with 2 if the log is not complete. `object` is the library whose leaks count.
#
# What does not count: an access inside a live block of the heap. The emulator's JIT uses the stack
# pointer for Erlang's stacks, which lie in ordinary blocks; memcheck takes what is beyond the stack
# pointer for inaccessible. No overrun or use after free looks like that: those are before or after a
# block, in a freed one, or nowhere.
# Leaks count where the library allocated the memory; the emulator has some of its own.

function is_artefact(text) {
    return text ~ /^(Invalid (read|write) of size|Syscall param )/ &&
           text ~ /is [0-9,]+ bytes inside a block of size [0-9,]+ alloc'd/
}

function is_error(text) {
    return text ~ /^(Invalid|Mismatched|Syscall param|Source and destination|Argument|Process terminating|Conditional jump|Use of uninit|Jump to)/
}

function end_of_record(is_leak) {
    is_leak = record ~ /(is|are) definitely lost in loss record/
    if (is_leak ? names_object(record) : is_error(record) && !is_artefact(record)) {
        print record
        count++
    } else if (is_leak) {
        others++
    } else if (is_error(record)) {
        artefacts++
    }
    record = ""
}

# Frames of a program with symbols are named by source file, so the object is told by its sources.
function names_object(text) {
    return index(text, object) || text ~ /\((sp_[a-z_]+\.[ch]):[0-9]+\)/
}

{
    complete = complete || /ERROR SUMMARY:/
    sub(/^==[0-9]+== ?/, "")
    sub(/^Thread [0-9]+.*:$/, "")
}
/^$/ { if (record != "") end_of_record(); next }
{ record = record $0 "\n" }

END {
    if (record != "")
        end_of_record()
    if (!complete) {
        print "valgrind: the log ends early"
        exit 2
    }
    printf "valgrind: %d errors or leaks of %s (set aside: %d accesses beyond an Erlang stack's " \
           "top, %d leaks of the VM)\n", count, object, artefacts, others
    exit count > 0
}
