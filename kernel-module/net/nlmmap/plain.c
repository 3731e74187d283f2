// SPDX-License-Identifier: GPL-2.0
/*
 * Group members without a ring of their own
 *
 * A publisher may stand in hardirq or under the scheduler's locks, where no
 * socket buffer can be made and no broadcast sent. So a group with plain
 * listeners has one more ring, read inside the kernel: publishing into it arms
 * an irq_work, that queues a work item, and the work item broadcasts.
 *
 * Locks and lifetimes: a struct nlmmap_plain belongs to its group, which starts
 * and stops it under nlmmap_group_mutex. The work item is the ring's only
 * consumer; it takes no lock. The core's table lock is taken by
 * netlink_broadcast() within, so nlmmap_plain_stop(), which waits for the work
 * item, must not be called with that grabbed.
 */
#include <linux/irq_work.h>
#include <linux/mm.h>
#include <linux/netlink.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <net/netns/generic.h>
#include <net/netlink.h>

#include "group.h"
#include "memory.h"
#include "plain.h"
#include "ring.h"

/**
 * struct nlmmap_plain - the ring of a group's plain listeners, and its reader
 * @ring: produced as any member's
 * @memory: under @ring, mapped by nobody
 * @wake: queues @work, for publishers that may not
 * @work: reads @ring and broadcasts
 * @net: the group's
 * @group_id: the group's number
 * @consumed: the reader's position
 * @lost_told: how many losses the listeners were told of
 */
struct nlmmap_plain {
	struct nlmmap_ring ring;
	struct nlmmap_memory memory;
	struct irq_work wake;
	struct work_struct work;
	struct net *net;
	u16 group_id;
	u64 consumed;
	u64 lost_told;
};

uint nlmmap_plain_ring_bytes = 1 << 20;

static struct workqueue_struct *nlmmap_plain_queue;

static void nlmmap_plain_broadcast(struct nlmmap_plain *plain,
				   const void *datagram, u32 len)
{
	struct nlmmap_net *nn = net_generic(plain->net, nlmmap_net_id);
	struct sk_buff *skb = nlmsg_new(len, GFP_KERNEL);

	if (!skb) {
		netlink_set_err(nn->sock, 0, plain->group_id, -ENOBUFS);
		return;
	}
	skb_put_data(skb, datagram, len);
	NETLINK_CB(skb).dst_group = plain->group_id;
	/* Whoever has no room is told ENOBUFS by the core; nobody listening is
	 * no error here.
	 */
	netlink_broadcast(nn->sock, skb, 0, plain->group_id, GFP_KERNEL);
}

static void nlmmap_plain_tell_loss(struct nlmmap_plain *plain)
{
	struct nlmmap_net *nn = net_generic(plain->net, nlmmap_net_id);
	u64 lost = READ_ONCE(plain->ring.producer->lost);

	if (lost == plain->lost_told)
		return;
	plain->lost_told = lost;
	netlink_set_err(nn->sock, 0, plain->group_id, -ENOBUFS);
}

static void nlmmap_plain_drain(struct nlmmap_plain *plain)
{
	struct nlmmap_ring *ring = &plain->ring;
	const struct nlmmap_record *record;
	u64 position;

	do {
		/* Pairs with the store-release in nlmmap_ring_finish(). */
		position = smp_load_acquire(&ring->producer->position);
		while (plain->consumed != position) {
			record = (void *)ring->data +
				 (plain->consumed & (ring->data_bytes - 1));
			if (record->flags & NLMMAP_RECORD_LOST)
				nlmmap_plain_tell_loss(plain);
			nlmmap_plain_broadcast(plain, (void *)record + ring->header_bytes,
					       record->len);
			plain->consumed += ALIGN((u64)ring->header_bytes + record->len, 8);
			/* Pairs with the load-acquire in nlmmap_ring_accept():
			 * the record was copied before its room is given back.
			 */
			smp_store_release(&ring->consumer->position, plain->consumed);
			cond_resched();
		}
	} while (nlmmap_ring_poll(ring) &&
		 READ_ONCE(ring->producer->position) != plain->consumed);
	nlmmap_plain_tell_loss(plain);
}

static void nlmmap_plain_work(struct work_struct *work)
{
	nlmmap_plain_drain(container_of(work, struct nlmmap_plain, work));
}

static void nlmmap_plain_wake(struct irq_work *work)
{
	queue_work(nlmmap_plain_queue,
		   &container_of(work, struct nlmmap_plain, wake)->work);
}

static void nlmmap_plain_ring_wake(struct nlmmap_ring *ring)
{
	irq_work_queue(&container_of(ring, struct nlmmap_plain, ring)->wake);
}

/* Told by nlmmap_plain_tell_loss(), when the reader is there. */
static void nlmmap_plain_ring_lost(struct nlmmap_ring *ring, u32 count)
{
}

static const struct nlmmap_ring_ops nlmmap_plain_ring_ops = {
	.wake = nlmmap_plain_ring_wake,
	.lost = nlmmap_plain_ring_lost,
};

/**
 * nlmmap_plain_start - begin to serve a group's plain listeners
 * @net: the group's; outlives what is returned
 * @group_id: the group's number
 * @max_bytes: the group's largest datagram
 *
 * Context: process, may sleep.
 * Return: what serves them, its ring not yet a member; ERR_PTR(-ENOMEM), or
 * ERR_PTR(-EINTR) if the caller is being killed.
 */
struct nlmmap_plain *nlmmap_plain_start(struct net *net, u16 group_id, u32 max_bytes)
{
	u32 data_bytes = clamp_t(u32, READ_ONCE(nlmmap_plain_ring_bytes), PAGE_SIZE, 64 << 20);
	struct nlmmap_plain *plain;
	int err;

	data_bytes = roundup_pow_of_two(max(data_bytes, 4 * max_bytes));
	plain = kzalloc(sizeof(*plain), GFP_KERNEL);
	if (!plain)
		return ERR_PTR(-ENOMEM);
	/* Nobody's: it serves whoever listens, and outlives who came first. */
	err = nlmmap_memory_alloc(&plain->memory, data_bytes, GFP_KERNEL);
	if (err) {
		kfree(plain);
		return ERR_PTR(err);
	}
	nlmmap_ring_init(&plain->ring, nlmmap_memory_consumer(&plain->memory),
			 nlmmap_memory_producer(&plain->memory),
			 nlmmap_memory_data(&plain->memory), data_bytes, 0,
			 &nlmmap_plain_ring_ops);
	init_irq_work(&plain->wake, nlmmap_plain_wake);
	INIT_WORK(&plain->work, nlmmap_plain_work);
	plain->net = net;
	plain->group_id = group_id;
	/* The ring is empty: this arms it for the first record. */
	nlmmap_ring_poll(&plain->ring);
	return plain;
}

/**
 * nlmmap_plain_ring - the ring to make a member
 * @plain: started
 */
struct nlmmap_ring *nlmmap_plain_ring(struct nlmmap_plain *plain)
{
	return &plain->ring;
}

/* Afterwards the work item neither runs nor will, until the ring wakes again. */
static void nlmmap_plain_quiesce(struct nlmmap_plain *plain)
{
	irq_work_sync(&plain->wake);
	cancel_work_sync(&plain->work);
}

/**
 * nlmmap_plain_stop - deliver what is in the ring and free everything
 * @plain: its ring is no member any more, and a grace period has passed
 * @group_deleted: also tell the listeners that the group is gone
 *
 * Context: process, may sleep.
 */
void nlmmap_plain_stop(struct nlmmap_plain *plain, bool group_deleted)
{
	nlmmap_plain_quiesce(plain);
	nlmmap_plain_drain(plain);
	/* Draining may have counted a loss in NMI, and that wakes. */
	nlmmap_plain_quiesce(plain);
	if (group_deleted) {
		nlmmap_ring_keep_notice(&plain->ring);
		nlmmap_ring_give_notice(&plain->ring, plain->group_id);
		nlmmap_plain_quiesce(plain);
		nlmmap_plain_drain(plain);
	}
	nlmmap_memory_free(&plain->memory);
	kfree(plain);
}

/**
 * nlmmap_plain_init - at module load
 *
 * Return: 0 or -ENOMEM.
 */
int __init nlmmap_plain_init(void)
{
	nlmmap_plain_queue = alloc_workqueue("nlmmap_plain", WQ_UNBOUND, 0);
	return nlmmap_plain_queue ? 0 : -ENOMEM;
}

/**
 * nlmmap_plain_exit - at module unload, after the last group was deleted
 */
void nlmmap_plain_exit(void)
{
	destroy_workqueue(nlmmap_plain_queue);
}
