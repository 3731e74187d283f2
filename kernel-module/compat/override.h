/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a socket comes to have our operations on a stock kernel
 */
#ifndef _NLMMAP_OVERRIDE_H
#define _NLMMAP_OVERRIDE_H

#include <linux/types.h>

struct msghdr;
struct sock;
struct socket;

int nlmmap_override_init(void);
bool nlmmap_override_fits(const struct socket *sock);
void nlmmap_override(struct socket *sock);
int nlmmap_base_sendmsg(struct socket *sock, struct msghdr *msg, size_t len);
int nlmmap_base_recvmsg(struct socket *sock, struct msghdr *msg, size_t len, int flags);
void nlmmap_base_data_ready(struct sock *sk);
void nlmmap_base_error_report(struct sock *sk);

#endif /* _NLMMAP_OVERRIDE_H */
