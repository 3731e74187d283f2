/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From an attached socket's queue into its ring, in process context; see drain.h
 */
#ifndef _NLMMAP_SERVE_H
#define _NLMMAP_SERVE_H

#include <linux/types.h>

struct nlmmap_attached;
struct work_struct;

void nlmmap_serve(struct nlmmap_attached *attached);
bool nlmmap_serve_forgets(const struct nlmmap_attached *attached);
void nlmmap_serve_work(struct work_struct *work);

#endif /* _NLMMAP_SERVE_H */
