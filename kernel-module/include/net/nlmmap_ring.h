/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The ring: one producer side behind a lock, one consumer that is not trusted
 *
 * No sockets, no pages, no groups: memory and positions. The same file, and
 * net/nlmmap/ring.c, are built into the kernel module and into user space (the
 * library's loopback kernel, unit tests, fuzzers), where ring_user.h stands for
 * the kernel's primitives. It is a public header because <net/nlmmap.h> inlines
 * it into producers; nothing here is theirs to call.
 *
 *	 consumer page     producer page     data              the same data
 *	+---------------+ +---------------+ +----------------+ +----------------+
 *	| position      | | position      | |####      ######| |####      ######|
 *	| watermark     | | lost          | |   ^      ^     | |                |
 *	+---------------+ +---------------+ +---|------|-----+ +----------------+
 *	 user space's      the kernel's     position consumed
 *
 * The data pages appear twice in a row, so a record that begins near the end
 * goes on behind it; nothing is ever split.
 *
 * Locking: struct nlmmap_ring.lock, a raw spinlock taken with interrupts off,
 * guards every member from lock on. It nests inside nothing but another ring's
 * lock, in the order of the rings' addresses (nlmmap_end() holds the first ring
 * while it copies into the next). Under it nothing sleeps, and the two
 * callbacks in struct nlmmap_ring_ops run.
 *
 * Trust: user space may write anything into the consumer page at any time. Each
 * word of it is read once, bounded, and kept in the ring's own copy. The
 * producer page is read-only to user space, and producing never reads it back.
 */
#ifndef _NET_NLMMAP_RING_H
#define _NET_NLMMAP_RING_H

#ifdef __KERNEL__
#include <linux/align.h>
#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/limits.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/types.h>
#include <uapi/linux/netlink.h>
#include <uapi/linux/nlmmap.h>

/*
 * A ring's lock is taken with interrupts off. So preemption needs no count, and
 * without it the lock is five instructions in line, where two calls would be a
 * fifth of what a small message costs; the kernel's tracer locks its buffers
 * like this, too. Lock debugging gets what it wants. What was locked by one of
 * these is unlocked by one of these: the others count preemption.
 */
#if defined(CONFIG_DEBUG_SPINLOCK) || defined(CONFIG_DEBUG_LOCK_ALLOC)
#define nlmmap_lock(lock)		raw_spin_lock(lock)
#define nlmmap_lock_second(lock)	raw_spin_lock_nested(lock, SINGLE_DEPTH_NESTING)
#define nlmmap_trylock(lock)		raw_spin_trylock(lock)
#define nlmmap_unlock(lock)		raw_spin_unlock(lock)
#else
#define nlmmap_lock(lock)		do_raw_spin_lock(lock)
#define nlmmap_lock_second(lock)	do_raw_spin_lock(lock)
#define nlmmap_trylock(lock) ({						\
	raw_spinlock_t *__lock = (lock);				\
	__cond_lock(__lock, do_raw_spin_trylock(__lock));		\
})
#define nlmmap_unlock(lock)		do_raw_spin_unlock(lock)
#endif
#else
#include "ring_user.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct nlmmap_ring;

/* Nobody sleeps: no position ever reaches it. */
#define NLMMAP_WAKE_NEVER	U64_MAX

/* Room that is kept for each notice that a group is gone: its record is a
 * header with all optional fields, struct nlmsghdr and one u32 attribute.
 */
#define NLMMAP_NOTICE_BYTES	64

/**
 * struct nlmmap_ring_ops - what a ring tells its owner
 * @wake: somebody armed the ring and is to be woken
 * @lost: so many records were lost just now
 *
 * Context: under the ring's lock, interrupts off; @wake from NMI, too, and
 * then without the lock.
 */
struct nlmmap_ring_ops {
	void (*wake)(struct nlmmap_ring *ring);
	void (*lost)(struct nlmmap_ring *ring, u32 count);
};

/**
 * struct nlmmap_ring - the kernel's side of a ring
 * @data: the records, mapped twice in a row
 * @data_bytes: of one mapping, a power of two
 * @producer: the page that the kernel writes
 * @consumer: the page that user space writes: hostile
 * @ops: callbacks
 * @header_bytes: before each datagram
 * @features: NLMMAP_FEATURE_*: fields after each header
 * @lock: see above; guards all that follows
 * @position: produced so far; what @producer->position says
 * @limit: up to here there is room without looking at anything else. 0 sends
 *	the next publisher through nlmmap_ring_make_room(). NMI writes that 0
 *	without the lock.
 * @wake_at: wake sleepers when @position reaches it
 * @seq: of the newest record or loss
 * @consumed: the last consumer position that was accepted
 * @high_water: the most bytes that ever waited, rounded up to a sixteenth
 * @lost: records, as @producer->lost says
 * @lost_told: what @lost was when the reader was last known to have seen it
 * @lost_consumed: what @consumed was at the last loss
 * @notice_end: where the last notice ends; readable until then, whatever the
 *	watermark
 * @wakeups: times that @ops->wake was called under the lock
 * @forged: consumer positions that were not accepted
 * @forged_position: the last of them, so that each is counted once; nothing
 *	while @forged is 0
 * @notice_bytes: room that only notices may use
 * @loss_pending: the next record carries NLMMAP_RECORD_LOST
 * @missed: records lost in NMI, not yet in @seq and @lost
 */
struct nlmmap_ring {
	u8 *data;
	u64 data_bytes;
	struct nlmmap_producer *producer;
	struct nlmmap_consumer *consumer;
	const struct nlmmap_ring_ops *ops;
	u32 header_bytes;
	u32 features;

	raw_spinlock_t lock ____cacheline_aligned;
	u64 position;
	u64 limit;
	u64 wake_at;
	u64 seq;
	u64 consumed;
	u64 high_water;
	u64 lost;
	u64 lost_told;
	u64 lost_consumed;
	u64 notice_end;
	u64 wakeups;
	u64 forged;
	u64 forged_position;
	u32 notice_bytes;
	bool loss_pending;
	atomic_t missed;
};

/**
 * struct nlmmap_ring_counters - a consistent copy of a ring's counters
 * @produced: bytes
 * @consumed: bytes, as accepted
 * @seq: of the newest record or loss
 * @lost: records
 * @high_water: bytes
 * @wakeups: count
 * @forged: count
 */
struct nlmmap_ring_counters {
	u64 produced;
	u64 consumed;
	u64 seq;
	u64 lost;
	u64 high_water;
	u64 wakeups;
	u64 forged;
};

void nlmmap_ring_init(struct nlmmap_ring *ring, void *consumer_page,
		      void *producer_page, void *data, u64 data_bytes,
		      u32 setup_flags, const struct nlmmap_ring_ops *ops);
bool nlmmap_ring_has_room(struct nlmmap_ring *ring, u64 bytes);
int nlmmap_ring_make_room(struct nlmmap_ring *ring, u64 bytes);
void nlmmap_ring_lose(struct nlmmap_ring *ring, u32 count);
void nlmmap_ring_wake(struct nlmmap_ring *ring);
void nlmmap_ring_miss(struct nlmmap_ring *ring);
bool nlmmap_ring_poll(struct nlmmap_ring *ring);
int nlmmap_ring_keep_notice(struct nlmmap_ring *ring);
void nlmmap_ring_drop_notice(struct nlmmap_ring *ring);
void nlmmap_ring_give_notice(struct nlmmap_ring *ring, u16 group);
void nlmmap_ring_count(struct nlmmap_ring *ring,
		       struct nlmmap_ring_counters *counters);
void nlmmap_ring_stamp(const struct nlmmap_ring *ring, struct nlmmap_record *record);

/* Has it optional fields? */
static __always_inline bool nlmmap_ring_stamps(const struct nlmmap_ring *ring)
{
	return ring->header_bytes != sizeof(struct nlmmap_record);
}

/* Datagrams of these sizes are copied in line: most messages are a few dozen
 * bytes, for which a call of memcpy() costs more than the copy.
 */
#define NLMMAP_FAST_MIN		sizeof(struct nlmsghdr)
#define NLMMAP_FAST_MAX		1024

/**
 * nlmmap_copy_fast - copy NLMMAP_FAST_MIN bytes or more, and zero the padding
 * @to: 8-byte aligned
 * @from: any alignment
 * @len: bytes; what is written is rounded up to a multiple of 8
 *
 * In steps of 32 bytes, or of 16 for what is shorter than that; the last step
 * overlaps the one before, so that there is no remainder to handle.
 */
static __always_inline void nlmmap_copy_fast(u8 *to, const u8 *from, u64 len)
{
	u64 last, at;

	__builtin_memset(to + ((len - 1) & ~7ull), 0, 8);
	if (len < 32) {
		__builtin_memcpy(to, from, 16);
		__builtin_memcpy(to + len - 16, from + len - 16, 16);
		return;
	}
	last = len - 32;
	for (at = 0; at < last; at += 32)
		__builtin_memcpy(to + at, from + at, 32);
	__builtin_memcpy(to + last, from + last, 32);
}

/**
 * nlmmap_copy - the same for any length
 * @to: 8-byte aligned
 * @from: any alignment
 * @len: bytes; what is written is rounded up to a multiple of 8
 */
static __always_inline void nlmmap_copy(u8 *to, const u8 *from, u32 len)
{
	if (likely(len >= NLMMAP_FAST_MIN && len <= NLMMAP_FAST_MAX)) {
		nlmmap_copy_fast(to, from, len);
		return;
	}
	if (unlikely(!len))
		return;
	__builtin_memset(to + ((len - 1) & ~7u), 0, 8);
	memcpy(to, from, len);
}

/* In NMI the lock may be held by what the NMI interrupted: then the record is
 * lost, and counted.
 */
static __always_inline bool nlmmap_ring_lock(struct nlmmap_ring *ring)
{
	if (unlikely(in_nmi())) {
		if (nlmmap_trylock(&ring->lock))
			return true;
		nlmmap_ring_miss(ring);
		return false;
	}
	nlmmap_lock(&ring->lock);
	return true;
}

/* What a record takes in the ring. */
static __always_inline u64 nlmmap_record_bytes(const struct nlmmap_ring *ring, u32 len)
{
	return ALIGN((u64)ring->header_bytes + len, 8);
}

/**
 * nlmmap_ring_start - find room and write a record's header
 * @ring: locked
 * @group: the group's number
 * @flags: NLMMAP_RECORD_*
 * @len: bytes of the datagram, at most
 * @bytes: nlmmap_record_bytes() of that
 *
 * Nothing is visible before nlmmap_ring_finish(), and starting again before
 * that simply starts over.
 *
 * Return: the record, or NULL if there is no room; the loss is counted then.
 */
static __always_inline struct nlmmap_record *
nlmmap_ring_start(struct nlmmap_ring *ring, u16 group, u16 flags, u32 len, u64 bytes)
{
	u64 position = ring->position;
	struct nlmmap_record *record;

	if (unlikely(position + bytes > READ_ONCE(ring->limit))) {
		int extra = nlmmap_ring_make_room(ring, bytes);

		if (unlikely(extra < 0)) {
			nlmmap_ring_lose(ring, 1);
			return NULL;
		}
		flags |= (u16)extra;
	}
	record = (struct nlmmap_record *)(ring->data + (position & (ring->data_bytes - 1)));
	record->len = len;
	record->group = group;
	record->flags = flags;
	record->portid = 0;
	record->nsid = -1;
	record->seq = ring->seq + 1;
	if (unlikely(nlmmap_ring_stamps(ring)))
		nlmmap_ring_stamp(ring, record);
	return record;
}

/* Makes visible what was started, up to @position; true if sleepers are to be
 * woken.
 */
static __always_inline bool nlmmap_ring_reach(struct nlmmap_ring *ring, u64 position)
{
	ring->seq++;
	ring->position = position;
	/* Pairs with the load-acquire of producer.position in the reader:
	 * Ring::open() (libnlmmap), or nlmmap_plain_drain() in the kernel.
	 */
	smp_store_release(&ring->producer->position, position);
	return position >= ring->wake_at;
}

/**
 * nlmmap_ring_finish - publish the record that was started
 * @ring: locked, nlmmap_ring_start() has found room
 * @bytes: what it takes, no more than nlmmap_ring_start() was told
 */
static __always_inline void nlmmap_ring_finish(struct nlmmap_ring *ring, u64 bytes)
{
	if (unlikely(nlmmap_ring_reach(ring, ring->position + bytes)))
		nlmmap_ring_wake(ring);
}

/* Exactly one message, as long as it says itself. */
static __always_inline u16 nlmmap_datagram_flags(const void *datagram, u32 len)
{
	u32 nlmsg_len;

	if (unlikely(len < sizeof(struct nlmsghdr)))
		return 0;
	__builtin_memcpy(&nlmsg_len, datagram, sizeof(nlmsg_len));
	return nlmsg_len == len ? NLMMAP_RECORD_SINGLE : 0;
}

/**
 * nlmmap_ring_publish_locked - copy one datagram in
 * @ring: locked
 * @group: the group's number
 * @flags: NLMMAP_RECORD_*
 * @datagram: stable memory
 * @len: bytes; the group's limit was tested
 *
 * Return: false if it was lost; that is counted.
 */
static __always_inline bool
nlmmap_ring_publish_locked(struct nlmmap_ring *ring, u16 group, u16 flags,
			   const void *datagram, u32 len)
{
	u64 bytes = nlmmap_record_bytes(ring, len);
	struct nlmmap_record *record;

	record = nlmmap_ring_start(ring, group, flags, len, bytes);
	if (unlikely(!record))
		return false;
	nlmmap_copy((u8 *)record + ring->header_bytes, (const u8 *)datagram, len);
	nlmmap_ring_finish(ring, bytes);
	return true;
}

/*
 * Fast paths
 *
 * Most messages meet one reader, a free lock, room, and nothing unusual. What
 * publishing does for those makes no call, so that nothing is spilled; all else
 * is found before anything is written, and goes the long way from the start. A
 * lock that is not free goes there, too, which makes the test for NMI needless.
 */

/**
 * nlmmap_ring_start_fast - nlmmap_ring_start() for one well-formed message
 * @ring: locked
 * @group: the group's number
 * @len: bytes of the datagram, at most
 * @record: out: the record, right before the datagram; len is not written
 *
 * Return: false: nothing was done, go the long way.
 */
static __always_inline bool
nlmmap_ring_start_fast(struct nlmmap_ring *ring, u16 group, u32 len,
		       struct nlmmap_record **record)
{
	u64 position = ring->position;
	u64 end = position + ALIGN(sizeof(struct nlmmap_record) + (u64)len, 8);
	struct nlmmap_record *at;

	if (unlikely(end > READ_ONCE(ring->limit) || nlmmap_ring_stamps(ring)))
		return false;
	at = (struct nlmmap_record *)(ring->data + (position & (ring->data_bytes - 1)));
	at->group = group;
	at->flags = NLMMAP_RECORD_SINGLE;
	at->portid = 0;
	at->nsid = -1;
	at->seq = ring->seq + 1;
	*record = at;
	return true;
}

#ifdef __cplusplus
}
#endif

#endif /* _NET_NLMMAP_RING_H */
