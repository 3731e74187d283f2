// SPDX-License-Identifier: GPL-2.0
/*
 * Named groups: who publishes, who hears
 *
 * Locks and lifetimes
 *
 * nlmmap_group_mutex (process context) guards the list of groups, their members
 * and every socket's memberships. It may be held over allocations and grace
 * periods, never over anything that grabs netlink's table: the core may call
 * nlmmap_group_unbind() with that locked. nlmmap_group_bind() is called without.
 *
 * A group lives from nlmmap_group_register() to nlmmap_group_unregister(); its
 * network namespace may go before. Publishers see the members through RCU: an
 * array of them is never changed, but replaced and freed after a grace period.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/netlink.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "group.h"
#include "number.h"
#include "plain.h"
#include "socket.h"

/* Bytes that nlmmap_end() copies at most, to all members, with interrupts off. */
#define NLMMAP_FANOUT_MAX	(4 << 20)

/* Groups, members, memberships; see above. */
DEFINE_MUTEX(nlmmap_group_mutex);
LIST_HEAD(nlmmap_groups);
uint nlmmap_max_members = 256;

/* Changes whenever nlmmap_groups does; under nlmmap_group_mutex. */
u32 nlmmap_group_generation = 1;

/**
 * nlmmap_group_by_name - find a group
 * @net: its network namespace
 * @name: its name
 *
 * Context: nlmmap_group_mutex is held.
 * Return: the group or NULL.
 */
struct nlmmap_group *nlmmap_group_by_name(const struct net *net, const char *name)
{
	struct nlmmap_group *group;

	lockdep_assert_held(&nlmmap_group_mutex);
	list_for_each_entry(group, &nlmmap_groups, node)
		if (group->net == net && !strcmp(group->name, name))
			return group;
	return NULL;
}

/**
 * nlmmap_group_by_id - find a group by its number
 * @net: its network namespace
 * @id: the number
 *
 * Context: nlmmap_group_mutex is held.
 * Return: the group or NULL.
 */
struct nlmmap_group *nlmmap_group_by_id(const struct net *net, u32 id)
{
	struct nlmmap_group *group;

	lockdep_assert_held(&nlmmap_group_mutex);
	list_for_each_entry(group, &nlmmap_groups, node)
		if (group->net == net && group->id == id)
			return group;
	return NULL;
}

static struct nlmmap_members *nlmmap_members_alloc(u32 count, gfp_t gfp)
{
	struct nlmmap_members *members;

	members = kmalloc(struct_size(members, rings, count), gfp);
	if (members)
		members->count = count;
	return members;
}

static void nlmmap_members_replace(struct nlmmap_group *group,
				   struct nlmmap_members *members)
{
	struct nlmmap_members *old;

	old = rcu_replace_pointer(group->members, members,
				  lockdep_is_held(&nlmmap_group_mutex));
	kfree_rcu(old, rcu);
}

/**
 * nlmmap_members_add - one more ring hears a group
 * @group: found under the mutex
 * @ring: not a member
 *
 * Context: nlmmap_group_mutex is held. May sleep.
 * Return: 0 or -ENOMEM.
 */
int nlmmap_members_add(struct nlmmap_group *group, struct nlmmap_ring *ring)
{
	struct nlmmap_members *old, *new;
	u32 i;

	old = rcu_dereference_protected(group->members,
					lockdep_is_held(&nlmmap_group_mutex));
	new = nlmmap_members_alloc(old->count + 1, GFP_KERNEL_ACCOUNT);
	if (!new)
		return -ENOMEM;
	for (i = 0; i < old->count && old->rings[i] < ring; i++)
		new->rings[i] = old->rings[i];
	new->rings[i] = ring;
	for (; i < old->count; i++)
		new->rings[i + 1] = old->rings[i];
	nlmmap_members_replace(group, new);
	return 0;
}

/**
 * nlmmap_members_remove - a ring hears a group no more
 * @group: found under the mutex
 * @ring: a member
 * @gfp: with __GFP_NOFAIL this cannot fail
 *
 * A publisher that is at work right now may still reach the ring, until a grace
 * period has passed.
 *
 * Context: nlmmap_group_mutex is held. May sleep.
 * Return: 0 or -ENOMEM.
 */
int nlmmap_members_remove(struct nlmmap_group *group, struct nlmmap_ring *ring, gfp_t gfp)
{
	struct nlmmap_members *old, *new;
	u32 i, kept = 0;

	old = rcu_dereference_protected(group->members,
					lockdep_is_held(&nlmmap_group_mutex));
	new = nlmmap_members_alloc(old->count - 1, gfp);
	if (!new)
		return -ENOMEM;
	for (i = 0; i < old->count; i++)
		if (old->rings[i] != ring)
			new->rings[kept++] = old->rings[i];
	nlmmap_members_replace(group, new);
	return 0;
}

static struct nlmmap_membership *
nlmmap_membership_find(const struct nlmmap_group *group,
		       const struct nlmmap_socket *socket)
{
	struct nlmmap_membership *membership;

	list_for_each_entry(membership, &socket->memberships, by_socket)
		if (membership->group == group)
			return membership;
	return NULL;
}

static void nlmmap_membership_free(struct nlmmap_membership *membership)
{
	membership->group->ring_count--;
	list_del(&membership->by_socket);
	kfree(membership);
}

static u32 nlmmap_group_rings_of(const struct nlmmap_group *group, kuid_t uid)
{
	const struct nlmmap_members *members;
	u32 i, count = 0;

	members = rcu_dereference_protected(group->members,
					    lockdep_is_held(&nlmmap_group_mutex));
	for (i = 0; i < members->count; i++)
		if ((!group->plain || members->rings[i] != nlmmap_plain_ring(group->plain)) &&
		    uid_eq(container_of(members->rings[i], struct nlmmap_socket, rx)->uid, uid))
			count++;
	return count;
}

/* Every ring costs each publisher a copy. So there is an end to them, and no
 * ordinary user can take all the places: a quarter is kept for administrators,
 * and one user gets an eighth.
 */
static bool nlmmap_group_full(const struct nlmmap_group *group,
			      const struct nlmmap_socket *socket, bool admin)
{
	u32 limit = READ_ONCE(nlmmap_max_members);

	if (admin)
		return group->ring_count >= limit;
	return group->ring_count >= limit - limit / 4 ||
	       nlmmap_group_rings_of(group, socket->uid) >= max(limit / 8, 1u);
}

/**
 * nlmmap_group_join - a group's messages go to a socket's ring from now on
 * @group: found under the mutex; the right to join was tested
 * @socket: set up
 * @admin: the asker has CAP_NET_ADMIN in the network namespace
 * @extack: for the sentence, or NULL
 *
 * Context: nlmmap_group_mutex is held. May sleep.
 * Return: 0 or a negative error as the uapi header says.
 */
int nlmmap_group_join(struct nlmmap_group *group, struct nlmmap_socket *socket,
		      bool admin, struct netlink_ext_ack *extack)
{
	struct nlmmap_membership *membership;
	int err;

	lockdep_assert_held(&nlmmap_group_mutex);
	if (nlmmap_membership_find(group, socket)) {
		NL_SET_ERR_MSG(extack, "the socket is a member of this group already");
		return -EALREADY;
	}
	if ((u64)(group->ring_count + 1) * group->max_bytes > NLMMAP_FANOUT_MAX) {
		NL_SET_ERR_MSG(extack, "too many rings for a group with so large messages");
		return -ENOSPC;
	}
	if (group->max_bytes > socket->memory.data_bytes / 4) {
		NL_SET_ERR_MSG(extack, "ring is under four times the group's max_bytes");
		return -EMSGSIZE;
	}
	if (nlmmap_group_full(group, socket, admin)) {
		NL_SET_ERR_MSG(extack, "the group is full: see the module's max_members");
		return -ENOSPC;
	}
	membership = kmalloc(sizeof(*membership), GFP_KERNEL_ACCOUNT);
	if (!membership) {
		NL_SET_ERR_MSG(extack, "no memory for the membership");
		return -ENOMEM;
	}
	err = nlmmap_ring_keep_notice(&socket->rx);
	if (err == -ENOSPC)
		NL_SET_ERR_MSG(extack, "the ring is too small for one more group");
	else if (err)
		NL_SET_ERR_MSG(extack, "the ring is full: read from it, then join");
	if (err)
		goto err_free;
	err = nlmmap_members_add(group, &socket->rx);
	if (err) {
		NL_SET_ERR_MSG(extack, "no memory for the group's members");
		goto err_drop_notice;
	}
	membership->group = group;
	membership->socket = socket;
	list_add_tail(&membership->by_socket, &socket->memberships);
	group->ring_count++;
	return 0;

err_drop_notice:
	nlmmap_ring_drop_notice(&socket->rx);
err_free:
	kfree(membership);
	return err;
}

/**
 * nlmmap_group_leave - the reverse
 * @group: found under the mutex
 * @socket: set up
 * @extack: for the sentence, or NULL
 *
 * A publisher that is at work right now may still reach the ring.
 *
 * Context: nlmmap_group_mutex is held. May sleep.
 * Return: 0, -ENOENT or -ENOMEM.
 */
int nlmmap_group_leave(struct nlmmap_group *group, struct nlmmap_socket *socket,
		       struct netlink_ext_ack *extack)
{
	struct nlmmap_membership *membership;
	int err;

	lockdep_assert_held(&nlmmap_group_mutex);
	membership = nlmmap_membership_find(group, socket);
	if (!membership) {
		NL_SET_ERR_MSG(extack, "the socket is not a member of this group");
		return -ENOENT;
	}
	err = nlmmap_members_remove(group, &socket->rx, GFP_KERNEL_ACCOUNT);
	if (err) {
		NL_SET_ERR_MSG(extack, "no memory to leave; the socket is still a member");
		return err;
	}
	nlmmap_ring_drop_notice(&socket->rx);
	nlmmap_membership_free(membership);
	return 0;
}

/**
 * nlmmap_group_leave_all - at the socket's release
 * @socket: nobody joins with it any more
 *
 * Context: process, may sleep.
 */
void nlmmap_group_leave_all(struct nlmmap_socket *socket)
{
	struct nlmmap_membership *membership, *next;

	mutex_lock(&nlmmap_group_mutex);
	list_for_each_entry_safe(membership, next, &socket->memberships, by_socket) {
		/* Release cannot fail; what this needs is small. */
		nlmmap_members_remove(membership->group, &socket->rx,
				      GFP_KERNEL | __GFP_NOFAIL);
		nlmmap_membership_free(membership);
	}
	mutex_unlock(&nlmmap_group_mutex);
}

static bool nlmmap_name_valid(const char *name)
{
	size_t i, len = strnlen(name, NLMMAP_GROUP_NAME_BYTES);

	if (!len || len == NLMMAP_GROUP_NAME_BYTES)
		return false;
	for (i = 0; i < len; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_-.", name[i]))
			return false;
	return true;
}

/**
 * nlmmap_group_register - make a group that the caller publishes to
 * @net: the network namespace whose sockets may join; not referenced
 * @config: what the group is; not kept
 *
 * When @net goes first, its members are gone with it, and publishing reaches
 * nobody; the caller still unregisters.
 *
 * Context: process, may sleep.
 * Return: the group, or ERR_PTR(): -EINVAL for a bad name, flag or max_bytes,
 * -EEXIST if the name is taken in @net, -ENOSPC if the family's 1024 numbers
 * are used up (that of a private group which had plain listeners comes back
 * only if @net goes before the group does), -ENOMEM.
 */
struct nlmmap_group *nlmmap_group_register(struct net *net,
					   const struct nlmmap_group_config *config)
{
	struct nlmmap_members *members;
	struct nlmmap_group *group;
	int err;

	if (!nlmmap_name_valid(config->name) ||
	    config->flags & ~NLMMAP_GROUP_PUBLIC ||
	    config->max_bytes < NLMSG_HDRLEN ||
	    config->max_bytes > NLMMAP_MESSAGE_MAX)
		return ERR_PTR(-EINVAL);

	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group)
		return ERR_PTR(-ENOMEM);
	err = -ENOMEM;
	group->published = alloc_percpu(u64);
	if (!group->published)
		goto err_free_group;
	members = nlmmap_members_alloc(0, GFP_KERNEL);
	if (!members)
		goto err_free_published;
	RCU_INIT_POINTER(group->members, members);
	group->max_bytes = config->max_bytes;
	group->flags = config->flags;
	group->net = net;
	strscpy(group->name, config->name, sizeof(group->name));

	mutex_lock(&nlmmap_group_mutex);
	err = -EEXIST;
	if (nlmmap_group_by_name(net, group->name))
		goto err_unlock;
	err = nlmmap_number_get(nlmmap_kernel_sock(net), group->flags);
	if (err < 0)
		goto err_unlock;
	group->id = err;
	list_add_tail(&group->node, &nlmmap_groups);
	nlmmap_group_generation++;
	mutex_unlock(&nlmmap_group_mutex);
	return group;

err_unlock:
	mutex_unlock(&nlmmap_group_mutex);
	kfree(members);
err_free_published:
	free_percpu(group->published);
err_free_group:
	kfree(group);
	return ERR_PTR(err);
}
EXPORT_SYMBOL_GPL(nlmmap_group_register);

/* Nobody hears the group any more; whoever did is told. Members are replaced
 * by none with what is given, so that this cannot fail.
 */
static void nlmmap_group_silence(struct nlmmap_group *group,
				 struct nlmmap_members *none)
{
	struct nlmmap_plain *plain = group->plain;
	struct nlmmap_membership *membership;
	struct nlmmap_members *old;
	struct nlmmap_socket *socket;
	u32 i;

	lockdep_assert_held(&nlmmap_group_mutex);
	old = rcu_replace_pointer(group->members, none,
				  lockdep_is_held(&nlmmap_group_mutex));
	for (i = 0; i < old->count; i++) {
		if (plain && old->rings[i] == nlmmap_plain_ring(plain))
			continue;
		socket = container_of(old->rings[i], struct nlmmap_socket, rx);
		membership = nlmmap_membership_find(group, socket);
		nlmmap_ring_give_notice(&socket->rx, group->id);
		nlmmap_membership_free(membership);
	}
	list_del(&group->node);
	nlmmap_group_generation++;
	kfree_rcu(old, rcu);
	if (plain) {
		/* No publisher sees its ring after this. */
		synchronize_rcu();
		nlmmap_plain_stop(plain, true);
	}
	group->plain = NULL;
	group->net = NULL;
}

/**
 * nlmmap_group_unregister - end a group
 * @group: registered; no publisher can be at work with it or begin to be
 *
 * Its members are told by a notice, in the ring and on plain sockets, after
 * everything that was published.
 *
 * Context: process, may sleep.
 */
void nlmmap_group_unregister(struct nlmmap_group *group)
{
	struct nlmmap_members *none;

	mutex_lock(&nlmmap_group_mutex);
	if (group->net) {
		/* As in nlmmap_group_net_exit(), should the producer come first. */
		if (!check_net(group->net))
			group->bound = false;
		none = nlmmap_members_alloc(0, GFP_KERNEL | __GFP_NOFAIL);
		nlmmap_group_silence(group, none);
	}
	nlmmap_number_put(group);
	mutex_unlock(&nlmmap_group_mutex);

	if (group->refused)
		pr_warn("group %s: its producer began %u bytes; the limits are %u and %u\n",
			group->name, group->refused, NLMSG_HDRLEN, group->max_bytes);
	kfree(rcu_dereference_protected(group->members, true));
	free_percpu(group->published);
	kfree(group);
}
EXPORT_SYMBOL_GPL(nlmmap_group_unregister);

/**
 * nlmmap_group_net_exit - a network namespace goes
 * @net: no user socket is left in it
 *
 * Context: process, may sleep.
 */
void nlmmap_group_net_exit(struct net *net)
{
	struct nlmmap_group *group, *next;
	struct nlmmap_members *none;

	mutex_lock(&nlmmap_group_mutex);
	list_for_each_entry_safe(group, next, &nlmmap_groups, node) {
		if (group->net != net)
			continue;
		/* Its listeners are gone: their sockets held the namespace. */
		group->bound = false;
		none = nlmmap_members_alloc(0, GFP_KERNEL | __GFP_NOFAIL);
		nlmmap_group_silence(group, none);
	}
	mutex_unlock(&nlmmap_group_mutex);
}

/**
 * nlmmap_group_id - the group's number, as in records and NLMMAP_A_GROUP_ID
 * @group: registered
 */
u16 nlmmap_group_id(const struct nlmmap_group *group)
{
	return group->id;
}
EXPORT_SYMBOL_GPL(nlmmap_group_id);

/**
 * nlmmap_group_has_listeners - is it worth making a message at all?
 * @group: registered
 *
 * Context: any. A listener may come or go right after.
 * Return: true if a ring or a plain listener hears the group.
 */
bool nlmmap_group_has_listeners(const struct nlmmap_group *group)
{
	bool any;

	rcu_read_lock();
	any = rcu_dereference(group->members)->count;
	rcu_read_unlock();
	return any;
}
EXPORT_SYMBOL_GPL(nlmmap_group_has_listeners);

/**
 * nlmmap_group_published - datagrams so far, over all CPUs
 * @group: registered
 *
 * Context: any.
 */
u64 nlmmap_group_published(const struct nlmmap_group *group)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(group->published, cpu));
	return sum;
}
