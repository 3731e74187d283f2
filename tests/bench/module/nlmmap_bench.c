// SPDX-License-Identifier: GPL-2.0
/*
 * nlmmap_bench: publishes batches and counts what that costs
 *
 * Under QEMU's -icount shift=0 the TSC counts instructions. The timed part is
 * the publishing loop alone, with preemption and interrupts as any producer in
 * process context has them; the caller takes medians, which removes ticks.
 *
 * All paths publish the same bytes. Where they are copied in, they lie ready
 * in a buffer, as for a producer that has built its message, and each message
 * costs the loop two stores into it. Filled in place, the size is a constant to
 * the compiler, as it is to a producer with a fixed event structure.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/sock.h>
#include <asm/msr.h>

#include <net/nlmmap.h>

#include "nlmmap_bench.h"

/* How long plain members may take to get a batch. */
#define WAIT_SECONDS 10

static int peer_family = 31;
module_param(peer_family, int, 0444);
MODULE_PARM_DESC(peer_family, "number of the netlink family that the peers use (default 31)");

static struct nlmmap_group *ring_group, *plain_group;
static struct sock *peer_sock;
static u64 *datagram; /* NLMMAP_BENCH_DATAGRAM_MAX bytes */
static DEFINE_MUTEX(run_lock); /* one batch at a time: guards datagram */

static u64 first_word(u64 seed, u32 index)
{
	return seed + ((u64)index << NLMMAP_BENCH_INDEX_SHIFT);
}

static void prepare_datagram(const struct nlmmap_bench_run *run)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)datagram;
	u64 *body = nlmsg_data(nlh);
	u32 word, words = (NLMMAP_BENCH_DATAGRAM_MAX - NLMSG_HDRLEN) / 8;

	memset(nlh, 0, NLMSG_HDRLEN);
	nlh->nlmsg_len = run->datagram_bytes;
	for (word = 0; word < words; word++)
		body[word] = run->seed + word;
}

static int publish_copies(struct nlmmap_group *group,
			  const struct nlmmap_bench_run *run)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)datagram;
	u64 *body = nlmsg_data(nlh);
	u32 bytes = run->datagram_bytes, batch = run->batch, i;
	u64 seed = run->seed;
	int err;

	for (i = 0; i < batch; i++) {
		nlh->nlmsg_type = NLMMAP_BENCH_TYPE + i;
		body[0] = first_word(seed, i);
		err = nlmmap_publish(group, datagram, bytes);
		if (unlikely(err < 0))
			return err;
	}
	return 0;
}

/* Returns an error, or 0. @bytes is a constant where this is inlined. */
static __always_inline int publish_filled(const struct nlmmap_bench_run *run,
					  const u32 bytes)
{
	const u32 body_bytes = bytes - NLMSG_HDRLEN;
	struct nlmmap_group *group = ring_group;
	u32 batch = run->batch, i, word;
	u64 seed = run->seed;

	for (i = 0; i < batch; i++) {
		struct nlmmap_writer writer;
		u64 *body;
		int err;

		if (unlikely(!nlmmap_begin(group, &writer,
					   NLMMAP_BENCH_TYPE + i, bytes)))
			return -ENOBUFS;
		if (body_bytes) {
			body = nlmmap_put_fixed(&writer, body_bytes);
			if (likely(body)) {
				body[0] = first_word(seed, i);
#pragma GCC unroll 64
				for (word = 1; word < body_bytes / 8; word++)
					body[word] = seed + word;
			}
		}
		err = nlmmap_end(&writer);
		if (unlikely(err < 0))
			return err;
	}
	return 0;
}

static int publish_in_place(const struct nlmmap_bench_run *run)
{
	switch (run->datagram_bytes) {
	case 16:
		return publish_filled(run, 16);
	case 64:
		return publish_filled(run, 64);
	case 256:
		return publish_filled(run, 256);
	case 1024:
		return publish_filled(run, 1024);
	case 4096:
		return publish_filled(run, 4096);
	default:
		return -EINVAL;
	}
}

/*
 * What any netlink producer does: allocate, fill, multicast. GFP_ATOMIC,
 * because the ring's producers may not sleep either.
 */
static int publish_netlink(const struct nlmmap_bench_run *run)
{
	u64 *body = datagram + NLMSG_HDRLEN / 8;
	u32 body_bytes = run->datagram_bytes - NLMSG_HDRLEN;
	u32 batch = run->batch, i;
	u64 seed = run->seed;
	int err;

	for (i = 0; i < batch; i++) {
		struct sk_buff *skb = nlmsg_new(body_bytes, GFP_ATOMIC);
		struct nlmsghdr *nlh;

		if (unlikely(!skb))
			return -ENOMEM;
		nlh = nlmsg_put(skb, 0, 0, NLMMAP_BENCH_TYPE + i, body_bytes, 0);
		if (unlikely(!nlh)) {
			nlmsg_free(skb);
			return -EMSGSIZE;
		}
		body[0] = first_word(seed, i);
		memcpy(nlmsg_data(nlh), body, body_bytes);
		err = nlmsg_multicast(peer_sock, skb, 0,
				      NLMMAP_BENCH_PEER_GROUP, GFP_ATOMIC);
		if (unlikely(err < 0))
			return err;
	}
	return 0;
}

/*
 * Lets the work item run until every plain member has the batch in its queue.
 * Where there is one CPU it gets it because the caller runs as SCHED_IDLE.
 */
static int wait_for_plain(const struct nlmmap_bench_run *run,
			  struct socket **members)
{
	unsigned long deadline = jiffies + WAIT_SECONDS * HZ;
	u32 i;

	for (i = 0; i < run->wait_count; i++) {
		struct sk_buff_head *queue = &members[i]->sk->sk_receive_queue;

		while (skb_queue_len_lockless(queue) < run->batch) {
			if (time_after(jiffies, deadline))
				return -ETIMEDOUT;
			cond_resched();
		}
	}
	return 0;
}

/* Returns an error, or 0; the difference of the TSC to *@ticks. */
static int time_batch(const struct nlmmap_bench_run *run,
		      struct socket **members, u64 *ticks)
{
	u64 start;
	int err;

	prepare_datagram(run);
	start = rdtsc();
	switch (run->path) {
	case NLMMAP_BENCH_COPY:
		err = publish_copies(ring_group, run);
		break;
	case NLMMAP_BENCH_INPLACE:
		err = publish_in_place(run);
		break;
	case NLMMAP_BENCH_PLAIN:
		err = publish_copies(plain_group, run);
		if (!err)
			err = wait_for_plain(run, members);
		break;
	case NLMMAP_BENCH_NETLINK:
		err = publish_netlink(run);
		break;
	default:
		err = -EINVAL;
	}
	*ticks = rdtsc() - start;
	return err;
}

static int compare_ticks(const void *a, const void *b)
{
	u64 left = *(const u64 *)a, right = *(const u64 *)b;

	return left < right ? -1 : left > right;
}

/* The median of what measuring nothing costs. */
static u64 empty_measurement(void)
{
	u64 ticks[15], start;
	int i;

	for (i = 0; i < ARRAY_SIZE(ticks); i++) {
		start = rdtsc();
		ticks[i] = rdtsc() - start;
	}
	sort(ticks, ARRAY_SIZE(ticks), sizeof(ticks[0]), compare_ticks, NULL);
	return ticks[ARRAY_SIZE(ticks) / 2];
}

/* Takes a reference to each socket; returns how many, or an error. */
static int get_members(const struct nlmmap_bench_run *run,
		       struct socket **members)
{
	const s32 __user *fds = u64_to_user_ptr(run->wait_fds);
	int err;
	s32 fd;
	u32 i;

	for (i = 0; i < run->wait_count; i++) {
		err = get_user(fd, fds + i);
		if (err)
			goto err_put_members;
		members[i] = sockfd_lookup(fd, &err);
		if (!members[i])
			goto err_put_members;
	}
	return 0;

err_put_members:
	while (i--)
		sockfd_put(members[i]);
	return err;
}

static long bench_ioctl(struct file *file, unsigned int command,
			unsigned long argument)
{
	struct nlmmap_bench_run __user *user = (void __user *)argument;
	struct socket *members[NLMMAP_BENCH_WAIT_MAX];
	struct nlmmap_bench_run run;
	u64 ticks, empty;
	int err;
	u32 i;

	if (command != NLMMAP_BENCH_RUN)
		return -ENOTTY;
	if (copy_from_user(&run, user, sizeof(run)))
		return -EFAULT;
	if (!run.batch || run.batch > NLMMAP_BENCH_BATCH_MAX ||
	    run.datagram_bytes < NLMSG_HDRLEN || run.datagram_bytes % 8 ||
	    run.datagram_bytes > NLMMAP_BENCH_DATAGRAM_MAX ||
	    run.wait_count > NLMMAP_BENCH_WAIT_MAX)
		return -EINVAL;

	err = get_members(&run, members);
	if (err)
		return err;
	mutex_lock(&run_lock);
	empty = empty_measurement();
	err = time_batch(&run, members, &ticks);
	mutex_unlock(&run_lock);
	for (i = 0; i < run.wait_count; i++)
		sockfd_put(members[i]);
	if (err)
		return err;
	return put_user(ticks > empty ? ticks - empty : 0, &user->instructions);
}

static const struct file_operations bench_operations = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= bench_ioctl,
};

static struct miscdevice bench_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "nlmmap_bench",
	.fops	= &bench_operations,
	.mode	= 0600,
};

static int __init bench_init(void)
{
	struct nlmmap_group_config config = {
		.name = NLMMAP_BENCH_GROUP,
		.max_bytes = NLMMAP_BENCH_DATAGRAM_MAX,
	};
	struct netlink_kernel_cfg peer = { .groups = 32 };
	int err;

	datagram = kzalloc(NLMMAP_BENCH_DATAGRAM_MAX, GFP_KERNEL);
	if (!datagram)
		return -ENOMEM;

	ring_group = nlmmap_group_register(&init_net, &config);
	if (IS_ERR(ring_group)) {
		err = PTR_ERR(ring_group);
		goto err_free_datagram;
	}
	config.name = NLMMAP_BENCH_PLAIN_GROUP;
	plain_group = nlmmap_group_register(&init_net, &config);
	if (IS_ERR(plain_group)) {
		err = PTR_ERR(plain_group);
		goto err_unregister_ring;
	}

	peer_sock = netlink_kernel_create(&init_net, peer_family, &peer);
	if (!peer_sock) {
		pr_err("netlink family %d is taken: load with peer_family=NUMBER\n",
		       peer_family);
		err = -EBUSY;
		goto err_unregister_plain;
	}
	err = misc_register(&bench_device);
	if (err)
		goto err_release_peer;
	return 0;

err_release_peer:
	netlink_kernel_release(peer_sock);
err_unregister_plain:
	nlmmap_group_unregister(plain_group);
err_unregister_ring:
	nlmmap_group_unregister(ring_group);
err_free_datagram:
	kfree(datagram);
	return err;
}

static void __exit bench_exit(void)
{
	misc_deregister(&bench_device);
	netlink_kernel_release(peer_sock);
	nlmmap_group_unregister(plain_group);
	nlmmap_group_unregister(ring_group);
	kfree(datagram);
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_DESCRIPTION("Publishes batches to nlmmap groups and counts instructions");
MODULE_LICENSE("GPL");
