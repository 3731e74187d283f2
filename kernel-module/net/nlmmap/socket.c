// SPDX-License-Identifier: GPL-2.0
/*
 * A socket's rings: set-up, mmap, poll, release
 *
 * Locks and lifetimes
 *
 * nlmmap_setup_mutex makes a socket's set-up happen once. It is held over the
 * change of operations and the insertion into the hash, over no allocation and
 * no user copy, and is not taken in mmap or poll.
 *
 * nlmmap_sockets is a hash by sock; writers hold nlmmap_sockets_lock (process
 * context, nests inside the set-up mutex), readers RCU. A struct nlmmap_socket
 * is in it from the end of its set-up to its socket's release. mmap, poll and
 * fdinfo are called with a reference to the file, so release cannot run beside
 * them and what they find stays.
 *
 * Release takes the rings out of all groups and out of the hash, lets netlink
 * release the socket, and leaves the memory to a work item after a grace
 * period: until then a publisher may still write into a ring. It holds a
 * reference to the sock, so the wake-up may look at it all that time.
 */
#include <linux/file.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/netlink.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <net/sock.h>

#include "attach.h"
#include "drain.h"
#include "group.h"
#include "override.h"
#include "socket.h"

#define NLMMAP_SOCKET_HASH_BITS	10

uint nlmmap_max_ring_bytes = 64 << 20;

static DEFINE_HASHTABLE(nlmmap_sockets, NLMMAP_SOCKET_HASH_BITS);
static DEFINE_SPINLOCK(nlmmap_sockets_lock);
static unsigned long nlmmap_socket_numbers;
static DEFINE_MUTEX(nlmmap_setup_mutex);
static struct workqueue_struct *nlmmap_free_queue;

/* What ring data is to poll; never EPOLLRDNORM, which is the ordinary queue. */
#define NLMMAP_POLL_RING	(EPOLLIN | EPOLLRDBAND)

/* An attached socket's ring stands for the ordinary queue. */
#define NLMMAP_POLL_ATTACHED	(EPOLLIN | EPOLLRDNORM)

/**
 * nlmmap_socket_find - what a socket has gained
 * @sk: any socket
 *
 * Context: any. The caller keeps the socket from being released, or holds RCU.
 * Return: it, or NULL if @sk was never set up.
 */
struct nlmmap_socket *nlmmap_socket_find(const struct sock *sk)
{
	struct nlmmap_socket *socket, *found = NULL;

	rcu_read_lock();
	hash_for_each_possible_rcu(nlmmap_sockets, socket, node, (unsigned long)sk) {
		if (socket->sk == sk) {
			found = socket;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

static void nlmmap_socket_wake(struct irq_work *work)
{
	struct nlmmap_socket *socket = container_of(work, struct nlmmap_socket, wake);
	struct socket_wq *wq;

	rcu_read_lock();
	wq = rcu_dereference(socket->sk->sk_wq);
	/* The barrier in skwq_has_sleeper() pairs with the one in
	 * sock_poll_wait(). All sleepers: one exclusive wake-up could be eaten
	 * by a thread in recvmsg(), which has no use for it.
	 */
	if (skwq_has_sleeper(wq))
		__wake_up(&wq->wait, TASK_NORMAL, 0,
			  poll_to_key(socket->attached ? NLMMAP_POLL_ATTACHED :
					NLMMAP_POLL_RING));
	/* SIGIO, for who asked for it by O_ASYNC. */
	sk_wake_async(socket->sk, SOCK_WAKE_WAITD, POLL_IN);
	rcu_read_unlock();
}

static void nlmmap_socket_ring_wake(struct nlmmap_ring *ring)
{
	irq_work_queue(&container_of(ring, struct nlmmap_socket, rx)->wake);
}

static void nlmmap_socket_ring_lost(struct nlmmap_ring *ring, u32 count)
{
	/* So that ss and /proc/net/netlink tell. */
	atomic_add(count, &container_of(ring, struct nlmmap_socket, rx)->sk->sk_drops);
}

static const struct nlmmap_ring_ops nlmmap_socket_ring_ops = {
	.wake = nlmmap_socket_ring_wake,
	.lost = nlmmap_socket_ring_lost,
};

/* What an attached socket loses is in sk_drops already. */
static void nlmmap_socket_ring_lost_before(struct nlmmap_ring *ring, u32 count)
{
}

static const struct nlmmap_ring_ops nlmmap_attached_ring_ops = {
	.wake = nlmmap_socket_ring_wake,
	.lost = nlmmap_socket_ring_lost_before,
};

/**
 * nlmmap_socket_free - free what no one can see
 * @socket: not in the hash, no group, no publisher
 *
 * Context: process, may sleep.
 */
void nlmmap_socket_free(struct nlmmap_socket *socket)
{
	/* The last publisher may have asked for a wake-up. */
	irq_work_sync(&socket->wake);
	nlmmap_memory_free(&socket->memory);
	if (socket->attached)
		nlmmap_attached_free(socket->attached);
	sock_put(socket->sk);
	kfree(socket);
}

static void nlmmap_socket_free_work(struct work_struct *work)
{
	nlmmap_socket_free(container_of(to_rcu_work(work), struct nlmmap_socket, free));
}

static int nlmmap_setup_check(const struct nlmmap_setup *setup,
			      struct netlink_ext_ack *extack)
{
	if (setup->flags & ~(NLMMAP_SETUP_TIME | NLMMAP_SETUP_CREDENTIALS)) {
		NL_SET_ERR_MSG(extack, "unknown set-up flag");
		return -EOPNOTSUPP;
	}
	if (setup->flags & NLMMAP_SETUP_CREDENTIALS && !setup->attached) {
		NL_SET_ERR_MSG(extack, "credentials are for attached sockets");
		return -EOPNOTSUPP;
	}
	if (!setup->rx_bytes) {
		NL_SET_ERR_MSG(extack, "ring size is zero");
		return -EINVAL;
	}
	if (setup->rx_bytes & (setup->rx_bytes - 1)) {
		NL_SET_ERR_MSG(extack, "ring size is not a power of two");
		return -EINVAL;
	}
	if (setup->rx_bytes < PAGE_SIZE) {
		NL_SET_ERR_MSG(extack, "ring size is less than a page");
		return -EINVAL;
	}
	/* A ring with its two mappings stays within its part of the file. */
	if (setup->rx_bytes > min(READ_ONCE(nlmmap_max_ring_bytes), 1u << 30)) {
		NL_SET_ERR_MSG(extack, "ring size is over the module's max_ring_bytes");
		return -ERANGE;
	}
	return 0;
}

/**
 * nlmmap_socket_setup - give a socket its RX ring
 * @sk: the sender of the request, in whose context this runs, or the socket
 *	that it attaches to
 * @setup: unchecked
 * @extack: for the sentence, or NULL
 *
 * Context: process, may sleep; @sk's file is held by the caller.
 * Return: what the socket gained, or an ERR_PTR() as the uapi header says.
 */
struct nlmmap_socket *nlmmap_socket_setup(struct sock *sk,
					  const struct nlmmap_setup *setup,
					  struct netlink_ext_ack *extack)
{
	struct nlmmap_socket *socket;
	int err;

	err = nlmmap_setup_check(setup, extack);
	if (err)
		return ERR_PTR(err);
	/* A kernel socket has no file, nobody to map it and no release. */
	if (!sk->sk_socket || !sk->sk_socket->file) {
		NL_SET_ERR_MSG(extack, "not a socket of user space");
		return ERR_PTR(-EOPNOTSUPP);
	}
	if (nlmmap_socket_find(sk))
		goto err_busy;

	socket = kzalloc(sizeof(*socket), GFP_KERNEL_ACCOUNT);
	if (!socket) {
		NL_SET_ERR_MSG(extack, "no memory for the socket's state");
		return ERR_PTR(-ENOMEM);
	}
	err = nlmmap_memory_charge(&socket->memory, setup->rx_bytes);
	if (err) {
		/* A ring that the user closed just now may still be charged: a
		 * daemon that starts again must not fail for that.
		 */
		rcu_barrier();
		flush_workqueue(nlmmap_free_queue);
		err = nlmmap_memory_charge(&socket->memory, setup->rx_bytes);
	}
	if (err) {
		NL_SET_ERR_MSG(extack, "ring would exceed the user's RLIMIT_MEMLOCK");
		goto err_free_socket;
	}
	err = nlmmap_memory_alloc(&socket->memory, setup->rx_bytes, GFP_KERNEL_ACCOUNT);
	if (err) {
		NL_SET_ERR_MSG(extack, "no memory for the ring");
		goto err_uncharge;
	}
	nlmmap_ring_init(&socket->rx, nlmmap_memory_consumer(&socket->memory),
			 nlmmap_memory_producer(&socket->memory),
			 nlmmap_memory_data(&socket->memory), setup->rx_bytes,
			 setup->flags, setup->attached ? &nlmmap_attached_ring_ops :
			 &nlmmap_socket_ring_ops);
	/* Whoever polls since before the set-up, with the core's operations,
	 * has not armed the ring: the first record wakes him.
	 */
	socket->rx.wake_at = 1;
	init_irq_work(&socket->wake, nlmmap_socket_wake);
	INIT_LIST_HEAD(&socket->memberships);
	INIT_RCU_WORK(&socket->free, nlmmap_socket_free_work);
	socket->portid = setup->portid;
	socket->flags = setup->flags;
	socket->uid = current_uid();
	socket->attached = setup->attached;
	if (socket->attached)
		socket->attached->socket = socket;
	socket->sk = sk;

	mutex_lock(&nlmmap_setup_mutex);
	if (nlmmap_socket_find(sk)) {
		mutex_unlock(&nlmmap_setup_mutex);
		nlmmap_memory_free(&socket->memory);
		kfree(socket);
		goto err_busy;
	}
	if (!nlmmap_override_fits(sk->sk_socket)) {
		mutex_unlock(&nlmmap_setup_mutex);
		nlmmap_memory_free(&socket->memory);
		kfree(socket);
		NL_SET_ERR_MSG(extack, "something else has replaced this socket's operations");
		return ERR_PTR(-EOPNOTSUPP);
	}
	sock_hold(sk);
	spin_lock(&nlmmap_sockets_lock);
	socket->number = ++nlmmap_socket_numbers;
	hash_add_rcu(nlmmap_sockets, &socket->node, (unsigned long)sk);
	spin_unlock(&nlmmap_sockets_lock);
	/* After the hash: from here on mmap, poll and release look there. */
	nlmmap_override(sk->sk_socket);
	if (socket->attached)
		nlmmap_drain_begin(socket->attached);
	mutex_unlock(&nlmmap_setup_mutex);
	return socket;

err_uncharge:
	nlmmap_memory_uncharge(&socket->memory);
err_free_socket:
	kfree(socket);
	return ERR_PTR(err);

err_busy:
	NL_SET_ERR_MSG(extack, "this socket has an RX ring already");
	return ERR_PTR(-EBUSY);
}

/**
 * nlmmap_socket_release - the socket is about to be released
 * @socket: in the hash
 *
 * Context: process, may sleep; from the socket's release, so nobody maps or
 * polls it any more.
 */
void nlmmap_socket_release(struct nlmmap_socket *socket)
{
	nlmmap_group_leave_all(socket);
	spin_lock(&nlmmap_sockets_lock);
	hash_del_rcu(&socket->node);
	spin_unlock(&nlmmap_sockets_lock);
	if (socket->attached)
		nlmmap_drain_end(socket->attached);
	queue_rcu_work(nlmmap_free_queue, &socket->free);
}

static vm_fault_t nlmmap_vm_fault(struct vm_fault *vmf)
{
	struct nlmmap_socket *socket = vmf->vma->vm_private_data;
	struct page *page = nlmmap_memory_page(&socket->memory, vmf->pgoff);

	if (!page)
		return VM_FAULT_SIGBUS;
	get_page(page);
	vmf->page = page;
	return 0;
}

/* Only for pages that MADV_DONTNEED threw away. The mapping holds the file,
 * the file the socket, the socket its struct nlmmap_socket.
 */
static const struct vm_operations_struct nlmmap_vm_ops = {
	.fault = nlmmap_vm_fault,
};

/**
 * nlmmap_socket_mmap - map one of the two parts of a ring
 * @socket: set up
 * @vma: as the core made it
 *
 * Context: process, the mmap lock held for writing.
 * Return: 0 or a negative error as the uapi header says.
 */
int nlmmap_socket_mmap(struct nlmmap_socket *socket, struct vm_area_struct *vma)
{
	unsigned long bytes = vma->vm_end - vma->vm_start;
	bool writable;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_pgoff == 0 && bytes == PAGE_SIZE)
		writable = true;
	else if (vma->vm_pgoff == 1 &&
		 bytes == PAGE_SIZE + 2ul * socket->memory.data_bytes)
		writable = false;
	else
		return -EINVAL;

	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	if (!writable && vma->vm_flags & VM_WRITE)
		return -EPERM;
	/* Else mprotect() could add them later. */
	vm_flags_clear(vma, writable ? VM_MAYEXEC : VM_MAYEXEC | VM_MAYWRITE);
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTCOPY | VM_DONTDUMP);
	vma->vm_ops = &nlmmap_vm_ops;
	vma->vm_private_data = socket;
	return nlmmap_memory_map(&socket->memory, vma);
}

/**
 * nlmmap_socket_poll - ask for and arm the rings
 * @socket: set up; its wait queue was joined before
 * @mask: what netlink's own poll said
 *
 * Context: process.
 * Return: the socket's mask.
 */
__poll_t nlmmap_socket_poll(struct nlmmap_socket *socket, __poll_t mask)
{
	if (socket->attached)
		return nlmmap_attached_poll(socket->attached, mask);
	return nlmmap_ring_poll(&socket->rx) ? mask | NLMMAP_POLL_RING : mask;
}

/**
 * nlmmap_socket_show - lines for /proc/PID/fdinfo
 * @socket: set up
 * @m: where they go
 *
 * Context: process.
 */
void nlmmap_socket_show(struct nlmmap_socket *socket, struct seq_file *m)
{
	struct nlmmap_ring_counters counters;

	nlmmap_ring_count(&socket->rx, &counters);
	seq_printf(m, "rx-bytes:\t%u\n", socket->memory.data_bytes);
	seq_printf(m, "rx-produced:\t%llu\n", counters.produced);
	seq_printf(m, "rx-consumed:\t%llu\n", counters.consumed);
	seq_printf(m, "rx-seq:\t%llu\n", counters.seq);
	seq_printf(m, "rx-lost:\t%llu\n", counters.lost);
	seq_printf(m, "rx-high-water:\t%llu\n", counters.high_water);
	seq_printf(m, "rx-wakeups:\t%llu\n", counters.wakeups);
	seq_printf(m, "rx-forged:\t%llu\n", counters.forged);
}

/**
 * nlmmap_socket_walk - visit all sockets, over several calls
 * @visit: called under RCU; a value other than 0 stops the walk
 * @bucket: where to go on; 0 at first
 * @last: number of the last socket that was visited in that bucket; 0: none
 * @arg: for @visit
 *
 * The socket whose visit stopped the walk is visited first by the next call.
 * Sockets that come and go meanwhile may be missed; one that stays is visited
 * once, whatever the others do.
 *
 * Context: process.
 * Return: 0 at the end, or what @visit returned.
 */
int nlmmap_socket_walk(int (*visit)(struct nlmmap_socket *socket, void *arg),
		       unsigned long *bucket, unsigned long *last, void *arg)
{
	struct nlmmap_socket *socket;
	int err = 0;

	rcu_read_lock();
	for (; *bucket < HASH_SIZE(nlmmap_sockets); (*bucket)++, *last = 0) {
		/* The newest comes first in its bucket. */
		hlist_for_each_entry_rcu(socket, &nlmmap_sockets[*bucket], node) {
			if (*last && socket->number >= *last)
				continue;
			err = visit(socket, arg);
			if (err)
				goto out;
			*last = socket->number;
		}
	}
out:
	rcu_read_unlock();
	return err;
}

/**
 * nlmmap_socket_init - at module load
 *
 * Return: 0 or -ENOMEM.
 */
int __init nlmmap_socket_init(void)
{
	nlmmap_free_queue = alloc_workqueue("nlmmap_free", WQ_UNBOUND, 0);
	return nlmmap_free_queue ? 0 : -ENOMEM;
}

/**
 * nlmmap_socket_exit - at module unload, after the last socket was released
 */
void nlmmap_socket_exit(void)
{
	/* The grace periods that queue_rcu_work() waits for. */
	rcu_barrier();
	destroy_workqueue(nlmmap_free_queue);
}
