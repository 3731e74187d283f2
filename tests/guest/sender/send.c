// SPDX-License-Identifier: GPL-2.0
/*
 * Sending, from every context
 */
#include <linux/bottom_half.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/interrupt.h>
#include <linux/kthread.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/netlink.h>

#include "nlmmap_test.h"
#include "sender.h"

/**
 * struct sender_run - one sender of a request
 * @sk: the family's kernel socket
 * @order: the request
 * @number: which of its senders
 * @sent: what became of it
 * @done: completed at the end, for those in other contexts
 * @tasklet: for NLMMAP_SENDER_SOFTIRQ
 */
struct sender_run {
	struct sock *sk;
	const struct nlmmap_sender_send *order;
	u32 number;
	struct nlmmap_sender_sent sent;
	struct completion done;
	struct tasklet_struct tasklet;
};

static int sender_one(const struct sender_run *run, u64 number, gfp_t gfp)
{
	const struct nlmmap_sender_send *order = run->order;
	struct nlmsghdr *nlh;
	struct sk_buff *skb;
	u64 *words;
	u32 index;
	int err;

	skb = nlmsg_new(order->bytes, gfp);
	if (!skb)
		return -ENOMEM;
	/* Cannot fail: the room is there. */
	nlh = nlmsg_put(skb, 0, 0, NLMMAP_SENDER_DATA + run->number, order->bytes,
			order->nlmsg_flags);
	words = nlmsg_data(nlh);
	for (index = 0; index < order->bytes / sizeof(*words); index++)
		words[index] = nlmmap_test_word(run->number, number, index);
	nlmsg_end(skb, nlh);
	NETLINK_CB(skb).dst_group = order->group;
	if (order->portid)
		err = netlink_unicast(run->sk, skb, order->portid, 1);
	else
		err = netlink_broadcast(run->sk, skb, 0, order->group, gfp);
	return err < 0 ? err : 0;
}

static void sender_run_all(struct sender_run *run, gfp_t gfp)
{
	const struct nlmmap_sender_send *order = run->order;
	u64 at;
	int err;

	for (at = 0; at < order->count; at++) {
		err = sender_one(run, order->first + at, gfp);
		if (err) {
			run->sent.refused++;
			run->sent.error = -err;
		} else {
			run->sent.accepted++;
		}
		if (gfpflags_allow_blocking(gfp))
			cond_resched();
	}
}

static int sender_thread(void *data)
{
	struct sender_run *run = data;

	sender_run_all(run, GFP_KERNEL);
	complete(&run->done);
	return 0;
}

static void sender_tasklet(struct tasklet_struct *tasklet)
{
	struct sender_run *run = from_tasklet(run, tasklet, tasklet);

	sender_run_all(run, GFP_ATOMIC);
	complete(&run->done);
}

static int sender_start_threads(struct sender_run *runs, u32 count)
{
	struct task_struct *tasks[NLMMAP_SENDER_MOST];
	unsigned int cpu = cpumask_first(cpu_online_mask);
	u32 at;

	for (at = 0; at < count; at++) {
		tasks[at] = kthread_create(sender_thread, &runs[at], "nlmmap_sender/%u", at);
		if (IS_ERR(tasks[at])) {
			int err = PTR_ERR(tasks[at]);

			while (at--)
				kthread_stop(tasks[at]);
			return err;
		}
		kthread_bind(tasks[at], cpu);
		cpu = cpumask_next(cpu, cpu_online_mask);
		if (cpu >= nr_cpu_ids)
			cpu = cpumask_first(cpu_online_mask);
	}
	for (at = 0; at < count; at++)
		wake_up_process(tasks[at]);
	return 0;
}

/**
 * sender_send - carry out NLMMAP_SENDER_SEND
 * @sk: the family's kernel socket
 * @order: checked
 * @sent: what became of it
 *
 * Context: process; returns when all is sent.
 * Return: 0 or -ENOMEM.
 */
int sender_send(struct sock *sk, const struct nlmmap_sender_send *order,
		struct nlmmap_sender_sent *sent)
{
	struct sender_run *runs;
	int err = 0;
	u32 at;

	runs = kcalloc(order->senders, sizeof(*runs), GFP_KERNEL);
	if (!runs)
		return -ENOMEM;
	for (at = 0; at < order->senders; at++) {
		runs[at].sk = sk;
		runs[at].order = order;
		runs[at].number = at;
		init_completion(&runs[at].done);
	}

	switch (order->context) {
	case NLMMAP_SENDER_PROCESS:
		sender_run_all(runs, GFP_KERNEL);
		break;
	case NLMMAP_SENDER_SOFTIRQS_OFF:
		local_bh_disable();
		sender_run_all(runs, GFP_ATOMIC);
		local_bh_enable();
		break;
	case NLMMAP_SENDER_SOFTIRQ:
		tasklet_setup(&runs->tasklet, sender_tasklet);
		tasklet_schedule(&runs->tasklet);
		wait_for_completion(&runs->done);
		tasklet_kill(&runs->tasklet);
		break;
	case NLMMAP_SENDER_CPUS:
		err = sender_start_threads(runs, order->senders);
		if (err)
			break;
		for (at = 0; at < order->senders; at++)
			wait_for_completion(&runs[at].done);
		break;
	}

	for (at = 0; at < order->senders; at++) {
		sent->accepted += runs[at].sent.accepted;
		sent->refused += runs[at].sent.refused;
		if (runs[at].sent.error)
			sent->error = runs[at].sent.error;
	}
	kfree(runs);
	return err;
}
