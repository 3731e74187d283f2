/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sending, from every context
 */
#ifndef _SENDER_H
#define _SENDER_H

#include "nlmmap_sender.h"

struct sock;

int sender_send(struct sock *sk, const struct nlmmap_sender_send *order,
		struct nlmmap_sender_sent *sent);

#endif /* _SENDER_H */
