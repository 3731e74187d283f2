// SPDX-License-Identifier: GPL-2.0
/*
 * Plain listeners come and go
 *
 * The core asks nlmmap_group_bind() before somebody becomes a listener, and
 * calls nlmmap_group_unbind() after, but not in pairs. So a group's plain ring
 * is started by the first consent, and stopped by a review that finds nobody.
 *
 * Locks: see group.c.
 */
#include <linux/jiffies.h>
#include <linux/netlink.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

#include "group.h"
#include "plain.h"

/* How long a bind may take from our consent to the core's list. */
#define NLMMAP_BIND_GRACE	(10 * HZ)

static void nlmmap_plain_review(struct work_struct *work);
static DECLARE_DELAYED_WORK(nlmmap_plain_review_work, nlmmap_plain_review);

static int nlmmap_plain_serve(struct nlmmap_group *group)
{
	struct nlmmap_plain *plain;
	int err;

	plain = nlmmap_plain_start(group->net, group->id, group->max_bytes);
	if (IS_ERR(plain))
		return PTR_ERR(plain);
	err = nlmmap_members_add(group, nlmmap_plain_ring(plain));
	if (err) {
		nlmmap_plain_stop(plain, false);
		return err;
	}
	group->plain = plain;
	group->last_bind = jiffies;
	return 0;
}

/**
 * nlmmap_group_bind - a plain socket asks to hear a group
 * @net: the socket's
 * @id: the group's number
 *
 * Called by the core for NETLINK_ADD_MEMBERSHIP and bind(), before it takes
 * effect, without the core's table locked.
 *
 * Context: process, the asker's; may sleep.
 * Return: 0, -ENOENT, -EPERM, -ENOMEM, or -EINTR if the asker is being killed.
 */
int nlmmap_group_bind(struct net *net, int id)
{
	struct nlmmap_group *group;
	int err = 0;

	mutex_lock(&nlmmap_group_mutex);
	group = nlmmap_group_by_id(net, id);
	if (!group)
		err = -ENOENT;
	else if (!(group->flags & NLMMAP_GROUP_PUBLIC) &&
		 !ns_capable(net->user_ns, CAP_NET_ADMIN))
		err = -EPERM;
	else if (!group->plain)
		err = nlmmap_plain_serve(group);
	if (!err) {
		group->last_bind = jiffies;
		group->bound = true;
	}
	mutex_unlock(&nlmmap_group_mutex);
	return err;
}

/**
 * nlmmap_group_unbind - a plain socket hears a group no more
 * @net: the socket's
 * @id: the group's number
 *
 * The core's calls of bind and unbind do not balance, so nothing is counted:
 * whether anybody listens is looked up later.
 *
 * Context: process; the core's table may be locked, so no mutex is taken.
 */
void nlmmap_group_unbind(struct net *net, int id)
{
	/* Not put off by another call: anybody may call this at any time. */
	queue_delayed_work(system_wq, &nlmmap_plain_review_work, NLMMAP_BIND_GRACE);
}

/* Stops serving groups that lost their last plain listener. A bind that we
 * agreed to may not be in the core's list yet; NLMMAP_BIND_GRACE is for that,
 * and should one ever take longer, the next review finds it listening.
 */
static void nlmmap_plain_review(struct work_struct *work)
{
	struct nlmmap_group *group;
	bool again = false;

	mutex_lock(&nlmmap_group_mutex);
	list_for_each_entry(group, &nlmmap_groups, node) {
		bool heard = netlink_has_listeners(nlmmap_kernel_sock(group->net),
						   group->id);

		if (heard && !group->plain) {
			again |= nlmmap_plain_serve(group) != 0;
		} else if (!heard && group->plain) {
			again = true;
			if (time_before(jiffies, group->last_bind + NLMMAP_BIND_GRACE) ||
			    nlmmap_members_remove(group, nlmmap_plain_ring(group->plain),
						  GFP_KERNEL))
				continue;
			synchronize_rcu();
			nlmmap_plain_stop(group->plain, false);
			group->plain = NULL;
		}
	}
	if (again)
		queue_delayed_work(system_wq, &nlmmap_plain_review_work,
				   NLMMAP_BIND_GRACE);
	mutex_unlock(&nlmmap_group_mutex);
}

/**
 * nlmmap_listen_exit - at module unload, after the last group was unregistered
 */
void nlmmap_listen_exit(void)
{
	cancel_delayed_work_sync(&nlmmap_plain_review_work);
}
