/* Preloaded into User-Mode Linux. Up to Linux 6.x it keeps 2696 bytes of a process's extended registers, as many as AVX-512
 * has; the kernel below takes none but all of them, which are more on a processor with AMX, and so no guest started there.
 * What it asks for is cut off for it, and what it gives is put over what the process has.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static long (*original)(int, pid_t, void *, void *);
/* Not on the stack: a guest kernel's is small. One thread of it asks at a time. */
static unsigned char all[1 << 16];

__attribute__((constructor)) static void find(void) { original = dlsym(RTLD_NEXT, "ptrace"); }

long ptrace(enum __ptrace_request request, ...) {
  va_list rest;
  va_start(rest, request);
  pid_t process = va_arg(rest, pid_t);
  void *address = va_arg(rest, void *), *data = va_arg(rest, void *);
  va_end(rest);
  int sets = request == PTRACE_SETREGSET;
  if ((!sets && request != PTRACE_GETREGSET) || (long)address != NT_X86_XSTATE)
    return original(request, process, address, data);

  struct iovec whole = {all, sizeof all}, *part = data;
  long failed = original(PTRACE_GETREGSET, process, address, &whole);
  if (failed)
    return failed;
  if (part->iov_len > whole.iov_len)
    part->iov_len = whole.iov_len;
  memcpy(sets ? all : part->iov_base, sets ? part->iov_base : all, part->iov_len);
  return sets ? original(PTRACE_SETREGSET, process, address, &whole) : 0;
}
