/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A socket's rings
 */
#ifndef _NLMMAP_SOCKET_H
#define _NLMMAP_SOCKET_H

#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/poll.h>
#include <linux/uidgid.h>
#include <linux/workqueue.h>

#include "memory.h"
#include "ring.h"

struct file;
struct nlmmap_attached;
struct netlink_ext_ack;
struct seq_file;
struct sk_buff;
struct sock;
struct socket;
struct vm_area_struct;

/**
 * struct nlmmap_socket - what a netlink socket gains by its set-up
 * @node: in the hash of all of them; RCU readers
 * @number: of all that ever were in the hash, from 1
 * @sk: the socket; a reference is held
 * @rx: the RX ring
 * @memory: under @rx
 * @wake: wakes the sleepers on @sk, for publishers that may not
 * @memberships: struct nlmmap_membership.by_socket; under nlmmap_group_mutex
 * @portid: the socket's netlink port when it was set up
 * @flags: NLMMAP_SETUP_* it was set up with
 * @uid: who set it up
 * @attached: what a socket of another family has besides; NULL: ours
 * @free: frees all this once no publisher can see it
 *
 * Everything but @rx and @memberships is constant from the set-up on.
 */
struct nlmmap_socket {
	struct hlist_node node;
	unsigned long number;
	struct sock *sk;
	struct nlmmap_ring rx;
	struct nlmmap_memory memory;
	struct irq_work wake;
	struct list_head memberships;
	u32 portid;
	u32 flags;
	kuid_t uid;
	struct nlmmap_attached *attached;
	struct rcu_work free;
};

/**
 * struct nlmmap_setup - what a set-up request asks for
 * @rx_bytes: of the RX ring's data
 * @flags: NLMMAP_SETUP_*
 * @portid: the socket's netlink port
 * @attached: for a socket of another family; nlmmap_socket_setup() takes it over
 *	if it succeeds
 */
struct nlmmap_setup {
	u32 rx_bytes;
	u32 flags;
	u32 portid;
	struct nlmmap_attached *attached;
};

extern uint nlmmap_max_ring_bytes;

struct nlmmap_socket *nlmmap_socket_find(const struct sock *sk);
struct nlmmap_socket *nlmmap_socket_setup(struct sock *sk,
					  const struct nlmmap_setup *setup,
					  struct netlink_ext_ack *extack);
void nlmmap_socket_release(struct nlmmap_socket *socket);
void nlmmap_socket_free(struct nlmmap_socket *socket);
int nlmmap_socket_mmap(struct nlmmap_socket *socket, struct vm_area_struct *vma);
__poll_t nlmmap_socket_poll(struct nlmmap_socket *socket, __poll_t mask);
void nlmmap_socket_show(struct nlmmap_socket *socket, struct seq_file *m);
int nlmmap_socket_walk(int (*visit)(struct nlmmap_socket *socket, void *arg),
		       unsigned long *bucket, unsigned long *last, void *arg);
int __init nlmmap_socket_init(void);
void nlmmap_socket_exit(void);

#endif /* _NLMMAP_SOCKET_H */
