/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests: what sockets of the family ask of us
 */
#ifndef _NLMMAP_CONTROL_H
#define _NLMMAP_CONTROL_H

struct sk_buff;

void nlmmap_control_input(struct sk_buff *skb);

#endif /* _NLMMAP_CONTROL_H */
