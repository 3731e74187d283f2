// SPDX-License-Identifier: GPL-2.0
/*
 * From an attached socket's queue into its ring
 *
 * Netlink calls a socket's sk_data_ready in the sender's context right after it
 * queued a message. We stand there and move what is queued into the ring, in
 * line: so the queue stays empty, and its buffer never fills while the ring has
 * room, however long the burst and whoever sends it from wherever.
 *
 * In line is not enough for everything; the rest is served, in process context,
 * by the work item or at the end of the socket's own sendmsg(): see serve.c.
 * While something waits to be served, @busy keeps all behind it queued: order
 * holds, and the core's buffer is what a burst has. Who sets it queues the
 * work, or it would be for ever.
 *
 * When the ring has no room, datagrams stay in the socket's queue (@stalled)
 * until the reader has made room and says so by poll(). What overflows that is
 * dropped by the core, which counts in sk_drops and says ENOBUFS. Once it said
 * so it drops all until the queue is empty: that is the place of the loss. Under
 * NETLINK_NO_ENOBUFS it says nothing and drops what finds no room just then: the
 * loss lies somewhere before the place where the queue is empty.
 *
 * Locks: @serving orders those who serve; it is held over netlink's recvmsg(),
 * which may take rtnl and anything else that a dump takes. @lock, with
 * interrupts off, nests inside the senders' locks and outside the queue's lock
 * and the ring's.
 */
#include <linux/mm.h>
#include <linux/netlink.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include "attach.h"
#include "drain.h"
#include "fill.h"
#include "override.h"
#include "serve.h"
#include "socket.h"

/* How many of those in sendmsg() are looked at, with interrupts off. */
#define NLMMAP_SENDING_LOOKS	32

static struct workqueue_struct *nlmmap_drain_queue;

/* The callbacks' addresses have been where senders read them. */
static bool nlmmap_drain_used;

static struct sk_buff_head *nlmmap_attached_queue(struct nlmmap_attached *attached)
{
	return &attached->socket->sk->sk_receive_queue;
}

/**
 * nlmmap_drain_head - what is first in the queue
 * @attached: not released, locked
 *
 * Return: NULL, or a reference to it: a recvmsg() that began before the attach
 * may take it meanwhile.
 */
struct sk_buff *nlmmap_drain_head(struct nlmmap_attached *attached)
{
	struct sk_buff_head *queue = nlmmap_attached_queue(attached);
	struct sk_buff *skb;

	lockdep_assert_held(&attached->lock);
	spin_lock(&queue->lock);
	skb = skb_peek(queue);
	if (skb)
		skb_get(skb);
	spin_unlock(&queue->lock);
	return skb;
}

/**
 * nlmmap_drain_uncharge - give the socket back what a datagram was charged
 * @skb: of its queue
 *
 * At once: whoever else holds the buffer, its sender while it goes on
 * broadcasting or a look at the queue, puts off what frees it, and until then
 * netlink would refuse others though the queue is empty.
 *
 * Context: any; the socket is locked.
 */
void nlmmap_drain_uncharge(struct sk_buff *skb)
{
	if (likely(!is_vmalloc_addr(skb->head))) {
		skb_orphan(skb);
		return;
	}
	/* Here the destructor frees the data, too, and who looks at the queue
	 * may be reading it: that is left for the last who holds the buffer.
	 */
	if (skb->sk) {
		sock_rfree(skb);
		skb->sk = NULL;
	}
}

/**
 * nlmmap_drain_take - take a datagram off the queue, if it is still there
 * @attached: not released, locked
 * @skb: its head; the caller goes on holding it
 */
void nlmmap_drain_take(struct nlmmap_attached *attached, struct sk_buff *skb)
{
	struct sk_buff_head *queue = nlmmap_attached_queue(attached);

	lockdep_assert_held(&attached->lock);
	spin_lock(&queue->lock);
	if (skb_peek(queue) == skb) {
		__skb_unlink(skb, queue);
		/* The queue's reference; the caller has one. */
		refcount_dec(&skb->users);
	}
	spin_unlock(&queue->lock);
	nlmmap_drain_uncharge(skb);
}

/**
 * nlmmap_drain_queue_work - have the work item serve
 * @attached: locked
 *
 * Context: any.
 */
void nlmmap_drain_queue_work(struct nlmmap_attached *attached)
{
	lockdep_assert_held(&attached->lock);
	if (!attached->dead)
		queue_work(nlmmap_drain_queue, &attached->work);
}

/* Is @current in this socket's sendmsg(), and not just interrupted there? Where
 * more are than one may look at with interrupts off, it may be: no answer is
 * missed, and what is none is served as well.
 */
static bool nlmmap_attached_is_sending(const struct nlmmap_attached *attached)
{
	const struct nlmmap_sending *sending;
	u32 left = NLMMAP_SENDING_LOOKS;

	lockdep_assert_held(&attached->lock);
	if (!in_task())
		return false;
	list_for_each_entry(sending, &attached->sending, node)
		if (sending->task == current || !--left)
			return true;
	return false;
}

/**
 * nlmmap_drain_is_to_serve - has this to be served in process context?
 * @attached: not released, locked
 * @skb: head of its queue
 *
 * Parts of dumps have, to get the next one. Not all of them say that they are
 * parts: then they are answers to one who is in sendmsg(), and another sender
 * may find them here before him.
 *
 * Context: any.
 */
bool nlmmap_drain_is_to_serve(const struct nlmmap_attached *attached,
			      const struct sk_buff *skb)
{
	const struct nlmsghdr *nlh;
	struct nlmsghdr nlh_copy;
	const int *error;
	int error_copy;

	if (unlikely(nlmmap_fill_bytes(attached, skb) > NLMMAP_IN_LINE_BYTES))
		return true;
	if (NETLINK_CB(skb).dst_group)
		return false;
	nlh = skb_header_pointer(skb, 0, sizeof(nlh_copy), &nlh_copy);
	if (nlh && nlh->nlmsg_flags & NLM_F_MULTI)
		return true;
	if (list_empty(&attached->sending))
		return false;
	/* An empty part: nl80211 asks by it for a larger buffer. */
	if (!nlh)
		return true;
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		/* So that who sends requests by the thousand does not fill the
		 * buffer by what says that all is well. A dump whose first part
		 * could not be made begins with an error, and then goes on.
		 */
		error = skb_header_pointer(skb, NLMSG_HDRLEN, sizeof(error_copy), &error_copy);
		if (error && !*error)
			return false;
	}
	return nlh->nlmsg_pid || nlmmap_attached_is_sending(attached);
}

/* Whoever sent this may sleep until netlink finds the queue empty. */
static bool nlmmap_attached_may_sleep(const struct nlmmap_attached *attached,
				      const struct sk_buff *skb)
{
	int protocol = attached->socket->sk->sk_protocol;

	return NETLINK_CB(skb).portid || protocol == NETLINK_AUDIT ||
	       protocol == NETLINK_CONNECTOR;
}

/* The queue is empty and nobody serves. The core counts without a word under
 * NETLINK_NO_ENOBUFS, or a little later than it says so.
 */
static void nlmmap_attached_settle(struct nlmmap_attached *attached)
{
	u32 drops = (u32)atomic_read(&attached->socket->sk->sk_drops);

	if (likely(drops == attached->drops))
		return;
	attached->lost_nearby = true;
	nlmmap_fill_settle(attached, drops);
	nlmmap_fill_tell(attached);
}

/* Moves what is queued into the ring. Context: any that netlink sends from. */
static void nlmmap_attached_arrive(struct nlmmap_attached *attached)
{
	/* Up to the caller's own: who sends what comes later takes that, so
	 * that no sender is kept here by the others.
	 */
	u32 left = skb_queue_len_lockless(nlmmap_attached_queue(attached));
	bool restarted = false;
	unsigned long flags;
	struct sk_buff *skb;

	/* The lock is given up between datagrams. */
	for (;; left--) {
		spin_lock_irqsave(&attached->lock, flags);
		if (attached->dead || attached->busy)
			break;
		skb = nlmmap_drain_head(attached);
		if (!skb) {
			nlmmap_attached_settle(attached);
			break;
		}
		if (!left) {
			/* Who sent it may have found no room, and gone. */
			if (restarted)
				nlmmap_drain_queue_work(attached);
			goto out_put;
		}
		restarted |= attached->stalled;
		if (nlmmap_drain_is_to_serve(attached, skb)) {
			WRITE_ONCE(attached->busy, true);
			nlmmap_drain_queue_work(attached);
			goto out_put;
		}
		if (unlikely(!nlmmap_fill_datagram(attached, skb, &flags))) {
			/* What arrives now may be a part of a dump. */
			if (nlmmap_attached_is_sending(attached)) {
				WRITE_ONCE(attached->busy, true);
				nlmmap_drain_queue_work(attached);
			}
			goto out_put;
		}
		nlmmap_drain_take(attached, skb);
		/* Not before the charge is back: who is woken looks at it. */
		if (nlmmap_attached_may_sleep(attached, skb))
			nlmmap_drain_queue_work(attached);
		spin_unlock_irqrestore(&attached->lock, flags);
		consume_skb(skb);
	}
	spin_unlock_irqrestore(&attached->lock, flags);
	return;

out_put:
	spin_unlock_irqrestore(&attached->lock, flags);
	consume_skb(skb);
}

static struct nlmmap_attached *nlmmap_attached_find(const struct sock *sk)
{
	struct nlmmap_socket *socket = nlmmap_socket_find(sk);

	return socket ? socket->attached : NULL;
}

/* The sk_data_ready of attached sockets, and of one that was attached when the
 * sender read the address. Context: any that netlink sends from.
 */
static void nlmmap_drain_data_ready(struct sock *sk)
{
	struct nlmmap_attached *attached;

	rcu_read_lock();
	attached = nlmmap_attached_find(sk);
	if (likely(attached))
		nlmmap_attached_arrive(attached);
	else
		nlmmap_base_data_ready(sk);
	rcu_read_unlock();
}

/* Likewise, the sk_error_report. */
static void nlmmap_drain_error_report(struct sock *sk)
{
	struct nlmmap_attached *attached;
	unsigned long flags;
	int error;

	rcu_read_lock();
	attached = nlmmap_attached_find(sk);
	if (likely(attached)) {
		if (nlmmap_serve_forgets(attached))
			goto out;
		spin_lock_irqsave(&attached->lock, flags);
		/* What comes next is kept behind the place of the loss. */
		WRITE_ONCE(attached->busy, true);
		/* None is left if a look at the queue took it just now. That
		 * tells any other error itself; ENOBUFS is counted here alone.
		 */
		error = READ_ONCE(sk->sk_err);
		if (error == ENOBUFS || !error)
			attached->overruns++;
		nlmmap_drain_queue_work(attached);
		spin_unlock_irqrestore(&attached->lock, flags);
	} else {
		nlmmap_base_error_report(sk);
	}
out:
	rcu_read_unlock();
}

/**
 * nlmmap_drain_restart - the reader may have made room
 * @attached: not released
 *
 * Or it may have slept through a loss that nobody told.
 *
 * Context: process, may sleep.
 */
void nlmmap_drain_restart(struct nlmmap_attached *attached)
{
	struct sk_buff_head *queue = nlmmap_attached_queue(attached);
	unsigned long flags;
	struct sk_buff *skb;

	/* At once, because who polls without a timeout will not come back; but
	 * one is left for who serves, who needs it to go on with a dump.
	 */
	for (;;) {
		spin_lock_irqsave(&attached->lock, flags);
		if (attached->dead || attached->copying)
			break;
		skb = nlmmap_drain_head(attached);
		if (!skb)
			break;
		if (nlmmap_drain_is_to_serve(attached, skb))
			WRITE_ONCE(attached->busy, true);
		if (nlmmap_fill_bytes(attached, skb) > NLMMAP_IN_LINE_BYTES ||
		    skb_queue_len_lockless(queue) <= attached->busy)
			goto out_put;
		/* The same data: see nlmmap_serve_one(). */
		if (attached->published && skb->head == attached->published->head)
			attached->published = NULL;
		else if (!nlmmap_fill_datagram(attached, skb, &flags))
			goto out_put;
		nlmmap_drain_take(attached, skb);
		spin_unlock_irqrestore(&attached->lock, flags);
		consume_skb(skb);
		cond_resched();
	}
	nlmmap_drain_queue_work(attached);
	spin_unlock_irqrestore(&attached->lock, flags);
	return;

out_put:
	nlmmap_drain_queue_work(attached);
	spin_unlock_irqrestore(&attached->lock, flags);
	consume_skb(skb);
}

/**
 * nlmmap_drain_begin - put the callbacks in place
 * @attached: in the hash
 *
 * Context: process.
 */
void nlmmap_drain_begin(struct nlmmap_attached *attached)
{
	struct sock *sk = attached->socket->sk;

	WRITE_ONCE(nlmmap_drain_used, true);
	write_lock_bh(&sk->sk_callback_lock);
	attached->saved_data_ready = sk->sk_data_ready;
	attached->saved_error_report = sk->sk_error_report;
	/* Senders read them without a lock. */
	WRITE_ONCE(sk->sk_data_ready, nlmmap_drain_data_ready);
	WRITE_ONCE(sk->sk_error_report, nlmmap_drain_error_report);
	write_unlock_bh(&sk->sk_callback_lock);

	/* What was queued before comes first. */
	spin_lock_irq(&attached->lock);
	WRITE_ONCE(attached->busy, true);
	nlmmap_drain_queue_work(attached);
	spin_unlock_irq(&attached->lock);
}

/**
 * nlmmap_drain_end - restore the callbacks; nothing is drained afterwards
 * @attached: not in the hash any more
 *
 * Context: process, may sleep.
 */
void nlmmap_drain_end(struct nlmmap_attached *attached)
{
	struct sock *sk = attached->socket->sk;

	write_lock_bh(&sk->sk_callback_lock);
	WRITE_ONCE(sk->sk_data_ready, attached->saved_data_ready);
	WRITE_ONCE(sk->sk_error_report, attached->saved_error_report);
	write_unlock_bh(&sk->sk_callback_lock);

	spin_lock_irq(&attached->lock);
	attached->dead = true;
	spin_unlock_irq(&attached->lock);
	cancel_work_sync(&attached->work);
}

/**
 * nlmmap_drain_init - at module load
 *
 * Return: 0 or -ENOMEM.
 */
int __init nlmmap_drain_init(void)
{
	nlmmap_drain_queue = alloc_workqueue("nlmmap_drain", WQ_UNBOUND, 0);
	return nlmmap_drain_queue ? 0 : -ENOMEM;
}

/**
 * nlmmap_drain_exit - at module unload, after the last socket was released
 */
void nlmmap_drain_exit(void)
{
	/* A sender may have read the callback's address before it was restored,
	 * and not have called it yet: in an interrupt, or as a task that was
	 * preempted.
	 */
	if (READ_ONCE(nlmmap_drain_used)) {
		synchronize_rcu();
		synchronize_rcu_tasks();
	}
	destroy_workqueue(nlmmap_drain_queue);
}
