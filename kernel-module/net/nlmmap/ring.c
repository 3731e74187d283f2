// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The ring's slow paths: room, loss, sleepers. See <net/nlmmap_ring.h>.
 */
#ifdef __KERNEL__
#include <linux/export.h>
#include <linux/ktime.h>
#endif

#include "ring.h"

/* The contract, as it is mapped. tests/unit asserts the same in user space. */
static_assert(sizeof(struct nlmmap_record) == 24, "header of a record");
static_assert(offsetof(struct nlmmap_record, seq) == 16, "seq in a record");
static_assert(offsetof(struct nlmmap_consumer, watermark) == 8, "consumer page");
static_assert(offsetof(struct nlmmap_consumer, lost_seen) == 16, "consumer page");
static_assert(offsetof(struct nlmmap_producer, features) == 16, "producer page");
static_assert(offsetof(struct nlmmap_producer, position) == 64, "producer page");
static_assert(offsetof(struct nlmmap_producer, lost) == 72, "producer page");
static_assert(offsetof(struct nlmmap_producer, state) == 80, "producer page");
static_assert(sizeof(struct nlmmap_credentials) == 16, "credentials");
/* Rings that have notices have no credentials. */
static_assert(sizeof(struct nlmmap_record) + sizeof(__u64) + sizeof(struct nlmsghdr) +
	      sizeof(struct nlattr) + sizeof(__u32) <= NLMMAP_NOTICE_BYTES,
	      "room for a notice");

/**
 * nlmmap_ring_init - make a ring over memory
 * @ring: what to fill
 * @consumer_page: zeroed, a page; user space may write it from now on
 * @producer_page: zeroed, a page
 * @data: zeroed, @data_bytes mapped twice in a row
 * @data_bytes: a power of two, at least a page
 * @setup_flags: NLMMAP_SETUP_*, all of them known
 * @ops: callbacks
 *
 * Context: any; nobody else sees @ring yet.
 */
void nlmmap_ring_init(struct nlmmap_ring *ring, void *consumer_page,
		      void *producer_page, void *data, u64 data_bytes,
		      u32 setup_flags, const struct nlmmap_ring_ops *ops)
{
	struct nlmmap_producer *producer = (struct nlmmap_producer *)producer_page;

	memset(ring, 0, sizeof(*ring));
	raw_spin_lock_init(&ring->lock);
	ring->data = (u8 *)data;
	ring->data_bytes = data_bytes;
	ring->consumer = (struct nlmmap_consumer *)consumer_page;
	ring->producer = producer;
	ring->ops = ops;
	ring->header_bytes = sizeof(struct nlmmap_record);
	if (setup_flags & NLMMAP_SETUP_TIME)
		ring->header_bytes += sizeof(__u64);
	if (setup_flags & NLMMAP_SETUP_CREDENTIALS)
		ring->header_bytes += sizeof(struct nlmmap_credentials);
	ring->features = setup_flags;
	ring->wake_at = NLMMAP_WAKE_NEVER;
	atomic_set(&ring->missed, 0);

	producer->abi_version = NLMMAP_ABI_VERSION;
	producer->header_bytes = ring->header_bytes;
	producer->data_bytes = data_bytes;
	producer->features = setup_flags;
}

/* The only place where the consumer's position is read: once, and taken only
 * as a step forward over what was produced.
 */
static u64 nlmmap_ring_accept(struct nlmmap_ring *ring)
{
	/* Pairs with the store-release of consumer.position in
	 * Ring::advance_to() (libnlmmap): the reader is done with what is
	 * overwritten next.
	 */
	u64 position = smp_load_acquire(&ring->consumer->position);

	if (likely(position - ring->consumed <= ring->position - ring->consumed)) {
		ring->consumed = position;
	} else if (position != ring->forged_position || !ring->forged) {
		ring->forged_position = position;
		ring->forged++;
	}
	return ring->consumed;
}

/**
 * nlmmap_ring_wake - wake whoever armed the ring
 * @ring: locked
 */
noinline void nlmmap_ring_wake(struct nlmmap_ring *ring)
{
	WRITE_ONCE(ring->wake_at, NLMMAP_WAKE_NEVER);
	ring->wakeups++;
	ring->ops->wake(ring);
}
EXPORT_SYMBOL_GPL(nlmmap_ring_wake);

/**
 * nlmmap_ring_lose - count records that will never be in the ring
 * @ring: locked
 * @count: how many
 *
 * The next record takes the slow path and says that something is missing.
 */
noinline void nlmmap_ring_lose(struct nlmmap_ring *ring, u32 count)
{
	ring->seq += count;
	ring->lost += count;
	ring->lost_consumed = nlmmap_ring_accept(ring);
	ring->loss_pending = true;
	WRITE_ONCE(ring->limit, 0);
	/* Told without a barrier: who needs it exactly asks the kernel. */
	WRITE_ONCE(ring->producer->lost, ring->lost);
	ring->ops->lost(ring, count);
	/* A sleeper under its watermark must not sleep through loss. */
	if (ring->wake_at != NLMMAP_WAKE_NEVER)
		nlmmap_ring_wake(ring);
}
EXPORT_SYMBOL_GPL(nlmmap_ring_lose);

/**
 * nlmmap_ring_miss - count one record lost without the lock
 * @ring: its lock is held by somebody else
 *
 * Context: NMI.
 */
void nlmmap_ring_miss(struct nlmmap_ring *ring)
{
	/* A full barrier. Pairs with the atomic_xchg() in
	 * nlmmap_ring_fold_missed(): who overwrites the 0 below has not yet
	 * looked at missed; and with the smp_mb() in nlmmap_ring_poll(): either
	 * that sees missed or this sees wake_at.
	 */
	atomic_inc_return(&ring->missed);
	WRITE_ONCE(ring->limit, 0);
	if (READ_ONCE(ring->wake_at) != NLMMAP_WAKE_NEVER)
		ring->ops->wake(ring);
}
EXPORT_SYMBOL_GPL(nlmmap_ring_miss);

static void nlmmap_ring_fold_missed(struct nlmmap_ring *ring)
{
	/* A full barrier, after the limit was written. Pairs with the one in
	 * nlmmap_ring_miss().
	 */
	int missed = atomic_xchg(&ring->missed, 0);

	if (unlikely(missed))
		nlmmap_ring_lose(ring, (u32)missed);
}

/**
 * nlmmap_ring_has_room - would a record fit? Counts nothing if not
 * @ring: locked
 * @bytes: of the whole record
 *
 * Return: true: nlmmap_ring_start() will find room, until the next record.
 */
bool nlmmap_ring_has_room(struct nlmmap_ring *ring, u64 bytes)
{
	return ring->position + bytes - nlmmap_ring_accept(ring) <=
	       ring->data_bytes - ring->notice_bytes;
}

/**
 * nlmmap_ring_make_room - look whether a record fits
 * @ring: locked
 * @bytes: of the whole record
 *
 * The cached limit was reached, or a loss has to be told. The limit goes no
 * further than the high-water mark, which is how that is measured without a
 * look at the consumer's page for each record.
 *
 * Return: flags for the record (NLMMAP_RECORD_LOST or 0), or -ENOBUFS.
 */
noinline int nlmmap_ring_make_room(struct nlmmap_ring *ring, u64 bytes)
{
	u64 room = ring->data_bytes - ring->notice_bytes;
	u64 consumed = nlmmap_ring_accept(ring);
	u64 waiting = ring->position + bytes - consumed;
	bool fits = waiting <= room;
	int flags;

	if (fits && waiting > ring->high_water)
		ring->high_water = ALIGN(waiting, ring->data_bytes / 16);
	WRITE_ONCE(ring->limit,
		   consumed + (ring->high_water < room ? ring->high_water : room));
	nlmmap_ring_fold_missed(ring);
	if (!fits)
		return -ENOBUFS;
	flags = ring->loss_pending ? NLMMAP_RECORD_LOST : 0;
	ring->loss_pending = false;
	return flags;
}
EXPORT_SYMBOL_GPL(nlmmap_ring_make_room);

/**
 * nlmmap_ring_poll - is the ring readable? If not, arm it
 * @ring: not locked
 *
 * Readable: as many bytes wait as the watermark says; or a notice does; or
 * something was lost and the reader neither took a step since nor says in its
 * page that it knows. Nothing is forgotten by being told: epoll asks several
 * times for one event, and several threads may ask.
 *
 * Context: any but NMI.
 * Return: true if readable; else the next publisher that makes it so wakes.
 */
bool nlmmap_ring_poll(struct nlmmap_ring *ring)
{
	u64 consumed, wake_at;
	unsigned long flags;
	u32 watermark;
	bool readable;

	raw_spin_lock_irqsave(&ring->lock, flags);
	consumed = nlmmap_ring_accept(ring);
	watermark = READ_ONCE(ring->consumer->watermark);
	if (watermark < 1)
		watermark = 1;
	else if (watermark > ring->data_bytes / 2)
		watermark = (u32)(ring->data_bytes / 2);

	/* The earliest wins: another thread may have armed for less. */
	wake_at = consumed + watermark;
	if (ring->position < wake_at && wake_at < ring->wake_at)
		WRITE_ONCE(ring->wake_at, wake_at);
	/* Pairs with the atomic_inc_return() in nlmmap_ring_miss(). */
	smp_mb();
	if (unlikely(atomic_read(&ring->missed))) {
		nlmmap_ring_fold_missed(ring);
		/* It looked again: a step before that loss is none after it. */
		consumed = ring->consumed;
	}
	if (unlikely(ring->lost != ring->lost_told) &&
	    (consumed != ring->lost_consumed ||
	     READ_ONCE(ring->consumer->lost_seen) == ring->lost))
		ring->lost_told = ring->lost;
	readable = ring->position - consumed >= watermark ||
		   consumed < ring->notice_end ||
		   ring->lost != ring->lost_told;
	raw_spin_unlock_irqrestore(&ring->lock, flags);
	return readable;
}

/**
 * nlmmap_ring_keep_notice - set room aside for one notice
 * @ring: not locked
 *
 * Return: 0; -ENOSPC if a quarter of the ring is set aside already; -EAGAIN if
 * unread records stand where the room should be.
 */
int nlmmap_ring_keep_notice(struct nlmmap_ring *ring)
{
	unsigned long flags;
	u64 waiting, kept;
	int err = 0;

	raw_spin_lock_irqsave(&ring->lock, flags);
	kept = (u64)ring->notice_bytes + NLMMAP_NOTICE_BYTES;
	waiting = ring->position - nlmmap_ring_accept(ring);
	if (kept > ring->data_bytes / 4) {
		err = -ENOSPC;
	} else if (waiting > ring->data_bytes - kept) {
		err = -EAGAIN;
	} else {
		ring->notice_bytes = (u32)kept;
		WRITE_ONCE(ring->limit, 0);
	}
	raw_spin_unlock_irqrestore(&ring->lock, flags);
	return err;
}

/**
 * nlmmap_ring_drop_notice - give back what nlmmap_ring_keep_notice() set aside
 * @ring: not locked
 */
void nlmmap_ring_drop_notice(struct nlmmap_ring *ring)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ring->lock, flags);
	ring->notice_bytes -= NLMMAP_NOTICE_BYTES;
	raw_spin_unlock_irqrestore(&ring->lock, flags);
}

/**
 * nlmmap_ring_give_notice - tell the reader that a group is gone
 * @ring: not locked; room was set aside
 * @group: the group's number
 */
void nlmmap_ring_give_notice(struct nlmmap_ring *ring, u16 group)
{
	struct {
		struct nlmsghdr nlh;
		struct nlattr attribute;
		u32 id;
	} notice = {
		.nlh = {
			.nlmsg_len = sizeof(notice),
			.nlmsg_type = NLMMAP_MSG_GROUP_DELETED,
			.nlmsg_flags = 0,
			.nlmsg_seq = 0,
			.nlmsg_pid = 0,
		},
		.attribute = {
			.nla_len = sizeof(struct nlattr) + sizeof(u32),
			.nla_type = NLMMAP_A_GROUP_ID,
		},
		.id = group,
	};
	unsigned long flags;

	raw_spin_lock_irqsave(&ring->lock, flags);
	ring->notice_bytes -= NLMMAP_NOTICE_BYTES;
	WRITE_ONCE(ring->limit, 0);
	nlmmap_ring_publish_locked(ring, group, NLMMAP_RECORD_SINGLE | NLMMAP_RECORD_NOTICE,
				   &notice, sizeof(notice));
	/* Whatever the watermark: nothing more may come. */
	ring->notice_end = ring->position;
	if (ring->wake_at != NLMMAP_WAKE_NEVER)
		nlmmap_ring_wake(ring);
	raw_spin_unlock_irqrestore(&ring->lock, flags);
}

/**
 * nlmmap_ring_count - copy the counters
 * @ring: not locked
 * @counters: where to
 */
void nlmmap_ring_count(struct nlmmap_ring *ring,
		       struct nlmmap_ring_counters *counters)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ring->lock, flags);
	nlmmap_ring_fold_missed(ring);
	counters->consumed = nlmmap_ring_accept(ring);
	counters->produced = ring->position;
	counters->seq = ring->seq;
	counters->lost = ring->lost;
	counters->high_water = ring->high_water;
	counters->wakeups = ring->wakeups;
	counters->forged = ring->forged;
	raw_spin_unlock_irqrestore(&ring->lock, flags);
}

/**
 * nlmmap_ring_stamp - write the optional fields after a record's header
 * @ring: was set up with at least one of them
 * @record: right after its header was written
 *
 * The credentials are the kernel's; who knows others writes them afterwards.
 */
noinline void nlmmap_ring_stamp(const struct nlmmap_ring *ring, struct nlmmap_record *record)
{
	u8 *field = (u8 *)(record + 1);

	if (ring->features & NLMMAP_FEATURE_TIME) {
		u64 now = ktime_get_boot_fast_ns();

		__builtin_memcpy(field, &now, sizeof(now));
		field += sizeof(now);
	}
	if (ring->features & NLMMAP_FEATURE_CREDENTIALS)
		__builtin_memset(field, 0, sizeof(struct nlmmap_credentials));
}
EXPORT_SYMBOL_GPL(nlmmap_ring_stamp);
