// SPDX-License-Identifier: GPL-2.0
/*
 * The numbers of groups
 *
 * Netlink's groups are numbers, and a plain listener stays one until
 * its socket is closed: nothing exported can expel it. So the number of a group
 * that was not public and ever had a plain listener is never used again; that
 * of a public one that had, only for another public group, the oldest first,
 * while nobody listens. One that no listener ever got is as good as new.
 *
 * Lock: nlmmap_group_mutex guards everything here.
 */
#include <linux/netlink.h>
#include <linux/string.h>

#include "group.h"
#include "number.h"

/* So many numbers rest before the first of them is used again, as long as
 * there are fresh ones.
 */
#define NLMMAP_NUMBERS_RESTING	16

/* Numbers from nlmmap_next_number on are fresh, those in nlmmap_clean as good as
 * that, those in nlmmap_resting for public groups.
 */
static u16 nlmmap_next_number = 1;
static u16 nlmmap_clean[NLMMAP_GROUPS];
static u16 nlmmap_clean_count;
static u16 nlmmap_resting[NLMMAP_GROUPS];
static u16 nlmmap_resting_count;

static int nlmmap_number_reuse(struct sock *sock)
{
	u16 i, number;

	for (i = 0; i < nlmmap_resting_count; i++) {
		number = nlmmap_resting[i];
		if (netlink_has_listeners(sock, number))
			continue;
		nlmmap_resting_count--;
		memmove(&nlmmap_resting[i], &nlmmap_resting[i + 1],
			(nlmmap_resting_count - i) * sizeof(nlmmap_resting[0]));
		return number;
	}
	return -ENOSPC;
}

/**
 * nlmmap_number_get - a number for a new group
 * @sock: a kernel socket of the family
 * @flags: NLMMAP_GROUP_*
 *
 * Context: nlmmap_group_mutex is held.
 * Return: the number or -ENOSPC.
 */
int nlmmap_number_get(struct sock *sock, u32 flags)
{
	bool fresh = nlmmap_next_number <= NLMMAP_GROUPS;
	int number = -ENOSPC;

	if (flags & NLMMAP_GROUP_PUBLIC &&
	    (nlmmap_resting_count >= NLMMAP_NUMBERS_RESTING ||
	     (!fresh && !nlmmap_clean_count)))
		number = nlmmap_number_reuse(sock);
	if (number < 0 && fresh)
		number = nlmmap_next_number++;
	else if (number < 0 && nlmmap_clean_count)
		number = nlmmap_clean[--nlmmap_clean_count];
	return number;
}

/**
 * nlmmap_number_put - a group is gone
 * @group: not in the list any more
 *
 * Context: nlmmap_group_mutex is held.
 */
void nlmmap_number_put(const struct nlmmap_group *group)
{
	if (!group->bound)
		nlmmap_clean[nlmmap_clean_count++] = group->id;
	else if (group->flags & NLMMAP_GROUP_PUBLIC)
		nlmmap_resting[nlmmap_resting_count++] = group->id;
}
