// SPDX-License-Identifier: GPL-2.0
/*
 * The numbers of groups
 *
 * Netlink's groups are numbers, and a plain listener stays one until
 * its socket is closed: nothing exported can expel it. So the number of a group
 * that was not public and ever had a plain listener is never used again; that
 * of a public one that had, only for another public group, the oldest first,
 * while nobody listens; or, so that who stays a listener for ever does not use
 * them up, when few others are left. One that no listener ever got, or whose
 * listeners went with their network namespace, is as good as new.
 *
 * Lock: nlmmap_group_mutex guards everything here.
 */
#include <linux/bitmap.h>
#include <linux/netlink.h>
#include <linux/string.h>

#include "group.h"
#include "number.h"

/* So many numbers rest before the first of them is used again, as long as
 * there are fresh ones.
 */
#define NLMMAP_NUMBERS_RESTING	16

/* So many, less those that rest, are left to private groups while a public one
 * can have another.
 */
#define NLMMAP_NUMBERS_RESERVED	256

/* Numbers from nlmmap_next_number on are fresh, those in nlmmap_clean as good as
 * that, those in nlmmap_resting for public groups.
 */
static u16 nlmmap_next_number = 1;
static u16 nlmmap_clean[NLMMAP_GROUPS];
static u16 nlmmap_clean_count;
static u16 nlmmap_resting[NLMMAP_GROUPS];
static u16 nlmmap_resting_count;
/* Numbers whose listeners may have outlived a group; never a private one's. */
static DECLARE_BITMAP(nlmmap_heard, NLMMAP_GROUPS + 1);

/* With @heard even one that somebody still listens to. He hears what he might
 * have joined, and was told that the group he knew is gone.
 */
static int nlmmap_number_reuse(struct sock *sock, bool heard)
{
	u16 i, number;

	for (i = 0; i < nlmmap_resting_count; i++) {
		number = nlmmap_resting[i];
		if (!heard && netlink_has_listeners(sock, number))
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
	u32 fresh = NLMMAP_GROUPS + 1 - nlmmap_next_number;
	u32 unused = fresh + nlmmap_clean_count;
	int number = -ENOSPC;

	if (flags & NLMMAP_GROUP_PUBLIC) {
		if (nlmmap_resting_count >= NLMMAP_NUMBERS_RESTING || !unused) {
			number = nlmmap_number_reuse(sock, false);
			if (number < 0 && unused <= NLMMAP_NUMBERS_RESERVED)
				number = nlmmap_number_reuse(sock, true);
		}
	}
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
	if (group->bound)
		__set_bit(group->id, nlmmap_heard);
	if (!test_bit(group->id, nlmmap_heard))
		nlmmap_clean[nlmmap_clean_count++] = group->id;
	else if (group->flags & NLMMAP_GROUP_PUBLIC)
		nlmmap_resting[nlmmap_resting_count++] = group->id;
}
