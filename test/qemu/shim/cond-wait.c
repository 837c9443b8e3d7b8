/*
 * Preloaded into QEMU 7.2 to 10.0 under TCG, where COLO otherwise hangs at its first checkpoint.
 *
 * The primary's COLO thread runs qemu_savevm_live_state() (migration/colo.c, colo_do_checkpoint_transaction)
 * without the big QEMU lock. Under TCG that ends in do_run_on_cpu() (cpus-common.c), which waits on a
 * condition variable with that lock as its mutex. pthread_cond_wait() on a mutex the caller does not own
 * gives it back to its real owner's surprise: two threads think they hold it and everything stops.
 *
 * A caller that does not own the mutex therefore sleeps for a moment and returns without touching it. To the
 * caller that is a spurious wake-up, which POSIX allows; it checks its condition again in a loop.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int cond_wait(pthread_cond_t *, pthread_mutex_t *);

static cond_wait *real_cond_wait;
static __thread pid_t thread_id;

__attribute__((constructor)) static void find_real_cond_wait(void) {
  /* glibc keeps an older pthread_cond_wait under the same name; this is the version that QEMU links to. */
  real_cond_wait = (cond_wait *)dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  if (!thread_id) thread_id = (pid_t)syscall(SYS_gettid);
  if (mutex->__data.__owner == thread_id) return real_cond_wait(condition, mutex);
  const struct timespec moment = {.tv_nsec = 50000};
  nanosleep(&moment, NULL);
  return 0;
}
