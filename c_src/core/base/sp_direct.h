/* recv() and send() as bare system calls, for Linux on x86-64.
 *
 * After a system call the processor's stack of return addresses may hold the kernel's. Then the
 * first `ret` of the program is predicted into the kernel; on AMD processors with the kernel's "safe
 * return" and in a virtual machine that costs some 130 ns, as much as the call itself. Calls that
 * never return put harmless addresses there, as Linux does when it switches processes ("RSB
 * filling", Documentation/admin-guide/hw-vuln/spectre.rst). Libc returns before one could do so,
 * hence no libc. Elsewhere this costs some 10 ns.
 *
 * Not with a shadow stack, which would take them for an attack, nor under sanitizers, which look at
 * the arguments of libc's functions. */
#ifndef SP_DIRECT_H
#define SP_DIRECT_H

#ifdef __has_feature
#define SP_HAS_FEATURE(name) __has_feature(name)
#else
#define SP_HAS_FEATURE(name) 0
#endif

/* The bit of -fcf-protection=return. */
#if defined(__CET__) && (__CET__ & 2)
#define SP_SHADOW_STACK 1
#endif

#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__) && !defined(SP_SHADOW_STACK) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&                             \
    !SP_HAS_FEATURE(address_sanitizer) && !SP_HAS_FEATURE(thread_sanitizer) &&                     \
    !SP_HAS_FEATURE(memory_sanitizer)
#define SP_DIRECT 1

#include <errno.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* One for each function that returns between here and the loop of the caller's scheduler. */
#define SP_CALL_ONCE "call 1f\n\tint3\n1:\n\t"
#define SP_CALL_4 SP_CALL_ONCE SP_CALL_ONCE SP_CALL_ONCE SP_CALL_ONCE
#define SP_CALL_16 SP_CALL_4 SP_CALL_4 SP_CALL_4 SP_CALL_4

/* recvfrom or sendto, without an address. */
static inline ssize_t sp_direct_transfer(long number, int fd, const void *buf, size_t len,
                                         int flags)
{
    register long flags_word __asm__("r10") = flags;
    register long no_address __asm__("r8") = 0;
    register long no_len __asm__("r9") = 0;
    long result;

    /* The red zone is the compiler's; 256 is 128 for it and 16 return addresses. */
    __asm__ volatile("syscall\n\t"
                     "lea -128(%%rsp), %%rsp\n\t" SP_CALL_16 "add $256, %%rsp"
                     : "=a"(result)
                     : "a"(number), "D"((long)fd), "S"(buf), "d"(len), "r"(flags_word),
                       "r"(no_address), "r"(no_len)
                     : "rcx", "r11", "memory", "cc");
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}
#endif

#endif
