/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The handful of primitives that ring.[ch] stand on
 *
 * In the kernel they are the kernel's own. In user space, where the same ring.c
 * is built into the library's loopback kernel, unit tests and fuzzers,
 * ring_user.h gives the same names with the same ordering.
 */
#ifndef _NLMMAP_RING_PORT_H
#define _NLMMAP_RING_PORT_H

#ifdef __KERNEL__

#include <linux/align.h>
#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/ktime.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/types.h>
#include <uapi/linux/netlink.h>
#include <uapi/linux/nlmmap.h>

#define nlmmap_lock_init(lock)		raw_spin_lock_init(lock)
#define nlmmap_lock_irqsave(lock, flags) raw_spin_lock_irqsave(lock, flags)
#define nlmmap_unlock_irqrestore(lock, flags) raw_spin_unlock_irqrestore(lock, flags)
#define nlmmap_now_ns()			ktime_get_boot_fast_ns()

#else
#include "ring_user.h"
#endif /* __KERNEL__ */
#endif /* _NLMMAP_RING_PORT_H */
