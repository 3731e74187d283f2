/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From an attached socket's queue into its ring, in line; see serve.h
 */
#ifndef _NLMMAP_DRAIN_H
#define _NLMMAP_DRAIN_H

#include <linux/init.h>
#include <linux/types.h>

struct nlmmap_attached;
struct sk_buff;

void nlmmap_drain_begin(struct nlmmap_attached *attached);
void nlmmap_drain_end(struct nlmmap_attached *attached);
void nlmmap_drain_restart(struct nlmmap_attached *attached);
bool nlmmap_drain_is_to_serve(const struct nlmmap_attached *attached,
			      const struct sk_buff *skb);
struct sk_buff *nlmmap_drain_head(struct nlmmap_attached *attached);
void nlmmap_drain_uncharge(struct sk_buff *skb);
void nlmmap_drain_take(struct nlmmap_attached *attached, struct sk_buff *skb);
void nlmmap_drain_queue_work(struct nlmmap_attached *attached);
int __init nlmmap_drain_init(void);
void nlmmap_drain_exit(void);

#endif /* _NLMMAP_DRAIN_H */
