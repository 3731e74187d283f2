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
 * by the work item or at the end of the socket's own sendmsg():
 *
 *  - Dumps. Netlink makes a dump's next part while recvmsg() takes one, with
 *    the receiver's credentials, and not from an empty queue. So who serves
 *    puts a datagram into the ring, leaves it queued without its charge, lets
 *    netlink's own recvmsg() peek at it, which makes the next part, and only
 *    then takes it off. The credentials are those of the last who sent.
 *  - Congestion. Netlink drops everything, and lets senders sleep, until its
 *    own recvmsg() finds the queue empty: a peek does. Blocking senders need
 *    that after any message of theirs.
 *  - Datagrams that take too long to copy with interrupts off.
 *
 * While something waits to be served, @busy keeps all behind it queued: order
 * holds, and the core's buffer is what a burst has.
 *
 * When the ring has no room, datagrams stay in the socket's queue (@stalled)
 * until the reader has made room and says so by poll(). What overflows that is
 * dropped by the core, which counts in sk_drops and says ENOBUFS. Once it said
 * so it drops all until the queue is empty: that is the place of the loss.
 *
 * Locks: @serving orders those who serve; it is held over netlink's recvmsg(),
 * which may take rtnl and anything else that a dump takes. @lock, with
 * interrupts off, nests inside the senders' locks and outside the queue's lock
 * and the ring's. The ring has one producer at a time: who holds @lock, or, while
 * @copying, who serves.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/uidgid.h>
#include <linux/uio.h>
#include <net/sock.h>

#include "attach.h"
#include "drain.h"
#include "override.h"
#include "socket.h"

/* What a reader of netlink's would bring: netlink sizes dumps by it. */
#define NLMMAP_PEEK_BYTES	32768

/* Longer datagrams are copied with interrupts on. */
#define NLMMAP_IN_LINE_BYTES	65536

/* Datagrams that one call serves before it leaves the rest to the work item. */
#define NLMMAP_SERVE_ROUNDS	64

static struct workqueue_struct *nlmmap_drain_queue;

/* The callbacks' addresses have been where senders read them. */
static bool nlmmap_drain_used;

enum nlmmap_served {
	NLMMAP_SERVED_MORE,	/* there may be more */
	NLMMAP_SERVED_ALL,	/* the queue was seen empty */
	NLMMAP_SERVED_STALLED,	/* until the reader makes room */
};

static struct nlmmap_attached *nlmmap_attached_find(const struct sock *sk)
{
	struct nlmmap_socket *socket = nlmmap_socket_find(sk);

	return socket ? socket->attached : NULL;
}

static struct sk_buff_head *nlmmap_attached_queue(struct nlmmap_attached *attached)
{
	return &attached->socket->sk->sk_receive_queue;
}

/* A reference: a recvmsg() that began before the attach may take it meanwhile. */
static struct sk_buff *nlmmap_queue_head(struct sk_buff_head *queue)
{
	struct sk_buff *skb;

	spin_lock(&queue->lock);
	skb = skb_peek(queue);
	if (skb)
		skb_get(skb);
	spin_unlock(&queue->lock);
	return skb;
}

/* Takes it off if it is still there. */
static void nlmmap_queue_drop(struct sk_buff_head *queue, struct sk_buff *skb)
{
	spin_lock(&queue->lock);
	if (skb_peek(queue) == skb) {
		__skb_unlink(skb, queue);
		/* The queue's reference; the caller has one. */
		refcount_dec(&skb->users);
	}
	spin_unlock(&queue->lock);
}

/* Gives back the charge at once: whoever else holds the buffer would put off
 * what frees it, and the socket would be deaf with an empty queue.
 */
static void nlmmap_skb_free(struct sk_buff *skb)
{
	skb_orphan(skb);
	consume_skb(skb);
}

/* Has the work item serve. */
static void nlmmap_drain_queue_work(struct nlmmap_attached *attached)
{
	lockdep_assert_held(&attached->lock);
	if (!attached->dead)
		queue_work(nlmmap_drain_queue, &attached->work);
}

/* 32-bit programs get some families' messages laid out for them. */
static const struct sk_buff *nlmmap_attached_data(const struct nlmmap_attached *attached,
						  const struct sk_buff *skb)
{
#ifdef CONFIG_COMPAT_NETLINK_MESSAGES
	if (unlikely(attached->compat && skb_shinfo(skb)->frag_list))
		return skb_shinfo(skb)->frag_list;
#endif
	return skb;
}

/* Looks for room and says in the producer's page if there is none. */
static bool nlmmap_attached_has_room(struct nlmmap_attached *attached, u64 bytes)
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
static struct nlmmap_record *
nlmmap_attached_start(struct nlmmap_attached *attached, u16 group, u16 flags,
		      u32 len, u64 bytes)
{
	struct nlmmap_ring *ring = &attached->socket->rx;
	struct nlmmap_record *record = NULL;

	lockdep_assert_held(&attached->lock);
	if (attached->lost_nearby)
		flags |= NLMMAP_RECORD_LOST_NEARBY;
	nlmmap_lock(&ring->lock);
	if (nlmmap_attached_has_room(attached, bytes))
		record = nlmmap_ring_start(ring, group, flags, len, bytes);
	nlmmap_unlock(&ring->lock);
	return record;
}

static void nlmmap_attached_finish(struct nlmmap_attached *attached, u64 bytes)
{
	struct nlmmap_ring *ring = &attached->socket->rx;

	lockdep_assert_held(&attached->lock);
	nlmmap_lock(&ring->lock);
	nlmmap_ring_finish(ring, bytes);
	nlmmap_unlock(&ring->lock);
	attached->lost_nearby = false;
	attached->lost_untold = false;
}

static void nlmmap_attached_lose(struct nlmmap_attached *attached, u32 count)
{
	struct nlmmap_ring *ring = &attached->socket->rx;

	lockdep_assert_held(&attached->lock);
	nlmmap_lock(&ring->lock);
	nlmmap_ring_lose(ring, count);
	nlmmap_unlock(&ring->lock);
	attached->lost_untold = true;
}

/* Takes what the core dropped into the ring's account. */
static bool nlmmap_attached_settle(struct nlmmap_attached *attached)
{
	u32 drops = (u32)atomic_read(&attached->socket->sk->sk_drops);
	u32 count = drops - attached->drops;

	if (likely(!count))
		return false;
	WRITE_ONCE(attached->drops, drops);
	nlmmap_attached_lose(attached, count);
	return true;
}

static void nlmmap_attached_too_large(struct nlmmap_attached *attached, u32 len)
{
	struct sock *sk = attached->socket->sk;

	/* Ours to count, so that ss and /proc/net/netlink tell. */
	atomic_inc(&sk->sk_drops);
	WRITE_ONCE(attached->drops, attached->drops + 1);
	nlmmap_attached_lose(attached, 1);
	pr_warn_once("a datagram of %u bytes (netlink protocol %d, port %u) was lost: it takes more than half of its ring of %llu bytes\n",
		     len, sk->sk_protocol, attached->socket->portid,
		     attached->socket->rx.data_bytes);
}

/* Fills in what the header says besides, and the datagram. */
static void nlmmap_attached_fill(const struct nlmmap_attached *attached,
				 struct nlmmap_record *record,
				 const struct sk_buff *skb,
				 const struct sk_buff *data)
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

/* Puts one datagram into the ring, or counts it as lost. The lock is held, and
 * for a long datagram given up meanwhile, which only those may who serve.
 * Returns false if there is no room.
 */
static bool nlmmap_attached_publish(struct nlmmap_attached *attached,
				    const struct sk_buff *skb, unsigned long *flags)
{
	const struct sk_buff *data = nlmmap_attached_data(attached, skb);
	struct nlmmap_ring *ring = &attached->socket->rx;
	u64 bytes = nlmmap_record_bytes(ring, data->len);
	struct nlmmap_record *record;

	if (unlikely(bytes > ring->data_bytes / 2)) {
		nlmmap_attached_too_large(attached, data->len);
		return true;
	}
	record = nlmmap_attached_start(attached, (u16)NETLINK_CB(skb).dst_group, 0,
				       data->len, bytes);
	if (unlikely(!record))
		return false;
	if (unlikely(data->len > NLMMAP_IN_LINE_BYTES)) {
		attached->copying = true;
		spin_unlock_irqrestore(&attached->lock, *flags);
		nlmmap_attached_fill(attached, record, skb, data);
		spin_lock_irqsave(&attached->lock, *flags);
		attached->copying = false;
	} else {
		nlmmap_attached_fill(attached, record, skb, data);
	}
	nlmmap_attached_finish(attached, bytes);
	return true;
}

/* A record that stands for no datagram: for what was lost, or for an error that
 * recvmsg() would have told. Returns false if there is no room.
 */
static bool nlmmap_attached_tell(struct nlmmap_attached *attached, bool lost_unknown)
{
	struct nlmmap_ring *ring = &attached->socket->rx;
	s32 error = attached->error;
	struct nlmmap_record *record;
	u16 flags = 0;
	u32 len = 0;
	u64 bytes;

	if (!attached->lost_untold && !lost_unknown && !error)
		return true;
	if (lost_unknown)
		flags |= NLMMAP_RECORD_LOST_UNKNOWN;
	if (error) {
		flags |= NLMMAP_RECORD_ERROR;
		len = sizeof(error);
	}
	bytes = nlmmap_record_bytes(ring, len);
	record = nlmmap_attached_start(attached, 0, flags, len, bytes);
	if (!record)
		return false;
	if (error) {
		u8 *datagram = (u8 *)record + ring->header_bytes;

		memset(datagram, 0, 8);
		memcpy(datagram, &error, sizeof(error));
	}
	nlmmap_attached_finish(attached, bytes);
	attached->error = 0;
	return true;
}

/* Is @current in this socket's sendmsg(), and not just interrupted there? */
static bool nlmmap_attached_is_sending(const struct nlmmap_attached *attached)
{
	const struct nlmmap_sending *sending;

	lockdep_assert_held(&attached->lock);
	if (!in_task())
		return false;
	list_for_each_entry(sending, &attached->sending, node)
		if (sending->task == current)
			return true;
	return false;
}

/* Has this to be served in process context? Parts of dumps have, to get the
 * next one; not all of them say that they are parts. Dumps answer one socket.
 */
static bool nlmmap_attached_is_to_serve(const struct nlmmap_attached *attached,
					const struct sk_buff *skb)
{
	const struct nlmsghdr *nlh;
	struct nlmsghdr copy;

	if (unlikely(skb->len > NLMMAP_IN_LINE_BYTES))
		return true;
	if (NETLINK_CB(skb).dst_group)
		return false;
	nlh = skb_header_pointer(skb, 0, sizeof(copy), &copy);
	if (nlh && nlh->nlmsg_flags & NLM_F_MULTI)
		return true;
	return nlmmap_attached_is_sending(attached);
}

/* Whoever sent this may sleep until netlink finds the queue empty. */
static bool nlmmap_attached_may_sleep(const struct nlmmap_attached *attached,
				      const struct sk_buff *skb)
{
	int protocol = attached->socket->sk->sk_protocol;

	return NETLINK_CB(skb).portid || protocol == NETLINK_AUDIT ||
	       protocol == NETLINK_CONNECTOR;
}

/* Moves what is queued into the ring. Context: any that netlink sends from. */
static void nlmmap_attached_arrive(struct nlmmap_attached *attached)
{
	struct sk_buff_head *queue = nlmmap_attached_queue(attached);
	unsigned long flags;
	struct sk_buff *skb;

	/* The lock is given up between datagrams. */
	for (;;) {
		spin_lock_irqsave(&attached->lock, flags);
		if (attached->dead || attached->busy)
			break;
		skb = nlmmap_queue_head(queue);
		if (!skb)
			break;
		if (nlmmap_attached_is_to_serve(attached, skb)) {
			attached->busy = true;
			nlmmap_drain_queue_work(attached);
			goto out_put;
		}
		/* The core counts without a word under NETLINK_NO_ENOBUFS. */
		if (unlikely(nlmmap_attached_settle(attached)))
			attached->lost_nearby = true;
		if (unlikely(!nlmmap_attached_publish(attached, skb, &flags)))
			goto out_put;
		nlmmap_queue_drop(queue, skb);
		if (nlmmap_attached_may_sleep(attached, skb))
			nlmmap_drain_queue_work(attached);
		spin_unlock_irqrestore(&attached->lock, flags);
		nlmmap_skb_free(skb);
	}
	spin_unlock_irqrestore(&attached->lock, flags);
	return;

out_put:
	spin_unlock_irqrestore(&attached->lock, flags);
	consume_skb(skb);
}

/* Lets netlink's recvmsg() look at the queue, in process context. */
static int nlmmap_attached_peek(struct nlmmap_attached *attached)
{
	int flags = MSG_PEEK | MSG_DONTWAIT;
	struct msghdr msg = { };

	if (READ_ONCE(attached->compat))
		flags |= MSG_CMSG_COMPAT;
	iov_iter_discard(&msg.msg_iter, ITER_DEST, NLMMAP_PEEK_BYTES);
	return nlmmap_base_recvmsg(attached->sock, &msg, NLMMAP_PEEK_BYTES, flags);
}

/* ENOBUFS is counted where it is made: sk_err may be taken by others. */
static void nlmmap_attached_keep_error(struct nlmmap_attached *attached, int error)
{
	unsigned long flags;

	if (error == -ENOBUFS)
		return;
	spin_lock_irqsave(&attached->lock, flags);
	attached->error = -error;
	spin_unlock_irqrestore(&attached->lock, flags);
}

/* The queue may be empty: lets netlink see that, and closes the accounts. */
static enum nlmmap_served nlmmap_attached_serve_empty(struct nlmmap_attached *attached)
{
	enum nlmmap_served served = NLMMAP_SERVED_MORE;
	unsigned long flags;
	u32 expected;
	int err;

	err = nlmmap_attached_peek(attached);
	if (err >= 0)
		return NLMMAP_SERVED_MORE;
	if (err != -EAGAIN) {
		nlmmap_attached_keep_error(attached, err);
		return NLMMAP_SERVED_MORE;
	}
	/* What was dropped came after all that was queued, and before all that
	 * is queued now.
	 */
	spin_lock_irqsave(&attached->lock, flags);
	expected = nlmmap_attached_settle(attached) ? 1 : 0;
	/* The core says ENOBUFS once for what it then counts. Kept, not as a
	 * number, if it cannot be told yet: it is settled now.
	 */
	attached->overruns = attached->overruns > expected;
	if (!nlmmap_attached_tell(attached, attached->overruns)) {
		served = NLMMAP_SERVED_STALLED;
	} else {
		attached->overruns = 0;
		if (skb_queue_empty_lockless(nlmmap_attached_queue(attached))) {
			attached->busy = false;
			served = NLMMAP_SERVED_ALL;
		}
	}
	spin_unlock_irqrestore(&attached->lock, flags);
	return served;
}

/* One datagram. Context: process; @serving is held. */
static enum nlmmap_served nlmmap_attached_serve_one(struct nlmmap_attached *attached)
{
	struct sk_buff_head *queue = nlmmap_attached_queue(attached);
	unsigned long flags;
	struct sk_buff *skb;
	int tries = 4, err;

	spin_lock_irqsave(&attached->lock, flags);
	if (attached->dead) {
		spin_unlock_irqrestore(&attached->lock, flags);
		return NLMMAP_SERVED_ALL;
	}
	skb = nlmmap_queue_head(queue);
	if (!skb) {
		spin_unlock_irqrestore(&attached->lock, flags);
		return nlmmap_attached_serve_empty(attached);
	}
	attached->busy = true;
	if (skb != attached->published &&
	    !nlmmap_attached_publish(attached, skb, &flags)) {
		spin_unlock_irqrestore(&attached->lock, flags);
		consume_skb(skb);
		return NLMMAP_SERVED_STALLED;
	}
	/* The last one stays queued for netlink to look at, so that a dump goes
	 * on; without its charge, or a small buffer would not let it. What lies
	 * in vmalloc() memory would lose that with its charge; it is no part of
	 * a dump.
	 */
	if (skb_queue_len_lockless(queue) > 1 || is_vmalloc_addr(skb->head)) {
		nlmmap_queue_drop(queue, skb);
		spin_unlock_irqrestore(&attached->lock, flags);
		nlmmap_skb_free(skb);
		return NLMMAP_SERVED_MORE;
	}
	attached->published = skb;
	skb_orphan(skb);
	spin_unlock_irqrestore(&attached->lock, flags);

	/* An error hides what is queued. */
	do {
		err = nlmmap_attached_peek(attached);
		if (err < 0 && err != -EAGAIN)
			nlmmap_attached_keep_error(attached, err);
	} while (err < 0 && err != -EAGAIN && --tries);

	spin_lock_irqsave(&attached->lock, flags);
	if (attached->published == skb) {
		nlmmap_queue_drop(queue, skb);
		attached->published = NULL;
	}
	spin_unlock_irqrestore(&attached->lock, flags);
	nlmmap_skb_free(skb);
	return NLMMAP_SERVED_MORE;
}

/**
 * nlmmap_drain_serve - serve what is queued, a bounded number of datagrams
 * @attached: not released
 *
 * Context: process, may sleep as long as a part of a dump takes.
 * Return: false if there may be more.
 */
bool nlmmap_drain_serve(struct nlmmap_attached *attached)
{
	enum nlmmap_served served = NLMMAP_SERVED_MORE;
	u32 rounds = NLMMAP_SERVE_ROUNDS;

	mutex_lock(&attached->serving);
	while (served == NLMMAP_SERVED_MORE && rounds--) {
		served = nlmmap_attached_serve_one(attached);
		cond_resched();
	}
	mutex_unlock(&attached->serving);
	return served != NLMMAP_SERVED_MORE;
}

/**
 * nlmmap_drain_work - struct nlmmap_attached.work
 * @work: of the attached socket
 */
void nlmmap_drain_work(struct work_struct *work)
{
	struct nlmmap_attached *attached = container_of(work, struct nlmmap_attached, work);
	const struct cred *cred, *saved;
	bool done;

	spin_lock_irq(&attached->lock);
	cred = get_cred(attached->cred);
	spin_unlock_irq(&attached->lock);
	/* A dump asks @current what it may tell. */
	saved = override_creds(cred);
	done = nlmmap_drain_serve(attached);
	revert_creds(saved);
	put_cred(cred);
	if (done)
		return;
	/* By way of the queue, so that new credentials count. */
	spin_lock_irq(&attached->lock);
	nlmmap_drain_queue_work(attached);
	spin_unlock_irq(&attached->lock);
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

	rcu_read_lock();
	attached = nlmmap_attached_find(sk);
	if (likely(attached)) {
		/* What comes next is kept behind the place of the loss. */
		spin_lock_irqsave(&attached->lock, flags);
		attached->busy = true;
		if (READ_ONCE(sk->sk_err) == ENOBUFS)
			attached->overruns++;
		nlmmap_drain_queue_work(attached);
		spin_unlock_irqrestore(&attached->lock, flags);
	} else {
		nlmmap_base_error_report(sk);
	}
	rcu_read_unlock();
}

/**
 * nlmmap_drain_restart - the reader may have made room
 * @attached: not released
 *
 * Or it may have slept through a loss that nobody told.
 *
 * Context: process.
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
		if (attached->dead || attached->copying ||
		    skb_queue_len_lockless(queue) <= attached->busy)
			break;
		skb = nlmmap_queue_head(queue);
		if (!skb)
			break;
		if (skb == attached->published) {
			attached->published = NULL;
		} else if (skb->len > NLMMAP_IN_LINE_BYTES ||
			   !nlmmap_attached_publish(attached, skb, &flags)) {
			nlmmap_drain_queue_work(attached);
			spin_unlock_irqrestore(&attached->lock, flags);
			consume_skb(skb);
			return;
		}
		nlmmap_queue_drop(queue, skb);
		spin_unlock_irqrestore(&attached->lock, flags);
		nlmmap_skb_free(skb);
	}
	nlmmap_drain_queue_work(attached);
	spin_unlock_irqrestore(&attached->lock, flags);
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
	attached->busy = true;
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
