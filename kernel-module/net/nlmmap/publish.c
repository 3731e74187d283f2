// SPDX-License-Identifier: GPL-2.0
/*
 * Publishing: the path that every event takes
 *
 * Locks: a group's members are found under RCU, for which interrupts off are a
 * read side, and each ring is filled under its own lock. nlmmap_begin() returns
 * with the lock of the first ring that has room held and interrupts off;
 * nlmmap_end() takes the other members' locks one by one while it holds that
 * one. Members are in the order of their rings' addresses, which makes that an
 * order of locks over all groups. It is also why a ring found full in
 * nlmmap_begin() is not tried again.
 */
#include <linux/export.h>
#include <linux/percpu.h>
#include <linux/printk.h>

#include "group.h"
#include "ring.h"

static __always_inline bool
nlmmap_publish_one(struct nlmmap_ring *ring, u16 group, u16 flags,
		   const void *datagram, u32 len)
{
	bool delivered;

	if (unlikely(!nlmmap_ring_lock(ring)))
		return false;
	delivered = nlmmap_ring_publish_locked(ring, group, flags, datagram, len);
	raw_spin_unlock(&ring->lock);
	return delivered;
}

/* Interrupts are off for one ring at a time, however many there are. */
static noinline int nlmmap_publish_many(const struct nlmmap_group *group,
					u16 flags, const void *datagram, u32 len)
{
	const struct nlmmap_members *members;
	unsigned long irq_flags;
	int delivered = 0;
	u32 i;

	rcu_read_lock();
	members = rcu_dereference(group->members);
	for (i = 0; i < members->count; i++) {
		local_irq_save(irq_flags);
		delivered += nlmmap_publish_one(members->rings[i], group->id, flags,
						datagram, len);
		local_irq_restore(irq_flags);
	}
	rcu_read_unlock();
	return delivered;
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
	unsigned long irq_flags;
	int delivered = 0;
	u16 flags;

	if (unlikely(len - 1 >= group->max_bytes))
		return -EMSGSIZE;
	flags = nlmmap_datagram_flags(datagram, len);

	local_irq_save(irq_flags);
	__this_cpu_inc(*group->published);
	members = rcu_dereference_sched(group->members);
	if (likely(members->count == 1)) {
		delivered = nlmmap_publish_one(members->rings[0], group->id, flags,
					       datagram, len);
		local_irq_restore(irq_flags);
		return delivered;
	}
	local_irq_restore(irq_flags);
	return nlmmap_publish_many(group, flags, datagram, len);
}
EXPORT_SYMBOL_GPL(nlmmap_publish);

/**
 * nlmmap_begin - start a message that is filled in place
 * @group: registered
 * @writer: on the caller's stack; valid if this returns true
 * @type: nlmsg_type, NLMMAP_MSG_PRODUCER_MIN or more
 * @max_bytes: room for the message, its struct nlmsghdr included;
 *	NLMSG_HDRLEN to the group's max_bytes. A ring that has less loses the
 *	message, even if it turns out shorter.
 *
 * If it returns true, interrupts are off and a ring's lock is held until
 * nlmmap_end(), which must follow: fill with the inline functions of
 * <net/nlmmap.h>, do not sleep, do not publish in between, take no long.
 *
 * Context: any, NMI too; see the top of <net/nlmmap.h>.
 * Return: true if there is something to fill; false if nobody listens, no
 * reader has room (which the readers are told), or @max_bytes is out of range
 * (a bug in the caller, named once in the log).
 */
bool nlmmap_begin(struct nlmmap_group *group, struct nlmmap_writer *writer,
		  u16 type, u32 max_bytes)
{
	struct nlmmap_members *members;
	struct nlmmap_record *record;
	struct nlmmap_ring *ring;
	unsigned long irq_flags;
	struct nlmsghdr *nlh;
	u32 i;

	if (unlikely(max_bytes - NLMSG_HDRLEN > group->max_bytes - NLMSG_HDRLEN)) {
		pr_warn_once("group %s: a message of %u bytes was begun, the limit is %u\n",
			     group->name, max_bytes, group->max_bytes);
		return false;
	}

	local_irq_save(irq_flags);
	__this_cpu_inc(*group->published);
	members = rcu_dereference_sched(group->members);
	for (i = 0; i < members->count; i++) {
		ring = members->rings[i];
		if (unlikely(!nlmmap_ring_lock(ring)))
			continue;
		record = nlmmap_ring_start(ring, group->id, NLMMAP_RECORD_SINGLE, max_bytes,
					   nlmmap_record_bytes(ring, max_bytes));
		if (likely(record))
			goto fill;
		raw_spin_unlock(&ring->lock);
	}
	local_irq_restore(irq_flags);
	return false;

fill:
	/* For sparse, which cannot follow a lock into nlmmap_end(). */
	__release(&ring->lock);
	nlh = (void *)record + ring->header_bytes;
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = 0;
	nlh->nlmsg_seq = 0;
	nlh->nlmsg_pid = 0;
	writer->at = (u8 *)(nlh + 1);
	writer->end = (u8 *)nlh + max_bytes;
	writer->overflow = false;
	writer->index = i;
	writer->group = group;
	writer->members = members;
	writer->ring = ring;
	writer->nlh = nlh;
	writer->irq_flags = irq_flags;
	return true;
}
EXPORT_SYMBOL_GPL(nlmmap_begin);

/* The members after the one that was filled: copy it, or lose it with it. */
static noinline int nlmmap_end_others(const struct nlmmap_writer *writer, u32 len)
{
	const struct nlmmap_members *members = writer->members;
	struct nlmmap_ring *ring;
	int delivered = 0;
	u32 i;

	for (i = writer->index + 1; i < members->count; i++) {
		ring = members->rings[i];
		if (unlikely(!nlmmap_ring_lock_second(ring)))
			continue;
		if (len)
			delivered += nlmmap_ring_publish_locked(ring, writer->group->id,
								NLMMAP_RECORD_SINGLE,
								writer->nlh, len);
		else
			nlmmap_ring_lose(ring, 1);
		raw_spin_unlock(&ring->lock);
	}
	return delivered;
}

static noinline int nlmmap_end_overflow(const struct nlmmap_writer *writer)
{
	nlmmap_ring_lose(writer->ring, 1);
	nlmmap_end_others(writer, 0);
	return -EMSGSIZE;
}

/**
 * nlmmap_end - publish the message that was filled
 * @writer: nlmmap_begin() returned true for it
 *
 * Context: as it was at nlmmap_begin(), on the same CPU; afterwards interrupts
 * are as they were before that.
 * Return: the number of rings that took it, 1 at least; -EMSGSIZE if something
 * did not fit, and then every reader is told that it lost a message.
 */
int nlmmap_end(struct nlmmap_writer *writer)
{
	unsigned long irq_flags = writer->irq_flags;
	struct nlmmap_ring *ring = writer->ring;
	struct nlmsghdr *nlh = writer->nlh;
	u32 len = writer->at - (u8 *)nlh;
	struct nlmmap_record *record;
	int delivered = 1;

	if (unlikely(writer->overflow)) {
		delivered = nlmmap_end_overflow(writer);
		goto unlock;
	}
	/* Padding: the message is a multiple of 4, the record of 8. */
	if (len & 4)
		*(u32 *)writer->at = 0;
	record = (void *)nlh - ring->header_bytes;
	record->len = len;
	nlh->nlmsg_len = len;
	nlmmap_ring_finish(ring, nlmmap_record_bytes(ring, len));
	/* What was published stays as it is: only who holds the lock writes,
	 * even if the reader gives the record back at once.
	 */
	if (unlikely(writer->index + 1 < writer->members->count))
		delivered += nlmmap_end_others(writer, len);
unlock:
	__acquire(&ring->lock);
	raw_spin_unlock(&ring->lock);
	local_irq_restore(irq_flags);
	return delivered;
}
EXPORT_SYMBOL_GPL(nlmmap_end);
