/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nlmmap: publishing to groups, for other modules
 *
 * A producer registers a group once, publishes datagrams to it from wherever
 * its events happen, and unregisters it when no publisher can run any more:
 *
 *	group = nlmmap_group_register(net, &config);
 *	...
 *	nlmmap_publish(group, datagram, len);		  copied in, or
 *
 *	if (nlmmap_begin(group, &writer, TYPE, max_len)) { filled in place
 *		nlmmap_put_u32(&writer, ATTR_PID, pid);
 *		nlmmap_put(&writer, ATTR_COMM, comm, sizeof(comm));
 *		nlmmap_end(&writer);
 *	}
 *
 * A reader hears a datagram whole or not at all. A ring without room loses the
 * newest and counts it; nothing here ever waits for a reader.
 *
 * Contexts: publishing may be done from process, softirq and hardirq context
 * and with the scheduler's locks held, wherever RCU is watching. From NMI it may
 * be done as well; a ring whose lock is held at that moment loses the datagram
 * and counts it.
 * Publishing to a group from within itself (from a probe on a function that
 * publishing calls) deadlocks, as with any raw spinlock.
 */
#ifndef _NET_NLMMAP_H
#define _NET_NLMMAP_H

#include <linux/irqflags.h>
#include <linux/list.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/types.h>
#include <net/nlmmap_ring.h>
#include <uapi/linux/netlink.h>
#include <uapi/linux/nlmmap.h>

struct net;
struct nlmmap_plain;

/**
 * struct nlmmap_members - the rings that a group's messages go to
 * @rcu: frees it
 * @count: of @rings
 * @rings: in the order of their addresses, which is the order of locking
 *
 * Never changed once publishers can see it; replaced.
 */
struct nlmmap_members {
	struct rcu_head rcu;
	u32 count;
	struct nlmmap_ring *rings[];
};

/**
 * struct nlmmap_group - a group; nothing in it is a producer's to touch
 * @members: never NULL; RCU, where interrupts off count as the read side
 * @published: datagrams, for each CPU
 * @max_bytes: largest datagram
 * @id: its number
 * @flags: NLMMAP_GROUP_*
 * @ring_count: members that are sockets' rings
 * @node: in nlmmap_groups
 * @net: its network namespace; NULL once that is gone. Not referenced.
 * @plain: serves the listeners without a ring; NULL if there are none
 * @last_bind: jiffies when a plain listener last asked to join
 * @bound: one ever did, and was let
 * @refused: bytes that nlmmap_begin() was asked for and are out of range
 * @name: unique in @net
 *
 * The first four are what publishing looks at. What changes, @members and
 * @published apart, is under nlmmap_group_mutex.
 */
struct nlmmap_group {
	struct nlmmap_members __rcu *members;
	u64 __percpu *published;
	u32 max_bytes;
	u16 id;
	u32 flags;
	u32 ring_count;
	struct list_head node;
	struct net *net;
	struct nlmmap_plain *plain;
	unsigned long last_bind;
	bool bound;
	u32 refused;
	char name[NLMMAP_GROUP_NAME_BYTES];
};

/**
 * struct nlmmap_group_config - what a producer says of its group
 * @name: unique in the network namespace, 1 to NLMMAP_GROUP_NAME_BYTES - 1
 *	characters of a-z, 0-9, '_', '-' and '.'
 * @flags: NLMMAP_GROUP_*
 * @max_bytes: the largest datagram, its struct nlmsghdr included;
 *	NLMSG_HDRLEN to NLMMAP_MESSAGE_MAX. A ring must have four times that to
 *	join, so do not say more than is true.
 */
struct nlmmap_group_config {
	const char *name;
	u32 flags;
	u32 max_bytes;
};

struct nlmmap_group *nlmmap_group_register(struct net *net,
					   const struct nlmmap_group_config *config);
void nlmmap_group_unregister(struct nlmmap_group *group);
u16 nlmmap_group_id(const struct nlmmap_group *group);
bool nlmmap_group_has_listeners(const struct nlmmap_group *group);

int nlmmap_publish(struct nlmmap_group *group, const void *datagram, u32 len);

/**
 * struct nlmmap_writer - a message that is being filled in place
 * @at: where the next byte goes, 4-byte aligned
 * @end: where the room that was asked for ends
 * @overflow: not 0 if something did not fit; nlmmap_end() will answer -EMSGSIZE
 *
 * Lives on the producer's stack from nlmmap_begin() to nlmmap_end(), and in
 * registers if nobody else gets its address: hence no padding, which a kernel
 * that initialises the stack would have to clear. The members after @overflow
 * are nlmmap's own.
 */
struct nlmmap_writer {
	u8 *at;
	u8 *end;
	u32 overflow;
	/* private: */
	u32 next;
	const struct nlmmap_members *others;
	struct nlmmap_ring *ring;
	struct nlmsghdr *nlh;
	unsigned long irq_flags;
};

/* A message that was started, and which member comes after its ring; 0: none
 * was. Returned by value, so that no writer has to be in memory.
 */
struct nlmmap_started {
	struct nlmsghdr *nlh;
	u64 next;
};

struct nlmmap_started __nlmmap_begin_slow(const struct nlmmap_group *group,
					  const struct nlmmap_members *members,
					  u32 max_bytes);
int __nlmmap_end_others(const struct nlmmap_members *members, u32 next,
			const struct nlmmap_ring *filled,
			const struct nlmsghdr *nlh, u32 len);

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
 * nlmmap_end(), which must follow: fill with the inline functions below, do not
 * sleep, do not publish in between, take no long: nlmmap_end() copies to all
 * members with interrupts off, so what is large is better published. Inline, because a call and
 * the spilled registers cost as much as the rest.
 *
 * Context: any, NMI too; see the top of this file.
 * Return: true if there is something to fill; false if nobody listens, no
 * reader has room (which the readers are told), or @max_bytes is out of range
 * (a bug in the caller, named in the log when the group is unregistered).
 */
static __always_inline bool nlmmap_begin(struct nlmmap_group *group,
					 struct nlmmap_writer *writer,
					 u16 type, u32 max_bytes)
{
	const struct nlmmap_members *members;
	struct nlmmap_started started;
	struct nlmmap_record *record;
	struct nlmmap_ring *ring;
	struct nlmsghdr *nlh;

	/* No message here: who holds the scheduler's locks must not print. */
	if (unlikely(max_bytes < NLMSG_HDRLEN || max_bytes > group->max_bytes)) {
		WRITE_ONCE(group->refused, max_bytes);
		return false;
	}

	local_irq_save(writer->irq_flags);
	this_cpu_inc(*group->published);
	members = rcu_dereference_sched(group->members);
	if (unlikely(members->count != 1))
		goto slow;
	ring = members->rings[0];
	if (unlikely(!nlmmap_trylock(&ring->lock)))
		goto slow;
	if (unlikely(!nlmmap_ring_start_fast(ring, group->id, max_bytes, &record)))
		goto slow_unlock;
	/* For sparse, which cannot follow a lock into nlmmap_end(). */
	__release(&ring->lock);
	nlh = (struct nlmsghdr *)(record + 1);
	writer->others = NULL;
	writer->next = 0;

fill:
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = 0;
	nlh->nlmsg_seq = 0;
	nlh->nlmsg_pid = 0;
	writer->at = (u8 *)(nlh + 1);
	writer->end = (u8 *)nlh + max_bytes;
	writer->overflow = 0;
	writer->ring = ring;
	writer->nlh = nlh;
	return true;

slow_unlock:
	nlmmap_unlock(&ring->lock);
slow:
	started = __nlmmap_begin_slow(group, members, max_bytes);
	if (!started.next) {
		local_irq_restore(writer->irq_flags);
		return false;
	}
	ring = members->rings[started.next - 1];
	nlh = started.nlh;
	writer->others = members;
	writer->next = started.next;
	goto fill;
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
static __always_inline int nlmmap_end(struct nlmmap_writer *writer)
{
	struct nlmmap_ring *ring = writer->ring;
	struct nlmsghdr *nlh = writer->nlh;
	u32 len = writer->at - (u8 *)nlh;
	int delivered = 1;

	if (likely(!writer->overflow)) {
		/* The message is a multiple of 4, the record of 8. */
		if (len & 4)
			*(u32 *)writer->at = 0;
		((struct nlmmap_record *)((void *)nlh - ring->header_bytes))->len = len;
		nlh->nlmsg_len = len;
		nlmmap_ring_finish(ring, nlmmap_record_bytes(ring, len));
	} else {
		nlmmap_ring_lose(ring, 1);
		delivered = -EMSGSIZE;
		len = 0;
	}
	/* What was published stays as it is while they copy it: only who holds
	 * the lock writes, even if the reader gives the record back at once.
	 */
	if (unlikely(writer->others)) {
		int others = __nlmmap_end_others(writer->others, writer->next, ring,
						 nlh, len);

		if (len)
			delivered += others;
	}
	__acquire(&ring->lock);
	nlmmap_unlock(&ring->lock);
	local_irq_restore(writer->irq_flags);
	return delivered;
}

/**
 * nlmmap_put_fixed - append a fixed header, or any bytes
 * @writer: begun by nlmmap_begin()
 * @bytes: how many; what is reserved is rounded up to a multiple of 4
 *
 * Context: between nlmmap_begin() and nlmmap_end(). Does not sleep.
 * Return: where to write them, with the padding zeroed; NULL if they do not
 * fit (and then nlmmap_end() answers -EMSGSIZE, so it is enough not to write).
 */
static inline void *nlmmap_put_fixed(struct nlmmap_writer *writer, u32 bytes)
{
	u32 padded = NLMSG_ALIGN(bytes);
	u8 *at = writer->at;

	if (unlikely(padded < bytes || padded > writer->end - at)) {
		writer->overflow = 1;
		return NULL;
	}
	if (padded != bytes)
		*(u32 *)(at + padded - 4) = 0;
	writer->at = at + padded;
	return at;
}

/**
 * nlmmap_put - append a netlink attribute
 * @writer: begun by nlmmap_begin()
 * @type: the attribute's type
 * @data: its payload
 * @bytes: of the payload, at most 65531
 *
 * Context: between nlmmap_begin() and nlmmap_end(). Does not sleep.
 * Return: false if it does not fit; nlmmap_end() will then answer -EMSGSIZE.
 */
static inline bool nlmmap_put(struct nlmmap_writer *writer, u16 type,
			      const void *data, u32 bytes)
{
	struct nlattr *attribute;

	if (unlikely(bytes > U16_MAX - NLA_HDRLEN)) {
		writer->overflow = 1;
		return false;
	}
	attribute = nlmmap_put_fixed(writer, NLA_HDRLEN + bytes);
	if (unlikely(!attribute))
		return false;
	attribute->nla_len = NLA_HDRLEN + bytes;
	attribute->nla_type = type;
	memcpy(attribute + 1, data, bytes);
	return true;
}

/**
 * nlmmap_put_u32 - append an attribute with a number of 32 bits
 * @writer: begun by nlmmap_begin()
 * @type: the attribute's type
 * @value: in host byte order
 *
 * Context and return value as for nlmmap_put().
 */
static inline bool nlmmap_put_u32(struct nlmmap_writer *writer, u16 type,
				  u32 value)
{
	return nlmmap_put(writer, type, &value, sizeof(value));
}

/**
 * nlmmap_put_u64 - append an attribute with a number of 64 bits
 * @writer: begun by nlmmap_begin()
 * @type: the attribute's type
 * @value: in host byte order; it is 4-byte aligned in the message, no more
 *
 * Context and return value as for nlmmap_put().
 */
static inline bool nlmmap_put_u64(struct nlmmap_writer *writer, u16 type,
				  u64 value)
{
	return nlmmap_put(writer, type, &value, sizeof(value));
}

#endif /* _NET_NLMMAP_H */
