/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Named groups: who publishes, who hears
 */
#ifndef _NLMMAP_GROUP_H
#define _NLMMAP_GROUP_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <net/netns/generic.h>
#include <net/nlmmap.h>

struct net;
struct netlink_ext_ack;
struct nlmmap_socket;
struct sock;

/* Netlink groups of the family; the core fixes the number at registration. */
#define NLMMAP_GROUPS		1024

/**
 * struct nlmmap_membership - a socket's ring in a group
 * @by_socket: in struct nlmmap_socket.memberships
 * @group: the group
 * @socket: the socket
 */
struct nlmmap_membership {
	struct list_head by_socket;
	struct nlmmap_group *group;
	struct nlmmap_socket *socket;
};

/**
 * struct nlmmap_net - what a network namespace has
 * @sock: the family's kernel socket
 */
struct nlmmap_net {
	struct sock *sock;
};

extern unsigned int nlmmap_net_id;
extern struct mutex nlmmap_group_mutex;
extern struct list_head nlmmap_groups;
extern uint nlmmap_max_members;
extern u32 nlmmap_group_generation;

struct nlmmap_group *nlmmap_group_by_name(const struct net *net, const char *name);
struct nlmmap_group *nlmmap_group_by_id(const struct net *net, u32 id);
int nlmmap_group_join(struct nlmmap_group *group, struct nlmmap_socket *socket,
		      bool admin, struct netlink_ext_ack *extack);
int nlmmap_group_leave(struct nlmmap_group *group, struct nlmmap_socket *socket,
		       struct netlink_ext_ack *extack);
void nlmmap_group_leave_all(struct nlmmap_socket *socket);
u64 nlmmap_group_published(const struct nlmmap_group *group);
int nlmmap_members_add(struct nlmmap_group *group, struct nlmmap_ring *ring);
int nlmmap_members_remove(struct nlmmap_group *group, struct nlmmap_ring *ring, gfp_t gfp);
int nlmmap_group_bind(struct net *net, int id);
void nlmmap_group_unbind(struct net *net, int id);
void nlmmap_group_net_exit(struct net *net);
void nlmmap_listen_exit(void);

static inline struct sock *nlmmap_kernel_sock(const struct net *net)
{
	struct nlmmap_net *nn = net_generic(net, nlmmap_net_id);

	return nn->sock;
}

#endif /* _NLMMAP_GROUP_H */
