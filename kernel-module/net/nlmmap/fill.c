// SPDX-License-Identifier: GPL-2.0
/*
 * What is written into an attached socket's ring: datagrams, what was lost, and
 * errors
 *
 * The ring has one producer at a time: who holds the attached socket's lock, or,
 * while @copying, who serves. The ring's own lock is taken for a record's
 * beginning and its end, because readers poll meanwhile; not for the copy.
 */
#include <linux/netlink.h>
#include <linux/skbuff.h>
#include <linux/uidgid.h>
#include <net/sock.h>

#include "attach.h"
#include "drain.h"
#include "fill.h"
#include "socket.h"

/* 32-bit programs get some families' messages laid out for them. */
static const struct sk_buff *nlmmap_fill_data(const struct nlmmap_attached *attached,
					      const struct sk_buff *skb)
{
#ifdef CONFIG_COMPAT_NETLINK_MESSAGES
	if (unlikely(attached->compat && skb_shinfo(skb)->frag_list))
		return skb_shinfo(skb)->frag_list;
#endif
	return skb;
}

/**
 * nlmmap_fill_bytes - the length of a datagram as its reader gets it
 * @attached: not released, locked
 * @skb: of its queue
 *
 * Context: any.
 */
u32 nlmmap_fill_bytes(const struct nlmmap_attached *attached, const struct sk_buff *skb)
{
	return nlmmap_fill_data(attached, skb)->len;
}

/* Looks for room and says in the producer's page if there is none. */
static bool nlmmap_fill_has_room(struct nlmmap_attached *attached, u64 bytes)
{
	struct nlmmap_ring *ring = &attached->socket->rx;

	if (likely(nlmmap_ring_has_room(ring, bytes))) {
		if (unlikely(attached->stalled)) {
			WRITE_ONCE(ring->producer->state, 0);
			WRITE_ONCE(attached->stalled, false);
		}
		return true;
	}
	WRITE_ONCE(attached->stalled, true);
	WRITE_ONCE(ring->producer->state, NLMMAP_STATE_STALLED);
	/* Pairs with the fence between a reader's store of its position and its
	 * look at the state: either he sees it or we see the room.
	 */
	smp_mb();
	if (!nlmmap_ring_has_room(ring, bytes))
		return false;
	WRITE_ONCE(ring->producer->state, 0);
	WRITE_ONCE(attached->stalled, false);
	return true;
}

/* Begins a record, or answers NULL if there is no room. The lock is held. */
static struct nlmmap_record *nlmmap_fill_start(struct nlmmap_attached *attached, u16 group,
					       u16 flags, u32 len, u64 bytes)
{
	struct nlmmap_ring *ring = &attached->socket->rx;
	struct nlmmap_record *record = NULL;

	lockdep_assert_held(&attached->lock);
	if (unlikely(attached->lost_nearby))
		flags |= NLMMAP_RECORD_LOST_NEARBY;
	if (unlikely(attached->lost_unknown))
		flags |= NLMMAP_RECORD_LOST_UNKNOWN;
	nlmmap_lock(&ring->lock);
	if (nlmmap_fill_has_room(attached, bytes))
		record = nlmmap_ring_start(ring, group, flags, len, bytes);
	nlmmap_unlock(&ring->lock);
	return record;
}

static void nlmmap_fill_finish(struct nlmmap_attached *attached, u64 bytes)
{
	struct nlmmap_ring *ring = &attached->socket->rx;

	lockdep_assert_held(&attached->lock);
	nlmmap_lock(&ring->lock);
	nlmmap_ring_finish(ring, bytes);
	nlmmap_unlock(&ring->lock);
	attached->lost_nearby = false;
	attached->lost_unknown = false;
	attached->lost_untold = false;
}

static void nlmmap_fill_lose(struct nlmmap_attached *attached, u32 count)
{
	struct nlmmap_ring *ring = &attached->socket->rx;

	lockdep_assert_held(&attached->lock);
	nlmmap_lock(&ring->lock);
	nlmmap_ring_lose(ring, count);
	nlmmap_unlock(&ring->lock);
	attached->lost_untold = true;
}

/**
 * nlmmap_fill_settle - take what the core dropped into the ring's account
 * @attached: not released, locked
 * @drops: what sk_drops was when the queue was last seen empty
 *
 * Context: any.
 * Return: true if the core dropped something.
 */
bool nlmmap_fill_settle(struct nlmmap_attached *attached, u32 drops)
{
	u32 count = drops - attached->drops;

	if (likely(!count))
		return false;
	WRITE_ONCE(attached->drops, drops);
	nlmmap_fill_lose(attached, count);
	return true;
}

static void nlmmap_fill_too_large(struct nlmmap_attached *attached, u32 len)
{
	struct sock *sk = attached->socket->sk;

	/* Ours to count, so that ss and /proc/net/netlink tell. */
	atomic_inc(&sk->sk_drops);
	WRITE_ONCE(attached->drops, attached->drops + 1);
	nlmmap_fill_lose(attached, 1);
	/* The sender may hold anything: a console has to wait. */
	if (!attached->too_large) {
		WRITE_ONCE(attached->too_large, len);
		nlmmap_drain_queue_work(attached);
	}
}

/* Fills in what the header says besides, and the datagram. */
static void nlmmap_fill_record(const struct nlmmap_attached *attached,
			       struct nlmmap_record *record,
			       const struct sk_buff *skb, const struct sk_buff *data)
{
	const struct netlink_skb_parms *parms = &NETLINK_CB(skb);
	const struct nlmmap_ring *ring = &attached->socket->rx;
	u8 *datagram = (u8 *)record + ring->header_bytes;
	u32 len = data->len;

	if (likely(!skb_is_nonlinear(data))) {
		nlmmap_copy(datagram, data->data, len);
	} else if (len) {
		memset(datagram + ((len - 1) & ~7u), 0, 8);
		/* Cannot fail: it asks for no more than there is. */
		WARN_ON_ONCE(skb_copy_bits(data, 0, datagram, len));
	}
	record->flags |= nlmmap_datagram_flags(datagram, len);
	record->portid = parms->portid;
	record->nsid = parms->nsid_is_set ? parms->nsid : -1;
	if (attached->socket->flags & NLMMAP_SETUP_CREDENTIALS) {
		struct nlmmap_credentials *credentials =
			(struct nlmmap_credentials *)(datagram - sizeof(*credentials));

		credentials->pid = parms->creds.pid;
		credentials->uid = from_kuid_munged(attached->user_ns, parms->creds.uid);
		credentials->gid = from_kgid_munged(attached->user_ns, parms->creds.gid);
		credentials->reserved = 0;
	}
}

/**
 * nlmmap_fill_datagram - put one datagram into the ring, or count it as lost
 * @attached: not released, locked
 * @skb: of its queue
 * @flags: of the lock, which is given up while more than NLMMAP_IN_LINE_BYTES
 *	are copied; only for who serves
 *
 * Context: any.
 * Return: false if there is no room now.
 */
bool nlmmap_fill_datagram(struct nlmmap_attached *attached, const struct sk_buff *skb,
			  unsigned long *flags)
{
	const struct sk_buff *data = nlmmap_fill_data(attached, skb);
	struct nlmmap_ring *ring = &attached->socket->rx;
	u64 bytes = nlmmap_record_bytes(ring, data->len);
	struct nlmmap_record *record;

	if (unlikely(bytes > ring->data_bytes / 2)) {
		nlmmap_fill_too_large(attached, data->len);
		/* If there is no room for that now, who serves says it. */
		nlmmap_fill_tell(attached);
		return true;
	}
	record = nlmmap_fill_start(attached, (u16)NETLINK_CB(skb).dst_group, 0,
				   data->len, bytes);
	if (unlikely(!record))
		return false;
	if (unlikely(data->len > NLMMAP_IN_LINE_BYTES)) {
		attached->copying = true;
		spin_unlock_irqrestore(&attached->lock, *flags);
		nlmmap_fill_record(attached, record, skb, data);
		spin_lock_irqsave(&attached->lock, *flags);
		attached->copying = false;
	} else {
		nlmmap_fill_record(attached, record, skb, data);
	}
	nlmmap_fill_finish(attached, bytes);
	return true;
}

/**
 * nlmmap_fill_tell - say what no record has said: a loss, or an error that
 *	recvmsg() would have told
 * @attached: not released, locked
 *
 * By a record that stands for no datagram.
 *
 * Context: any.
 * Return: false if there is something to say and no room.
 */
bool nlmmap_fill_tell(struct nlmmap_attached *attached)
{
	struct nlmmap_ring *ring = &attached->socket->rx;
	s32 error = attached->error;
	struct nlmmap_record *record;
	u32 len = error ? sizeof(error) : 0;
	u16 flags = NLMMAP_RECORD_NO_DATAGRAM;
	u64 bytes;

	if (!attached->lost_untold && !attached->lost_unknown && !error)
		return true;
	if (error)
		flags |= NLMMAP_RECORD_ERROR;
	bytes = nlmmap_record_bytes(ring, len);
	record = nlmmap_fill_start(attached, 0, flags, len, bytes);
	if (!record)
		return false;
	if (error) {
		u8 *datagram = (u8 *)record + ring->header_bytes;

		memset(datagram, 0, 8);
		memcpy(datagram, &error, sizeof(error));
		attached->error = 0;
	}
	nlmmap_fill_finish(attached, bytes);
	return true;
}
