// SPDX-License-Identifier: GPL-2.0
/*
 * What an attached socket needs of process context
 *
 *  - Dumps. Netlink makes a dump's next part while recvmsg() takes one, with
 *    the receiver's credentials, and not from an empty queue. So who serves
 *    puts a datagram into the ring, leaves it queued without its charge, lets
 *    netlink's own recvmsg() peek at it, which makes the next part, and only
 *    then takes it off. For the credentials see nlmmap_attached_limit().
 *  - Congestion. Netlink drops everything, and lets senders sleep, until its
 *    own recvmsg() finds the queue empty: a peek does. Blocking senders need
 *    that after any message of theirs.
 *  - Datagrams that take too long to copy with interrupts off.
 *
 * Locks: see drain.c.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include "attach.h"
#include "drain.h"
#include "fill.h"
#include "override.h"
#include "serve.h"
#include "socket.h"

/* What the most modest of netlink's readers bring: netlink sizes dumps by it, and
 * no part may be larger than a reader's buffer.
 */
#define NLMMAP_PEEK_BYTES	4096

/* Datagrams that one call serves before it leaves the rest to the work item. */
#define NLMMAP_SERVE_ROUNDS	64

/* Looks at one datagram, for errors that hide what is queued. */
#define NLMMAP_PEEK_TRIES	4

enum nlmmap_served {
	NLMMAP_SERVED_MORE,	/* there may be more */
	NLMMAP_SERVED_ALL,	/* the queue was seen empty */
	NLMMAP_SERVED_STALLED,	/* until the reader makes room */
};

/* Lets netlink's recvmsg() look at the queue. Returns as that does; an error
 * other than -EAGAIN is kept, to be told. ENOBUFS is not: it is counted where it
 * is made.
 */
static int nlmmap_serve_peek(struct nlmmap_attached *attached)
{
	struct nlmmap_ring *ring = &attached->socket->rx;
	int flags = MSG_PEEK | MSG_DONTWAIT;
	struct msghdr msg = { };
	size_t bytes;
	int err;

	if (READ_ONCE(attached->compat))
		flags |= MSG_CMSG_COMPAT;
	/* A dump's parts have to go into the ring. */
	bytes = min_t(u64, NLMMAP_PEEK_BYTES, ring->data_bytes / 2 - ring->header_bytes);
	iov_iter_discard(&msg.msg_iter, ITER_DEST, bytes);
	WRITE_ONCE(attached->peeking, current);
	err = nlmmap_base_recvmsg(attached->sock, &msg, bytes, flags);
	WRITE_ONCE(attached->peeking, NULL);
	if (err < 0 && err != -EAGAIN && err != -ENOBUFS) {
		spin_lock_irq(&attached->lock);
		attached->error = -err;
		spin_unlock_irq(&attached->lock);
	}
	return err;
}

/**
 * nlmmap_serve_forgets - take an error that nobody is to be told
 * @attached: not released
 *
 * A look finds a dump under way, waits for who makes its first part, which is
 * its last one, and then netlink knows of no dump: -EINVAL. A program in one
 * thread never sees that, because its sendmsg() makes that part before its
 * recvmsg() looks.
 *
 * Context: any; in sk_error_report.
 * Return: true if it was that.
 */
bool nlmmap_serve_forgets(const struct nlmmap_attached *attached)
{
	return in_task() && READ_ONCE(attached->peeking) == current &&
	       cmpxchg(&attached->socket->sk->sk_err, EINVAL, 0) == EINVAL;
}

/* The queue may be empty: lets netlink see that, and closes the accounts. */
static enum nlmmap_served nlmmap_serve_empty(struct nlmmap_attached *attached)
{
	struct sock *sk = attached->socket->sk;
	enum nlmmap_served served = NLMMAP_SERVED_MORE;
	u32 drops, overruns, expected;
	int err;

	spin_lock_irq(&attached->lock);
	overruns = attached->overruns;
	drops = (u32)atomic_read(&sk->sk_drops);
	spin_unlock_irq(&attached->lock);

	err = nlmmap_serve_peek(attached);
	if (err != -EAGAIN)
		return NLMMAP_SERVED_MORE;

	/* What was dropped came after all that was queued, and before all that
	 * is queued now; unless it overflowed a second time meanwhile.
	 */
	spin_lock_irq(&attached->lock);
	if (overruns == attached->overruns ||
	    skb_queue_empty_lockless(&sk->sk_receive_queue)) {
		overruns = attached->overruns;
		drops = (u32)atomic_read(&sk->sk_drops);
	}
	expected = 0;
	if (nlmmap_fill_settle(attached, drops)) {
		expected = 1;
		/* Nobody said so when it happened. */
		if (!overruns)
			attached->lost_nearby = true;
	}
	/* The core says ENOBUFS once for what it then counts. */
	if (overruns > expected)
		attached->lost_unknown = true;
	attached->overruns -= overruns;
	if (!nlmmap_fill_tell(attached)) {
		served = NLMMAP_SERVED_STALLED;
	} else if (skb_queue_empty_lockless(&sk->sk_receive_queue)) {
		WRITE_ONCE(attached->busy, false);
		served = NLMMAP_SERVED_ALL;
	}
	spin_unlock_irq(&attached->lock);
	return served;
}

/* One datagram. @serving is held. */
static enum nlmmap_served nlmmap_serve_one(struct nlmmap_attached *attached)
{
	struct sock *sk = attached->socket->sk;
	int tries = NLMMAP_PEEK_TRIES;
	struct sk_buff *skb, *seen;
	unsigned long flags;
	int err;

	spin_lock_irqsave(&attached->lock, flags);
	if (attached->dead) {
		spin_unlock_irqrestore(&attached->lock, flags);
		return NLMMAP_SERVED_ALL;
	}
	skb = nlmmap_drain_head(attached);
	if (!skb) {
		spin_unlock_irqrestore(&attached->lock, flags);
		return nlmmap_serve_empty(attached);
	}
	if (nlmmap_drain_is_to_serve(attached, skb))
		WRITE_ONCE(attached->busy, true);
	/* recvmsg() tells an error before what is queued. */
	if ((unlikely(attached->error) && !nlmmap_fill_tell(attached)) ||
	    !nlmmap_fill_datagram(attached, skb, &flags)) {
		spin_unlock_irqrestore(&attached->lock, flags);
		consume_skb(skb);
		return NLMMAP_SERVED_STALLED;
	}
	/* What just arrived is as good as drained in line, and a burst behind it
	 * has to be.
	 */
	if (!attached->busy || skb_queue_len_lockless(&sk->sk_receive_queue) > 1) {
		nlmmap_drain_take(attached, skb);
		spin_unlock_irqrestore(&attached->lock, flags);
		consume_skb(skb);
		return NLMMAP_SERVED_MORE;
	}
	/* The last one stays queued for netlink to look at, so that a dump goes
	 * on; without its charge, or a small buffer would not let it.
	 */
	attached->published = skb;
	nlmmap_drain_uncharge(skb);
	spin_unlock_irqrestore(&attached->lock, flags);

	/* An error hides what is queued; the dump's own leaves it without a next
	 * part, unless it is tried again.
	 */
	do {
		err = nlmmap_serve_peek(attached);
	} while (--tries && ((err < 0 && err != -EAGAIN) || READ_ONCE(sk->sk_err)));

	spin_lock_irqsave(&attached->lock, flags);
	seen = NULL;
	if (attached->published == skb) {
		attached->published = NULL;
		/* A look at an empty one leaves a clone in its place. */
		seen = nlmmap_drain_head(attached);
		if (seen && seen->head == skb->head)
			nlmmap_drain_take(attached, seen);
	}
	spin_unlock_irqrestore(&attached->lock, flags);
	consume_skb(seen);
	consume_skb(skb);
	return NLMMAP_SERVED_MORE;
}

/**
 * nlmmap_serve - serve what is queued, a bounded number of datagrams
 * @attached: not released
 *
 * If there may be more, the work item goes on.
 *
 * Context: process, may sleep as long as a part of a dump takes.
 */
void nlmmap_serve(struct nlmmap_attached *attached)
{
	enum nlmmap_served served = NLMMAP_SERVED_MORE;
	const struct cred *cred, *saved;
	u32 rounds = NLMMAP_SERVE_ROUNDS;
	u32 too_large;

	mutex_lock(&attached->serving);
	spin_lock_irq(&attached->lock);
	cred = get_cred(attached->cred);
	spin_unlock_irq(&attached->lock);
	/* A dump asks @current what it may tell. */
	saved = override_creds(cred);
	while (served == NLMMAP_SERVED_MORE && rounds--) {
		served = nlmmap_serve_one(attached);
		cond_resched();
	}
	revert_creds(saved);
	mutex_unlock(&attached->serving);
	put_cred(cred);
	too_large = READ_ONCE(attached->too_large);
	if (unlikely(too_large))
		pr_warn_once("a datagram of %u bytes (netlink protocol %d, port %u) was lost: it takes more than half of its ring of %llu bytes\n",
			     too_large, attached->sock->sk->sk_protocol,
			     attached->socket->portid, attached->socket->rx.data_bytes);
	if (served == NLMMAP_SERVED_MORE) {
		spin_lock_irq(&attached->lock);
		nlmmap_drain_queue_work(attached);
		spin_unlock_irq(&attached->lock);
	}
}

/**
 * nlmmap_serve_work - struct nlmmap_attached.work
 * @work: of the attached socket
 */
void nlmmap_serve_work(struct work_struct *work)
{
	nlmmap_serve(container_of(work, struct nlmmap_attached, work));
}
