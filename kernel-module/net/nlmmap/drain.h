/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From an attached socket's queue into its ring
 */
#ifndef _NLMMAP_DRAIN_H
#define _NLMMAP_DRAIN_H

#include <linux/types.h>

struct nlmmap_attached;
struct work_struct;

void nlmmap_drain_begin(struct nlmmap_attached *attached);
void nlmmap_drain_end(struct nlmmap_attached *attached);
bool nlmmap_drain_serve(struct nlmmap_attached *attached);
void nlmmap_drain_restart(struct nlmmap_attached *attached);
void nlmmap_drain_work(struct work_struct *work);
int __init nlmmap_drain_init(void);
void nlmmap_drain_exit(void);

#endif /* _NLMMAP_DRAIN_H */
