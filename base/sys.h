// System calls without libc: no errno, no cancellation point, no other interposer, safe in a signal handler.
// Each returns what the kernel returns: a value, or -errno.
#pragma once

#include <cstdint>
#include <type_traits>

#include <sys/syscall.h>

namespace towpath::sys {

template <class T>
long word(T value) noexcept {
  if constexpr (std::is_pointer_v<T>) return reinterpret_cast<long>(value);
  else return static_cast<long>(value);
}

inline long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) noexcept {
#if defined(__x86_64__)
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long out;
  asm volatile("syscall"
               : "=a"(out)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return out;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
#error "towpath knows the system calls of x86-64 and AArch64 only"
#endif
}

template <class... Args>
long call(long number, Args... args) noexcept {
  return raw(number, word(args)...);
}

}  // namespace towpath::sys
