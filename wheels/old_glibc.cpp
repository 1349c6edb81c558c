// What the linker would take from glibc 2.32 and 2.34, under the names that older ones have as well. With it, an extension that
// was linked on a newer system (with libstdc++ in it: old_glibc.cmake) asks for nothing that glibc 2.17 lacks; auditwheel checks
// that.

#include <pthread.h>

#if defined(__x86_64__)
#define FASTLSTM_FIRST_GLIBC "GLIBC_2.2.5"  // the first version that has this architecture, and its names of functions
#elif defined(__aarch64__)
#define FASTLSTM_FIRST_GLIBC "GLIBC_2.17"
#else
#error "which was the first glibc of this architecture?"
#endif

// glibc 2.34 moved these from libpthread to libc, which gave them a second version; the functions are the same. The linker sends
// all who call name, libstdc++ included, to __wrap_name.
#define FASTLSTM_OLD(name) __asm__(".symver old_" #name "," #name "@" FASTLSTM_FIRST_GLIBC)
FASTLSTM_OLD(pthread_create);
FASTLSTM_OLD(pthread_detach);
FASTLSTM_OLD(pthread_mutex_trylock);

extern "C" {

int old_pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int old_pthread_detach(pthread_t);
int old_pthread_mutex_trylock(pthread_mutex_t*);

int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* data) {
  return old_pthread_create(thread, attributes, body, data);
}
int __wrap_pthread_detach(pthread_t thread) { return old_pthread_detach(thread); }
int __wrap_pthread_mutex_trylock(pthread_mutex_t* mutex) { return old_pthread_mutex_trylock(mutex); }

// By this libstdc++ knows that it may count references without atomic operations. It may not: there may be other threads.
extern char __libc_single_threaded;
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
