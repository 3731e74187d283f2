// SPDX-License-Identifier: GPL-2.0
/*
 * Publishing: the path that every event takes
 *
 * Locks: a group's members are found under RCU, for which interrupts off are a
 * read side, and each ring is filled under its own lock. nlmmap_begin(), inline
 * in <net/nlmmap.h>, returns with the lock of the first ring that has room held
 * and interrupts off; nlmmap_end() takes the other members' locks one by one
 * while it holds that one. Members are in the order of their rings' addresses, which makes that an
 * order of locks over all groups. It is also why a ring found full in
 * nlmmap_begin() is not tried again.
 */
#include <linux/export.h>
#include <linux/percpu.h>

#include "group.h"
#include "ring.h"

/* What nlmmap_publish() cannot do without a call. Interrupts are off for one
 * ring at a time, however many there are.
 */
static noinline int nlmmap_publish_slow(const struct nlmmap_group *group,
					const void *datagram, u32 len)
{
	u16 flags = nlmmap_datagram_flags(datagram, len);
	const struct nlmmap_members *members;
	struct nlmmap_ring *ring;
	unsigned long irq_flags;
	int delivered = 0;
	u32 i;

	rcu_read_lock();
	members = rcu_dereference(group->members);
	for (i = 0; i < members->count; i++) {
		ring = members->rings[i];
		local_irq_save(irq_flags);
		if (likely(nlmmap_ring_lock(ring))) {
			delivered += nlmmap_ring_publish_locked(ring, group->id, flags,
								datagram, len);
			nlmmap_unlock(&ring->lock);
		}
		local_irq_restore(irq_flags);
	}
	rcu_read_unlock();
	return delivered;
}

/* The end of nlmmap_publish() where somebody sleeps. */
static noinline int nlmmap_publish_waking(struct nlmmap_ring *ring,
					  unsigned long irq_flags)
	__releases(&ring->lock)
{
	nlmmap_ring_wake(ring);
	nlmmap_unlock(&ring->lock);
	local_irq_restore(irq_flags);
	return 1;
}

/**
 * nlmmap_publish - copy a finished datagram to everybody in a group
 * @group: registered
 * @datagram: one or more messages with their struct nlmsghdr; stable memory
 * @len: bytes, 1 to the group's max_bytes
 *
 * Context: any, NMI too; see the top of <net/nlmmap.h>. Does not sleep, does
 * not allocate. Interrupts are off while one ring is written.
 * Return: the number of rings that took it (all plain listeners together are
 * one); 0 if nobody listens or all were full, which the readers are told;
 * -EMSGSIZE if @len is 0 or more than the group's max_bytes: then nobody
 * missed anything.
 */
int nlmmap_publish(struct nlmmap_group *group, const void *datagram, u32 len)
{
	const struct nlmmap_members *members;
	struct nlmmap_record *record;
	struct nlmmap_ring *ring;
	unsigned long irq_flags;
	u64 end;

	if (unlikely(len - 1 >= group->max_bytes))
		return -EMSGSIZE;

	local_irq_save(irq_flags);
	this_cpu_inc(*group->published);
	members = rcu_dereference_sched(group->members);
	if (unlikely(members->count != 1))
		goto slow;
	if (unlikely(len - NLMMAP_FAST_MIN > NLMMAP_FAST_MAX - NLMMAP_FAST_MIN ||
		     nlmmap_datagram_flags(datagram, len) != NLMMAP_RECORD_SINGLE))
		goto slow;
	ring = members->rings[0];
	if (unlikely(!nlmmap_trylock(&ring->lock)))
		goto slow;
	if (unlikely(!nlmmap_ring_start_fast(ring, group->id, len, &record)))
		goto slow_unlock;
	record->len = len;
	nlmmap_copy_fast((u8 *)(record + 1), datagram, len);
	end = ring->position + ALIGN(sizeof(*record) + (u64)len, 8);
	if (unlikely(nlmmap_ring_reach(ring, end)))
		return nlmmap_publish_waking(ring, irq_flags);
	nlmmap_unlock(&ring->lock);
	local_irq_restore(irq_flags);
	return 1;

slow_unlock:
	nlmmap_unlock(&ring->lock);
slow:
	local_irq_restore(irq_flags);
	return nlmmap_publish_slow(group, datagram, len);
}
EXPORT_SYMBOL_GPL(nlmmap_publish);

/* The rare ends of the inline functions in <net/nlmmap.h>. */

/**
 * __nlmmap_begin_slow - start a message in the first ring that has room
 * @group: for its number
 * @members: the rings
 * @max_bytes: of the message
 *
 * Context: interrupts off. The ring's lock is held on success.
 * Return: where the message goes, and the index of the member after its ring.
 */
struct nlmmap_started __nlmmap_begin_slow(const struct nlmmap_group *group,
					  const struct nlmmap_members *members,
					  u32 max_bytes)
{
	struct nlmmap_started started = { };
	struct nlmmap_record *record;
	struct nlmmap_ring *ring;
	u32 i;

	for (i = 0; i < members->count; i++) {
		ring = members->rings[i];
		if (unlikely(!nlmmap_ring_lock(ring)))
			continue;
		record = nlmmap_ring_start(ring, group->id, NLMMAP_RECORD_SINGLE, max_bytes,
					   nlmmap_record_bytes(ring, max_bytes));
		if (likely(record)) {
			/* For sparse: see nlmmap_begin(). */
			__release(&ring->lock);
			started.nlh = (void *)record + ring->header_bytes;
			started.next = i + 1;
			break;
		}
		nlmmap_unlock(&ring->lock);
	}
	return started;
}
EXPORT_SYMBOL_GPL(__nlmmap_begin_slow);

/**
 * __nlmmap_end_others - the members after the one that was filled
 * @members: all of them
 * @next: the first one to copy to
 * @filled: the ring that was filled, whose lock is held
 * @nlh: the message in it
 * @len: bytes; 0: the message is lost, and so say these rings
 *
 * Context: interrupts off.
 * Return: how many took it.
 */
int __nlmmap_end_others(const struct nlmmap_members *members, u32 next,
			const struct nlmmap_ring *filled,
			const struct nlmsghdr *nlh, u32 len)
{
	const struct nlmmap_record *record = (void *)nlh - filled->header_bytes;
	struct nlmmap_ring *ring;
	int delivered = 0;

	for (; next < members->count; next++) {
		ring = members->rings[next];
		if (unlikely(in_nmi())) {
			if (!nlmmap_ring_lock(ring))
				continue;
		} else {
			/* In the order of locks; see the top. */
			nlmmap_lock_second(&ring->lock);
		}
		if (len)
			delivered += nlmmap_ring_publish_locked(ring, record->group,
								NLMMAP_RECORD_SINGLE,
								nlh, len);
		else
			nlmmap_ring_lose(ring, 1);
		nlmmap_unlock(&ring->lock);
	}
	return delivered;
}
EXPORT_SYMBOL_GPL(__nlmmap_end_others);
