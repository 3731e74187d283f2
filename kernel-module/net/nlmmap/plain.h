/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Group members without a ring of their own
 */
#ifndef _NLMMAP_PLAIN_H
#define _NLMMAP_PLAIN_H

#include <linux/types.h>

struct net;
struct nlmmap_plain;
struct nlmmap_ring;

extern uint nlmmap_plain_ring_bytes;

struct nlmmap_plain *nlmmap_plain_start(struct net *net, u16 group_id, u32 max_bytes);
struct nlmmap_ring *nlmmap_plain_ring(struct nlmmap_plain *plain);
void nlmmap_plain_stop(struct nlmmap_plain *plain, bool group_deleted);
int __init nlmmap_plain_init(void);
void nlmmap_plain_exit(void);

#endif /* _NLMMAP_PLAIN_H */
