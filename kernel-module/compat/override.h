/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a socket comes to have our operations on a stock kernel
 */
#ifndef _NLMMAP_OVERRIDE_H
#define _NLMMAP_OVERRIDE_H

struct socket;

int nlmmap_override_init(void);
void nlmmap_override(struct socket *sock);

#endif /* _NLMMAP_OVERRIDE_H */
