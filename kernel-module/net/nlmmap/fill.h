/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is written into an attached socket's ring
 */
#ifndef _NLMMAP_FILL_H
#define _NLMMAP_FILL_H

#include <linux/types.h>

struct nlmmap_attached;
struct sk_buff;

/* Longer datagrams are copied with interrupts on. */
#define NLMMAP_IN_LINE_BYTES	65536

u32 nlmmap_fill_bytes(const struct nlmmap_attached *attached, const struct sk_buff *skb);
bool nlmmap_fill_datagram(struct nlmmap_attached *attached, const struct sk_buff *skb,
			  unsigned long *flags);
bool nlmmap_fill_tell(struct nlmmap_attached *attached);
bool nlmmap_fill_settle(struct nlmmap_attached *attached, u32 drops);

#endif /* _NLMMAP_FILL_H */
