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
 *
 * For the same reason the virtual CPU can miss the work that was queued for it: it looks at its list under
 * the lock that the COLO thread did not take, finds nothing, and sleeps just after it was woken (seen once in
 * about 700 checkpoints: do_run_on_cpu() against qemu_wait_io_event(), for ever). So no wait is longer than a
 * moment; who owns the mutex, too, is woken for nothing now and then and looks again.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_NS_MAX 20000000L

typedef int cond_timedwait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static cond_timedwait *real_cond_timedwait;
static __thread pid_t thread_id;

__attribute__((constructor)) static void find_real_cond_timedwait(void) {
  /* glibc keeps an older one under the same name; this is the version that QEMU links to. */
  real_cond_timedwait = (cond_timedwait *)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
}

static int wait_a_moment(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_nsec += WAIT_NS_MAX;
  if (end.tv_nsec >= 1000000000L) {
    end.tv_sec++;
    end.tv_nsec -= 1000000000L;
  }
  real_cond_timedwait(condition, mutex, &end);
  return 0;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  if (!thread_id) thread_id = (pid_t)syscall(SYS_gettid);
  if (mutex->__data.__owner == thread_id) return wait_a_moment(condition, mutex);
  const struct timespec moment = {.tv_nsec = 50000};
  nanosleep(&moment, NULL);
  return 0;
}
