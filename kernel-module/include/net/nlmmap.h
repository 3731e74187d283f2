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
 * and with the scheduler's locks held. From NMI it may be done as well; a ring
 * whose lock is held at that moment loses the datagram and counts it.
 * Publishing to a group from within itself (from a probe on a function that
 * publishing calls) deadlocks, as with any raw spinlock.
 */
#ifndef _NET_NLMMAP_H
#define _NET_NLMMAP_H

#include <linux/string.h>
#include <linux/types.h>
#include <uapi/linux/netlink.h>
#include <uapi/linux/nlmmap.h>

struct net;
struct nlmmap_group;
struct nlmmap_ring;
struct nlmmap_members;

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
 * @overflow: something did not fit; nlmmap_end() will answer -EMSGSIZE
 *
 * Lives on the producer's stack from nlmmap_begin() to nlmmap_end(). The
 * members after @overflow are nlmmap's own.
 */
struct nlmmap_writer {
	u8 *at;
	u8 *end;
	bool overflow;
	/* private: */
	u32 index;
	u32 delivered;
	struct nlmmap_group *group;
	struct nlmmap_members *members;
	struct nlmmap_ring *ring;
	struct nlmsghdr *nlh;
	unsigned long irq_flags;
};

bool nlmmap_begin(struct nlmmap_group *group, struct nlmmap_writer *writer,
		  u16 type, u32 max_bytes);
int nlmmap_end(struct nlmmap_writer *writer);

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
		writer->overflow = true;
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
		writer->overflow = true;
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
