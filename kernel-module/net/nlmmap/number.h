/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The numbers of groups
 */
#ifndef _NLMMAP_NUMBER_H
#define _NLMMAP_NUMBER_H

#include <linux/types.h>

struct nlmmap_group;
struct sock;

int nlmmap_number_get(struct sock *sock, u32 flags);
void nlmmap_number_put(const struct nlmmap_group *group);

#endif /* _NLMMAP_NUMBER_H */
