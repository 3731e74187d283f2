/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A ring under a socket of another netlink family
 */
#ifndef _NLMMAP_ATTACH_H
#define _NLMMAP_ATTACH_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

struct cred;
struct msghdr;
struct netlink_ext_ack;
struct nlmmap_setup;
struct nlmmap_socket;
struct sk_buff;
struct sock;
struct socket;
struct task_struct;
struct user_namespace;

/**
 * struct nlmmap_attached - what a socket of another family gains besides
 * @socket: its ring and all that every socket with a ring has
 * @sock: the socket; stays until nlmmap_drain_end() has returned
 * @user_ns: whose uids and gids the reader sees
 * @saved_data_ready: sk_data_ready before
 * @saved_error_report: sk_error_report before
 * @serving: held by whoever serves, see serve.c
 * @work: serves in process context
 * @lock: guards all that follows
 * @sending: struct nlmmap_sending of each sendmsg() under way
 * @cred: as whom dumps go on, see nlmmap_attached_limit(); changes under
 *	@serving as well
 * @nobody: who may nothing
 * @peeking: who lets netlink look at the queue; under @serving
 * @published: what who serves has netlink look at, in the ring already
 * @drops: what of sk_drops is in the ring's account
 * @overruns: times that the source said ENOBUFS since the accounts were closed
 * @error: an errno that recvmsg() would have told, to be told; 0: none
 * @too_large: bytes of the first datagram that no ring of this size takes; 0: none
 * @compat: the last who sent was a 32-bit program
 * @busy: what is queued is for who serves; in line nothing is taken
 * @copying: a record is being filled without the lock
 * @stalled: the ring has no room for the queue's head
 * @lost_nearby: what is lost is counted, its place not known
 * @lost_unknown: what is lost is not counted, no record has said so
 * @lost_untold: what is lost is counted, no record has said so
 * @dead: the socket is being released
 */
struct nlmmap_attached {
	struct nlmmap_socket *socket;
	struct socket *sock;
	struct user_namespace *user_ns;
	void (*saved_data_ready)(struct sock *sk);
	void (*saved_error_report)(struct sock *sk);
	/* Orders those who serve; sleeps as long as a part of a dump takes. */
	struct mutex serving;
	struct work_struct work;
	const struct cred *nobody;
	const struct task_struct *peeking;

	/* Interrupts off; see drain.c. Guards all that follows. */
	spinlock_t lock;
	struct list_head sending;
	const struct cred *cred;
	struct sk_buff *published;
	u32 drops;
	u32 overruns;
	int error;
	u32 too_large;
	bool compat;
	bool busy;
	bool copying;
	bool stalled;
	bool lost_nearby;
	bool lost_unknown;
	bool lost_untold;
	bool dead;
};

/**
 * struct nlmmap_sending - one sendmsg() under way
 * @node: in struct nlmmap_attached.sending
 * @task: who sends
 */
struct nlmmap_sending {
	struct list_head node;
	const struct task_struct *task;
};

extern bool nlmmap_attach_unprivileged;

struct nlmmap_socket *nlmmap_attach(struct sk_buff *skb, struct socket *sock,
				    struct nlmmap_setup *setup,
				    struct netlink_ext_ack *extack);
void nlmmap_attached_free(struct nlmmap_attached *attached);
int nlmmap_attached_sendmsg(struct nlmmap_attached *attached,
			    struct msghdr *msg, size_t len);
int nlmmap_attached_recvmsg(struct nlmmap_attached *attached, size_t len, int flags);
__poll_t nlmmap_attached_poll(struct nlmmap_attached *attached, __poll_t mask);

#endif /* _NLMMAP_ATTACH_H */
