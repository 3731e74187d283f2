/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What ring.c and <net/nlmmap_ring.h> need of the kernel, for user space; no
 * part of the kernel module
 *
 * The lock is a spin lock made of one atomic word, so that ThreadSanitizer
 * understands it.
 */
#ifndef _NLMMAP_RING_USER_H
#define _NLMMAP_RING_USER_H

#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <nlmmap/linux/nlmmap.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

typedef struct { int held; } raw_spinlock_t;
typedef struct { int counter; } atomic_t;

#ifndef U64_MAX
#define U64_MAX UINT64_MAX
#endif
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#ifndef __always_inline
#define __always_inline	inline __attribute__((__always_inline__))
#endif
#define noinline	__attribute__((__noinline__))
#define ____cacheline_aligned __attribute__((__aligned__(64)))
#define ALIGN(x, a)	(((x) + ((a) - 1)) & ~((__typeof__(x))(a) - 1))

#define READ_ONCE(x)			__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)		__atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define smp_load_acquire(p)		__atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v)		__atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define atomic_read(a)			__atomic_load_n(&(a)->counter, __ATOMIC_RELAXED)
#define atomic_set(a, v)		__atomic_store_n(&(a)->counter, (v), __ATOMIC_RELAXED)
#define atomic_xchg(a, v)		__atomic_exchange_n(&(a)->counter, (v), __ATOMIC_SEQ_CST)
#define atomic_inc_return(a)		__atomic_add_fetch(&(a)->counter, 1, __ATOMIC_SEQ_CST)
#ifndef __SANITIZE_THREAD__
#define smp_mb()			__atomic_thread_fence(__ATOMIC_SEQ_CST)
#else
/* gcc's ThreadSanitizer has no fences; what is ordered here is only ever
 * published by the sequentially consistent operations above.
 */
#define smp_mb()			do { } while (0)
#endif

/* No thread of a process is ever an NMI. */
static inline bool in_nmi(void)
{
	return false;
}

static inline bool raw_spin_trylock(raw_spinlock_t *lock)
{
	return !__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE);
}

static inline void raw_spin_lock(raw_spinlock_t *lock)
{
	while (!raw_spin_trylock(lock))
		while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED))
			sched_yield();
}

static inline void raw_spin_unlock(raw_spinlock_t *lock)
{
	__atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

#define nlmmap_lock(lock) raw_spin_lock(lock)
#define nlmmap_trylock(lock) raw_spin_trylock(lock)
#define nlmmap_unlock(lock) raw_spin_unlock(lock)
#define raw_spin_lock_init(lock) ((lock)->held = 0)
#define raw_spin_lock_irqsave(lock, flags) do { (flags) = 0; raw_spin_lock(lock); } while (0)
#define raw_spin_unlock_irqrestore(lock, flags) do { (void)(flags); raw_spin_unlock(lock); } while (0)
#define EXPORT_SYMBOL_GPL(symbol) struct nlmmap_no_exports

static inline u64 ktime_get_boot_fast_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

#ifdef __cplusplus
}
#endif

#endif /* _NLMMAP_RING_USER_H */
